"""The content of a page: its sections, matrix, warnings, facts, comparisons and history."""

import copy
import datetime as dt
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reports.page.contents import (
    describe_backends,
    describe_comparison,
    describe_history,
    describe_unmeasured,
    fill_snippet,
    list_facts,
    list_problems,
    list_snippets,
    list_warnings,
)
from reports.page.document import make_page
from reports.reading import read_run
from reports.run import Commit, ImageSet, Machine, Run
from reports.text import format_time
from tests.support.pages import Element, check_soundness, make_html, read_page, read_table, unpack
from tests.support.photo_runs import make_photo_run
from tests.support.remote_runs import make_remote_run
from tests.support.results import COLD, DURABLE, make_result, wrap_results
from tests.support.runs import make_cell, make_run, run_of, save, slow_down


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
    assert sections == ["answer", "use", "figures", "run", "projection", "rounds", "method", "repeat"]


def test_the_sentence_and_the_matrix_come_first(page: Element) -> None:
    order = [each.attributes.get("id") for each in page.find() if each.attributes.get("id") in _PARTS]
    assert order == list(_PARTS)


_PARTS = ("sentence", "controls", "view", "matrix", "cell", "use", "figures", "bars", "run")


def test_the_matrix_has_a_row_for_each_backend_with_ratio_and_value(page: Element) -> None:
    (matrix,) = page.find("table", id="matrix")
    head, *rows = read_table(matrix)
    titles = ["backend", "score", "first in", "Train", "Scan everything", "Least disk", "Write once", "One image"]
    for text, title in zip(head, titles, strict=False):
        assert text.startswith(title)
    assert [row[0] for row in rows] == ["hdf5", "lmdb", "png"]
    assert rows[0][3:5] == ["1.00x 1.34 µs", "1.00x 1.33 µs"]
    assert [cell.attributes["class"] for cell in matrix.find("td", data_use="scan")] == ["best", "heat-1", "heat-4"]


def test_a_card_for_each_use_has_the_best_three(page: Element) -> None:
    cards = list(page.find("article"))
    titles = [next(card.find("h3")).text for card in cards]
    assert titles[:2] == ["Train per image, in shuffled batches", "Scan everything per image, in order"]
    assert len(cards) == 6
    entries = list(cards[0].find("div", class_="entry"))
    assert [next(each.find("span")).text for each in entries] == ["hdf5", "lmdb", "png"]
    lengths = [float(bar.attributes["width"]) for each in entries for bar in each.find("rect")]
    assert lengths == sorted(lengths)
    assert lengths[-1] == 100


def test_what_is_not_installed_is_one_line_that_opens_to_the_commands(page: Element) -> None:
    (absent,) = page.find("details", id="absent")
    assert next(absent.find("summary")).text == "Not measured: tape"
    assert [each.text for each in absent.find("li")] == [
        'tape: reel is not installed: python -m pip install -e ".[tape]"'
    ]


def test_all_warnings_are_one_line(tmp_path: Path) -> None:
    document = make_run()
    document["run"]["complete"] = False
    for cell in document["benchmarks"]:
        cell["stats"]["data"] = cell["stats"]["data"][:2]
    page = read_page(make_html(document, tmp_path))
    (line,) = page.find("p", class_="warning")
    assert [each.text for each in line.find("strong")] == ["Stand-in images.", "Incomplete run.", "Noisy run."]
    (matrix,) = page.find("table", id="matrix")
    marks = [each.attributes["title"] for each in matrix.find("abbr")]
    assert marks.count("unstable") == 3 * 4, "each time of each backend"


def test_the_controls_offer_what_was_measured_and_two_million_images(page: Element, tmp_path: Path) -> None:
    options = {
        select.attributes["name"]: [option.text for option in select.find("option")] for select in page.find("select")
    }
    assert options == {
        "images": ["10", "100", "1,000", "2 million (projected)"],
        "cache": ["warm", "cold"],
        "workers": ["one", "all"],
    }
    selected = [each.text for select in page.find("select") for each in select.find("option", selected="")]
    assert selected == ["1,000", "warm", "one"]
    sliders = [each.attributes["name"] for each in page.find("input")]
    assert sliders == ["train", "scan", "disk", "write", "open", "files"], "PyTorch wasn't measured"
    few = read_page(make_html(make_run(["png"], [10]), tmp_path))
    assert not list(few.find("select")), "nothing to choose"


def test_every_state_of_the_controls_has_its_packed_view(page: Element) -> None:
    views = json.loads(unpack(page, "views"))
    assert len(views) == 4 * 2 * 2
    for key, (matrix, bars, split) in views.items():
        (table,) = read_page(matrix).find("table", id="matrix")
        assert len(read_table(table)) == 4, key
        assert list(read_page(bars).find("h3")), key
        assert bool(split) == ("/one/" in key and not key.startswith("2000000/")), key
    shown = read_page(views["1000/warm/one/"][0])
    (matrix,) = page.find("table", id="matrix")
    assert read_table(matrix) == read_table(next(shown.find("table", id="matrix")))


