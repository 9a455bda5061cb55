"""Plans of figures: which ones a run can fill, and with which values."""

import math
import re
import statistics
from pathlib import Path

import pytest

from reports.figures.plan import FigurePlan, Scale, Subplot, plan_figures
from reports.reading import read_run
from reports.run import Params, Result
from tests.support.photo_runs import make_photo_run
from tests.support.properties import given, settings, st
from tests.support.results import BUFFERED, COLD, DURABLE, WARM, make_result, make_store, wrap_results
from tests.support.runs import IMAGE_BYTES, make_cell, make_run, run_of, save

ALL = {"overview", "shuffled", "size", "store_many", "read_many", "read_epoch", "single", "disk"}


def _plan(*results: Result) -> dict[str, FigurePlan]:
    """Plan the figures of a run, by the stems of their names."""
    return {figure.stem: figure for figure in plan_figures(wrap_results(*results))}


def _plan_document(document: object, folder: Path) -> dict[str, FigurePlan]:
    return {figure.stem: figure for figure in plan_figures(read_run(save(document, folder)))}


def _work(backend: str, seconds: float, workers: float | str, *more: tuple[str, str], images: int = 1000) -> Result:
    params: Params = (("cache", "warm"), *more, ("workers", workers))
    return make_result(backend, seconds, images, operation="read_epoch_workers", params=params)


def test_lines_show_the_quartiles_of_the_rounds(tmp_path: Path) -> None:
    document = make_run(["png"], [10, 1000])
    figures = _plan_document(document, tmp_path)
    assert figures.keys() == ALL
    linear, logarithmic = figures["store_many"].subplots
    assert (linear.scale, logarithmic.scale) == ("linear", "logarithmic")
    assert linear.lines == logarithmic.lines
    cells = [cell for cell in document["benchmarks"] if cell["extra_info"]["operation"] == "store_many"]
    for (count, *spread), cell in zip(linear.lines["png"], cells, strict=True):
        quartiles = statistics.quantiles(cell["stats"]["data"], method="inclusive")
        assert count == cell["extra_info"]["images"]
        assert spread == pytest.approx(quartiles)
        each = {x: values for x, *values in figures["overview"].subplots[0].lines["png"]}
        assert each[count] == pytest.approx([quartile / count * 1e6 for quartile in quartiles])


def test_disk_use_is_shown_beside_raw_images(tmp_path: Path) -> None:
    figures = _plan_document(make_run(["png"], [10]), tmp_path)
    apparent, allocated = figures["disk"].subplots
    assert (apparent.title, allocated.title) == ("apparent size (buffered)", "allocated size (buffered)")
    assert apparent.lines == {"png": [(10, *[(8192 + 10 * 2260) / 10] * 3)]}
    assert allocated.lines == {"png": [(10, *[(12288 + 10 * 4123) / 10] * 3)]}
    assert apparent.reference == allocated.reference == ("raw", IMAGE_BYTES)
    assert "3,080 bytes" in figures["disk"].note


def test_single_reads_are_shown_against_the_size_of_the_store(tmp_path: Path) -> None:
    store, read = _plan_document(make_run(["png"], [10, 1000]), tmp_path)["single"].subplots
    assert [count for count, *_ in store.lines["png"]] == [1]
    assert [count for count, *_ in read.lines["png"]] == [10, 1000]
    assert read.lines["png"][0][2] == pytest.approx(360, rel=0.05), "microseconds"
    assert read.across == "number of images in the store"


def test_shuffled_batches_are_shown_in_microseconds_an_image() -> None:
    figures = _plan(make_result("png", [1.0, 2.0, 3.0], 10, operation="read_epoch"))
    (subplot,) = figures["shuffled"].subplots
    assert subplot.lines == {"png": [(10, 150_000.0, 200_000.0, 250_000.0)]}
    assert (subplot.scale, subplot.title) == ("logarithmic", "warm")


