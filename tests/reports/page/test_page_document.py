"""The page as a whole: any run gives one that is sound, harmless and small."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import Element, check_soundness, make_html, read_page, read_table, unpack
from tests.support.runs import make_cell, make_run, run_of, save

SECTIONS = ["answer", "stores", "run", "figures", "projection", "rounds", "method", "repeat"]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Make a run that measured everything."""
    return make_run(durable=True, cold=True, workers=(1, 2))


@pytest.fixture(scope="module")
def page(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Element:
    """Make its page."""
    return read_page(make_html(document, tmp_path_factory.mktemp("page")))


def _section(page: Element, name: str) -> Element:
    (section,) = page.find("section", id=name)
    return section


def test_a_run_with_everything_has_all_sections_but_base_and_history(page: Element) -> None:
    check_soundness(page)
    assert [each.attributes["id"] for each in page.find("section") if "id" in each.attributes] == SECTIONS


def test_each_figure_has_its_charts_and_a_table_for_each(page: Element) -> None:
    figures = list(_section(page, "figures").find("section", class_="figure"))
    figures += list(_section(page, "figures").find("section", class_="figure wide"))
    titles = [next(figure.find("h3")).text for figure in figures]
    assert len(set(titles)) == len(titles) == 7
    for figure in figures:
        captions = [each.text for each in figure.find("figcaption")]
        assert len(set(captions)) == len(captions), "no panel is there twice"
        tables = [next(table.find("caption")).text for table in figure.find("table")]
        for caption, table in zip(captions, tables, strict=True):
            assert table.startswith(f"{next(figure.find('h3')).text}: {caption}")


def test_no_panel_column_or_answer_mixes_warm_with_cold_or_buffered_with_durable(page: Element) -> None:
    texts = [next(chart.find("title")).text for chart in page.find("svg", class_="chart")]
    texts += [table.text for table in page.find("table") for each in table.find("caption") if "Raw" not in each.text]
    texts += [answer.text for answer in page.find("p", class_="answer")]
    for text in texts:
        if not text.startswith(("Ratios to the best", "What each backend is")):  # where each is named
            assert not {"warm", "cold"} <= set(re.findall(r"\w+", text)), text
            assert not {"buffered", "durable"} <= set(re.findall(r"\w+", text)), text
    assert sum("cold" in text for text in texts) >= 10
    assert sum("durable" in text for text in texts) >= 4


def test_the_label_beside_each_line_has_its_marker(page: Element) -> None:
    for chart in page.find("svg", class_="chart"):
        for curve in (each for each in chart.find("g") if each.attributes["class"].startswith("series-")):
            (key,) = curve.find("use", class_="key")
            (label,) = curve.find("text")
            assert key.attributes["y"] == str(float(label.attributes["y"]) - 4)
            assert {each.attributes["href"] for each in curve.find("use")} == {key.attributes["href"]}


def test_the_stores_say_what_each_backend_is_and_what_is_not_installed(page: Element) -> None:
    (table,) = _section(page, "stores").find("table")
    head, *rows = read_table(table)
    assert head == ["backend", "what it is", "kept by", "licence", "choose it for", "not for"]
    assert [row[0] for row in rows] == ["hdf5", "lmdb", "png", "tape"]
    assert rows[0][1:4] == ["HDF5: one file with two datasets.", "the keepers of hdf5", "MIT"]
    assert rows[3][1] == 'not measured: reel is not installed: python -m pip install -e ".[tape]"'


def _list_values(table: Element) -> set[tuple[str, str, str]]:
    """List backend, place across and median of each value in the table of a panel."""
    head, *rows = read_table(table)
    if head[1].startswith(("number of", "bytes")):  # one value a backend
        return {(name, across, value.split()[0]) for name, across, value in rows}
    places = {(row[0], across): value.split()[0] for row in rows for across, value in zip(head, row, strict=True)}
    return {(*place, value) for place, value in places.items() if place[1] != "backend" and value != "-"}


def test_a_panel_shows_in_its_table_what_its_marks_say(page: Element) -> None:
    for figure in _section(page, "figures").find("section"):
        for chart, table in zip(figure.find("svg", class_="chart"), figure.find("table"), strict=True):
            said = [point.attributes["aria-label"] for point in chart.find("use", class_="point")]
            parts = [re.fullmatch(r"(\w+): (\S+) .*: (\S+)", words) for words in said]
            assert {(found[1], found[3], found[2]) for found in parts if found} == _list_values(table)
            assert len(said) == len(_list_values(table)) > 2


def test_the_scores_are_a_table_that_names_who_is_ahead(page: Element) -> None:
    (table,) = page.find("table", id="scores")
    head, *rows = read_table(table)
    assert head == ["backend", "rank", "score", "write", "size", "cold", "warm"]
    assert [row[0] for row in rows if row[1] == "1"] == [rows[0][0]]
    (winner,) = page.find("p", id="winner")
    assert winner.text == f"Ahead: {rows[0][0]}."


def test_where_no_backend_has_all_aspects_nobody_is_ahead(tmp_path: Path) -> None:
    cells = [
        make_cell("read_many", "png", 10, cache="warm"),
        make_cell("store_many", "lmdb", 10, durability="buffered"),
    ]
    page = read_page(make_html(run_of(cells), tmp_path))
    (winner,) = page.find("p", id="winner")
    assert winner.text == "No backend was measured in all of these."
    (table,) = page.find("table", id="scores")
    assert {entry for row in read_table(table)[1:] for entry in row[1:3]} == {"-"}


def test_a_run_of_one_strange_cell_has_no_figures_scores_or_projection(tmp_path: Path) -> None:
    page = read_page(make_html(run_of([make_cell("an_unknown_one", "png", 10)]), tmp_path))
    check_soundness(page)
    ids = {each.attributes.get("id") for each in page.find()}
    assert ids.isdisjoint({"figures", "projection", "base", "history", "scores"})
    assert [note.text for note in page.find("p", class_="note")].count("Not measured in this run.") == 6


def test_cells_that_are_missing_are_counted_and_listed(tmp_path: Path) -> None:
    document = make_run()
    document["run"]["failed"] = {"file::test_read_many[png-7]": "AssertionError: pixels differ"}
    (details,) = _section(read_page(make_html(document, tmp_path)), "run").find("details")
    assert details.text.split("test_") == ["Missing cells: 1", "read_many[png-7]: AssertionError: pixels differ"]


def test_the_json_is_that_of_the_run_and_the_csv_has_all_cells(
    document: dict[str, Any], page: Element, tmp_path: Path
) -> None:
    assert unpack(page, "json") == save(document, tmp_path).read_bytes()
    lines = unpack(page, "csv").decode().splitlines()
    assert len(lines) == 1 + len(document["benchmarks"])


def test_the_same_run_gives_the_same_bytes(document: dict[str, Any], tmp_path: Path) -> None:
    assert make_html(document, tmp_path) == make_html(document, tmp_path)
