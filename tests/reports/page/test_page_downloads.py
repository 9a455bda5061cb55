"""What a reader can take from the page."""

import base64
import csv
import gzip
import io
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.page.downloads import make_csv, name_file, pack, pack_run
from reports.run import Result
from tests.support.pages import read_page, unpack
from tests.support.properties import given, settings, st
from tests.support.results import make_result, make_store, wrap_results


def _read(*results: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(make_csv(wrap_results(*results)), newline="")))


@given(st.binary())
def test_what_is_packed_can_be_unpacked_and_is_the_same_each_time(content: bytes) -> None:
    packed = pack(content)
    assert gzip.decompress(base64.b64decode(packed, validate=True)) == content
    assert packed == pack(content)


def test_each_cell_is_a_line_with_all_its_figures() -> None:
    stored, read = make_store("png", 2.0, 4000), make_result("lmdb", [1.0, 2.0, 4.0], 10)
    first, second = _read(read, stored)
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


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_what_a_spreadsheet_would_take_for_a_formula_is_disarmed(name: str) -> None:
    result = replace(make_result(name, 1.0, operation=name), cell=name, axes=((name, 1),))
    (line,) = _read(result)
    assert [line[column] for column in ("cell", "operation", "backend")] == [f"'{name}"] * 3
    assert line["axes"] == f"'{name}=1"


@given(st.text())
def test_any_name_survives_unless_it_is_no_text(name: str) -> None:
    (line,) = _read(make_result(name, 1.0))
    assert line["backend"].removeprefix("'") == name.removeprefix("'")


def test_half_a_letter_becomes_a_question_mark() -> None:
    (line,) = _read(make_result("png\ud800", 1.0))
    assert line["backend"] == "png?"


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
def test_a_file_is_named_after_the_run_by_harmless_letters(path: str, name: str) -> None:
    assert name_file(replace(wrap_results(), path=Path(path))) == name


@given(st.text(st.characters(exclude_characters="/\0")))
def test_no_name_of_a_run_is_dangerous(name: str) -> None:
    assert re.fullmatch(
        r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_])?", name_file(replace(wrap_results(), path=Path(name)))
    )


def _restore(content: bytes) -> tuple[bytes, int]:
    """Pack the JSON of a run, and unpack it as a page of it would; return how long it was when packed, too."""
    packed = pack_run(content)
    page = read_page(f'<script id="json">{packed}</script>')
    return unpack(page, "json"), len(packed)


def _write(rounds: list[Any]) -> bytes:
    return json.dumps({"benchmarks": [{"stats": {"data": rounds, "rounds": len(rounds)}}]}, indent=4).encode()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**50).map(lambda number: number / 1e9) | st.floats(allow_nan=False) | st.integers()))
def test_a_run_that_is_packed_can_be_unpacked_byte_for_byte(rounds: list[Any]) -> None:
    content = _write(rounds)
    assert _restore(content)[0] == content


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf{}", b"[\r\n 1.5,\r\n 0.25\r\n]\r\n", b"[1.5,0.25]", b"[\n 1.50,\n 1e-5,\n 0.1e-05\n]", b"[\n 1.5]"],
    ids=["mark", "other lines", "one line", "other numbers", "no line after it"],
)
def test_a_run_that_others_wrote_is_unpacked_byte_for_byte(content: bytes) -> None:
    assert _restore(content)[0] == content


def test_rounds_take_less_than_three_bytes_each() -> None:
    chance = random.Random(0)  # noqa: S311 - repeatable rounds, no secret
    content = _write([round(50e-6 * chance.lognormvariate(0, 0.05), 9) for _ in range(10_000)])
    restored, size = _restore(content)
    assert restored == content
    assert size < 3 * 10_000 < len(pack(content))