def test_warm_and_cold_or_buffered_and_durable_cells_share_no_figure() -> None:
    cells = [make_result("png", 1.0, params=params) for params in (WARM, COLD)]
    figures = _plan(*cells, *(make_store("png", 1.0, 100, params=params) for params in (BUFFERED, DURABLE)))
    assert {"read_many", "read_many-cold", "store_many", "store_many-durable"} <= figures.keys()
    overviews = {stem for stem in figures if stem.startswith("overview")}
    assert overviews == {"overview", "overview-cold", "overview-durable", "overview-cold-durable"}
    assert figures["overview-cold-durable"].params == (("cache", "cold"), ("durability", "durable"))


def test_cells_are_paired_only_if_their_parameters_agree() -> None:
    operations = ("store_many", "read_many")
    cells = [make_result("png", 1.0, operation=each, params=(("workers", n),)) for each in operations for n in (1, 2)]
    overviews = [figure for stem, figure in _plan(*cells).items() if stem.startswith("overview")]
    assert [figure.stem for figure in overviews] == ["overview-workers-1", "overview-workers-2"]
    assert all(len(figure.subplots) == 2 for figure in overviews)


def test_a_shuffled_epoch_is_shown_against_its_workers() -> None:
    results = [_work(name, cost / count, count) for name, cost in (("png", 4.0), ("lmdb", 1.0)) for count in (4, 1, 2)]
    (subplot,) = _plan(*results)["workers"].subplots
    assert (subplot.across, subplot.unit) == ("worker processes", "microseconds an image")
    assert subplot.title == "1,000 images (warm)"
    assert subplot.lines.keys() == {"png", "lmdb"}
    assert [x for x, *_ in subplot.lines["png"]] == [1, 2, 4]
    assert [middle for _, _, middle, _ in subplot.lines["png"]] == pytest.approx([4000, 2000, 1000])


def test_epochs_of_other_lengths_or_start_methods_have_their_own_figures() -> None:
    figures = _plan(*(_work("png", 1.0, 2, ("start", start)) for start in ("fork", "spawn")))
    assert {stem: figure.subplots[0].title for stem, figure in figures.items()} == {
        "workers-fork": "1,000 images (warm, start fork)",
        "workers-spawn": "1,000 images (warm, start spawn)",
    }
    figures = _plan(*(_work("png", 1.0, 2, images=images) for images in (10, 1000)))
    assert [figure.subplots[0].title for figure in figures.values()] == ["10 images (warm)", "1,000 images (warm)"]


def _decode(backend: str, seconds: float, threads: float | str, images: int = 1000) -> Result:
    params: Params = (("cache", "warm"), ("payload", "encoded"), ("threads", threads))
    return make_result(backend, seconds, images, operation="read_epoch_decoded", params=params)


def _read_pixels(backend: str, seconds: float, images: int, cache: str = "warm") -> Result:
    params: Params = (("cache", cache), ("payload", "pixels"))
    return make_result(backend, seconds, images, operation="read_epoch", params=params)


def test_decoded_epochs_are_shown_beside_those_of_pixels_on_axes_of_the_same_height() -> None:
    decoded = [_decode("lmdb", 2.0, 1), _decode("lmdb", 1.0, 2), _decode("files", 4.0, 1)]
    pixels = [_read_pixels("npy", 0.001, 100), _read_pixels("npy", 0.02, 1000), _read_pixels("npy", 9.0, 100, "cold")]
    figure = _plan(*decoded, *pixels, _read_pixels("npy", 9.0, 10_000))["decoded"]
    files, ready = figure.subplots
    assert (files.title, files.across) == ("encoded, 1,000 images: decoded in the epoch", "threads that decode")
    assert {name: [x for x, *_ in line] for name, line in files.lines.items()} == {"files": [1], "lmdb": [1, 2]}
    assert [middle for _, _, middle, _ in files.lines["lmdb"]] == pytest.approx([2000, 1000])
    assert (ready.title, ready.across) == ("pixels: decoded before", "number of images")
    assert [x for x, *_ in ready.lines["npy"]] == [100, 1000]
    assert [middle for _, _, middle, _ in ready.lines["npy"]] == pytest.approx([10, 20])
    assert (min(files.values), max(files.values)) == (min(ready.values), max(ready.values))
    assert figure.stem not in _plan(*pixels), "without files that are decoded there is nothing to compare"


