"""Reading a run: its fields, clean text, and damaged files."""

import copy
import datetime as dt
import functools
import json
import operator
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from reports.reading import parse_run, read_content, read_run
from reports.run import BrokenRunError, Disk, Reference
from tests.support.photo_runs import describe_photos
from tests.support.properties import given, settings, st
from tests.support.runs import IMAGE_BYTES, make_cell, make_reference, make_run, run_of, save, spoil


def _refusal(document: object, folder: Path) -> str:
    """Return the message of the error that a document must raise."""
    with pytest.raises(BrokenRunError) as refused:
        read_run(save(document, folder))
    return str(refused.value)


def test_a_run_has_all_facts_of_its_measurement(tmp_path: Path) -> None:
    document = make_run()
    document["run"]["skipped"] = {"a": "no disk left"}
    document["run"]["failed"] = {"b": "AssertionError: pixels differ"}
    run = read_run(save(document, tmp_path))
    assert run.path == tmp_path / "run.json"
    assert (run.image_set.name, run.image_set.count, run.image_set.sha256) == ("standin", 100000, "ab12cd34" * 8)
    assert (run.machine.cpu, run.machine.system) == ("AMD EPYC 9654 96-Core Processor", "Linux")
    assert (run.cpu_count, run.machine.release) == (2, "6.18.44")
    assert (run.store_directory.file_system, run.store_directory.free_bytes) == ("ext4", 80000000000)
    assert (run.memory_bytes, run.store_directory.free_inodes) == (24 * 2**30, 10_000_000)
    assert run.libraries == {"python": "3.11.7", "numpy": "2.4.6"}
    for name in ("layouts", "maintainers", "licences", "unavailable", "command", "skipped", "failed"):
        assert getattr(run, name) == document["run"][name], name
    assert run.complete
    assert run.datetime == dt.datetime(2026, 11, 21, 6, 39, 47, 354255, tzinfo=dt.UTC)
    assert run.commit.short == "01234567"


@pytest.mark.parametrize("name", ["memory_bytes", "layouts", "maintainers", "licences", "unavailable"])
def test_a_field_that_old_runs_lack_is_none(name: str, tmp_path: Path) -> None:
    document = make_run()
    del document["run"][name]
    assert getattr(read_run(save(document, tmp_path)), name) is None
    document["run"]["store_directory"]["free_inodes"] = None
    assert read_run(save(document, tmp_path)).store_directory.free_inodes is None, "unknown"
    del document["run"]["store_directory"]["free_inodes"]
    assert read_run(save(document, tmp_path)).store_directory.free_inodes is None, "not in old runs"


def test_reference_cells_are_no_results_and_belong_to_every_process(tmp_path: Path) -> None:
    cell, reference = make_cell("read_many", "png", 10), make_reference("hash", 0.25)
    document = run_of([cell, reference])
    document["run"]["replicates"] = [
        {cell["fullname"]: [1.0, 2.0, 6.0], reference["fullname"]: [0.5]},
        {cell["fullname"]: [3.0]},
    ]
    run = read_run(save(document, tmp_path))
    assert [each.cell for each in run.results] == [cell["fullname"]]
    assert run.references == (Reference(reference["fullname"], (0.25,) * 5, "0123456789abcdef"),)
    assert run.missing == ()
    assert run.backends == ["png"]
    assert run.processes == (
        {cell["fullname"]: min(run.results[0].rounds), reference["fullname"]: 0.25},
        {cell["fullname"]: 1.0, reference["fullname"]: 0.5},
        {cell["fullname"]: 3.0},
    )


def test_a_run_without_replicates_is_one_process(tmp_path: Path) -> None:
    run = read_run(save(make_run(), tmp_path))
    assert (run.replicates, run.references) == ((), ())
    assert run.processes == ({result.cell: min(result.rounds) for result in run.results},)


@pytest.mark.parametrize(
    ("replicates", "words"),
    [
        ({}, "replicates is missing or not a list"),
        (None, "replicates is missing or not a list"),
        ([[]], "replicates[0] is missing or not an object"),
        ([{"a": 1}], "replicates[0].a: rounds is missing or not a list"),
        ([{}, {"a": []}], "replicates[1].a: there are no rounds"),
        ([{"a": ["1"]}], "replicates[0].a: rounds[0] is missing or not seconds"),
        ([{"a": [-1.0]}], "replicates[0].a: rounds[0] is missing or not seconds"),
        ([{}] * 101, "101 replicates, more than 100; measure fewer in one run"),
    ],
    ids=["object", "null", "list", "number", "empty", "text", "negative", "many"],
)
def test_damaged_replicates_are_refused(replicates: object, words: str, tmp_path: Path) -> None:
    document = make_run(["png"], [10])
    document["run"]["replicates"] = replicates
    assert words in _refusal(document, tmp_path)


def test_a_run_of_reference_cells_only_has_no_results(tmp_path: Path) -> None:
    assert "the run has no results" in _refusal(run_of([make_reference("hash")]), tmp_path)


