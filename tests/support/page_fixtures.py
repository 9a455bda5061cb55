"""Fixtures of the tests in a browser: one browser a module, one report for all."""

from collections.abc import Iterator

import pytest

from tests.support.browser import WIDE, Browser, Page, Report, make_report, open_browser
from tests.support.runs import find_cell, make_run

BACKENDS, CUTOFFS = ("png", "lmdb", "raw"), (10, 100, 1000, 10_000, 100_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Make the page of a run of all that the suite measures; one backend was not read cold."""
    base, document = (make_run(BACKENDS, CUTOFFS, durable=True, cold=True, workers=[1, 2]) for _ in "ab")
    base["datetime"] = "2026-11-20T06:39:47+00:00"
    lost = {"backend": "raw", "cache": "cold"}
    cells = [cell for cell in document["benchmarks"] if not lost.items() <= cell["params"].items()]
    document["benchmarks"], document["run"]["intended"] = cells, [cell["fullname"] for cell in cells]
    find_cell(document, "test_store_many[png-100000]")["extra_info"]["allocated_bytes"] = 10**8
    return make_report(tmp_path_factory.mktemp("report"), document, base)


@pytest.fixture(scope="module")
def window(browser: Browser) -> Page:
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