def test_a_decoded_epoch_has_a_figure_without_pixels_and_for_each_number_of_images() -> None:
    figures = _plan(_decode("lmdb", 2.0, 1), _decode("lmdb", 3.0, 1, images=10), _decode("npy", 1.0, "many"))
    assert [subplot.title for subplot in figures["decoded"].subplots] == ["encoded, 10 images: decoded in the epoch"]
    assert [subplot.title for subplot in figures["decoded-2"].subplots] == [
        "encoded, 1,000 images: decoded in the epoch"
    ]
    assert figures["decoded-2"].subplots[0].lines.keys() == {"lmdb"}, "a number of threads is a number"


def test_decoded_epochs_are_shown_beside_what_no_store_can_beat(tmp_path: Path) -> None:
    document = make_photo_run()
    for subplot, name in zip(
        _plan_document(document, tmp_path)["decoded"].subplots,
        ("read_epoch_decoded[1000-encoded-2]", "read_epoch[1000-pixels]"),
        strict=True,
    ):
        (floor,) = (each for each in document["benchmarks"] if each["fullname"].endswith(f"test_floor.py::test_{name}"))
        assert subplot.reference
        assert subplot.reference[0] == "no store"
        assert subplot.reference[1] == pytest.approx(1e3 * floor["stats"]["data"][0])


def test_no_axes_have_cells_of_two_payloads(tmp_path: Path) -> None:
    for figure in _plan_document(make_photo_run(), tmp_path).values():
        for subplot in figure.subplots:
            assert ("encoded" in subplot.title) != ("pixels" in subplot.title), subplot.title


@pytest.mark.parametrize("count", [0, -1, 1.5, "two"])
def test_an_invalid_number_of_workers_is_not_drawn(count: float | str) -> None:
    assert _plan(_work("png", 1.0, count), make_result("png", 1.0, operation="read_epoch_workers")) == {}


def test_size_is_shown_against_time_at_the_largest_shared_number_of_images() -> None:
    reads = [make_result(name, 1e-6 * images, images) for name in ("png", "lmdb") for images in (10, 1000)]
    stores = [make_store("png", 1.0, 4_000_000), make_store("lmdb", 1.0, 3_000_000)]
    stores.append(make_store("png", 1.0, 7, images=10))
    (subplot,) = _plan(*reads, *stores, make_result("png", 1.0, 5000))["size"].subplots
    assert subplot.title == "1,000 images (warm)"
    assert (subplot.unit, subplot.across) == ("microseconds an image to read", "bytes an image on disk")
    expected = {name: [(size, *[pytest.approx(1.0)] * 3)] for name, size in (("png", 4000.0), ("lmdb", 3000.0))}
    assert subplot.lines == expected


def test_backends_that_no_other_beats_in_size_and_time_are_marked() -> None:
    reads = [make_result(name, seconds) for name, seconds in (("fast", 1.0), ("small", 2.0), ("neither", 3.0))]
    stores = [make_store(name, 1.0, size) for name, size in (("fast", 900), ("small", 100), ("neither", 900))]
    (subplot,) = _plan(*reads, *stores)["size"].subplots
    assert subplot.marked == {"fast", "small"}


def test_a_size_needs_a_store_that_was_read_and_takes_bytes() -> None:
    reads = [make_result(name, 1.0) for name in ("known", "empty", "unknown")]
    unknown = make_result("unknown", 1.0, operation="store_many", params=BUFFERED)
    stores = [make_store("known", 1.0, 100), make_store("empty", 1.0, 0), make_store("not_read", 1.0, 100), unknown]
    (subplot,) = _plan(*reads, *stores)["size"].subplots
    assert subplot.lines.keys() == {"known"}
    assert "size" not in _plan(*reads, *stores[1:])


