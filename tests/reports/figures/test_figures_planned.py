"""Which figures are planned for a run: pairs, workers, size against time, shuffled batches."""

import pytest

from reports.figures.plan import FigurePlan, plan_figures
from reports.run import Params, Result
from tests.support.results import BUFFERED, COLD, DURABLE, WARM, make_result, make_store, wrap_results


def _plan(*results: Result) -> dict[str, FigurePlan]:
    """Plan the figures of a run, by the stems of their names."""
    return {picture.stem: picture for picture in plan_figures(wrap_results(*results))}


def _work(backend: str, seconds: float, workers: float | str, *more: tuple[str, str], images: int = 1000) -> Result:
    params: Params = (("cache", "warm"), *more, ("workers", workers))
    return make_result(backend, seconds, images, operation="read_epoch_workers", params=params)


def test_warm_and_cold_buffered_and_durable_cells_share_no_figure() -> None:
    cells = [make_result("png", 1.0, params=params) for params in (WARM, COLD)]
    pictures = _plan(*cells, *(make_store("png", 1.0, 100, params=params) for params in (BUFFERED, DURABLE)))
    assert {"read_many", "read_many-cold", "store_many", "store_many-durable"} <= pictures.keys()
    overviews = {stem for stem in pictures if stem.startswith("overview")}
    assert overviews == {"overview", "overview-cold", "overview-durable", "overview-cold-durable"}
    (panel,) = pictures["read_store_ratio-cold-durable"].subplots
    assert panel.title == "cold, durable"


def test_cells_are_paired_only_where_their_axes_agree() -> None:
    operations = ("store_many", "read_many")
    cells = [make_result("png", 1.0, operation=each, params=(("workers", n),)) for each in operations for n in (1, 2)]
    overviews = [picture for stem, picture in _plan(*cells).items() if stem.startswith("overview")]
    assert [picture.stem for picture in overviews] == ["overview-workers-1", "overview-workers-2"]
    assert all(len(picture.subplots) == 2 for picture in overviews)


def test_a_shuffled_epoch_stands_against_its_workers() -> None:
    results = [_work(name, cost / count, count) for name, cost in (("png", 4.0), ("lmdb", 1.0)) for count in (4, 1, 2)]
    (panel,) = _plan(*results)["workers"].subplots
    assert panel.across == "worker processes"
    assert panel.unit == "microseconds an image"
    assert panel.title == "1,000 images (warm)"
    assert panel.lines.keys() == {"png", "lmdb"}
    medians = {count: middle for count, _, middle, _ in panel.lines["png"]}
    assert list(medians) == [1, 2, 4]
    assert medians == pytest.approx({1: 4000, 2: 2000, 4: 1000})


def test_workers_that_are_started_in_another_way_have_a_figure_of_their_own() -> None:
    pictures = _plan(*(_work("png", 1.0, 2, ("start", start)) for start in ("fork", "spawn")))
    assert {stem: picture.subplots[0].title for stem, picture in pictures.items()} == {
        "workers-fork": "1,000 images (warm, start fork)",
        "workers-spawn": "1,000 images (warm, start spawn)",
    }


def test_epochs_of_different_length_share_no_axes() -> None:
    pictures = _plan(*(_work("png", 1.0, 2, images=images) for images in (10, 1000)))
    assert [picture.subplots[0].title for picture in pictures.values()] == ["10 images (warm)", "1,000 images (warm)"]
    assert {picture.subject for picture in pictures.values()} == {"workers"}


@pytest.mark.parametrize("count", [0, -1, 1.5, "two"])
def test_what_is_no_number_of_workers_is_not_drawn(count: float | str) -> None:
    assert _plan(_work("png", 1.0, count)) == {}
    alone = make_result("png", 1.0, operation="read_epoch_workers")
    assert _plan(alone) == {}


def test_size_stands_against_time_at_the_largest_shared_number_of_images() -> None:
    reads = [make_result(name, 1e-6 * images, images) for name in ("png", "lmdb") for images in (10, 1000)]
    stores = [
        make_store("png", 1.0, 4_000_000),
        make_store("lmdb", 1.0, 3_000_000),
        make_store("png", 1.0, 7, images=10),
    ]
    (panel,) = _plan(*reads, *stores, make_result("png", 1.0, 5000))["size"].subplots
    assert panel.title == "1,000 images (warm)"
    assert (panel.unit, panel.across) == ("microseconds an image to read", "bytes an image on disk")
    assert panel.lines == {
        "png": [(4000.0, *[pytest.approx(1.0)] * 3)],
        "lmdb": [(3000.0, *[pytest.approx(1.0)] * 3)],
    }


def test_what_no_other_beats_in_size_and_time_is_marked() -> None:
    reads = [make_result(name, seconds) for name, seconds in (("fast", 1.0), ("small", 2.0), ("neither", 3.0))]
    stores = [make_store(name, 1.0, size) for name, size in (("fast", 900), ("small", 100), ("neither", 900))]
    (panel,) = _plan(*reads, *stores)["size"].subplots
    assert panel.marked == {"fast", "small"}


def test_a_size_needs_a_store_that_was_read_and_takes_bytes() -> None:
    reads = [make_result(name, 1.0) for name in ("known", "empty", "unknown")]
    stores = [make_store("known", 1.0, 100), make_store("empty", 1.0, 0), make_store("not_read", 1.0, 100)]
    (panel,) = _plan(*reads, *stores)["size"].subplots
    assert panel.lines.keys() == {"known"}
    assert "size" not in _plan(*reads, make_store("empty", 1.0, 0))
    assert "size" not in _plan(*reads)


def test_sizes_are_those_of_the_first_stores_and_warm_and_cold_reads_share_no_axes() -> None:
    reads = [make_result("png", 1.0), make_result("png", 5.0, params=COLD)]
    stores = [make_store("png", 1.0, 2000), make_store("png", 1.0, 9000, params=DURABLE)]
    pictures = _plan(*reads, *stores)
    points = {stem: pictures[stem].subplots[0].lines["png"] for stem in ("size", "size-cold")}
    assert points == {"size": [(2.0, *[1000.0] * 3)], "size-cold": [(2.0, *[5000.0] * 3)]}


def test_a_store_of_unknown_disk_use_has_no_size() -> None:
    alone = make_result("png", 1.0, operation="store_many", params=BUFFERED)
    assert "size" not in _plan(alone, make_result("png", 1.0))


def test_shuffled_batches_stand_in_microseconds_an_image() -> None:
    cells = [make_result("png", [1.0, 2.0, 3.0], 10, operation="read_epoch", params=params) for params in (WARM, COLD)]
    pictures = _plan(*cells)
    assert {"shuffled", "shuffled-cold"} <= pictures.keys()
    (panel,) = pictures["shuffled"].subplots
    assert panel.lines == {"png": [(10, 150_000.0, 200_000.0, 250_000.0)]}
    assert panel.scale == "logarithmic"
    assert panel.title == "warm"
