"""Recommendations: each number in words can be found again in the run, and each backend gets a summary."""

import statistics
from dataclasses import astuple, replace
from typing import Any

import pytest

from reports.reading import read_run
from reports.recommendations import CROWD, FAR, BackendSummary, Recommendation, UseCase, recommend, summarise_backends
from reports.run import Result, Run
from tests.support.results import BUFFERED, COLD, DURABLE, make_result, make_store, wrap_results
from tests.support.runs import make_run, save

TIMED = {
    "Scan everything": "read_many",
    "Shuffled training": "read_epoch",
    "One random image": "read_single",
    "Write once": "store_many",
}


def _recommend(*results: Result) -> dict[str, UseCase]:
    return {case.title: case for case in recommend(wrap_results(*results))}


def _read(**seconds: float) -> list[Result]:
    """Make results that read everything in that many seconds."""
    return [make_result(name, each) for name, each in seconds.items()]


def _scan(*results: Result) -> Recommendation:
    (found,) = _recommend(*results)["Scan everything"].recommendations
    return found


def _summarise(run: Run) -> dict[str, BackendSummary]:
    return {each.name: each for each in summarise_backends(run, recommend(run))}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Make a run that measured everything."""
    return make_run(durable=True, cold=True, workers=(1, 2))


@pytest.fixture(scope="module")
def use_cases(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, UseCase]:
    """Make its use cases, by their titles."""
    run = read_run(save(document, tmp_path_factory.mktemp("run")))
    return {case.title: case for case in recommend(run)}


def test_each_use_case_that_was_measured_has_a_recommendation(use_cases: dict[str, UseCase]) -> None:
    assert list(use_cases) == [*TIMED, "Least disk", "Few files"]
    assert all(case.recommendations for case in use_cases.values())
    unmeasured = _recommend(make_result("png", 1.0, operation="an_unknown_one"))
    assert list(unmeasured) == list(use_cases)
    assert not any(case.recommendations for case in unmeasured.values())


@pytest.mark.parametrize(("title", "operation"), TIMED.items())
def test_times_are_medians_of_rounds_and_ratios_those_of_medians(
    title: str, operation: str, document: dict[str, Any], use_cases: dict[str, UseCase]
) -> None:
    ways = ("buffered", "durable") if operation == "store_many" else ("warm", "cold")
    found = use_cases[title].recommendations
    assert [way in dict(each.params).values() for way, each in zip(ways, found, strict=True)] == [True, True]
    assert {result.store_images for each in found for result in each.results.values()} == {1000}
    for way, recommendation in zip(ways, found, strict=True):
        medians = {
            cell["extra_info"]["backend"]: statistics.median(cell["stats"]["data"])
            for cell in document["benchmarks"]
            if cell["extra_info"]["operation"] == operation
            and cell["extra_info"]["store_images"] == 1000
            and way in cell["params"].values()
        }
        order = sorted(medians, key=medians.__getitem__)
        assert [rank.backend for rank in recommendation.ranks] == order
        for rank in recommendation.ranks:
            assert rank.value == pytest.approx(medians[rank.backend])
            assert rank.ratio == pytest.approx(medians[rank.backend] / medians[order[0]])


def test_disk_use_is_that_of_buffered_stores(document: dict[str, Any], use_cases: dict[str, UseCase]) -> None:
    (found,) = use_cases["Least disk"].recommendations
    assert (found.is_timed, found.select_tier(0)) == (False, ["hdf5"])
    assert {rank.backend: rank.value for rank in found.ranks} == {
        cell["extra_info"]["backend"]: cell["extra_info"]["allocated_bytes"] / 1000
        for cell in document["benchmarks"]
        if cell["extra_info"]["operation"] == "store_many" and cell["params"]["cutoff"] == 1000
    }
    assert found.select_tier(1) == ["lmdb", "png"]
    assert found.ranks[1].ratio == pytest.approx((12288 + 4118000) / (12288 + 3104000))
    assert found.write(3116.3) == "3.12 kB"


def test_files_are_counted() -> None:
    sizes = {"png": (9, 2000), "lmdb": (9, 2)}
    stores = [make_result(name, 1.0, operation="store_many", params=BUFFERED, disk=sizes[name]) for name in sizes]
    (found,) = _recommend(*stores)["Few files"].recommendations
    assert [(rank.backend, rank.value, rank.ratio) for rank in found.ranks] == [("lmdb", 2, 1), ("png", 2000, 1000)]
    assert found.write(2000) == "2,000 files in all"


@pytest.mark.parametrize(
    ("seconds", "tiers"),
    [([1.0, 1.01, 1.05], [0, 0, 0]), ([1.0, 1.05, 3.0], [0, 0, 1]), ([1.0, 3.1, 3.0, 9.0], [0, 1, 1, 2]), ([1.0], [0])],
    ids=["all tie", "two tie for first", "two tie for second", "alone"],
)
def test_backends_that_tie_share_a_tier(seconds: list[float], tiers: list[int]) -> None:
    found = _scan(*_read(**dict(zip(("hdf5", "lmdb", "png", "raw"), seconds, strict=False))))
    assert [rank.tier for rank in found.ranks] == tiers


def test_noise_decides_on_ties() -> None:
    found = _scan(make_result("png", 1.0), make_result("lmdb", 1.15), make_result("hdf5", [1.15, 1.15]))
    assert [found.select_tier(tier) for tier in (0, 1)] == [["hdf5", "png"], ["lmdb"]], "hdf5 is unstable"
    noisy, steady = make_result("hdf5", [0.051, 0.052, 0.837]), make_result("lmdb", [0.064, 0.076, 0.1])
    found = _scan(noisy, steady, make_result("png_stored", [0.79, 0.81, 0.82]))
    assert [(rank.backend, rank.tier) for rank in found.ranks] == [("hdf5", 0), ("lmdb", 0), ("png_stored", 1)]
    assert found.select_tier(0) == ["hdf5"], "lmdb is too noisy to rank"
    assert found.ranks[-1].ratio == pytest.approx(0.81 / 0.052)


def test_a_store_of_no_bytes_has_an_unknown_size() -> None:
    stores = [make_store("png", 1.0, 0), make_store("lmdb", 1.0, 4_120_000)]
    (found,) = _recommend(*stores)["Least disk"].recommendations
    assert [rank.backend for rank in found.ranks] == ["lmdb"]
    assert found.absent == ("png",)
    assert _recommend(stores[0])["Least disk"].recommendations == ()


def test_backends_are_compared_where_two_were_measured_and_the_others_are_named() -> None:
    results = [make_result(name, 1.0 * count, count) for name in ("png", "lmdb") for count in (10, 100)]
    found = _scan(*results, make_result("png", 9.0, 1000), make_result("hdf5", 1.0, 10))
    assert {result.store_images for result in found.results.values()} == {100}
    assert [rank.backend for rank in found.ranks] == ["lmdb", "png"]
    assert found.absent == ("hdf5",)


def test_buffered_and_durable_stores_differ_in_time_but_share_one_size() -> None:
    results = [make_store("png", 1.0, 100), make_store("png", 5.0, 300, params=DURABLE)]
    cases = _recommend(*results, make_store("lmdb", 4.0, 200, params=DURABLE))
    assert [each.select_tier(0) for each in cases["Write once"].recommendations] == [["png"], ["lmdb"]]
    (size,) = cases["Least disk"].recommendations
    assert [rank.backend for rank in size.ranks] == ["png"], "durable stores are another group"
    assert size.absent == ("lmdb",)


def test_a_backend_is_for_the_uses_in_which_it_is_ahead_and_a_tie_names_the_others() -> None:
    epoch = [make_result("npy", 2.0, operation="read_epoch"), make_result("hdf5", 1.0, operation="read_epoch")]
    found = _summarise(wrap_results(*_read(png=9.0, npy=1.0, hdf5=1.01, feather=1.02), *epoch))
    assert found["npy"].choose == "sequential reads (with feather and hdf5)"
    assert found["hdf5"].choose == "sequential reads (with feather and npy); shuffled reads"
    (alone,) = _summarise(wrap_results(make_result("npy", 1.0))).values()
    assert (alone.choose, alone.avoid) == ("", ""), "nothing to compare with"


def test_a_backend_that_is_too_noisy_to_rank_is_neither_chosen_nor_tied_with() -> None:
    noisy = make_result("lmdb", [0.9, 0.9, 4.0, 8.0, 8.0])
    found = _summarise(wrap_results(make_result("npy", 1.0), noisy))
    assert (found["npy"].choose, found["lmdb"].choose) == ("sequential reads", "")


def test_a_tie_of_many_is_no_reason_to_choose_any_of_them() -> None:
    crowd = {f"backend{number}": 1.0 for number in range(CROWD + 1)}
    stores = [make_store(name, 5.0 if name == "backend0" else 1.0 + place, 100) for place, name in enumerate(crowd)]
    found = _summarise(wrap_results(*_read(**crowd, slow=3.0), *stores, make_store("slow", 0.1, 900)))
    assert found["backend1"].choose == "2nd in writes (20.0x slow)"
    assert found["slow"].choose == "writes"
    few = _summarise(wrap_results(*_read(**dict(list(crowd.items())[1:]), slow=3.0)))
    assert few["backend1"].choose == "sequential reads (with backend2, backend3, backend4 and backend5)"


def test_a_backend_that_is_never_first_gets_its_best_rank() -> None:
    seconds = {"npy": 1.0, "hdf5": 1.0, "png": 4.0}
    epoch = [make_result(name, each, operation="read_epoch") for name, each in seconds.items()]
    found = _summarise(wrap_results(*_read(npy=1.0, hdf5=1.5, png=2.0), *epoch))
    assert found["png"].choose == "2nd in shuffled reads (4.00x hdf5)", "not 3rd in sequential reads"


@pytest.mark.parametrize(("count", "ordinal"), [(2, "2nd"), (3, "3rd"), (4, "4th"), (12, "12th"), (22, "22nd")])
def test_a_rank_is_written_as_an_ordinal(count: int, ordinal: str) -> None:
    seconds = {f"backend{number}": 2.0**number for number in range(count)}
    assert _summarise(wrap_results(*_read(**seconds)))[f"backend{count - 1}"].choose.startswith(f"{ordinal} in ")


def test_a_backend_is_not_for_the_three_uses_in_which_it_is_farthest_behind() -> None:
    best = [make_result("npy", 1.0, operation=name) for name in ("read_many", "read_epoch", "read_single")]
    worst = [replace(each, backend="png", cell=f"{each.cell}2", rounds=(20.0 + n,) * 5) for n, each in enumerate(best)]
    stores = (make_store("npy", 1.0, 100), make_store("png", 30.0, 2000))
    found = _summarise(wrap_results(*best, *worst, *stores))
    expected = "writes (30.0x npy); single reads (22.0x npy); shuffled reads (21.0x npy); and 2 other uses"
    assert (found["png"].avoid, found["npy"].avoid) == (expected, "")
    found = _summarise(wrap_results(*_read(npy=1.0, png=float(FAR), lmdb=0.99 * FAR)))
    assert [found[name].avoid for name in ("npy", "png", "lmdb")] == ["", "sequential reads (10.0x npy)", ""]


def test_ways_are_named_if_a_use_has_several() -> None:
    cold = [make_result("npy", 20.0, params=COLD), make_result("png", 1.0, params=COLD)]
    stored = [make_store("npy", 1.0, 100, params=DURABLE), make_store("png", 2.0, 100, params=DURABLE)]
    found = _summarise(wrap_results(*_read(npy=1.0, png=2.0), *cold, *stored))
    assert found["npy"].choose == "sequential reads, warm; writes; disk space (with png); few files (with png)"
    assert found["npy"].avoid == "sequential reads, cold (20.0x png)"


def test_a_summary_has_layout_maintainer_and_licence() -> None:
    layouts, maintainers = {"png": "PNG: one file an image."}, {"png": "the Pillow team", "lmdb": ""}
    run = replace(wrap_results(*_read(png=1.0, lmdb=2.0)), layouts=layouts, maintainers=maintainers)
    run = replace(run, licences={"png": "MIT-CMU", "lmdb": "OLDAP-2.8"})
    lmdb, png = (astuple(each) for each in summarise_backends(run, recommend(run)))
    assert png[:4] == ("png", "PNG: one file an image.", "the Pillow team", "MIT-CMU")
    assert lmdb[:4] == ("lmdb", "", "", "OLDAP-2.8")


def test_backends_that_could_not_be_measured_come_last_with_the_reason() -> None:
    reasons = {"zarr": "zarr is not installed", "leveldb": "plyvel: type this", "png": "measured after all"}
    run = replace(wrap_results(*_read(png=1.0, sqlite=2.0)), unavailable=reasons)
    found = summarise_backends(run, recommend(run))
    assert [each.name for each in found] == ["png", "sqlite", "leveldb", "zarr"]
    assert astuple(found[2]) == ("leveldb", "not measured: plyvel: type this", "", "", "", "")