def test_a_slower_cell_comes_before_the_answer(document: dict[str, Any], tmp_path: Path) -> None:
    base, run = document, copy.deepcopy(document)
    slow_down(run, "test_read_many[png-1000]", 3)
    slow_down(run, "test_read_many[png-1000-cold]", 2)
    slow_down(run, "test_read_many[hdf5-1000]", 0.1)
    for folder in "ab":
        (tmp_path / folder).mkdir()
    paths = [save(base, tmp_path / "a"), save(run, tmp_path / "b")]
    page = read_page(make_page([read_run(paths[1])], b"{}", read_run(paths[0])))
    check_soundness(page)
    first, *_ = page.find("section")
    assert first.attributes["id"] == "base"
    rows = read_table(next(first.find("table")))
    assert [row[0] for row in rows[1:]] == ["test_read_many[png-1000]", "test_read_many[png-1000-cold]"]
    assert {row[-1] for row in rows[1:]} == {"inconclusive"}, "runs of one process can't prove it"
    (details,) = first.find("details")
    assert len(list(details.find("table"))) == 4, "all cells, by the way they were measured"


def test_each_figure_has_its_message_as_title_and_a_table(page: Element) -> None:
    figures = [each for each in page.find("div") if each.attributes.get("class") in {"figure", "figure wide"}]
    assert len(figures) == 2 + 2 * 2, "bars; disk and sweep, warm and cold; epochs"
    messages = [next(figure.find("h3")).text for figure in figures]
    assert messages[0].startswith("Train: hdf5 takes 1.34 µs per image, in shuffled batches; png takes")
    assert len(set(messages)) > 2
    hidden = [figure.attributes.get("data-cache") for figure in figures if "hidden" in figure.attributes]
    assert hidden == ["cold", "cold"]
    assert messages[-1].startswith("Where an epoch's time goes: shuffling takes")
    for figure in figures[1:-1]:
        assert len(list(figure.find("table"))) == 1


def test_warm_and_cold_or_buffered_and_durable_never_share_a_chart_or_table(page: Element) -> None:
    texts = [next(chart.find("title")).text for chart in page.find("svg", class_="chart")]
    texts += [table.text for table in page.find("table") for each in table.find("caption") if "Raw" not in each.text]
    for text in texts:
        assert not {"warm", "cold"} <= set(re.findall(r"\w+", text)), text
        assert not {"buffered", "durable"} <= set(re.findall(r"\w+", text)), text
    assert sum("cold" in text for text in texts) >= 4


def test_the_label_of_each_line_has_its_marker(page: Element) -> None:
    for chart in page.find("svg", class_="chart"):
        for curve in (each for each in chart.find("g") if each.attributes["class"].startswith("series-")):
            (key,) = curve.find("use", class_="key")
            (label,) = curve.find("text")
            assert key.attributes["y"] == str(float(label.attributes["y"]) - 4)
            assert {each.attributes["href"] for each in curve.find("use")} == {key.attributes["href"]}


def _list_values(table: Element) -> set[tuple[str, str, str]]:
    """List backend, x and median of each value in the table of a subplot."""
    head, *rows = read_table(table)
    if head[1].startswith(("number of", "bytes")):  # one value a backend
        return {(name, across, value.split()[0]) for name, across, value in rows}
    values = ((name, across, value) for name, *row in rows for across, value in zip(head[1:], row, strict=True))
    return {(name, across, value.split()[0]) for name, across, value in values if value != "-"}


def test_the_table_of_a_chart_has_the_values_of_its_marks(page: Element) -> None:
    for figure in (each for each in page.find("div") if "data-cache" in each.attributes):
        for chart in figure.find("svg", class_="chart"):
            (table,) = figure.find("table")
            words = [point.attributes["aria-label"] for point in chart.find("use", class_="point")]
            parts = [re.fullmatch(r"(\w+): (\S+) .*: (\S+)", each) for each in words]
            assert {(found[1], found[3], found[2]) for found in parts if found} == _list_values(table)
            assert len(words) == len(_list_values(table)) > 2


def test_a_run_of_one_unknown_cell_has_no_matrix_figures_or_projection(tmp_path: Path) -> None:
    page = read_page(make_html(run_of([make_cell("an_unknown_one", "png", 10)]), tmp_path))
    check_soundness(page)
    ids = {each.attributes.get("id") for each in page.find()}
    assert ids.isdisjoint({"figures", "projection", "base", "history", "matrix", "use"})
    assert next(page.find("p", id="sentence")).text == "No use was measured in this run."


def test_a_run_of_buckets_has_their_section_and_begins_with_what_to_choose(tmp_path: Path) -> None:
    page = read_page(make_html(make_remote_run("npy", "lmdb"), tmp_path))
    check_soundness(page)
    answer = next(page.find("p", id="sentence")).text
    assert answer.startswith("From a bucket (SeaweedFS, 20 ms a request), take npy and shuffle within a window")
    assert answer in _section(page, "bucket").text
    assert len([*_section(page, "bucket").find("table")]) == 2