def test_every_cell_becomes_a_result_with_its_facts(tmp_path: Path) -> None:
    store, read = make_cell("store_many", "lmdb", 1000, durability="durable"), make_cell("rotate_many", "tape", 3)
    store["extra_info"]["threshold"] = 1
    del read["extra_info"]["definition"]  # as in old runs
    stored, other = read_run(save(run_of([store, read]), tmp_path)).results
    assert stored.cell == "benchmarks/test_suite.py::test_store_many[lmdb-1000-durable]"
    assert (stored.operation, stored.backend, stored.way) == ("store_many", "lmdb", "durable")
    assert (stored.images, stored.store_images, stored.bytes) == (1000, 1000, 1000 * IMAGE_BYTES)
    assert stored.disk == Disk(apparent_bytes=8192 + 4118000, allocated_bytes=12288 + 4118000, files=1)
    assert stored.rounds == tuple(store["stats"]["data"])
    assert (stored.definition, stored.threshold) == ("0123456789abcdef", 1.0)
    assert (other.operation, other.backend, other.params) == ("rotate_many", "tape", ()), "unknown names are read"
    assert (other.disk, other.definition, other.threshold) == (None, None, None)


def test_further_params_are_sorted_by_name(tmp_path: Path) -> None:
    cell = make_cell("read_epoch", "png", 10, workers=2, cache="cold", share=0.5)
    cell["params"] |= {"images": 7, "flag": True, "nothing": None, "endless": 10**400}
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    endless = ("endless", f"1{'0' * 25}…{'0' * 13}")
    assert result.params == (("cache", "cold"), endless, ("flag", "True"), ("share", 0.5), ("workers", 2))


def test_params_are_also_found_among_the_facts_of_a_cell(tmp_path: Path) -> None:
    cell = make_cell("read_epoch", "png", 10)
    cell["extra_info"] |= {"workers": 4, "first_batch_seconds": 0.25}
    cell["params"] = None  # a test without parameters
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert result.params == (("workers", 4),), "a measurement is not a parameter"


@pytest.mark.parametrize("cpu", [None, {}, {"brand_raw": ""}], ids=["absent", "empty", "blank"])
def test_a_processor_without_a_name_gets_that_of_its_architecture(cpu: object, tmp_path: Path) -> None:
    document = make_run()
    document["machine_info"]["cpu"] = cpu
    assert read_run(save(document, tmp_path)).machine.cpu == "x86_64"


def test_a_run_can_be_parsed_from_bytes_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = save(make_run(), tmp_path)
    content = read_content(path)
    assert parse_run(path, content) == parse_run(path, b"\xef\xbb\xbf" + content) == read_run(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"PNG \x89 data", "not JSON"),
        (b"[1, 2,, 3, 4, 5, 6, 7]", "not JSON (line 1)"),
        (b"[" * 200_000, "not JSON"),
        (b"1" * 5_000, "not JSON"),
        (b'{"benchmarks": [tru', "cut off"),
        (b"[]", "JSON, but not a run"),
        (b"{}", "JSON, but not a run"),
    ],
    ids=["empty", "blank", "binary", "comma", "deep", "huge number", "cut", "list", "object"],
)
def test_a_file_without_a_run_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(BrokenRunError) as refused:
        read_run(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenRunError, match="No such file"):
        read_run(tmp_path / "run.json")
    with pytest.raises(BrokenRunError, match="Is a directory"):
        read_run(tmp_path)


