"""Figures as files: sizes, labels, reproducible bytes, and hostile names."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import matplotlib as mpl
import pytest
from PIL import Image

from reports.figures import drawing
from reports.figures.drawing import draw
from reports.figures.plan import plan_figures
from reports.figures.styles import COLOURS, choose_style
from reports.reading import read_run
from tests.support.properties import given, settings, st
from tests.support.runs import make_cell, make_run, run_of, save

_SVG, _DC = "{http://www.w3.org/2000/svg}", "{http://purl.org/dc/elements/1.1/}"
_ONE_SUBPLOT = {"shuffled", "size"}
_TWO_SUBPLOTS = {"overview", "store_many", "read_many", "read_epoch", "single", "disk"}


def _draw(document: object, folder: Path, *stems: str) -> dict[str, Path]:
    """Draw the figures of a run's JSON, or some of them: SVG files by the stems of their names."""
    run = read_run(save(document, folder))
    plans = [plan for plan in plan_figures(run) if not stems or plan.stem in stems]
    with patch.object(drawing, "plan_figures", return_value=plans):
        paths = draw(run, folder / "figures")
    return {path.stem: path for path in paths if path.suffix == ".svg"}


def _parse(path: Path) -> ET.Element:
    return ET.parse(path).getroot()  # noqa: S314 - our own file


def _texts(path: Path) -> list[str]:
    """Collect the visible text of an SVG file."""
    return ["".join(element.itertext()) for element in _parse(path).iter(f"{_SVG}text")]


