"""The report page as it is seen, in a real browser: on any screen, on paper, by everybody, whatever the run says."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal, get_args

import pytest

from reports.figures.styles import COLOURS
from tests.support.browser import (
    NARROW,
    WIDE,
    Browser,
    Page,
    Report,
    ViewportSize,
    find_violations,
    find_weak_contrasts,
    focus_first_point,
    load_axe,
    make_report,
    open_details,
    visit,
)
from tests.support.runs import make_cell, make_run, run_of

pytest_plugins = ["tests.support.page_fixtures"]

Scheme = Literal["light", "dark"]
SCHEMES = get_args(Scheme)
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><b>alert(1)</b>", "\"'>&amp;${7*7}{{7*7}}{%raw%}")
_LOOK_AT_FIGURES = """figures => figures.map((figure) => {
  const measure = (element) => { const box = element.getBoundingClientRect(); return Math.min(box.width, box.height); };
  const [title, description] = ["title", "desc"].map((name) => figure.querySelector(name)?.textContent);
  return [title, description, measure(figure), Math.min(...[...figure.querySelectorAll(".point")].map(measure))];
})"""


def make_hostile_run(name: str) -> dict[str, Any]:
    """Make a run whose every text is an attack, or several."""
    document = make_run(HOSTILE, [10, 100], durable=True, cold=True, workers=[1, 2])
    words = " ".join((name, *HOSTILE))
    failed = {f"tests.py::{words}": words}
    document["machine_info"] |= {"system": words, "release": words, "machine": words, "cpu": {"brand_raw": words}}
    document["commit_info"]["id"] = words
    document["run"] |= {"command": words, "libraries": {words: words}, "complete": False, "failed": failed}
    for texts in ("layouts", "maintainers", "licences"):
        document["run"][texts] = dict.fromkeys(HOSTILE, words)
    document["run"]["unavailable"] = {words: words}
    document["run"]["image_set"] |= {"name": HOSTILE[1], "sha256": words}
    document["run"]["store_directory"]["file_system"] = words
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


def test_the_page_opens_from_a_file_in_silence(browser: Browser, report: Report) -> None:
    visited = visit(browser, report.address, viewport=WIDE)
    open_details(visited.page)
    assert not visited.complaints, f"the page said: {visited.complaints}"
    assert visited.requests == [report.address], f"more than the file was requested: {visited.requests}"
    visited.page.close()


def test_a_server_is_asked_for_the_page_and_nothing_else(browser: Browser, report: Report) -> None:
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=report.path.parent)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            visited = visit(browser, f"http://127.0.0.1:{server.server_port}/{report.path.name}")
            visited.page.close()
        finally:
            server.shutdown()
            thread.join()
    assert asked == [f"/{report.path.name}"], f"the server was asked for {asked}"
    assert not visited.complaints, f"the page said: {visited.complaints}"


def test_every_figure_is_seen_and_has_a_title_and_a_description(sight: Page) -> None:
    figures = sight.locator("svg.chart").evaluate_all(_LOOK_AT_FIGURES)
    assert len(figures) > 10
    for title, description, size, markers in figures:
        assert title, "a figure without title"
        assert description, f"{title} has no description"
        assert size > 150, f"{title} is {size} pixels in one direction"
        assert markers > 4, f"{title}: a marker of {markers} pixels"


@pytest.mark.parametrize("viewport", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_page_never_scrolls_sideways_but_its_tables_do(sight: Page, viewport: ViewportSize) -> None:
    sight.set_viewport_size(viewport)
    open_details(sight)
    width = sight.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"], f"the page is {width} pixels wide in a window of {viewport['width']}"
    regions = sight.locator(".scroll").evaluate_all("all => all.map((each) => [each.tabIndex, each.ariaLabel])")
    assert all(tab == 0 and label for tab, label in regions), "each can be reached by keyboard and has a name"


def test_names_as_long_as_they_can_be_leave_the_page_as_wide_as_the_screen(window: Page, tmp_path: Path) -> None:
    report = make_report(tmp_path, run_of([make_cell("store_many", "W" * 300, count) for count in (10, 100_000)]))
    window.set_viewport_size(NARROW)
    window.goto(report.address)
    open_details(window)
    width = window.evaluate("document.documentElement.scrollWidth")
    assert width == NARROW["width"], f"a long name makes the page {width} pixels wide"


def test_a_wide_table_is_scrolled_by_keyboard(sight: Page) -> None:
    sight.set_viewport_size(NARROW)
    region = sight.get_by_role("group", name="Scores")
    sight.locator("#weight-warm").focus()
    sight.keyboard.press("Tab")
    assert region.evaluate("region => region === document.activeElement"), "it comes after the weights"
    sight.keyboard.press("ArrowRight")
    sight.wait_for_function("() => document.activeElement.scrollLeft > 0")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_and_drawings_stand_out_from_their_ground(sight: Page, scheme: Scheme) -> None:
    sight.emulate_media(color_scheme=scheme)
    open_details(sight)
    focus_first_point(sight)
    assert not (weak := find_weak_contrasts(sight)), "\n".join(weak)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_colour_of_a_backend_stands_out_from_the_ground(window: Page, tmp_path: Path, scheme: Scheme) -> None:
    names = [f"backend{place}" for place in range(len(COLOURS))]
    report = make_report(
        tmp_path, run_of([make_cell("read_many", name, count) for name in names for count in (10, 100)])
    )
    window.emulate_media(media="screen", color_scheme=scheme)
    window.goto(report.address)
    assert not (weak := find_weak_contrasts(window)), "\n".join(weak)


@pytest.mark.parametrize("viewport", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(inspected: Page, scheme: Scheme, viewport: ViewportSize) -> None:
    inspected.set_viewport_size(viewport)
    inspected.emulate_media(color_scheme=scheme)
    assert not (violations := find_violations(inspected)), "\n".join(violations)


def test_what_is_for_use_only_is_not_printed(sight: Page) -> None:
    focus_first_point(sight)
    sight.emulate_media(media="print")
    for selector in ("nav", "input", "summary", ".skip", ".downloads", ".use", "#tip"):
        for element in sight.locator(selector).all():
            assert element.is_hidden(), f"{selector} is printed: {element.text_content()}"
    arrow = "getComputedStyle(document.querySelector('th button'), '::after').content"
    assert sight.evaluate(arrow) in {"none", '""'}, "arrows that sort"
    assert sight.locator("output").first.is_visible(), "the weights of the scores"
    assert sight.locator("svg.chart").first.is_visible()


def test_print_is_dark_on_white_and_cuts_no_table(sight: Page) -> None:
    open_details(sight)
    sight.set_viewport_size({"width": 718, "height": 1000})  # A4 within margins of a centimetre
    sight.emulate_media(media="print", color_scheme="dark")
    assert sight.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not (weak := find_weak_contrasts(sight)), "\n".join(weak)
    cut = sight.locator(".scroll:visible").evaluate_all(
        "all => all.filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.ariaLabel)"
    )
    assert not cut, f"wider than the paper: {cut}"


def test_without_javascript_the_answer_the_figures_and_the_tables_are_there(browser: Browser, report: Report) -> None:
    page = visit(browser, report.address, java_script_enabled=False).page
    assert page.locator("#answer .leaders").all_inner_texts()[-1] == "lmdb, png and raw tie", "of few files"
    assert page.locator("svg.chart:visible").count() == page.locator("svg.chart").count() > 10
    details = page.locator("section.figure details").first
    details.locator("summary").click()
    assert details.locator("table").first.is_visible()
    assert page.locator("noscript p").first.is_visible()
    page.close()


def test_text_of_a_run_is_shown_as_text_and_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    report = make_report(tmp_path, make_hostile_run("new"), make_hostile_run("old"))
    visited = visit(browser, report.address)
    page = visited.page
    open_details(page)
    page.locator(".point").last.hover(force=True)
    page.locator("th button").evaluate_all("all => all.forEach((button) => button.click())")
    text = " ".join(page.locator("body").inner_text().split())
    for words in HOSTILE:
        assert words in text, f"cannot be read as it was written: {words}"
    assert page.locator("img, iframe, object, b, link[rel=stylesheet]").count() == 0
    assert page.locator("script:not([type='application/octet-stream'])").count() == 1, "the page's own"
    assert not visited.complaints, f"the page said: {visited.complaints}"
    assert visited.requests == [report.address], f"more than the file was requested: {visited.requests}"
    page.close()
