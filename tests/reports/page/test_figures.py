"""The figures of a page: which ones it has, and their messages."""

from dataclasses import replace
from pathlib import Path

import pytest

from reports.matrix import make_views
from reports.page.figures import WIDE, Figure, Split, describe_parts, draw_bars, plan_page, split_epochs
from reports.payloads import choose_payloads
from reports.reading import read_run
from reports.run import Result
from tests.support.photo_runs import make_photo_run
from tests.support.results import COLD, DURABLE, make_result, make_store, wrap_results
from tests.support.runs import save


def _plan(*results: Result) -> dict[str, Figure]:
    return {figure.name: figure for figure in plan_page(wrap_results(*results))}


def _sweep(backend: str, **seconds: float) -> list[Result]:
    """Make reads of numbers of images, such as `at_10`, that take so long for each image."""
    return [
        make_result(backend, each * count, count)
        for count, each in ((int(name.removeprefix("at_")), each) for name, each in seconds.items())
    ]


def test_bars_are_as_long_as_their_times_and_the_slowest_is_named() -> None:
    results = [make_result("npy", 1.0), make_result("tar", 1.05), make_result("png", 40.0)]
    bars = draw_bars(next(iter(make_views(wrap_results(*results)).values())))
    assert bars
    assert bars.message == "Scan everything: npy and tar take 1.00 ms per image, in order; png takes 40.0 times as long"
    assert [(backend, percent) for backend, _, percent in bars.rows] == [
        ("npy", pytest.approx(2.5)),
        ("tar", pytest.approx(2.625)),
        ("png", 100),
    ]


@pytest.mark.parametrize(
    ("count", "message"),
    [(1, "raw0 takes 1.00 ms per image, in order"), (8, "8 backends take 1.00 ms per image, in order")],
)
def test_bars_of_equal_backends_name_no_slowest(count: int, message: str) -> None:
    results = [make_result(f"raw{place}", 1.0) for place in range(count)]
    bars = draw_bars(next(iter(make_views(wrap_results(*results)).values())))
    assert bars
    assert bars.message == f"Scan everything: {message}"


def test_a_view_of_sizes_alone_has_no_bars() -> None:
    view = next(iter(make_views(wrap_results(make_store("npy", 1.0, 3000))).values()))
    assert draw_bars(replace(view, uses=tuple(use for use in view.uses if not use.operations))) is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"at_10": 2e-6, "at_1000": 2e-6}, "npy reads fastest, from 10 to 1,000 images"),
        ({"at_10": 5e-7, "at_1000": 2e-6}, "npy reads 1,000 images fastest; of 10, tar does"),
    ],
)
def test_the_sweep_says_what_reads_few_and_many_images_fastest(other: dict[str, float], message: str) -> None:
    figure = _plan(*_sweep("npy", at_10=1e-6, at_1000=1e-6), *_sweep("tar", **other))["overview"]
    assert figure.message == message
    assert {curve.label for curve in figure.charts[0].curves} == {"npy", "tar"}


def test_lines_of_one_point_are_no_figure() -> None:
    one = [make_result("tar", 1.0), *_sweep("npy", at_10=1e-6, at_1000=1e-6)]
    assert [curve.label for curve in _plan(*one)["overview"].charts[0].curves] == ["npy"]
    assert "overview" not in _plan(make_result("tar", 1.0), make_store("tar", 1.0, 1000))


def test_disk_against_time_names_the_backends_that_no_other_beats() -> None:
    def plan(count: int) -> Figure:
        cells = [[make_result(f"raw{n}", 2.0**n), make_store(f"raw{n}", 1.0, 10**6 // 2**n)] for n in range(count)]
        bad = [make_result("bad", 2.0**20), make_store("bad", 1.0, 10**6)] if count > 1 else []
        return _plan(*(cell for pair in cells for cell in pair), *bad)["size"]

    assert plan(1).message == "Disk against time: raw0"
    assert plan(2).message == "Disk against time: no other backend beats raw0 and raw1 in both"
    assert plan(7).message == "Disk against time: 7 of 8 backends are beaten by no other in both"
    assert plan(2).charts[0].width == WIDE


def test_each_cache_has_its_own_figures_and_durable_stores_add_none() -> None:
    reads = [make_result("npy", 1.0 * count, count, params=each) for count in (10, 100) for each in (COLD,)]
    stores = [make_store("npy", 1.0, 1000, images=10, params=each) for each in (DURABLE,)]
    usual = [make_store("npy", 1.0, 1000, images=10), *_sweep("npy", at_10=1e-6, at_100=1e-6)]
    figures = list(plan_page(wrap_results(*reads, *stores, *usual)))
    assert sorted((figure.name, figure.cache) for figure in figures) == [
        ("overview", "cold"),
        ("overview", "warm"),
        ("size", "cold"),
        ("size", "warm"),
    ]


def test_the_largest_part_of_an_epoch_is_its_message(tmp_path: Path) -> None:
    answer = choose_payloads(read_run(save(make_photo_run(), tmp_path)))
    assert answer
    words = describe_parts(answer)
    assert words.startswith("Decoding and scaling: ")
    assert " % of an epoch of files in " in words


def _split(**seconds: tuple[float, float]) -> Split | None:
    """Split epochs by the seconds that backends take to scan and to train."""
    results = [
        make_result(name, each, operation=operation)
        for name, both in seconds.items()
        for operation, each in zip(("read_many", "read_epoch"), both, strict=True)
    ]
    return split_epochs(next(iter(make_views(wrap_results(*results)).values())))


def test_an_epoch_of_arrays_is_split_into_a_scan_and_what_shuffling_adds() -> None:
    split = _split(npy=(1.0, 1.25), gzip=(1.0, 20.0), png=(50.0, 48.0))
    assert split == Split(
        "Where an epoch's time goes: shuffling takes 95 % of gzip's, 20 % of npy's",
        (("npy", 80.0, "20 % shuffling"), ("gzip", 5.0, "95 % shuffling"), ("png", 100, "within the noise")),
    )


def test_shuffling_that_noise_explains_has_no_part() -> None:
    split = _split(npy=(1.0, 1.1))
    assert split
    assert split.message == "Where an epoch's time goes: shuffling takes less than the noise"
    one = _split(npy=(1.0, 1.05), gzip=(1.0, 20.0))
    assert one
    assert one.message.endswith("shuffling takes 95 % of gzip's")


def test_without_an_epoch_and_a_scan_or_with_payloads_nothing_is_split(tmp_path: Path) -> None:
    only = make_views(wrap_results(make_result("npy", 1.0)))
    photos = make_views(read_run(save(make_photo_run(), tmp_path)))
    assert {split_epochs(view) for view in (*only.values(), *photos.values())} == {None}
