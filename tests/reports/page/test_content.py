"""The content of a page: its sections, warnings, facts, comparisons, history and scores."""

import datetime as dt
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.page import scores
from reports.page.contents import describe_comparison, describe_history, list_facts, list_problems, list_warnings
from reports.page.scores import WEIGHTS, Aspect, Score, measure_aspects, score_backends
from reports.run import Commit, ImageSet, Machine, Result, Run
from tests.support.pages import Element, check_soundness, make_html, read_page, read_table, unpack
from tests.support.results import BUFFERED, COLD, DURABLE, WARM, make_result, make_store, wrap_results
from tests.support.runs import make_cell, make_run, run_of, save


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
    sections = [each.attributes["id"] for each in page.find("section") if "id" in each.attributes]
    assert sections == ["answer", "stores", "run", "figures", "projection", "rounds", "method", "repeat"]


def test_each_figure_has_charts_and_a_table_for_each(page: Element) -> None:
    figures = [each for each in page.find("section") if each.attributes.get("class") in {"figure", "figure wide"}]
    titles = [next(figure.find("h3")).text for figure in figures]
    assert len(set(titles)) == len(titles) == 7
    for title, figure in zip(titles, figures, strict=True):
        captions = [each.text for each in figure.find("figcaption")]
        assert len(set(captions)) == len(captions), "no subplot is there twice"
        tables = [next(table.find("caption")).text for table in figure.find("table")]
        for caption, table in zip(captions, tables, strict=True):
            assert table.startswith(f"{title}: {caption}")


def test_warm_and_cold_or_buffered_and_durable_never_share_a_chart_table_or_sentence(page: Element) -> None:
    texts = [next(chart.find("title")).text for chart in page.find("svg", class_="chart")]
    texts += [table.text for table in page.find("table") for each in table.find("caption") if "Raw" not in each.text]
    texts += [answer.text for answer in page.find("p", class_="answer")]
    for text in texts:
        if not text.startswith(("Ratios to the best", "Layout, maintainer")):  # these name each way
            assert not {"warm", "cold"} <= set(re.findall(r"\w+", text)), text
            assert not {"buffered", "durable"} <= set(re.findall(r"\w+", text)), text
    assert sum("cold" in text for text in texts) >= 10
    assert sum("durable" in text for text in texts) >= 4


def test_the_label_of_each_line_has_its_marker(page: Element) -> None:
    for chart in page.find("svg", class_="chart"):
        for curve in (each for each in chart.find("g") if each.attributes["class"].startswith("series-")):
            (key,) = curve.find("use", class_="key")
            (label,) = curve.find("text")
            assert key.attributes["y"] == str(float(label.attributes["y"]) - 4)
            assert {each.attributes["href"] for each in curve.find("use")} == {key.attributes["href"]}


def test_the_stores_include_those_that_are_not_installed(page: Element) -> None:
    _, *rows = read_table(next(_section(page, "stores").find("table")))
    assert [row[0] for row in rows] == ["hdf5", "lmdb", "png", "tape"]
    assert rows[0][1:4] == ["HDF5: one file with two datasets.", "the keepers of hdf5", "MIT"]
    assert rows[3][1] == 'not measured: reel is not installed: python -m pip install -e ".[tape]"'


def _list_values(table: Element) -> set[tuple[str, str, str]]:
    """List backend, x and median of each value in the table of a subplot."""
    head, *rows = read_table(table)
    if head[1].startswith(("number of", "bytes")):  # one value a backend
        return {(name, across, value.split()[0]) for name, across, value in rows}
    values = ((name, across, value) for name, *row in rows for across, value in zip(head[1:], row, strict=True))
    return {(name, across, value.split()[0]) for name, across, value in values if value != "-"}