def test_buckets_beside_other_cells_leave_the_answer_as_it_is(tmp_path: Path) -> None:
    document = make_run()
    document["benchmarks"] += make_remote_run("npy")["benchmarks"]
    page = read_page(make_html(document, tmp_path))
    check_soundness(page)
    assert next(page.find("p", id="sentence")).text.startswith("Use hdf5")
    assert "take npy" in _section(page, "bucket").text


def test_the_same_run_gives_the_same_bytes_with_the_run_and_its_cells_to_download(
    document: dict[str, Any], page: Element, tmp_path: Path
) -> None:
    assert make_html(document, tmp_path) == make_html(document, tmp_path)
    assert unpack(page, "json") == save(document, tmp_path).read_bytes()
    assert len(unpack(page, "csv").decode().splitlines()) == 1 + len(document["benchmarks"])


def test_a_run_that_is_too_large_is_left_out_and_the_page_says_so(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.page.document.MAX_RUN", 10)
    page = read_page(make_html(document, tmp_path))
    assert [button.text for button in page.find("button") if "data-name" in button.attributes] == ["Cells as CSV"]
    assert not list(page.find("script", id="json"))
    (section,) = page.find("section", id="repeat")
    assert "run.json itself is too large for this page" in section.text


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
    assert sentence.startswith("2 of 10 cells are unstable (~): IQR above 10 %")


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
    assert described.slower
    assert len(described.slower.rows) == 9
    verdicts = [row[-1].text for table in described.tables for row in table.rows]
    assert sorted(verdicts) == ["missing"] + ["regression"] * 9
    different = describe_comparison(replace(run, cpu_count=64), run)
    assert different.words == "The runs cannot be compared: number of processors: 64 in the base, 2 in the new run."
    assert (different.tables, different.slower) == ((), None)
    assert describe_comparison(run, run).slower is None


def test_a_cell_that_failed_is_not_measured_in_the_comparison_with_a_base(run: Run) -> None:
    (cell, *_) = run.results
    failed = replace(run, results=run.results[1:], failed={cell.cell: "OSError"}, complete=False)
    described = describe_comparison(run, failed)
    assert ": 1 not measured, " in described.words
    rows = [[entry.text for entry in row] for table in described.tables for row in table.rows]
    (row,) = [row for row in rows if row[-1] == "not measured"]
    assert row[1:5] == [format_time(cell.median), "", "", ""]


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


@pytest.mark.parametrize(
    ("document", "payloads"),
    [(make_run(), [""]), (make_photo_run(), ["encoded", "pixels"]), (make_photo_run(payloads=["pixels"]), ["pixels"])],
)
def test_the_code_to_use_a_backend_runs(
    document: dict[str, Any], payloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = read_page(make_html(document, tmp_path))
    blocks = {each.attributes["data-payload"]: each.text for each in page.find("div", class_="snippet scroll")}
    assert list(blocks) == payloads
    snippets = list_snippets(read_run(tmp_path / "run.json"))
    assert len(set(map(len, map(str.splitlines, snippets.values())))) == 1
    chance = np.random.default_rng(0)
    images = chance.integers(0, 255, (3, 8, 8, 3), np.uint8)
    files = []
    for image in images:
        Image.fromarray(image).save(content := io.BytesIO(), "png")
        files.append(content.getvalue())
    for number, (payload, snippet) in enumerate(snippets.items()):
        (tmp_path / f"{number}").mkdir()
        monkeypatch.chdir(tmp_path / f"{number}")
        code = fill_snippet(snippet, "npy")
        assert len(code.strip().splitlines()) == 5
        names: dict[str, Any] = {"images": images, "files": files, "labels": np.arange(3)}
        exec(code, names)  # noqa: S102 - our own code
        assert names["batch"].shape == ((3, 224, 224, 3) if payload == "encoded" else (3, 8, 8, 3))
        assert names["batch_labels"].tolist() == [2, 0, 1]


def test_a_backend_is_described_by_layout_maintainer_and_licence(run: Run) -> None:
    assert describe_backends(run) == {"png": ""}
    known = replace(run, layouts={"png": "PNG: a file an image."}, maintainers={"png": "many"}, licences={"png": "MIT"})
    assert describe_backends(known) == {"png": "PNG: a file an image. Kept by many. MIT"}


def test_ways_that_were_not_measured_are_named_with_their_options() -> None:
    ways = [make_result("png", 1.0, params=params) for params in (COLD, DURABLE)]
    assert describe_unmeasured(wrap_results()) == "Not measured in this run: cold (--cold) and durable (--durable)."
    assert describe_unmeasured(wrap_results(ways[0])) == "Not measured in this run: durable (--durable)."
    assert describe_unmeasured(wrap_results(*ways)) == "All ways were measured."
