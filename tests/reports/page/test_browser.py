"""The page in a real browser: controls, cells, sorting, downloads, any screen, paper, axe-core, hostile text."""

import csv
import io
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal, get_args

import pytest

from reports import matrix
from reports.figures.styles import COLOURS
from reports.matrix import PROJECTED, View, make_views
from reports.page.contents import fill_snippet, list_snippets
from reports.sentence import write_sentence
from reports.text import format_number, format_time
from tests.support.browser import (
    NARROW,
    WIDE,
    Browser,
    Locator,
    Page,
    Report,
    ViewportSize,
    find_violations,
    find_weak_contrasts,
    focus_first_point,
    load_axe,
    make_report,
    open_browser,
    open_details,
    visit,
)
from tests.support.photo_runs import make_photo_run
from tests.support.remote_runs import make_remote_run
from tests.support.runs import find_cell, make_cell, make_run, run_of

Scheme = Literal["light", "dark"]
SCHEMES = get_args(Scheme)
LIGHT_USUALLY = pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><b>alert(1)</b>", "\"'>&amp;${7*7}{{7*7}}{%raw%}")
_LOOK_AT_FIGURES = """figures => figures.map((figure) => {
  const measure = (element) => { const box = element.getBoundingClientRect(); return Math.min(box.width, box.height); };
  const [title, description] = ["title", "desc"].map((name) => figure.querySelector(name)?.textContent);
  return [title, description, measure(figure), Math.min(...[...figure.querySelectorAll(".point")].map(measure))];
})"""
_POINTED = "document.activeElement.getAttribute('aria-label')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Make the page of a run of all that the suite measures; one backend was not read cold."""
    base, document = (
        make_run(["png", "lmdb", "raw"], [10, 100, 1000, 10_000, 100_000], durable=True, cold=True, workers=[1, 2])
        for _ in "ab"
    )
    base["datetime"] = "2026-11-20T06:39:47+00:00"
    lost = {"backend": "raw", "cache": "cold"}
    cells = [cell for cell in document["benchmarks"] if not lost.items() <= cell["params"].items()]
    document["benchmarks"], document["run"]["intended"] = cells, [cell["fullname"] for cell in cells]
    find_cell(document, "test_store_many[png-100000]")["extra_info"]["allocated_bytes"] = 10**8
    return make_report(tmp_path_factory.mktemp("report"), document, base)


@pytest.fixture(scope="module")
def window(browser: Browser) -> Page:
    """Open one window for all; a new one would take longer than most tests."""
    return browser.new_page()


@pytest.fixture
def sight(window: Page, report: Report) -> Page:
    """Show the page to a test that looks at it, and leaves it as it is but for what is folded."""
    window.set_viewport_size(WIDE)
    window.emulate_media(media="screen", color_scheme="light")
    window.mouse.move(0, 0)
    if window.url == report.address:
        window.evaluate("document.activeElement.blur()")
    else:
        window.goto(report.address)
    return window


@pytest.fixture
def page(sight: Page) -> Page:
    """Load the page afresh for a test that changes it."""
    sight.reload()
    return sight


