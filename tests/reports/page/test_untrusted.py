"""Untrusted runs: any text is shown as text, downloads are exact and harmless, and pages stay small."""

import base64
import csv
import gzip
import hashlib
import io
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.page.downloads import make_csv, name_file, pack, pack_run
from reports.reading import RANGES
from reports.run import Result
from tests.support.pages import check_soundness, make_html, read_page, unpack
from tests.support.photo_runs import describe_photos, make_photo_run
from tests.support.properties import given, settings, st
from tests.support.results import make_result, make_store, wrap_results
from tests.support.runs import make_run, save, spoil

EVIL = (
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{7*7}}{% raw %}${7*7}<!--",
    "\x00\x1b[31m\u202e\ud800\udfff\ud800",
    "</title>" + "W" * 10_000,
)
TEXTS = st.sampled_from(EVIL) | st.text(st.characters(), max_size=30)
COUNTS = st.sampled_from([0, 1, 2, 2**63 - 1]) | st.integers(0, 2**63 - 1)
SECONDS = st.sampled_from(RANGES[float]) | st.floats(*RANGES[float])
SAME_KIND: dict[type, st.SearchStrategy[object]] = {bool: st.booleans(), str: TEXTS, int: COUNTS, float: SECONDS}
KEPT = {"format", "fullname", "datetime", "operation", "durability", "cache"}  # these identify the cells