@given(fraction=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_a_truncated_run_is_refused(fraction: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "run.json"
    whole = json.dumps(make_run(["png"], [10]))
    path.write_text(whole[: int(fraction * len(whole))], encoding="ascii")
    with pytest.raises(BrokenRunError, match=r"was cut off|is empty"):
        read_run(path)


def test_a_run_of_another_suite_is_refused(tmp_path: Path) -> None:
    document = make_run()
    del document["run"]
    assert "another suite" in _refusal(document, tmp_path)


def test_missing_rounds_name_the_option_that_saves_them(tmp_path: Path) -> None:
    document = make_run()
    del document["benchmarks"][4]["stats"]["data"]
    assert "--benchmark-save-data" in _refusal(document, tmp_path)
    assert document["benchmarks"][4]["fullname"] in _refusal(document, tmp_path)


_NAN, _INFINITE = float("nan"), float("inf")
_CELL = "benchmarks.0.extra_info"
_FAULTS: list[tuple[str, list[object], str]] = [
    ("benchmarks", [[]], "no results"),
    ("benchmarks", [{"a": 1}], "benchmarks is missing or not a list"),
    ("benchmarks.0", [5], "benchmarks[0] is missing or not an object"),
    ("run", [[]], "run is missing or not an object"),
    ("run.format", [2], "format 2"),
    ("run.format", ["1"], "format is missing or not a count"),
    ("run.image_set", [None], "image_set"),
    ("run.image_set.count", [True, -1], "image_set.count"),
    ("run.memory_bytes", ["24 GB", -1], "memory_bytes is missing or not a count"),
    ("run.store_directory.free_inodes", [True, 0.5], "store_directory.free_inodes"),
    ("run.layouts", [["png"]], "layouts is missing or not an object"),
    ("run.layouts.png", [1], "layouts.png is missing or not text"),
    ("run.maintainers", ["me"], "maintainers is missing or not an object"),
    ("run.licences.png", [None], "licences.png is missing or not text"),
    ("run.unavailable.a", [True], "unavailable.a is missing or not text"),
    ("run.complete", [1], "complete is missing or not true or false"),
    ("run.libraries.lmdb", [None], "libraries.lmdb"),
    ("run.failed.cell", [[]], "failed.cell"),
    ("run.intended.1", [7], "intended[1]"),
    ("machine_info", [None], "machine_info"),
    ("machine_info", [{"system": "a", "release": "b"}], ": machine.cpu is missing"),
    ("commit_info", [None], "commit"),
    ("datetime", ["yesterday", 3], "datetime isn't a date and time"),
    ("benchmarks.1.fullname", [None], "benchmarks[1].fullname"),
    (_CELL, [None], "extra_info"),
    (f"{_CELL}.images", [0], "no images"),
    (f"{_CELL}.images", [2**63], "images"),
    (f"{_CELL}.store_images", [0], "no images"),
    (f"{_CELL}.operation", [1], "operation is missing or not text"),
    (f"{_CELL}.definition", [1], "definition is missing or not text"),
    (f"{_CELL}.threshold", ["0.1", True, 0, 10, _NAN], "threshold isn't a fraction between 0 and 10"),
    (f"{_CELL}.apparent_bytes", [None], "apparent_bytes"),
    ("benchmarks.0.params", [[1]], "params"),
    ("benchmarks.0.params.x", [{}], "params.x"),
    ("benchmarks.0.stats", [None], "stats"),
    ("benchmarks.0.stats.data", [1.0], "rounds"),
    ("benchmarks.0.stats.data", [[]], "no rounds"),
    ("benchmarks.0.stats.data.2", ["1", True, _NAN, _INFINITE, -1.0, 0], "rounds[2]"),
]


@pytest.mark.parametrize(("path", "values", "words"), _FAULTS)
def test_a_damaged_field_is_named(path: str, values: list[object], words: str, tmp_path: Path) -> None:
    *parents, key = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for value in values:
        document = make_run()
        functools.reduce(operator.getitem, parents, document)[key] = value  # type: ignore[arg-type, index]
        refusal = _refusal(document, tmp_path)
        assert words in refusal
        assert "repeat" in refusal, "the line says what to do next"


def test_a_repeated_cell_is_refused(tmp_path: Path) -> None:
    document = make_run()
    document["benchmarks"].append(copy.deepcopy(document["benchmarks"][3]))
    refusal = _refusal(document, tmp_path)
    assert "is there twice" in refusal
    assert document["benchmarks"][3]["fullname"] in refusal


def test_a_hostile_name_stays_on_the_one_line_of_the_message(tmp_path: Path) -> None:
    document = make_run()
    document["benchmarks"][0]["fullname"] = "a\nb\x1b[31m" * 1000
    document["benchmarks"][0]["stats"]["data"] = []
    refusal = _refusal(document, tmp_path)
    assert refusal.isprintable()
    assert len(refusal) < 400


def test_two_backends_with_the_same_clean_name_are_refused(tmp_path: Path) -> None:
    document = run_of([make_cell("read_many", name, 10) for name in ("a\x01", "a\x02")])
    document["benchmarks"][0]["fullname"] = "another"
    assert "two backends are both shown as a\ufffd" in _refusal(document, tmp_path)


def _list_texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a run
    """List every string in a run, but not the path of its file."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        yield from _list_texts(tuple(getattr(value, field.name) for field in fields(value)))
    elif isinstance(value, dict | tuple):
        parts = value.items() if isinstance(value, dict) else value
        yield from (text for part in parts for text in _list_texts(part))


@pytest.mark.parametrize(
    "text",
    ["a\n\r\t\v\fb", "\x00\x1b[31m\x7f\x9b", "\u202e\u2066\u200b\u2028", "\ud800", "W" * 10_000],
    ids=["white space", "control", "bidi", "half a letter", "long"],
)
def test_every_string_of_a_run_is_one_clean_line_of_limited_length(text: str, tmp_path: Path) -> None:
    document = make_run(["png"], [10], durable=True, workers=[1])
    document["run"] |= {"failed": {"x": "y"}, "skipped": {"x": "y"}, "image_set": describe_photos(10)}
    spoil(document, text)
    for number, cell in enumerate(document["benchmarks"]):
        cell["fullname"] = f"{number}{text}"
    texts = list(_list_texts(read_run(save(document, tmp_path))))
    assert len(texts) > 100
    assert all(clean.isprintable() and len(clean) <= 2000 for clean in texts)
