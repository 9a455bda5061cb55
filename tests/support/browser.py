"""A real browser for tests: the system's Chromium, what a page did in it, what can be measured there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: python -m pip install -e '.[test]'")

from playwright.sync_api import Browser, Dialog, Locator, Page, ViewportSize, sync_playwright

from reports.page.command import write_page
from reports.reading import read_run
from reports.run import Run
from tests.support.runs import save

__all__ = ["Browser", "Locator", "Page", "ViewportSize"]  # what tests need of Playwright

NARROW, WIDE = ViewportSize(width=360, height=740), ViewportSize(width=1440, height=900)

_ROOT = Path(__file__).parents[2]
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--no-sandbox",  # Chromium has none for root, which containers often are
    *("--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

# Contrasts as WCAG 2 defines them, each against the nearest ground that is not transparent: [contrast, what it is].
_MEASURING = """
const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
const makeLinear = (share) => (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
const measureLight = (colour) => {
  const [red, green, blue] = parse(colour).map((value) => makeLinear(value / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const compare = (one, other) => {
  const [dark, light] = [measureLight(one), measureLight(other)].sort((low, high) => low - high);
  return (light + 0.05) / (dark + 0.05);
};
const findGround = (element) => {
  const { backgroundColor } = getComputedStyle(element);
  return (parse(backgroundColor)[3] ?? 1) === 1 ? backgroundColor : findGround(element.parentElement);
};
"""
_TEXTS = """() => {
  %s
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = new Map();
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.matches("title, desc, script, style")) continue;
    const style = getComputedStyle(element);
    const [colour, ground] = [element.matches("svg *") ? style.fill : style.color, findGround(element)];
    found.set(colour + ground, [compare(colour, ground), `${text.slice(0, 60)}: ${colour} on ${ground}`]);
  }
  return [...found.values()];
}"""
_DRAWINGS = """() => {
  %s
  const found = new Map();
  document.querySelectorAll(".line, .lead, .spread, .reference, .ring, .point, .strip path").forEach((element) => {
    if (!element.checkVisibility()) return;
    const style = getComputedStyle(element);
    const ground = findGround(element);
    const colours = element.matches(".point") ? [style.fill, style.stroke] : [style.stroke];
    const contrast = Math.max(...colours.map((colour) => compare(colour, ground)));
    const name = element.getAttribute("class") ?? "tick";
    found.set(name + colours + ground, [contrast, `${name}: ${colours.join(" or ")} on ${ground}`]);
  });
  return [...found.values()];
}"""


@dataclass(frozen=True)
class Visit:
    """A page that was opened: what it requested, and what it said in console, errors and dialogs."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """A page, and the run that it shows."""

    path: Path
    address: str
    run: Run


def make_report(folder: Path, document: dict[str, object], *older: dict[str, object]) -> Report:
    """Write the page of a run; those before are its history, the first of them its base."""
    paths = []
    for place, each in enumerate([*older, document]):
        (folder / str(place)).mkdir(parents=True)
        paths.append(save(each, folder / str(place)))
    page = folder / "report.html"
    write_page(paths, paths[0] if older else None, page)
    return Report(page, page.as_uri(), read_run(paths[-1]))


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Open the system's Chromium without a window, or skip the test where there is none."""
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium here; `apt-get install chromium` brings it")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=_OPTIONS) as browser:
        yield browser


def visit(browser: Browser, address: str, **options: Any) -> Visit:  # noqa: ANN401 - those of `Browser.new_page`
    visit = Visit(browser.new_page(**options))

    def refuse(dialog: Dialog) -> None:
        visit.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    visit.page.on("request", lambda request: visit.requests.append(request.url))
    visit.page.on("console", lambda message: visit.complaints.append(f"console: {message.text}"))
    visit.page.on("pageerror", lambda error: visit.complaints.append(f"error: {error}"))
    visit.page.on("dialog", refuse)
    visit.page.goto(address)
    return visit


def open_details(page: Page) -> None:
    """Open all that a reader can open, and wait for what is unpacked then."""
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.wait_for_function("() => !document.querySelector('details[data-source]:not(:has(table))')")


def find_weak_contrasts(page: Page) -> list[str]:
    """Find visible text with a contrast below 4.5, and what is drawn with one below 3."""
    found = [(4.5, each) for each in page.evaluate(_TEXTS % _MEASURING)]
    found += [(3.0, each) for each in page.evaluate(_DRAWINGS % _MEASURING)]
    assert len(found) > 5, "the page has text and drawings to measure"
    return [f"{words}: {contrast:.2f}, least {least}" for least, (contrast, words) in found if contrast < least]


def load_axe(page: Page) -> None:
    """Load axe-core from the disk into a page, or skip the test where there is none."""
    path = Path(os.environ.get("AXE_CORE", _ROOT / "node_modules" / "axe-core" / "axe.min.js"))
    if not path.is_file():
        pytest.skip(f"no axe-core at {path}; `npm install --no-save axe-core@4` brings it")
    page.evaluate(path.read_text(encoding="utf-8"))


def find_violations(page: Page) -> list[str]:
    passes, violations = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'] }).then((found) => [found.passes.length, found.violations])"
    )
    assert passes > 20, "axe-core looked at the page"
    return [
        f"{each['impact']}: {each['id']}, {each['help']}, {len(each['nodes'])} times: {each['nodes'][0]['html'][:200]}"
        for each in violations
    ]


def focus_first_point(page: Page) -> None:
    """Focus the first value of the first figure, which the Tab key reaches."""
    page.locator("svg.chart:visible .point").first.focus()
