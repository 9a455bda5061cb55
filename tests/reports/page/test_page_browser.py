"""The report page as it is used, in a real browser: sorting, weights, exact figures, downloads."""

import csv

import pytest

from reports.page import scores
from reports.run import Run
from reports.text import format_number, format_time, name_cell
from tests.support.browser import Locator, Page, Report, focus_first_point, open_details

pytest_plugins = ["tests.support.page_fixtures"]

_POINTED = "document.activeElement.getAttribute('aria-label')"


def _read_rows(table: Locator) -> list[list[str]]:
    """Read the body of a table, row by row."""
    rows: list[list[str]] = table.evaluate(
        "table => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return rows


def _find_table(page: Page, caption: str) -> Locator:
    """Find a table by its caption, and open what it is folded in."""
    open_details(page)
    return page.locator("table", has=page.locator("caption", has_text=caption))


def _find_head(table: Locator, column: str) -> Locator:
    """Find what sorts a table by a column."""
    return table.get_by_role("button", name=column, exact=True)


def _list_directions(table: Locator) -> list[str]:
    directions: list[str] = table.evaluate(
        "table => [...table.tHead.rows[0].cells].map((head) => head.getAttribute('aria-sort'))"
    )
    return directions


def _point_at(page: Page, backend: str) -> Locator:
    """Find the last point of a backend in the first figure."""
    return page.locator("svg.chart").first.locator(f".point[aria-label^='{backend}:']").last


def test_each_figure_is_followed_by_a_table_of_its_values(sight: Page) -> None:
    figures = sight.locator("section.figure").all()
    assert len(figures) > 5
    for figure in figures:
        title = figure.locator("h3").text_content()
        after = figure.locator(".panels ~ details")
        assert after.count() == 1, f"no table follows {title!r}"
        values = 0
        for table in after.locator("table").all():
            rows = _read_rows(table)
            head = table.locator("th").nth(1).text_content() or ""
            single = head.startswith(("number of", "bytes"))  # one value a backend
            values += len(rows) if single else sum(entry != "-" for row in rows for entry in row[1:])
        assert values == figure.locator(".point").count(), f"{title!r}: its points and the values in its tables differ"


def test_a_click_on_a_head_sorts_numbers_by_their_size_and_the_next_one_turns_them_around(
    page: Page, report: Report
) -> None:
    table = _find_table(page, "Raw rounds of each cell: warm")
    warm = [result.median for result in report.run.results if ("cache", "warm") in result.axes]
    ordered = [format_time(median) for median in sorted(warm)]
    head = _find_head(table, "median")
    for direction, expected in (("ascending", ordered), ("descending", ordered[::-1])):
        head.click()
        assert [row[2] for row in _read_rows(table)] == expected, f"not {direction} by seconds"
        assert _list_directions(table) == ["none", "none", direction, "none", "none", "none", "none"]


def test_a_table_is_sorted_by_keyboard(page: Page, report: Report) -> None:
    table = _find_table(page, "Raw rounds of each cell: warm")
    cells = sorted(name_cell(result.cell) for result in report.run.results if ("cache", "warm") in result.axes)
    table.locator("caption").click()
    page.keyboard.press("Tab")
    for direction in ("ascending", "descending"):
        page.keyboard.press("Enter")
        assert _list_directions(table)[0] == direction
        names = [row[0] for row in _read_rows(table)]
        assert names != cells if direction == "descending" else sorted(names) == cells
    assert page.evaluate("document.activeElement.textContent") == "cell", "the focus stays where it was"


def test_empty_entries_stay_last_whichever_way_a_table_is_sorted(page: Page) -> None:
    for caption, column in (("Each cell against the base: cold", "new / base"), ("Ratios to the best", "cold")):
        table = _find_table(page, caption)
        place = table.get_by_role("button").all_text_contents().index(column)
        for direction in ("ascending", "descending"):
            _find_head(table, column).click()
            entries = [row[place] for row in _read_rows(table)]
            empty = [entry in {"", "-"} for entry in entries]
            assert 0 < sum(empty) < len(empty), f"{caption}: some entries are empty"
            assert empty == sorted(empty), f"{caption}, {direction}: an empty entry stands before others: {entries}"


def _expect_scores(run: Run, weights: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[str]], str]:
    """Compute what a page is to show at some weights: backend, score and rank of each row, and who is ahead."""
    monkeypatch.setattr(scores, "WEIGHTS", weights)
    expected = scores.score_backends(scores.measure_aspects(run))
    ranks = [scores.rank_score(each, expected) for each in expected]
    ahead = sorted(each.backend for each, rank in zip(expected, ranks, strict=True) if rank == 1)
    rows = [
        [each.backend, "-" if rank is None else str(rank), "-" if each.mean is None else format_number(each.mean)]
        for each, rank in zip(expected, ranks, strict=True)
    ]
    return rows, f"Ahead: {', '.join(ahead)}."


