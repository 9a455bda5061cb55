"""The figures of a run: which there are, what they show, and that nothing in a run can break them."""

import math
import re
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from reports.figures.drawing import draw
from reports.figures.plan import FigurePlan, plan_figures
from reports.reading import read_run
from reports.run import BrokenRunError
from tests.support.properties import given, settings, st
from tests.support.runs import IMAGE_BYTES, make_cell, make_run, run_of, save

_ALL = {"overview", "shuffled", "size", "read_store_ratio", "store_many", "read_many", "read_epoch", "single", "disk"}
_SVG = "{http://www.w3.org/2000/svg}"


def _plan(document: object, folder: Path) -> dict[str, FigurePlan]:
    """Plan the figures of a run's JSON, by the stems of their names."""
    return {picture.stem: picture for picture in plan_figures(read_run(save(document, folder)))}


def _draw(document: object, folder: Path) -> dict[str, Path]:
    """Draw the figures of a run's JSON: SVG files by the stems of their names."""
    paths = draw(read_run(save(document, folder)), folder / "figures")
    return {path.stem: path for path in paths if path.suffix == ".svg"}


def _texts(path: Path) -> list[str]:
    """Collect what a reader can read in an SVG file."""
    return ["".join(element.itertext()) for element in ET.parse(path).iter(f"{_SVG}text")]  # noqa: S314 - our own file