def test_the_table_of_a_chart_has_the_values_of_its_marks(page: Element) -> None:
    for figure in _section(page, "figures").find("section"):
        for chart, table in zip(figure.find("svg", class_="chart"), figure.find("table"), strict=True):
            words = [point.attributes["aria-label"] for point in chart.find("use", class_="point")]
            parts = [re.fullmatch(r"(\w+): (\S+) .*: (\S+)", each) for each in words]
            assert {(found[1], found[3], found[2]) for found in parts if found} == _list_values(table)
            assert len(words) == len(_list_values(table)) > 2


def _read_scores(page: Element) -> tuple[str, list[list[str]]]:
    (winner,), (table,) = page.find("p", id="winner"), page.find("table", id="scores")
    return winner.text, read_table(table)


def test_the_scores_name_the_backend_that_is_ahead_if_any_was_measured_in_all(page: Element, tmp_path: Path) -> None:
    winner, (head, *rows) = _read_scores(page)
    assert head == ["backend", "rank", "score", "write", "size", "cold", "warm"]
    assert [row[0] for row in rows if row[1] == "1"] == [rows[0][0]]
    assert winner == f"Ahead: {rows[0][0]}."
    read = make_cell("read_many", "png", 10, cache="warm")
    page = read_page(make_html(run_of([read, make_cell("store_many", "lmdb", 10, durability="buffered")]), tmp_path))
    winner, (_, *rows) = _read_scores(page)
    assert winner == "No backend was measured in all of these."
    assert {entry for row in rows for entry in row[1:3]} == {"-"}


def test_a_run_of_one_unknown_cell_has_no_figures_scores_or_projection(tmp_path: Path) -> None:
    page = read_page(make_html(run_of([make_cell("an_unknown_one", "png", 10)]), tmp_path))
    check_soundness(page)
    ids = {each.attributes.get("id") for each in page.find()}
    assert ids.isdisjoint({"figures", "projection", "base", "history", "scores"})
    assert [note.text for note in page.find("p", class_="note")].count("Not measured in this run.") == 6


def test_the_same_run_gives_the_same_bytes_with_the_run_and_its_cells_to_download(
    document: dict[str, Any], page: Element, tmp_path: Path
) -> None:
    assert make_html(document, tmp_path) == make_html(document, tmp_path)
    assert unpack(page, "json") == save(document, tmp_path).read_bytes()
    assert len(unpack(page, "csv").decode().splitlines()) == 1 + len(document["benchmarks"])


@pytest.fixture
def run() -> Run:
    """Make a run without any warning."""
    return wrap_results(*(make_result("png", 1.0, images) for images in range(1, 11)))


def _unsettle(run: Run, count: int) -> Run:
    """Make that many cells of a run unstable."""
    results = [replace(each, rounds=each.rounds[:2]) for each in run.results[:count]]
    return replace(run, results=(*results, *run.results[count:]))


def test_stand_in_images_and_lost_cells_are_warnings(run: Run) -> None:
    assert list_warnings(run) == ()
    intended = (*run.intended, *(f"file::lost{number}" for number in range(5)))
    skipped = {"file::lost1": "no", "file::lost2": "no"}
    broken = replace(run, complete=False, intended=intended, failed={"file::lost0": "wrong"}, skipped=skipped)
    assert list_warnings(replace(broken, image_set=ImageSet("standin", 1, "00"))) == (
        ("Stand-in images.", "As hard to compress and to decode as CIFAR-10; for PNG, measure your own images too."),
        ("Incomplete run.", "Of 15 cells 1 failed, 2 skipped, 2 never run."),
    )


def test_a_run_is_noisy_if_more_than_a_tenth_of_its_cells_are_unstable(run: Run) -> None:
    assert list_warnings(_unsettle(run, 1)) == ()
    ((words, sentence),) = list_warnings(_unsettle(run, 2))
    assert words == "Noisy run."
    assert sentence.startswith("2 of 10 cells are unstable: IQR above 10 %")