def _read_rows(table: Locator) -> list[list[str]]:
    rows: list[list[str]] = table.evaluate(
        "table => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return rows


def _find_table(page: Page, caption: str) -> Locator:
    """Find a table by its caption, and open what it is folded in."""
    open_details(page)
    return page.locator("table", has=page.locator("caption", has_text=caption))


@pytest.mark.parametrize(
    "press",
    [Locator.click, pytest.param(partial(Locator.press, key="Enter"), marks=pytest.mark.slow)],
    ids=["mouse", "keyboard"],
)
def test_a_column_sorts_numbers_and_a_second_press_reverses_them(
    page: Page, report: Report, press: Callable[[Locator], None]
) -> None:
    table = _find_table(page, "Raw rounds of each cell: warm")
    warm = [result.median for result in report.run.results if ("cache", "warm") in result.params]
    ordered = [format_time(median) for median in sorted(warm)]
    head = table.get_by_role("button", name="median", exact=True)
    for direction, expected in (("ascending", ordered), ("descending", ordered[::-1])):
        press(head)
        assert [row[2] for row in _read_rows(table)] == expected, f"not {direction} by seconds"
        directions = table.locator("thead th").evaluate_all("all => all.map((head) => head.ariaSort)")
        assert directions == ["none", "none", direction, *["none"] * (len(directions) - 3)]
        assert page.evaluate("document.activeElement.textContent") == "median", "the focus stays where it was"


def test_empty_entries_stay_last_whichever_way_a_table_is_sorted(page: Page) -> None:
    table = _find_table(page, "Each cell against the base: cold")
    place = table.get_by_role("button").all_text_contents().index("new / base")
    for direction in ("ascending", "descending"):
        table.get_by_role("button", name="new / base", exact=True).click()
        entries = [row[place] for row in _read_rows(table)]
        empty = [entry in {"", "-"} for entry in entries]
        assert 0 < sum(empty) < len(empty), "some entries are empty"
        assert empty == sorted(empty), f"{direction}: an empty entry comes before others: {entries}"


def _read_matrix(page: Page) -> list[tuple[str, str]]:
    """Read the names and scores of the rows of the matrix."""
    return [(row[0], row[1]) for row in _read_rows(page.locator("#matrix"))]


def _expect_matrix(view: View) -> list[tuple[str, str]]:
    return [(row.backend, "-" if row.score is None else format_number(row.score)) for row in view.rows]


def _weigh(report: Report, key: str, weights: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> View:
    """Make the view that a page must show for some weights."""
    uses = [use._replace(weight=weights.get(use.name, use.weight)) for use in matrix.USES]
    monkeypatch.setattr(matrix, "USES", uses)
    return make_views(report.run)[key]


SENTENCE = "#sentence"


@pytest.mark.parametrize("device", ["mouse", pytest.param("keyboard", marks=pytest.mark.slow)])
def test_moving_a_weight_sorts_the_rows_and_says_what_to_use(
    page: Page, report: Report, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    page.locator("#controls details summary").click()
    slider = page.locator("#weight-open")
    if device == "mouse":
        box = slider.bounding_box()
        assert box
        slider.click(position={"x": 0.97 * box["width"], "y": box["height"] / 2})
    else:
        slider.press("End")
    page.locator("#weight-train").press("Home")
    uses = [use for use in matrix.USES if page.locator(f"#weight-{use.name}").count()]
    weights = {use.name: int(page.locator(f"#weight-{use.name}").input_value()) for use in uses}
    assert weights["open"] >= 95
    assert page.locator("output[for=weight-open]").inner_text() == str(weights["open"])
    key = next(iter(make_views(report.run)))
    view = _weigh(report, key, weights, monkeypatch)
    assert _read_matrix(page) == _expect_matrix(view), f"not as matrix.py has it: {weights}"
    assert page.locator(SENTENCE).inner_text() == write_sentence(view), "not as sentence.py writes it"
    for use in uses:
        page.locator(f"#weight-{use.name}").press("Home")
    assert page.locator(SENTENCE).inner_text() == "No backend was measured in all uses with a weight."


@pytest.mark.parametrize(
    ("choices", "key"),
    [
        ({"images": "10"}, "10/warm/one/"),
        pytest.param({"images": "1000", "workers": "all"}, "1000/warm/all/", marks=pytest.mark.slow),
        pytest.param({"images": str(PROJECTED)}, f"{PROJECTED}/warm/one/", marks=pytest.mark.slow),
        ({"images": "100", "cache": "cold"}, "100/cold/one/"),
    ],
    ids=["few", "workers", "projected", "cold"],
)
def test_each_control_shows_its_matrix_and_the_address_stores_it(
    page: Page, report: Report, choices: dict[str, str], key: str
) -> None:
    for name, value in choices.items():
        page.locator(f"#controls select[name={name}]").select_option(value)
    view = make_views(report.run)[key]
    page.locator("#matrix caption", has_text=view.title).wait_for()
    assert _read_matrix(page) == _expect_matrix(view)
    assert page.locator(SENTENCE).inner_text() == write_sentence(view)
    assert page.locator("#state").text_content() == view.title
    shown = page.locator(".figure:visible[data-cache]").evaluate_all("all => all.map((each) => each.dataset.cache)")
    assert set(shown) == {view.state.cache}
    changed = {name: value for name, value in choices.items() if page.url.find(f"{name}={value}") < 0}
    assert not changed, f"not in the address: {page.url}"
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.locator("#matrix caption", has_text=view.title).wait_for()
    assert _read_matrix(page) == _expect_matrix(view), "the link shows what its sender saw"
    page.goto("about:blank")


def test_a_link_with_weights_a_cell_and_nonsense_is_shown_as_far_as_it_makes_sense(
    window: Page, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.goto("about:blank")
    window.goto(f"{report.address}#images=nonsense&payload=x&open=100&train=0&use=scan&backend=png")
    key = next(iter(make_views(report.run)))
    view = _weigh(report, key, {"open": 100, "train": 0}, monkeypatch)
    window.locator("#cell").wait_for()
    assert _read_matrix(window) == _expect_matrix(view)
    assert window.locator("#cell caption").inner_text() == "png, Scan everything: all that was measured"
    window.goto("about:blank")


@pytest.mark.parametrize("device", ["mouse", pytest.param("keyboard", marks=pytest.mark.slow)])
def test_choosing_a_cell_shows_its_rounds_memory_cold_and_durable_results(page: Page, device: str) -> None:
    cell = page.locator("#matrix td[data-use=scan][data-backend=lmdb]")
    if device == "mouse":
        cell.click()
    else:
        assert [name for name, _ in _read_matrix(page)] == ["lmdb", "raw", "png"]
        page.locator("#matrix [tabindex='0']").focus()
        for key in ("ArrowUp", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "Tab", "Shift+Tab"):
            page.keyboard.press(key)
        assert cell.evaluate("cell => cell === document.activeElement"), "one stop of the Tab key"
        page.keyboard.press("Enter")
    page.locator("#cell").wait_for()
    images = page.locator("#view").get_attribute("data-images")
    names = [row[0] for row in _read_rows(page.locator("#cell table"))]
    assert sorted(names) == sorted([f"test_read_many[lmdb-{images}]", f"test_read_many[lmdb-{images}-cold]"])
    heads = page.locator("#cell thead th").all_inner_texts()
    for words in ("median", "IQR", "stable?", "peak memory", "disk", "each round"):
        assert any(words in head for head in heads), words
    assert cell.get_attribute("aria-selected") == "true"
    assert "use=scan&backend=lmdb" in page.url
    page.locator("#matrix td[data-use=write][data-backend=lmdb]").click()
    page.locator("#cell caption", has_text="Write once").wait_for()
    assert page.locator("#cell tbody tr").count() == 2, "buffered and durable"


def test_the_code_is_for_the_chosen_backend_and_can_be_copied(page: Page, report: Report) -> None:
    code = page.locator(".snippet:visible code")
    (snippet,) = list_snippets(report.run).values()
    best = _read_matrix(page)[0][0]
    assert code.inner_text() == fill_snippet(snippet, best)
    page.locator("#matrix td[data-use=disk][data-backend=png]").click()
    assert code.inner_text() == fill_snippet(snippet, "png")
    assert page.locator(".about:visible").inner_text().startswith("png: PNG: one ordinary file an image.")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#copy").click()
    page.locator("#copied", has_text="Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == code.inner_text()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.locator("#copy").click()
    page.locator("#copied", has_text="Selected").wait_for()
    assert page.evaluate("getSelection().toString()").strip() == code.inner_text().strip()


@pytest.mark.parametrize("viewport", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_answer_is_on_the_first_screen(sight: Page, viewport: ViewportSize) -> None:
    sight.set_viewport_size(viewport)
    sight.reload()
    places = [sight.locator(SENTENCE), sight.locator("#view > .note")]
    places += [sight.locator("article").nth(place) for place in range(3)] if viewport == NARROW else []
    places += [sight.locator("#matrix tbody tr").last] if viewport == WIDE else []
    for place in places:
        box = place.bounding_box()
        assert box
        assert box["y"] + box["height"] <= viewport["height"], place
    assert sight.locator("article").first.is_visible() == (viewport == NARROW)


def test_pointing_at_a_value_shows_its_exact_numbers(sight: Page, report: Report) -> None:
    tip = sight.locator("#tip")
    assert tip.is_hidden()
    sight.locator("svg.chart:visible", has_text="number of images").locator(".point[aria-label^='png:']").last.hover()
    (result,) = [result for result in report.run.results if result.cell.endswith("test_read_many[png-100000]")]
    low, middle, high = (format_number(10 * seconds) for seconds in result.quartiles)
    assert tip.inner_text() == (
        f"png: {middle} microseconds an image, {low} to {high}; number of images in the store: 100,000"
    )
    sight.mouse.move(0, 0)
    assert tip.is_hidden()


def test_arrow_keys_go_from_value_to_value_and_escape_hides_the_tip(page: Page) -> None:
    chart = page.locator("svg.chart:visible").first
    labels = [point.get_attribute("aria-label") for point in chart.locator(".point").all()]
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


def test_the_run_and_its_cells_can_be_downloaded(sight: Page, report: Report) -> None:
    files = {}
    for button in ("Run as JSON", "Cells as CSV"):
        with sight.expect_download() as download:
            sight.get_by_role("button", name=button).click()
        files[download.value.suggested_filename] = download.value.path().read_bytes()
    assert files["run.json"] == report.run.path.read_bytes(), "byte for byte"
    lines = csv.DictReader(io.StringIO(files["run.csv"].decode(), newline=""))
    assert sorted(line["cell"] for line in lines) == sorted(result.cell for result in report.run.results)


def make_hostile_run(name: str) -> dict[str, Any]:
    """Make a run whose every text is an attack, or several."""
    document = make_run(HOSTILE, [10, 100], durable=True, cold=True, workers=[1, 2])
    words = " ".join((name, *HOSTILE))
    document["machine_info"] |= {"system": words, "release": words, "machine": words, "cpu": {"brand_raw": words}}
    document["commit_info"]["id"] = document["run"]["store_directory"]["file_system"] = words
    document["run"] |= {name: dict.fromkeys(HOSTILE, words) for name in ("layouts", "maintainers", "licences")}
    document["run"] |= {name: {words: words} for name in ("failed", "libraries", "unavailable")}
    document["run"] |= {"command": words, "complete": False}
    document["run"]["image_set"] |= {"name": HOSTILE[1], "sha256": words}
    return document


@pytest.fixture(scope="module")
def inspected(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Open a page with every section and axe-core; of few cells, since axe-core is slow."""
    base, document = (make_run(["lmdb"], [10, 100], cold=True, workers=[1]) for _ in "ab")
    base["datetime"] = "2026-11-20T06:39:47+00:00"
    report = make_report(tmp_path_factory.mktemp("small"), document, base, make_hostile_run("other"))
    page = visit(browser, report.address).page
    load_axe(page)
    open_details(page)
    return page


def test_the_page_requests_nothing_else_from_a_server(browser: Browser, report: Report) -> None:
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            requests.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=report.path.parent)) as server:
        Thread(target=server.serve_forever).start()
        try:
            visited = visit(browser, f"http://127.0.0.1:{server.server_port}/{report.path.name}")
            visited.page.close()
        finally:
            server.shutdown()
    assert requests == [f"/{report.path.name}"]
    assert not visited.complaints, f"complaints: {visited.complaints}"


def test_every_figure_is_visible_and_has_a_title_and_a_description(sight: Page) -> None:
    figures = sight.locator("svg.chart:visible").evaluate_all(_LOOK_AT_FIGURES)
    assert len(figures) == 2, "size and sweep"
    for title, description, pixels, marker_pixels in figures:
        assert title
        assert description, title
        assert pixels > 150, title
        assert marker_pixels > 4, title


@pytest.mark.parametrize("viewport", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_page_never_scrolls_sideways_but_its_tables_do(sight: Page, viewport: ViewportSize) -> None:
    sight.set_viewport_size(viewport)
    open_details(sight)
    width = sight.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"], f"the page is {width} pixels wide in a window of {viewport['width']}"
    regions = sight.locator(".scroll").evaluate_all("all => all.map((each) => [each.tabIndex, each.ariaLabel])")
    assert all(tab == 0 and label for tab, label in regions), "each can be reached by keyboard and has a name"
    wide = sight.locator(".scroll:visible").evaluate_all(
        "all => all.map((each) => [each.scrollWidth > each.clientWidth, getComputedStyle(each, '::before').content])"
    )
    assert all(("scroll sideways" in words) == scrolls for scrolls, words in wide), "what scrolls says so"
    assert any(scrolls for scrolls, _ in wide) or viewport == WIDE


def test_long_names_don_t_make_the_page_wider_than_the_screen(window: Page, tmp_path: Path) -> None:
    report = make_report(tmp_path, run_of([make_cell("store_many", "W" * 300, count) for count in (10, 100_000)]))
    window.set_viewport_size(NARROW)
    window.goto(report.address)
    open_details(window)
    assert window.evaluate("document.documentElement.scrollWidth") == NARROW["width"]


def test_a_wide_table_is_scrolled_by_keyboard(sight: Page) -> None:
    sight.set_viewport_size(NARROW)
    region = sight.get_by_role("group", name="Matrix")
    region.focus()
    sight.keyboard.press("ArrowRight")
    sight.wait_for_function("() => document.activeElement.scrollLeft > 0")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_and_drawings_have_enough_contrast(sight: Page, scheme: Scheme) -> None:
    sight.emulate_media(color_scheme=scheme)
    open_details(sight)
    focus_first_point(sight)
    assert not (weak := find_weak_contrasts(sight)), "\n".join(weak)


@LIGHT_USUALLY
def test_each_colour_of_a_backend_has_enough_contrast(window: Page, tmp_path: Path, scheme: Scheme) -> None:
    names = [f"backend{place}" for place in range(len(COLOURS))]
    cells = [make_cell("read_many", name, count) for name in names for count in (10, 100)]
    window.emulate_media(media="screen", color_scheme=scheme)
    window.goto(make_report(tmp_path, run_of(cells)).address)
    assert not (weak := find_weak_contrasts(window)), "\n".join(weak)


@pytest.mark.parametrize("viewport", [pytest.param(NARROW, marks=pytest.mark.slow), WIDE], ids=["narrow", "wide"])
@LIGHT_USUALLY
def test_axe_finds_nothing(inspected: Page, scheme: Scheme, viewport: ViewportSize) -> None:
    inspected.set_viewport_size(viewport)
    inspected.emulate_media(color_scheme=scheme)
    assert not (violations := find_violations(inspected)), "\n".join(violations)


@pytest.mark.parametrize(
    "make",
    [make_photo_run, pytest.param(partial(make_remote_run, "npy", "lmdb"), marks=pytest.mark.slow)],
    ids=["photos", "bucket"],
)
@LIGHT_USUALLY
def test_a_page_about_payloads_or_a_bucket_is_sound_on_any_screen(
    window: Page, tmp_path: Path, scheme: Scheme, make: Callable[[], dict[str, Any]]
) -> None:
    report = make_report(tmp_path, make())
    window.emulate_media(media="screen", color_scheme=scheme)
    for viewport in (NARROW, WIDE):
        window.set_viewport_size(viewport)
        window.goto(report.address)
        answer = window.locator(SENTENCE).bounding_box()
        assert answer
        assert answer["y"] + answer["height"] < viewport["height"], "the answer is on the first screen"
        open_details(window)
        assert window.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        assert not (weak := find_weak_contrasts(window)), "\n".join(weak)
    load_axe(window)
    assert not (violations := find_violations(window)), "\n".join(violations)


def test_controls_are_not_printed(sight: Page) -> None:
    focus_first_point(sight)
    sight.emulate_media(media="print")
    for selector in ("nav", "input", "select", "summary", ".skip", ".downloads", ".use", "#tip", "#copy"):
        for element in sight.locator(selector).all():
            assert element.is_hidden(), f"{selector} is printed: {element.text_content()}"
    arrow = "getComputedStyle(document.querySelector('th button'), '::after').content"
    assert sight.evaluate(arrow) in {"none", '""'}, "arrows that sort"
    assert sight.locator("#matrix").is_visible()
    assert sight.locator("svg.chart").first.is_visible()


def test_print_is_dark_on_white_and_cuts_no_table(sight: Page) -> None:
    open_details(sight)
    sight.set_viewport_size({"width": 718, "height": 1000})  # A4 within margins of a centimetre
    sight.emulate_media(media="print", color_scheme="dark")
    assert sight.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not (weak := find_weak_contrasts(sight)), "\n".join(weak)
    tables = sight.locator(".scroll:visible")
    assert not tables.evaluate_all("all => all.filter((each) => each.scrollWidth > each.clientWidth).length")


def test_answer_figures_and_tables_work_without_javascript(browser: Browser, report: Report) -> None:
    page = visit(browser, report.address, java_script_enabled=False).page
    view = next(iter(make_views(report.run).values()))
    assert page.locator(SENTENCE).inner_text() == write_sentence(view)
    assert _read_matrix(page) == _expect_matrix(view)
    assert page.locator("#controls").is_hidden()
    assert page.locator("svg.chart:visible").count() == 2
    details = page.locator(".figure:visible details").first
    details.locator("summary").click()
    assert details.locator("table").first.is_visible()
    assert page.locator("noscript p").first.is_visible()
    page.close()


@pytest.mark.slow
def test_a_page_of_hostile_text_shows_it_and_runs_and_requests_nothing(browser: Browser, tmp_path: Path) -> None:
    report = make_report(tmp_path, make_hostile_run("new"), make_hostile_run("old"))
    visited = visit(browser, report.address)
    page = visited.page
    open_details(page)
    page.locator(".point:visible").last.hover(force=True)
    page.locator("#matrix [data-ratio]").last.click()
    page.locator("#cell").wait_for()
    page.locator("th button").evaluate_all("all => all.forEach((button) => button.click())")
    text = " ".join(page.locator("body").inner_text().split())
    for words in HOSTILE:
        assert words in text, f"cannot be read as it was written: {words}"
    assert page.locator("img, iframe, object, b, link[rel=stylesheet]").count() == 0
    assert page.locator("script:not([type='application/octet-stream'])").count() == 1, "the page's own"
    assert not visited.complaints, f"complaints: {visited.complaints}"
    assert visited.requests == [report.address], f"more than the file was requested: {visited.requests}"
    page.close()