def _list_values(part: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - JSON can be anything
    """List all values of a JSON document: the part that holds each, and its key."""
    for key in sorted(part) if isinstance(part, dict) else range(len(part)):
        if isinstance(part[key], dict | list):
            yield from _list_values(part[key])
        elif key not in KEPT:
            yield part, key


@given(chosen=st.data())
@settings(max_examples=5)
def test_any_run_has_a_sound_page_or_none(chosen: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    backends = chosen.draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
    flags = {name: chosen.draw(st.booleans()) for name in ("durable", "cold")}
    document = make_run(backends, [10, 1000], workers=chosen.draw(st.sampled_from([(), (1, 2)])), **flags)
    if chosen.draw(st.booleans()):
        document = make_photo_run([10, 1000])
    cells = {cell["fullname"]: cell for cell in document["benchmarks"]}
    kept = chosen.draw(st.sets(st.sampled_from(sorted(cells)), min_size=1, max_size=len(cells)))
    document["benchmarks"] = [cell for name, cell in cells.items() if name in kept]
    document["run"]["complete"] = False
    values = list(_list_values(document))
    for part, key in chosen.draw(st.lists(st.sampled_from(values), max_size=8)):
        if type(part[key]) in SAME_KIND:
            part[key] = chosen.draw(SAME_KIND[type(part[key])])
    path = save(document, tmp_path_factory.mktemp("any"))
    out = path.with_name("page.html")
    if main(["page", str(path), "--out", str(out)]):
        assert not out.exists(), "a run that cannot be"
        return
    page = read_page(out.read_text(encoding="utf-8"))
    check_soundness(page)
    assert unpack(page, "json") == path.read_bytes()


@pytest.mark.parametrize("text", EVIL, ids=["script", "attribute", "template", "control", "long"])
def test_any_text_is_shown_as_text(text: str, tmp_path: Path) -> None:
    document = make_run(["png", "lmdb"], [10, 1000], durable=True, cold=True, workers=(1,))
    document["run"]["image_set"] = describe_photos(1000)
    spoil(document, text)
    document["run"] |= {"failed": {text: text}, "skipped": {text: text}, "intended": [f"{text}::{text}"]}
    for place, cell in enumerate(document["benchmarks"]):
        cell["fullname"] = f"{place}{text}::{place}{text}"
        cell["extra_info"] |= {"operation": "read_many" if place % 3 else text, "backend": f"{place % 2}{text}"}
    html = make_html(document, tmp_path)
    assert "\ud800" not in html
    title = html.partition("<title>")[2].partition("</title>")[0]
    assert "49" not in title, "7 * 7 of the template was computed"
    page = read_page(html)
    check_soundness(page)
    assert not list(page.find("img"))
    assert sum("type" not in script.attributes for script in page.find("script")) == 1, "our own"
    if text.isprintable() and len(text) < 40:
        assert page.text.count(text) > 20


def test_the_policy_allows_only_the_style_and_the_script_of_the_page(tmp_path: Path) -> None:
    page = read_page(make_html(make_run(), tmp_path))
    (meta,) = page.find("meta", http_equiv="Content-Security-Policy")
    policy = dict(part.strip().split(" ", 1) for part in meta.attributes["content"].split(";"))
    scripts = [each for each in page.find("script") if each.attributes.get("type") != "application/octet-stream"]
    for name, elements in (("script-src", scripts), ("style-src", list(page.find("style")))):
        ((content,),) = (each.content for each in elements)
        assert isinstance(content, str)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy.pop(name) == f"'sha256-{digest}'"
    none = dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    assert policy == {**none, "img-src": "data:"}


def test_a_page_has_no_network_address(tmp_path: Path) -> None:
    html = make_html(make_run(), tmp_path)
    assert not [text for text in ("http:", "https:", "url(", "@import") if text in html]


def test_the_page_of_a_full_run_is_sound_and_below_a_megabyte(tmp_path: Path) -> None:
    names = [f"backend_{number:02}" for number in range(18)]
    document = make_run(names, [10, 100, 1_000, 10_000, 100_000], workers=(1, 2))
    chance = random.Random(0)  # noqa: S311 - repeatable rounds, no secret
    for cell in document["benchmarks"]:  # half a second of rounds, as noisy as real ones
        (median, *_) = cell["stats"]["data"]
        rounds = min(1000, max(5, int(0.5 / median)))
        cell["stats"]["data"] = [round(median * chance.lognormvariate(0, 0.07), 9) for _ in range(rounds)]
    assert sum(len(cell["stats"]["data"]) for cell in document["benchmarks"]) > 170_000
    html = make_html(document, tmp_path)
    assert len(html.encode()) < 1_000_000
    check_soundness(read_page(html))


def _read_csv(*results: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(make_csv(wrap_results(*results)), newline="")))


@given(st.binary())
def test_packing_is_exact_and_repeatable(content: bytes) -> None:
    assert gzip.decompress(base64.b64decode(pack(content), validate=True)) == content
    assert pack(content) == pack(content)


def test_each_cell_is_a_line_of_csv() -> None:
    stored, read = make_store("png", 2.0, 4000), make_result("lmdb", [1.0, 2.0, 4.0], 10)
    first, second = _read_csv(read, stored)
    assert first == {
        "cell": "benchmarks/test_suite.py::test_store_many[png-1000-buffered]",
        "operation": "store_many",
        "backend": "png",
        "images": "1000",
        "store_images": "1000",
        "axes": "durability=buffered",
        "rounds": "5",
        "median_seconds": "2.0",
        "first_quartile_seconds": "2.0",
        "third_quartile_seconds": "2.0",
        "images_per_second": "500.0",
        "apparent_bytes": "1",
        "allocated_bytes": "4000",
        "files": "1",
        "unstable": "False",
    }
    assert (second["first_quartile_seconds"], second["median_seconds"], second["unstable"]) == ("1.5", "2.0", "True")
    assert second["apparent_bytes"] == second["allocated_bytes"] == second["files"] == ""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_formulas_are_disarmed(name: str) -> None:
    result = replace(make_result(name, 1.0, operation=name), cell=name, params=((name, 1),))
    (line,) = _read_csv(result)
    assert [line[column] for column in ("cell", "operation", "backend")] == [f"'{name}"] * 3
    assert line["axes"] == f"'{name}=1"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/0001_run.json", "0001_run"),
        ('a/"><script>.json', "script"),
        ("Läufe 2026/Lauf für Ä.json", "Lauf-f-r"),
        ("..", "run"),
        ("漢字.json", "run"),
        ("-rf.json", "rf"),
    ],
)
def test_a_download_is_named_after_the_run_by_harmless_letters(path: str, name: str) -> None:
    assert name_file(replace(wrap_results(), path=Path(path))) == name


def _restore(content: bytes) -> bytes:
    """Pack the JSON of a run, and restore it as the page does."""
    return unpack(read_page(f'<script id="json">{pack_run(content)}</script>'), "json")


@given(st.lists(st.integers(0, 2**50).map(lambda number: number / 1e9) | st.floats(allow_nan=False) | st.integers()))
def test_a_packed_run_is_restored_byte_for_byte(rounds: list[Any]) -> None:
    content = json.dumps({"benchmarks": [{"stats": {"data": rounds, "rounds": len(rounds)}}]}, indent=4).encode()
    assert _restore(content) == content


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf{}", b"[\r\n 1.5,\r\n 0.25\r\n]\r\n", b"[1.5,0.25]", b"[\n 1.50,\n 1e-5,\n 0.1e-05\n]", b"[\n 1.5]"],
    ids=["mark", "other lines", "one line", "other numbers", "no line after it"],
)
def test_a_run_in_another_format_is_restored_byte_for_byte(content: bytes) -> None:
    assert _restore(content) == content