def test_sizes_are_those_of_buffered_stores() -> None:
    reads = [make_result("png", 1.0), make_result("png", 5.0, params=COLD)]
    stores = [make_store("png", 1.0, 2000), make_store("png", 1.0, 9000, params=DURABLE)]
    figures = _plan(*reads, *stores)
    points = {stem: figures[stem].subplots[0].lines["png"] for stem in ("size", "size-cold")}
    assert points == {"size": [(2.0, *[1000.0] * 3)], "size-cold": [(2.0, *[5000.0] * 3)]}


def test_a_figure_without_cells_is_absent() -> None:
    assert _plan(make_result("png", 1.0, operation="read_epoch")).keys() == {"shuffled", "read_epoch"}
    assert _plan(make_result("png", 1.0)).keys() == {"overview", "read_many"}
    assert _plan(make_result("png", 1.0, operation="an_unknown_one")) == {}


def test_file_names_have_only_letters_digits_and_dashes(tmp_path: Path) -> None:
    values = ("../../up", "Up", "UP", "", "x" * 500, "漢字")
    cells = [make_cell("read_many", "png", 10, param=value) for value in values]
    cells.append(make_cell("read_many", "png", 10, fraction=0.5))
    stems = _plan_document(run_of(cells), tmp_path).keys()
    assert len(stems) == 2 * len(cells), "an overview and a figure for each"
    assert all(re.fullmatch("[a-z0-9_-]{1,70}", stem) for stem in stems)
    assert {"read_many-up", "read_many-up-2", "read_many-up-2-2", "read_many-fraction-0-5"} <= stems


@given(chosen=st.data())
@settings(max_examples=40)
def test_any_part_of_a_run_has_figures(chosen: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    document = make_run(["png", "lmdb"], [10, 1000], durable=True)
    document["benchmarks"] = chosen.draw(
        st.lists(st.sampled_from(document["benchmarks"]), min_size=1, unique_by=lambda cell: str(cell["fullname"]))
    )
    figures = _plan_document(document, tmp_path_factory.mktemp("fewer"))
    operations = {cell["extra_info"]["operation"] for cell in document["benchmarks"]}
    assert operations - {"store_single", "read_single"} <= {stem.removesuffix("-durable") for stem in figures}
    for figure in figures.values():
        assert figure.subplots
        for subplot in figure.subplots:
            points = [point for line in subplot.lines.values() for point in line]
            assert points
            assert all(math.isfinite(value) and value > 0 for point in points for value in point)


def _make_subplot(*values: float, scale: Scale = "fit", reference: float | None = None) -> Subplot:
    lines = {"png": [(place, value, value, value) for place, value in enumerate(values, 1)]}
    return Subplot("title", "seconds", lines, scale, reference=None if reference is None else ("raw", reference))


def test_an_axis_shows_each_line_with_its_spread_and_the_reference() -> None:
    lines = {"png": [(10, 1.0, 2.0, 3.0), (100, 4.0, 5.0, 6.0)], "lmdb": [(10, 7.0, 8.0, 9.0)]}
    assert Subplot("", "seconds", lines).values == (1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert Subplot("", "seconds", lines, reference=("raw", 0.5)).values == (1, 2, 3, 4, 5, 6, 7, 8, 9, 0.5)


@pytest.mark.parametrize(
    ("values", "reference", "expected"),
    [
        ((1.0, 10.0), None, False),
        ((1.0, 10.1), None, True),
        ((0.0, 10.1), None, False),
        ((1.0, 2.0), 30.0, True),
        ((1.0, 2.0), 0.0, False),
    ],
)
def test_an_axis_is_fitted_by_whether_positive_values_differ_more_than_tenfold_unless_its_scale_is_given(
    values: tuple[float, ...], reference: float | None, *, expected: bool
) -> None:
    assert _make_subplot(*values, reference=reference).is_logarithmic is expected
    assert _make_subplot(*values, scale="logarithmic").is_logarithmic
    assert not _make_subplot(*values, scale="linear").is_logarithmic
