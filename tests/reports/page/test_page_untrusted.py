"""Runs from anywhere: whatever stands in one is shown as text, or refused."""

import base64
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.page.document import make_page
from reports.reading import RANGES, read_run
from tests.support.pages import Element, check_soundness, make_html, read_page, unpack
from tests.support.properties import given, settings, st
from tests.support.runs import make_cell, make_run, run_of, save

EVIL = (
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{7*7}}{% raw %}${7*7}<!--",
    "\x00\x1b[31m\u202e\ud800\udfff\ud800",
    "</title>" + "W" * 10_000,
)
TEXTS = st.sampled_from(EVIL) | st.text(st.characters(), max_size=30)
MOST = 2**63 - 1
COUNTS = st.sampled_from([0, 1, 2, MOST]) | st.integers(0, MOST)
SECONDS = st.sampled_from(RANGES[float]) | st.floats(*RANGES[float])
KEPT = {"format", "fullname", "datetime", "operation", "durability", "cache"}  # what decides which cells these are


def _list_values(part: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - JSON can be anything
    """List all values of a JSON document: where each stands, and under which key."""
    for key in sorted(part) if isinstance(part, dict) else range(len(part)):
        if isinstance(part[key], dict | list):
            yield from _list_values(part[key])
        elif key not in KEPT:
            yield part, key


def _replace_value(part: Any, key: Any, chosen: st.DataObject) -> None:  # noqa: ANN401 - likewise
    """Put another value of the same kind in the place of one."""
    for kind, values in ((bool, st.booleans()), (str, TEXTS), (int, COUNTS), (float, SECONDS)):
        if isinstance(part[key], kind):
            part[key] = chosen.draw(values)
            return


def _make_evil(document: dict[str, Any], text: str) -> dict[str, Any]:
    """Put a text wherever a run can hold one."""
    for part, key in list(_list_values(document)):
        if isinstance(part[key], str):
            part[key] = text
    for part in (document["run"][name] for name in ("libraries", "failed", "skipped", "unavailable")):
        part[text] = text
    document["run"]["intended"].append(f"{text}::{text}")
    for place, cell in enumerate(document["benchmarks"]):
        cell["extra_info"]["backend"] = f"{place % 2}{text}{place % 2}"
        cell["params"][text] = text
    return document


@given(chosen=st.data())
@settings(max_examples=25, deadline=None)
def test_any_run_that_the_suite_can_write_has_a_sound_page(
    chosen: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    backends = chosen.draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
    flags = {name: chosen.draw(st.booleans()) for name in ("durable", "cold")}
    document = make_run(backends, [10, 1000], workers=chosen.draw(st.sampled_from([(), (1, 2)])), **flags)
    cells = {cell["fullname"]: cell for cell in document["benchmarks"]}
    kept = chosen.draw(st.sets(st.sampled_from(sorted(cells)), min_size=1, max_size=len(cells)))
    document["benchmarks"] = [cell for name, cell in cells.items() if name in kept]
    document["run"]["complete"] = False
    values = list(_list_values(document))
    for part, key in chosen.draw(st.lists(st.sampled_from(values), max_size=8)):
        _replace_value(part, key, chosen)
    path = save(document, tmp_path_factory.mktemp("any"))
    out = path.with_name("page.html")
    if main(["page", str(path), "--out", str(out)]):
        assert not out.exists(), "a run that cannot be"
        return
    page = read_page(out.read_text(encoding="utf-8"))
    check_soundness(page)
    assert unpack(page, "json") == path.read_bytes()


@pytest.mark.parametrize("text", EVIL, ids=["script", "attribute", "template", "control", "long"])
def test_a_text_is_shown_as_text_wherever_it_stands(text: str, tmp_path: Path) -> None:
    document = _make_evil(make_run(["png", "lmdb"], [10, 1000], durable=True, cold=True, workers=(1,)), text)
    for place, cell in enumerate(document["benchmarks"]):
        cell["fullname"] = f"{place}{text}::{place}{text}"
        cell["extra_info"]["operation"] = "read_many" if place % 3 else text
    document["datetime"] = "2026-11-21T06:39:47+00:00"
    html = make_html(document, tmp_path)
    assert "\ud800" not in html
    assert (
        "49" not in html.partition("<body>")[0].replace("sha256-", "").partition("<style>")[0].partition("<title>")[2]
    )
    page = read_page(html)
    check_soundness(page)
    assert not list(page.find("img"))
    assert sum("type" not in script.attributes for script in page.find("script")) == 1, "our own"
    if text.isprintable() and len(text) < 40:
        assert page.text.count(text) > 20


def test_the_policy_allows_the_style_and_the_script_of_the_page_alone(tmp_path: Path) -> None:
    page = read_page(make_html(make_run(), tmp_path))
    (meta,) = page.find("meta", http_equiv="Content-Security-Policy")
    policy = dict(part.strip().split(" ", 1) for part in meta.attributes["content"].split(";"))
    scripts = [each for each in page.find("script") if each.attributes.get("type") != "application/octet-stream"]
    for name, elements in (("script-src", scripts), ("style-src", list(page.find("style")))):
        ((content,),) = (each.content for each in elements)
        assert isinstance(content, str)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy.pop(name) == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_nothing_on_a_page_names_a_place_in_the_network(tmp_path: Path) -> None:
    html = make_html(make_run(), tmp_path)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_a_page_has_room_for_ninety_backends(tmp_path: Path) -> None:
    names = [f"backend{number:02}" for number in range(90)]
    cells = [make_cell(operation, name, 10) for name in names for operation in ("store_many", "read_many")]
    page = read_page(make_html(run_of(cells), tmp_path))
    check_soundness(page)
    for chart in page.find("svg", class_="chart"):
        assert sorted(text.text for text in chart.find("text") if text.text in names) == names


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("name", ["rounds", "images", "allocated_bytes", "free_bytes"])
def test_numbers_that_are_none_are_refused(
    word: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = make_cell("store_many", "png", 10)
    document = run_of([cell])
    if name == "rounds":
        cell["stats"]["data"] = ["HERE"]
    else:
        (document["run"]["store_directory"] if name == "free_bytes" else cell["extra_info"])[name] = "HERE"
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document).replace('"HERE"', word))
    assert main(["page", str(path), "--out", str(tmp_path / "page.html")]) == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def _make_full_run() -> dict[str, Any]:
    """Make a run as large as that of 18 backends: five cutoffs, half a second of rounds, as noisy as real ones."""
    names = [f"backend_{number:02}" for number in range(18)]
    document = make_run(names, [10, 100, 1_000, 10_000, 100_000], workers=(1, 2))
    chance = random.Random(0)  # noqa: S311 - repeatable rounds, no secret
    for cell in document["benchmarks"]:
        (median, *_) = cell["stats"]["data"]
        rounds = min(1000, max(5, int(0.5 / median)))
        cell["stats"]["data"] = [round(median * chance.lognormvariate(0, 0.07), 9) for _ in range(rounds)]
    return document


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Make the page of a full run."""
    path = save(_make_full_run(), tmp_path_factory.mktemp("full"))
    return path, make_page([read_run(path)], path.read_bytes())


def test_the_page_of_a_full_run_is_below_a_megabyte(full: tuple[Path, str]) -> None:
    path, html = full
    assert sum(len(result.rounds) for result in read_run(path).results) > 170_000
    assert len(html.encode()) < 1_000_000


def test_the_page_of_a_full_run_is_sound(full: tuple[Path, str]) -> None:
    page: Element = read_page(full[1])
    check_soundness(page)