def _places(path: Path, names: list[str]) -> Iterator[tuple[str, float, float]]:
    """Find where names stand in an SVG file: name, x and y in points."""
    for element in ET.parse(path).iter(f"{_SVG}text"):  # noqa: S314 - our own file
        name = "".join(element.itertext())
        if name in names:
            yield name, float(element.attrib["x"]), float(element.attrib["y"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Draw an ordinary run once; the SVG files by the stems of their names."""
    return _draw(make_run(cutoffs=[10, 1000, 100_000]), tmp_path_factory.mktemp("drawn"))


def test_a_run_gives_what_the_article_drew_as_svg_and_png(drawn: dict[str, Path]) -> None:
    assert drawn.keys() == _ALL
    assert {path.name for path in drawn["disk"].parent.iterdir()} == {
        f"{stem}.{kind}" for stem in _ALL for kind in ("svg", "png")
    }


def test_pictures_are_1200_pixels_wide(drawn: dict[str, Path]) -> None:
    for path in drawn.values():
        with Image.open(path.with_suffix(".png")) as image:
            assert image.width == 1200
            assert image.height >= 500


def test_each_line_is_labelled_with_text_in_every_panel(drawn: dict[str, Path]) -> None:
    for stem, path in drawn.items():
        panels = 1 if stem in {"read_store_ratio", "shuffled", "size"} else 2
        for backend in ("png", "lmdb", "hdf5"):
            assert _texts(path).count(backend) == panels, f"{backend} in {stem}"


def test_each_figure_says_what_it_shows_and_where_it_was_measured(drawn: dict[str, Path]) -> None:
    for stem, path in drawn.items():
        texts = _texts(path)
        assert re.search(r"second|bytes|over|against", texts[-4]), f"{stem} says what against what: {texts[-4:]}"
        assert texts[-2] == "images: standin  ·  stand-in images  ·  2026-11-21  ·  commit 01234567"
        assert texts[-1] == "AMD EPYC 9654 96-Core Processor  ·  2 cores  ·  ext4"


def test_an_svg_file_has_a_title_and_a_description_and_no_date(drawn: dict[str, Path]) -> None:
    for path in drawn.values():
        root = ET.parse(path).getroot()  # noqa: S314 - our own file
        title, description = root.find(f"{_SVG}title"), root.find(".//{http://purl.org/dc/elements/1.1/}description")
        assert title is not None
        assert title.text in _texts(path)
        assert description is not None
        assert "commit 01234567" in str(description.text)
        assert root.find(".//{http://purl.org/dc/elements/1.1/}date") is None


def test_numbers_have_thousands_separators_and_no_exponents(drawn: dict[str, Path]) -> None:
    for path in drawn.values():
        texts = _texts(path)
        assert any("100,000" in text for text in texts)
        assert not [text for text in texts if re.search(r"\d[eE][-+]?\d|10\^|\\times|\u2212", text)]


def test_the_same_run_gives_the_same_bytes_whatever_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = run_of([make_cell("read_epoch", name, images) for name in ("png", "lmdb") for images in (10, 100)])
    first = {path.name: path.read_bytes() for path in draw(read_run(save(document, tmp_path)), tmp_path / "first")}
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 40)
    second = {path.name: path.read_bytes() for path in draw(read_run(save(document, tmp_path)), tmp_path / "second")}
    assert first == second
    assert mpl.rcParams["lines.linewidth"] == 40, "drawing leaves the global settings alone"


def test_lines_show_the_quartiles_of_the_rounds(tmp_path: Path) -> None:
    document = make_run(["png"], [10, 1000])
    pictures = _plan(document, tmp_path)
    linear, logarithmic = pictures["store_many"].subplots
    assert (linear.scale, logarithmic.scale) == ("linear", "logarithmic")
    assert linear.lines == logarithmic.lines
    cells = [cell for cell in document["benchmarks"] if cell["extra_info"]["operation"] == "store_many"]
    for (count, *spread), cell in zip(linear.lines["png"], cells, strict=True):
        quartiles = statistics.quantiles(cell["stats"]["data"], method="inclusive")
        assert count == cell["extra_info"]["images"]
        assert spread == pytest.approx(quartiles)
        each = {x: values for x, *values in pictures["overview"].subplots[0].lines["png"]}
        assert each[count] == pytest.approx([quartile / count * 1e6 for quartile in quartiles])


def test_the_ratio_divides_reading_by_storing(tmp_path: Path) -> None:
    stored, read = make_cell("store_many", "png", 10), make_cell("read_many", "png", 10)
    stored["stats"]["data"], read["stats"]["data"] = [2.0, 4.0, 8.0], [1.0, 2.0, 3.0]
    document = run_of([stored, read, make_cell("read_many", "png", 20), make_cell("read_many", "lmdb", 10)])
    (panel,) = _plan(document, tmp_path)["read_store_ratio"].subplots
    assert panel.lines == {"png": [(10, 1.5 / 6, 0.5, 2.5 / 3)]}, "only what was both stored and read has a ratio"
    assert panel.reference == ("equal", 1.0)


def test_disk_use_is_shown_beside_raw_images(tmp_path: Path) -> None:
    pictures = _plan(make_run(["png"], [10]), tmp_path)
    apparent, allocated = pictures["disk"].subplots
    assert apparent.lines == {"png": [(10, *[(8192 + 10 * 2260) / 10] * 3)]}
    assert allocated.lines == {"png": [(10, *[(12288 + 10 * 4123) / 10] * 3)]}
    assert apparent.reference == allocated.reference == ("raw", IMAGE_BYTES)
    assert "3,080 bytes" in pictures["disk"].note


def test_single_reads_stand_against_the_size_of_the_store(tmp_path: Path) -> None:
    store, read = _plan(make_run(["png"], [10, 1000]), tmp_path)["single"].subplots
    assert [count for count, *_ in store.lines["png"]] == [1]
    assert [count for count, *_ in read.lines["png"]] == [10, 1000]
    assert read.lines["png"][0][2] == pytest.approx(360, rel=0.05), "microseconds"
    assert read.across == "number of images in the store"


def test_durable_cells_have_figures_of_their_own(tmp_path: Path) -> None:
    pictures = _plan(make_run(durable=True), tmp_path)
    storing = {"overview", "read_store_ratio", "store_many", "single", "disk"}
    assert pictures.keys() == _ALL | {f"{stem}-durable" for stem in storing}
    assert [panel.title for panel in pictures["disk"].subplots] == [
        "apparent size (buffered)",
        "allocated size (buffered)",
    ]
    assert pictures["store_many-durable"].subplots[0].title == "linear axes (durable)"
    assert [panel.title for panel in pictures["overview-durable"].subplots] == ["to store (durable)", "to read"]
    buffered, durable = (pictures[stem].subplots[0].lines["png"] for stem in ("store_many", "store_many-durable"))
    assert durable[0][2] > 1.5 * buffered[0][2]


def test_a_figure_without_cells_is_not_drawn(tmp_path: Path) -> None:
    assert _plan(run_of([make_cell("read_epoch", "png", 10)]), tmp_path).keys() == {"shuffled", "read_epoch"}
    assert _plan(run_of([make_cell("read_many", "png", 10)]), tmp_path).keys() == {"overview", "read_many"}
    assert _plan(run_of([make_cell("an_unknown_one", "png", 10)]), tmp_path) == {}


def test_a_run_without_any_figure_draws_none(tmp_path: Path) -> None:
    assert _draw(run_of([make_cell("an_unknown_one", "png", 10)]), tmp_path) == {}


def test_a_backend_has_the_same_colour_where_another_is_absent(tmp_path: Path) -> None:
    cells = [make_cell("read_epoch", "hdf5", 10), make_cell("read_epoch", "lmdb", 10)]
    paths = _draw(run_of([*cells, make_cell("read_epoch", "lmdb", 10, cache="cold")]), tmp_path)
    both, one = (
        set(re.findall("#(?:0072b2|d55e00|009e73)", paths[stem].read_text())) for stem in ("shuffled", "shuffled-cold")
    )
    assert (both, one) == ({"#0072b2", "#d55e00"}, {"#d55e00"})


@pytest.mark.parametrize("count", [12, 30])
def test_the_labels_of_many_backends_stay_apart_and_beside_their_axes(count: int, tmp_path: Path) -> None:
    names = [f"backend{number}" for number in range(count)]
    paths = _draw(run_of([make_cell("read_epoch", name, images) for name in names for images in (10, 100)]), tmp_path)
    size = ET.parse(paths["read_epoch"]).getroot().attrib["viewBox"].split()  # noqa: S314 - our own file
    columns: dict[float, list[float]] = {}
    for _, x, y in _places(paths["read_epoch"], names):
        columns.setdefault(x, []).append(y)
    assert [len(column) for column in columns.values()] == [count, count], "one column a panel, one label a line"
    for column in columns.values():
        column.sort()
        gaps = [below - above for above, below in pairwise(column)]
        assert min(gaps) >= 11.5, "labels are at least a line of 11.5 points apart"
        assert column[0] > 80, "below the titles"
        assert column[-1] < float(size[3]) - 60, "above the footer"


def test_a_label_that_has_room_stands_at_the_end_of_its_line(tmp_path: Path) -> None:
    cells = [make_cell("read_epoch", name, 10) for name in ("a", "b", "c")]
    for cell, seconds in zip(cells, (0.1, 0.5, 0.9), strict=True):
        cell["stats"]["data"] = [seconds] * 3
    labels = list(_places(_draw(run_of(cells), tmp_path)["read_epoch"], ["a", "b", "c"]))
    linear = {name: y for name, x, y in labels if x == min(x for _, x, _ in labels)}
    assert linear["a"] - linear["b"] > 30, "not pushed together"
    assert linear["a"] - linear["b"] == pytest.approx(linear["b"] - linear["c"], abs=0.1), "equal steps of time"


def test_names_are_never_read_as_mathematics_or_markup(tmp_path: Path) -> None:
    names = ["$x_1^2$", "<b>&amp;", "a$b", "_under_", "W" * 300, "日本語", "\x1b[31m", "שלום", "\ud800"]
    document = run_of([make_cell("read_epoch", name, 10) for name in names])
    document["machine_info"]["cpu"]["brand_raw"] = "<CPU> $" * 50
    document["run"]["image_set"]["name"] = "$\\frac{1}{0}$"
    texts = _texts(_draw(document, tmp_path)["read_epoch"])
    assert {"$x_1^2$", "<b>&amp;", "a$b", "_under_", "日本語", "\ufffd[31m", "שלום", "\ufffd"} <= set(texts)
    assert max(len(text) for text in texts if "WWW" in text) == 18
    assert texts[-2].startswith("images: $\\frac{1}{0}$  ·  ")
    assert max(map(len, texts)) < 140


def test_file_names_hold_nothing_but_letters_digits_and_dashes(tmp_path: Path) -> None:
    cells = [make_cell("read_many", "png", 10, axis=value) for value in ("../../up", "Up", "UP", "", "x" * 500, "漢字")]
    cells.append(make_cell("read_many", "png", 10, share=0.5))
    stems = _plan(run_of(cells), tmp_path).keys()
    assert len(stems) == 2 * len(cells), "an overview and a figure of each axis"
    assert all(re.fullmatch("[a-z0-9_-]{1,70}", stem) for stem in stems)
    assert {"read_many-up", "read_many-up-2", "read_many-up-2-2", "read_many-share-0-5"} <= stems


def test_more_backends_than_can_be_told_apart_are_refused(tmp_path: Path) -> None:
    document = run_of([make_cell("read_many", f"backend{number}", 10) for number in range(97)])
    with pytest.raises(BrokenRunError, match="97 backends"):
        _draw(document, tmp_path)


def test_a_store_of_no_bytes_can_be_drawn_beside_another(tmp_path: Path) -> None:
    cells = [make_cell("store_many", backend, 10) for backend in ("nothing", "something")]
    for cell, allocated in zip(cells, (0, 40960), strict=True):
        cell["extra_info"] |= {"apparent_bytes": 0, "allocated_bytes": allocated, "files": 0, "bytes": 0}
    assert _texts(_draw(run_of(cells), tmp_path)["disk"]).count("nothing") == 2


@pytest.mark.parametrize("seconds", [1e-12, 1e9])
def test_the_shortest_and_the_longest_time_can_be_drawn(seconds: float, tmp_path: Path) -> None:
    cells = [make_cell("read_epoch", "png", images) for images in (1, 10**12)]
    cells[0]["stats"]["data"] = [seconds]
    assert _draw(run_of(cells), tmp_path).keys() == {"shuffled", "read_epoch"}


@given(chosen=st.data())
@settings(max_examples=40)
def test_a_run_without_any_of_its_cells_has_its_figures(
    chosen: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = make_run(["png", "lmdb"], [10, 1000], durable=True)
    document["benchmarks"] = chosen.draw(
        st.lists(st.sampled_from(document["benchmarks"]), min_size=1, unique_by=lambda cell: str(cell["fullname"]))
    )
    pictures = _plan(document, tmp_path_factory.mktemp("fewer"))
    operations = {cell["extra_info"]["operation"] for cell in document["benchmarks"]}
    assert operations - {"store_single", "read_single"} <= {stem.removesuffix("-durable") for stem in pictures}
    for picture in pictures.values():
        assert picture.subplots
        for panel in picture.subplots:
            points = [point for line in panel.lines.values() for point in line]
            assert points
            assert all(math.isfinite(value) and value > 0 for point in points for value in point)


@given(chosen=st.data())
@settings(max_examples=3, deadline=None)
def test_a_run_without_any_of_its_cells_can_be_drawn(
    chosen: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = make_run(["png", "lmdb"], [10, 1000])
    kept = chosen.draw(st.sets(st.sampled_from(range(len(document["benchmarks"]))), min_size=1, max_size=3))
    document["benchmarks"] = [document["benchmarks"][place] for place in sorted(kept)]
    for path in _draw(document, tmp_path_factory.mktemp("few")).values():
        assert "commit 01234567" in " ".join(_texts(path))