def test_the_facts_of_a_run_are_listed(run: Run) -> None:
    assert dict(list_facts(_unsettle(run, 1))) == {
        "Images": "cifar10, 100,000 images, SHA-256 ab12cd34ab12",
        "Date": "2026-11-21 06:39 UTC",
        "Processor": "AMD EPYC 9654, 2 cores",
        "System": "Linux 6.18.44",
        "File system": "ext4, 80 GB free",
        "Libraries": "numpy 2.4.6",
        "Commit": "01234567",
        "Cells": "10 cells measured, 1 of them unstable",
        "Complete": "yes",
    }
    local = dt.datetime(2026, 1, 2, 3, 4)  # noqa: DTZ001 - a run may lack its zone
    other = dict(list_facts(replace(run, commit=Commit("none", dirty=True), complete=False, datetime=local)))
    assert (other["Commit"], other["Complete"], other["Date"]) == ("none with changes", "no", "2026-01-02 03:04")


def test_each_missing_cell_is_listed_with_its_reason(run: Run, tmp_path: Path) -> None:
    intended = (*run.intended, "file::failed", "file::skipped", "file::lost")
    broken = replace(run, intended=intended, failed={"file::failed": "a b"}, skipped={"file::skipped": "no disk"})
    assert list_problems(broken) == (("failed", "a b"), ("skipped", "no disk"), ("lost", "never run"))
    assert list_problems(run) == ()
    many = list_problems(replace(run, intended=(*run.intended, *(f"file::{number}" for number in range(250)))))
    assert (len(many), many[-1]) == (201, ("and more", "50 of them"))
    document = make_run()
    document["run"]["failed"] = {"file::test_read_many[png-7]": "AssertionError: pixels differ"}
    (details,) = _section(read_page(make_html(document, tmp_path)), "run").find("details")
    assert details.text == "Missing cells: 1test_read_many[png-7]: AssertionError: pixels differ"


def test_a_base_is_compared_as_by_the_command(run: Run) -> None:
    slower = replace(run, results=tuple(replace(each, rounds=(5e3,) * 5) for each in run.results[:9]))
    described = describe_comparison(run, slower)
    expected = "Against the run of 2026-11-21 06:39, commit 01234567: 9 regressions, 1 missing, 0 ok. Inconclusive"
    assert described.words.startswith(expected)
    verdicts = [row[-1].text for table in described.tables for row in table.rows]
    assert sorted(verdicts) == ["missing"] + ["regression"] * 9
    different = describe_comparison(replace(run, cpu_count=64), run)
    assert different.words == "The runs cannot be compared: number of processors: 64 in the base, 2 in the new run."
    assert different.tables == ()


def test_a_history_has_the_comparable_runs_and_names_the_others(run: Run) -> None:
    other = replace(run, machine=Machine("Z80", "Linux", "6.18.44"), path=Path("folder/other.json"))
    history = describe_history([run, other, run])
    assert history.words == "2 runs that can be compared, oldest first."
    assert history.left_out == ("other.json (the base here): processor: Z80 in the base, AMD EPYC 9654 in the new run",)
    assert all(len(table.columns) == 4 for table in history.tables), "a cell, its course, two runs"
    assert sum(len(table.rows) for table in history.tables) == len(run.results)
    alone = describe_history([replace(run, complete=False, path=Path("W" * 10_000)), run])
    assert (alone.words, alone.tables) == ("No other run can be compared with this one.", ())
    assert alone.left_out[0].endswith(": the base is incomplete: repeat it")
    assert len(alone.left_out[0]) < 150


def _score(*results: Result) -> dict[str, Score]:
    return {score.backend: score for score in score_backends(measure_aspects(wrap_results(*results)))}


def _read(backend: str, **seconds: float) -> list[Result]:
    """Make cells that read, such as `many_warm` or `epoch_cold`."""
    ways = {"warm": WARM, "cold": COLD}
    cells = [(f"read_{name}".rsplit("_", 1), taken) for name, taken in seconds.items()]
    return [make_result(backend, taken, operation=name, params=ways[way]) for (name, way), taken in cells]