def _places(path: Path, names: list[str]) -> Iterator[tuple[str, float, float]]:
    """Find names in an SVG file: name, x and y in points."""
    for element in _parse(path).iter(f"{_SVG}text"):
        name = "".join(element.itertext())
        if name in names:
            yield name, float(element.attrib["x"]), float(element.attrib["y"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Draw an ordinary run once; the SVG files by the stems of their names."""
    return _draw(make_run(cutoffs=[10, 1000, 100_000]), tmp_path_factory.mktemp("drawn"))


def test_each_figure_is_an_svg_file_and_a_png_file_1200_pixels_wide(drawn: dict[str, Path]) -> None:
    assert drawn.keys() == _ONE_SUBPLOT | _TWO_SUBPLOTS
    assert {path.name for path in drawn["disk"].parent.iterdir()} == {
        f"{stem}.{kind}" for stem in drawn for kind in ("svg", "png")
    }
    for path in drawn.values():
        with Image.open(path.with_suffix(".png")) as image:
            assert image.width == 1200
            assert image.height >= 500


def test_each_line_is_labelled_in_every_subplot(drawn: dict[str, Path]) -> None:
    for stem, path in drawn.items():
        for backend in ("png", "lmdb", "hdf5"):
            assert _texts(path).count(backend) == (1 if stem in _ONE_SUBPLOT else 2), f"{backend} in {stem}"


def test_each_figure_has_a_title_and_shows_where_it_was_measured(drawn: dict[str, Path]) -> None:
    for stem, path in drawn.items():
        texts = _texts(path)
        assert re.search(r"second|bytes|over|against", texts[-4]), f"title of {stem}: {texts[-4:]}"
        assert texts[-2] == "images: standin  ·  stand-in images  ·  2026-11-21  ·  commit 01234567"
        assert texts[-1] == "AMD EPYC 9654 96-Core Processor  ·  2 cores  ·  ext4"
        root = _parse(path)
        title, description = root.find(f"{_SVG}title"), root.find(f".//{_DC}description")
        assert title is not None
        assert title.text in texts
        assert description is not None
        assert "commit 01234567" in str(description.text)
        assert root.find(f".//{_DC}date") is None


def test_numbers_have_thousands_separators_and_no_exponents(drawn: dict[str, Path]) -> None:
    for path in drawn.values():
        texts = _texts(path)
        assert any("100,000" in text for text in texts)
        assert not [text for text in texts if re.search(r"\d[eE][-+]?\d|10\^|\\times|\u2212", text)]


def test_the_same_run_gives_the_same_bytes_whatever_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = run_of([make_cell("read_epoch", name, images) for name in ("png", "lmdb") for images in (10, 100)])
    first = {path.name: path.read_bytes() for path in draw(read_run(save(document, tmp_path)), tmp_path / "first")}
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 40)
    second = {path.name: path.read_bytes() for path in draw(read_run(save(document, tmp_path)), tmp_path / "second")}
    assert first == second
    assert mpl.rcParams["lines.linewidth"] == 40, "drawing leaves the global settings alone"


def test_a_run_without_any_figure_draws_none(tmp_path: Path) -> None:
    assert _draw(run_of([make_cell("an_unknown_one", "png", 10)]), tmp_path) == {}


def test_a_backend_has_the_same_colour_if_another_is_absent(tmp_path: Path) -> None:
    cells = [make_cell("read_epoch", "hdf5", 10), make_cell("read_epoch", "lmdb", 10)]
    document = run_of([*cells, make_cell("read_epoch", "lmdb", 10, cache="cold")])
    paths = _draw(document, tmp_path, "shuffled", "shuffled-cold")
    hdf5, lmdb = (COLOURS[choose_style(name).colour].lower() for name in ("hdf5", "lmdb"))
    both, one = (paths[stem].read_text() for stem in ("shuffled", "shuffled-cold"))
    assert [colour in text for text in (both, one) for colour in (hdf5, lmdb)] == [True, True, False, True]


@pytest.mark.parametrize("count", [12, pytest.param(30, marks=pytest.mark.slow)])
def test_the_labels_of_many_backends_stay_apart_and_beside_their_axes(count: int, tmp_path: Path) -> None:
    names = [f"backend{number}" for number in range(count)]
    document = run_of([make_cell("read_epoch", name, images) for name in names for images in (10, 100)])
    paths = _draw(document, tmp_path, "read_epoch")
    size = _parse(paths["read_epoch"]).attrib["viewBox"].split()
    columns: dict[float, list[float]] = {}
    for _, x, y in _places(paths["read_epoch"], names):
        columns.setdefault(x, []).append(y)
    assert [len(column) for column in columns.values()] == [count, count], "one column a subplot, one label a line"
    for column in columns.values():
        column.sort()
        gaps = [below - above for above, below in pairwise(column)]
        assert min(gaps) >= 11.5, "labels are at least a line of 11.5 points apart"
        assert column[0] > 80, "below the titles"
        assert column[-1] < float(size[3]) - 60, "above the footer"


def test_a_label_is_at_the_end_of_its_line_if_there_is_space(tmp_path: Path) -> None:
    cells = [make_cell("read_epoch", name, 10) for name in ("a", "b", "c")]
    for cell, seconds in zip(cells, (0.1, 0.5, 0.9), strict=True):
        cell["stats"]["data"] = [seconds] * 3
    labels = list(_places(_draw(run_of(cells), tmp_path, "read_epoch")["read_epoch"], ["a", "b", "c"]))
    linear = {name: y for name, x, y in labels if x == min(x for _, x, _ in labels)}
    assert linear["a"] - linear["b"] > 30, "not pushed together"
    assert linear["a"] - linear["b"] == pytest.approx(linear["b"] - linear["c"], abs=0.1), "equal steps of time"


def test_names_are_never_read_as_mathematics_or_markup(tmp_path: Path) -> None:
    names = ["$x_1^2$", "<b>&amp;", "a$b", "_under_", "W" * 300, "日本語", "\x1b[31m", "שלום", "\ud800"]
    document = run_of([make_cell("read_epoch", name, 10) for name in names])
    document["machine_info"]["cpu"]["brand_raw"] = "<CPU> $" * 50
    document["run"]["image_set"]["name"] = "$\\frac{1}{0}$"
    texts = _texts(_draw(document, tmp_path, "read_epoch")["read_epoch"])
    assert {"$x_1^2$", "<b>&amp;", "a$b", "_under_", "日本語", "\ufffd[31m", "שלום", "\ufffd"} <= set(texts)
    assert max(len(text) for text in texts if "WWW" in text) == 18
    assert texts[-2].startswith("images: $\\frac{1}{0}$  ·  ")
    assert max(map(len, texts)) < 140


def test_an_empty_store_can_be_drawn_beside_another(tmp_path: Path) -> None:
    cells = [make_cell("store_many", backend, 10) for backend in ("nothing", "something")]
    for cell, allocated in zip(cells, (0, 40960), strict=True):
        cell["extra_info"] |= {"apparent_bytes": 0, "allocated_bytes": allocated, "files": 0, "bytes": 0}
    assert _texts(_draw(run_of(cells), tmp_path, "disk")["disk"]).count("nothing") == 2


@pytest.mark.parametrize("seconds", [1e-12, pytest.param(1e9, marks=pytest.mark.slow)])
def test_the_shortest_and_the_longest_time_can_be_drawn(seconds: float, tmp_path: Path) -> None:
    cells = [make_cell("read_epoch", "png", images) for images in (1, 10**12)]
    cells[0]["stats"]["data"] = [seconds]
    assert _draw(run_of(cells), tmp_path).keys() == {"shuffled", "read_epoch"}


@pytest.mark.slow
@given(chosen=st.data())
@settings(max_examples=2)
def test_any_part_of_a_run_can_be_drawn(chosen: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    document = make_run(["png", "lmdb"], [10, 1000])
    kept = chosen.draw(st.sets(st.sampled_from(range(len(document["benchmarks"]))), min_size=1, max_size=3))
    document["benchmarks"] = [document["benchmarks"][place] for place in sorted(kept)]
    for path in _draw(document, tmp_path_factory.mktemp("few")).values():
        assert "commit 01234567" in " ".join(_texts(path))
