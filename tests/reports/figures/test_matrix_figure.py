"""The matrix as SVG: the cells of the page, in its colours, in both schemes."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from reports.figures.matrix import draw_matrix
from reports.figures.styles import SCHEMES
from reports.matrix import make_views
from reports.reading import read_run
from reports.run import Run
from reports.text import format_number
from tests.support.results import make_result, make_store, wrap_results
from tests.support.runs import make_run, save
from tests.support.suite import ROOT

_SVG = "{http://www.w3.org/2000/svg}"


def _read(path: Path) -> tuple[list[str], list[str]]:
    """Read the texts of an SVG file, and the colours of its rectangles."""
    root = ET.parse(path).getroot()  # noqa: S314 - our own file
    return [each.text or "" for each in root.iter(f"{_SVG}text")], [
        each.attrib["fill"] for each in root.iter(f"{_SVG}rect")
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(save(make_run(cutoffs=[10, 1000]), tmp_path_factory.mktemp("run")))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_cell_of_the_default_matrix_is_drawn_in_its_colour(scheme: str, run: Run, tmp_path: Path) -> None:
    paths = draw_matrix(run, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["matrix-light.svg", "matrix-dark.svg"]
    texts, fills = _read(paths[list(SCHEMES).index(scheme)])
    view = next(iter(make_views(run).values()))
    cells = [cell for row in view.rows for cell in row.cells.values()]
    assert [text.rstrip("?~") for text in texts if re.fullmatch(r"[\d.,]+x[?~]*", text)] == [
        f"{format_number(cell.ratio)}x" for cell in cells
    ]
    names = (f"heat-{cell.heat}" if cell.standing == "behind" else cell.standing for cell in cells)
    assert fills[1:] == [SCHEMES[scheme].get(name, SCHEMES[scheme]["raised"]) for name in names]
    assert {row.backend for row in view.rows} | {use.title for use in view.uses} <= set(texts)


def test_the_footer_says_where_it_was_measured(run: Run, tmp_path: Path) -> None:
    texts, _ = _read(draw_matrix(run, tmp_path)[0])
    assert texts[-3].startswith("1,000 images, warm cache, one worker.")
    assert texts[-1].endswith("commit 01234567  ·  AMD EPYC 9654 96-Core Processor  ·  2 cores  ·  ext4")


def test_a_cell_that_is_noisy_or_unstable_is_marked(tmp_path: Path) -> None:
    noisy = [make_result("calm", 1.0), make_result("noisy", (1.0, 1.3, 1.4, 1.5, 2.0))]
    texts, _ = _read(draw_matrix(wrap_results(*noisy), tmp_path)[0])
    assert "1.40x?~" in texts


def test_a_name_can_not_leave_its_text(tmp_path: Path) -> None:
    run = wrap_results(make_result("<b>&\x01", 1.0), make_store("<b>&\x01", 1.0, 3000), make_result("png", 2.0))
    texts, fills = _read(draw_matrix(run, tmp_path)[0])
    assert "<b>&\N{REPLACEMENT CHARACTER}" in texts
    assert len(fills) == 1 + 5, "png has no size and no time to write"


def test_a_run_without_a_use_has_no_matrix(tmp_path: Path) -> None:
    assert draw_matrix(wrap_results(make_result("npy", 1.0, 1, operation="store_single")), tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_its_colours_are_those_of_the_page() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", (ROOT / "reports/page/page.css").read_text())[:2]
    for scheme, css in (("light", light), ("dark", dark)):
        colours = dict(re.findall(r"--([\w-]+): (#\w+)", css))
        assert SCHEMES[scheme] == {name: colours[name] for name in SCHEMES[scheme]}