def test_a_score_is_the_weighted_geometric_mean_of_ratios_to_the_best() -> None:
    png = _read("png", many_warm=8.0, epoch_warm=6.0, single_warm=1.0, many_cold=5.0)
    lmdb = _read("lmdb", many_warm=1.0, epoch_warm=2.0, single_warm=1.5, many_cold=10.0)
    found = _score(*png, *lmdb, make_store("png", 3.0, 500), make_store("lmdb", 1.0, 1000))
    assert found["png"].ratios == pytest.approx({"write": 3, "size": 1, "cold": 1, "warm": (8 * 3 * 1) ** (1 / 3)})
    assert found["lmdb"].ratios == pytest.approx({"write": 1, "size": 2, "cold": 2, "warm": 1.5 ** (1 / 3)})
    assert WEIGHTS == {"write": 10, "size": 10, "cold": 20, "warm": 60}
    for score in found.values():
        product = math.prod(ratio ** WEIGHTS[name] for name, ratio in score.ratios.items())
        assert score.mean == pytest.approx(product ** (1 / 100))
    assert list(found) == ["lmdb", "png"], "the best first"


@pytest.mark.parametrize(
    ("results", "ratios"),
    [
        ([*_read("png", many_warm=4.0), *_read("lmdb", many_warm=1.0)], {"lmdb": {"warm": 1.0}, "png": {"warm": 4.0}}),
        ([*_read("png", many_warm=2.0, epoch_warm=1.0), *_read("lmdb", many_warm=1.0)], {"png": {"warm": 2**0.5}}),
        ([*_read("png", many_warm=2.0), *_read("lmdb", epoch_warm=1.0)], {}),
        ([make_store("png", 1.0, 5, params=DURABLE), make_result("png", 1.0, operation="other")], {"png": {"size": 1}}),
        ([make_store("png", 1.0, 0)], {"png": {"write": 1}}),
        ([make_result("png", 1.0, operation="store_many", params=BUFFERED)], {"png": {"write": 1}}),
        ([make_result("png", 3.0, params=(*WARM, ("level", 2))), make_result("png", 2.0)], {"png": {"warm": 1}}),
    ],
    ids=["one aspect", "one operation lacks", "no backend has all", "durable", "no bytes", "no size", "other params"],
)
def test_an_aspect_counts_only_if_it_was_measured(results: list[Result], ratios: dict[str, dict[str, float]]) -> None:
    found = {name: score.ratios for name, score in _score(*results).items()}
    assert found == {name: pytest.approx(own) for name, own in ratios.items()}


def test_a_backend_that_lacks_an_aspect_has_no_score_and_comes_last() -> None:
    found = _score(*_read("png", many_warm=9.0, many_cold=1.0), *_read("lmdb", many_warm=1.0))
    assert [(score.backend, score.rank) for score in found.values()] == [("png", 1), ("lmdb", None)]
    assert (found["lmdb"].ratios, found["lmdb"].mean) == ({"warm": 1.0}, None)


def test_an_aspect_describes_its_cells_and_counts_the_unstable_ones() -> None:
    cells = [*_read("png", many_warm=2.0, single_warm=1.0), make_result("lmdb", [1.0, 9.0])]
    aspects = measure_aspects(wrap_results(*cells))
    assert aspects.keys() == {"warm"}
    assert aspects["warm"].words == "read all (1,000 images), one at random (1,000 images)"
    assert (aspects["warm"].unstable, aspects["warm"].cells) == (1, 3)


def test_scores_that_hardly_differ_share_a_rank() -> None:
    means = {"a": 1.0, "b": 1.05, "c": 1.11, "d": 1.3, "e": 1.3}
    found = score_backends({"warm": Aspect("", means, 0, 5)})
    assert [score.rank for score in found] == [1, 1, 2, 4, 4]
    assert scores.SAME_SCORE == 1.1