def _read_scores(page: Page) -> tuple[list[list[str]], str]:
    rows = [row[:3] for row in _read_rows(page.locator("#scores"))]
    return rows, page.locator("#winner").inner_text()


def _read_weights(page: Page) -> dict[str, int]:
    return {name: int(page.locator(f"#weight-{name}").input_value()) for name in scores.WEIGHTS}


def test_scores_are_those_of_the_weights_at_first(page: Page, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _read_weights(page) == scores.WEIGHTS
    assert _read_scores(page) == _expect_scores(report.run, scores.WEIGHTS, monkeypatch), "not as scores.py has it"


@pytest.mark.parametrize("device", ["mouse", "keyboard"])
def test_moving_a_weight_ranks_the_backends_anew(
    page: Page, report: Report, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    first = _read_scores(page)
    for name, share in (("size", 0.97), ("warm", 0.06), ("cold", 0.06)):
        slider = page.locator(f"#weight-{name}")
        box = slider.bounding_box()
        assert box is not None
        if device == "mouse":
            slider.click(position={"x": share * box["width"], "y": box["height"] / 2})
        else:
            slider.focus()
            for key in ("End", "ArrowLeft") if name == "size" else ("Home", "ArrowRight", "ArrowUp"):
                page.keyboard.press(key)
        assert page.locator(f"output[for=weight-{name}]").inner_text() == slider.input_value()
    weights = _read_weights(page)
    assert weights["size"] >= 95
    assert 0 < weights["warm"] <= 10
    assert _read_scores(page) == _expect_scores(report.run, weights, monkeypatch), f"not as scores.py has it: {weights}"
    assert _read_scores(page)[1] != first[1], "another backend is ahead where size counts"


def test_without_any_weight_the_page_says_so(page: Page) -> None:
    for name in scores.WEIGHTS:
        page.locator(f"#weight-{name}").press("Home")
    rows, words = _read_scores(page)
    assert words == "All weights are 0."
    assert [row[1:] for row in rows] == [["-", "-"]] * 3


def test_what_was_not_measured_does_not_matter_without_weight(page: Page) -> None:
    assert ["raw", "-", "-"] in _read_scores(page)[0]
    page.locator("#weight-cold").press("Home")
    assert "-" not in {entry for row in _read_scores(page)[0] for entry in row}


def test_pointing_at_a_value_shows_its_exact_figures(sight: Page, report: Report) -> None:
    tip = sight.locator("#tip")
    assert tip.is_hidden()
    _point_at(sight, "png").hover()
    (result,) = [result for result in report.run.results if result.cell.endswith("test_store_many[png-100000]")]
    low, middle, high = (format_number(10 * seconds) for seconds in result.quartiles)
    assert tip.inner_text() == (
        f"png: {middle} microseconds an image, {low} to {high}; number of images in the store: 100,000"
    )
    sight.mouse.move(0, 0)
    assert tip.is_hidden()


def test_arrow_keys_go_from_value_to_value_and_escape_hides_the_figures(page: Page) -> None:
    labels = [point.get_attribute("aria-label") for point in page.locator("svg.chart").first.locator(".point").all()]
    tip = page.locator("#tip")
    focus_first_point(page)
    for key, place in ((None, 0), ("ArrowRight", 1), ("ArrowDown", 2), ("ArrowLeft", 1), ("End", -1), ("Home", 0)):
        if key:
            page.keyboard.press(key)
        assert page.evaluate(_POINTED) == labels[place], f"after {key}"
        assert tip.inner_text() == labels[place], f"after {key}"
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate(_POINTED) not in labels, "one stop of the Tab key a figure"


def test_the_json_that_is_downloaded_is_the_run_byte_for_byte(sight: Page, report: Report) -> None:
    with sight.expect_download() as download:
        sight.get_by_role("button", name="Run as JSON").click()
    assert download.value.suggested_filename == "run.json"
    assert download.value.path().read_bytes() == report.run.path.read_bytes()


def test_the_csv_that_is_downloaded_has_a_line_for_each_cell(sight: Page, report: Report) -> None:
    with sight.expect_download() as download:
        sight.get_by_role("button", name="Cells as CSV").click()
    with download.value.path().open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert download.value.suggested_filename == "run.csv"
    assert sorted(line["cell"] for line in lines) == sorted(result.cell for result in report.run.results)
