"""What each store of a run is, when to choose it, and when not."""

from dataclasses import astuple, replace

import pytest

from reports.backends_table import COLUMNS, CROWD, FAR, Store, describe_stores
from reports.run import Result
from tests.support.results import COLD, DURABLE, make_result, make_store, wrap_results


def _describe(*results: Result) -> dict[str, Store]:
    return {store.name: store for store in describe_stores(wrap_results(*results))}


def _read(**seconds: float) -> list[Result]:
    """Make results that scan everything in so many seconds."""
    return [make_result(name, each) for name, each in seconds.items()]


def test_a_store_is_for_the_uses_in_which_it_is_ahead() -> None:
    stores = _describe(
        *_read(npy=1.0, hdf5=2.0),
        make_result("npy", 2.0, operation="read_epoch"),
        make_result("hdf5", 1.0, operation="read_epoch"),
        make_result("npy", 1.0, operation="read_single"),
        make_result("hdf5", 3.0, operation="read_single"),
    )
    assert stores["npy"].choose == "Scan everything; One random image"
    assert stores["hdf5"].choose == "Shuffled training"


def test_a_store_that_ties_is_named_with_the_others() -> None:
    stores = _describe(*_read(png=9.0, npy=1.0, hdf5=1.01, feather=1.02))
    assert stores["npy"].choose == "Scan everything (with feather and hdf5)"
    assert stores["feather"].choose == "Scan everything (with hdf5 and npy)"


def test_a_tie_of_many_is_no_reason_to_choose_any_of_them() -> None:
    crowd = {f"backend{number}": 1.0 for number in range(CROWD + 1)}
    alike = [make_store(name, 5.0 if name == "backend0" else 1.0 + place, 100) for place, name in enumerate(crowd)]
    stores = _describe(*_read(**crowd, slow=3.0), *alike, make_store("slow", 0.1, 900))
    assert stores["backend1"].choose == "never first; place 2: Write once (20.0 times slow)"
    assert stores["slow"].choose == "Write once"
    few = _describe(*_read(**dict(list(crowd.items())[1:]), slow=3.0))
    assert few["backend1"].choose == "Scan everything (with backend2, backend3, backend4 and backend5)"


def test_a_store_that_is_never_first_says_where_it_comes_nearest() -> None:
    stores = _describe(
        *_read(npy=1.0, hdf5=1.5, png=2.0),
        make_result("npy", 1.0, operation="read_epoch"),
        make_result("hdf5", 1.0, operation="read_epoch"),
        make_result("png", 4.0, operation="read_epoch"),
    )
    assert stores["png"].choose == "never first; place 2: Shuffled training (4.00 times hdf5)", "not third of all"


def test_a_store_is_not_for_the_uses_in_which_it_is_far_behind_the_worst_first() -> None:
    stores = _describe(
        *_read(npy=1.0, png=float(FAR)),
        make_result("npy", 1.0, operation="read_epoch"),
        make_result("png", 40.0, operation="read_epoch"),
        make_result("npy", 1.0, operation="read_single"),
        make_result("png", 9.0, operation="read_single"),
    )
    assert stores["png"].avoid == "Shuffled training (40.0 times npy); Scan everything (10.0 times npy)"
    assert stores["npy"].avoid == "-", "it is behind in nothing"


def test_of_many_uses_that_a_store_is_not_for_three_are_named() -> None:
    best = [make_result("npy", 1.0, operation=name) for name in ("read_many", "read_epoch", "read_single")]
    worst = [replace(each, backend="png", cell=f"{each.cell}2", rounds=(20.0 + n,) * 5) for n, each in enumerate(best)]
    stores = (make_store("npy", 1.0, 100), make_store("png", 30.0, 2000))
    avoid = _describe(*best, *worst, *stores)["png"].avoid
    assert avoid == (
        "Write once (30.0 times npy); One random image (22.0 times npy); Shuffled training (21.0 times npy); "
        "and 2 other uses"
    )


def test_a_store_that_is_nowhere_far_behind_says_where_it_is_worst() -> None:
    stores = _describe(*_read(npy=1.0, hdf5=3.2), make_store("npy", 1.0, 100), make_store("hdf5", 2.0, 100))
    assert stores["hdf5"].avoid == "never far behind; worst: Scan everything (3.20 times npy)"


def test_ways_of_measuring_a_use_are_named_where_there_are_several() -> None:
    cold = [make_result("npy", 20.0, axes=COLD), make_result("png", 1.0, axes=COLD)]
    stored = [make_store("npy", 1.0, 100, axes=DURABLE), make_store("png", 2.0, 100, axes=DURABLE)]
    stores = _describe(*_read(npy=1.0, png=2.0), *cold, *stored)
    assert stores["npy"].choose == "Scan everything, warm; Write once; Least disk (with png); Few files (with png)"
    assert stores["npy"].avoid == "Scan everything, cold (20.0 times png)"


def test_a_store_that_was_measured_alone_is_neither_for_nor_against_anything() -> None:
    (store,) = describe_stores(wrap_results(make_result("npy", 1.0)))
    assert (store.choose, store.avoid) == ("-", "-")


def test_a_store_says_what_it_is_who_keeps_it_and_its_licence() -> None:
    run = replace(
        wrap_results(*_read(png=1.0, lmdb=2.0)),
        layouts={"png": "PNG:\none file an image."},
        maintainers={"png": "the Pillow team", "lmdb": ""},
        licences={"png": "MIT-CMU", "lmdb": "OLDAP-2.8"},
    )
    lmdb, png = (astuple(store) for store in describe_stores(run))
    assert png[:4] == ("png", "PNG: one file an image.", "the Pillow team", "MIT-CMU")
    assert lmdb[:4] == ("lmdb", "-", "-", "OLDAP-2.8")
    assert len(png) == len(COLUMNS)


def test_what_could_not_be_measured_comes_last_with_the_reason() -> None:
    reasons = {
        "zarr": "zarr is not installed",
        "leveldb": "plyvel is not installed: type this",
        "png": "measured after all",
    }
    stores = describe_stores(replace(wrap_results(*_read(png=1.0, sqlite=2.0)), unavailable=reasons))
    assert [store.name for store in stores] == ["png", "sqlite", "leveldb", "zarr"]
    assert astuple(stores[2]) == ("leveldb", "not measured: plyvel is not installed: type this", "-", "-", "-", "-")


@pytest.mark.parametrize("field", ["name", "layout", "maintainer", "licence", "choose", "avoid"])
def test_text_of_a_run_is_short_and_one_line(field: str) -> None:
    name, text = "W" * 10_000, "a\x00b\n" * 10_000
    texts = {name: text}
    run = replace(
        wrap_results(make_result(name, 1.0), make_result(f"{name}X", 90.0)),
        layouts=texts,
        maintainers=texts,
        licences=texts,
        unavailable={text: text},
    )
    for store in describe_stores(run):
        assert len(getattr(store, field)) <= 220
        assert getattr(store, field).isprintable()
