"""Reading a run: its fields, clean text, and damaged files."""

import copy
import datetime as dt
import functools
import json
import operator
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from reports.reading import parse_run, read_content, read_run
from reports.run import BrokenRunError, Disk
from tests.support.properties import given, settings, st
from tests.support.runs import IMAGE_BYTES, make_cell, make_run, run_of, save, spoil


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
    assert run.layouts == {
        "png": "PNG: one ordinary file an image.",
        "lmdb": "LMDB: one record an image in a memory-mapped B+ tree.",
        "hdf5": "HDF5: one file with two datasets.",
    }
    assert run.maintainers is not None
    assert run.maintainers["png"] == "the keepers of png"
    assert run.licences == {"png": "MIT", "lmdb": "MIT", "hdf5": "MIT"}
    assert run.unavailable == {"tape": 'reel is not installed: python -m pip install -e ".[tape]"'}
    assert run.command == "pytest benchmarks --benchmark-only"
    assert run.skipped == {"a": "no disk left"}
    assert run.failed == {"b": "AssertionError: pixels differ"}
    assert run.complete
    assert run.datetime == dt.datetime(2026, 11, 21, 6, 39, 47, 354255, tzinfo=dt.UTC)
    assert run.commit.short == "01234567"


@pytest.mark.parametrize("name", ["memory_bytes", "layouts", "maintainers", "licences", "unavailable"])
def test_a_field_that_old_runs_lack_is_none(name: str, tmp_path: Path) -> None:
    document = make_run()
    del document["run"][name]
    assert getattr(read_run(save(document, tmp_path)), name) is None


@pytest.mark.parametrize("is_old", [True, False])
def test_free_inodes_may_be_unknown(tmp_path: Path, *, is_old: bool) -> None:
    document = make_run()
    directory = document["run"]["store_directory"]
    directory["free_inodes"] = None
    if is_old:
        del directory["free_inodes"]
    assert read_run(save(document, tmp_path)).store_directory.free_inodes is None


def test_every_cell_becomes_a_result_with_its_facts(tmp_path: Path) -> None:
    cell = make_cell("store_many", "lmdb", 1000, durability="durable")
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert result.cell == "benchmarks/test_suite.py::test_store_many[lmdb-1000-durable]"
    assert (result.operation, result.backend, result.way) == ("store_many", "lmdb", "durable")
    assert (result.images, result.store_images, result.bytes) == (1000, 1000, 1000 * IMAGE_BYTES)
    assert result.disk == Disk(apparent_bytes=8192 + 4118000, allocated_bytes=12288 + 4118000, files=1)
    assert result.rounds == tuple(cell["stats"]["data"])


def test_a_cell_that_reads_has_no_disk_use(tmp_path: Path) -> None:
    (result,) = read_run(save(run_of([make_cell("read_many", "png", 10)]), tmp_path)).results
    assert result.disk is None
    assert result.params == ()


def test_further_params_are_sorted_by_name(tmp_path: Path) -> None:
    cell = make_cell("read_epoch", "png", 10, workers=2, cache="cold", share=0.5)
    cell["params"] |= {"images": 7, "flag": True, "nothing": None, "endless": 10**400}
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    expected = (
        ("cache", "cold"),
        ("endless", f"1{'0' * 25}…{'0' * 13}"),
        ("flag", "True"),
        ("share", 0.5),
        ("workers", 2),
    )
    assert result.params == expected


def test_params_are_also_found_among_the_facts_of_a_cell(tmp_path: Path) -> None:
    cell = make_cell("read_epoch", "png", 10)
    cell["extra_info"] |= {"workers": 4, "first_batch_seconds": 0.25}
    cell["params"] = None  # a test without parameters
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert result.params == (("workers", 4),), "a measurement is not a parameter"


def test_a_cell_has_its_definition_and_its_threshold(tmp_path: Path) -> None:
    cell = make_cell("read_many", "png", 10)
    cell["extra_info"] |= {"definition": "00ff00ff00ff00ff", "threshold": 1}
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert (result.definition, result.threshold) == ("00ff00ff00ff00ff", 1.0)


def test_cells_of_old_runs_have_no_definition(tmp_path: Path) -> None:
    cell = make_cell("rotate_many", "tape", 3)  # unknown names are read
    del cell["extra_info"]["definition"]
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert (result.operation, result.backend) == ("rotate_many", "tape")
    assert (result.definition, result.threshold) == (None, None)


@pytest.mark.parametrize("cpu", [None, {}, {"brand_raw": ""}], ids=["absent", "empty", "blank"])
def test_a_processor_without_a_name_gets_that_of_its_architecture(cpu: object, tmp_path: Path) -> None:
    document = make_run()
    document["machine_info"]["cpu"] = cpu
    assert read_run(save(document, tmp_path)).machine.cpu == "x86_64"


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = save(make_run(), tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_run(path).results) == 3 * 13


def test_a_run_can_be_parsed_from_bytes_that_were_read_before(tmp_path: Path) -> None:
    path = save(make_run(), tmp_path)
    content = read_content(path)
    path.unlink()
    run = parse_run(path, content)
    save(make_run(), tmp_path)
    assert run == read_run(path)


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


def _set(*keys: str | int, value: object) -> Callable[[Any], None]:
    """Make a fault: a value put at a place in the document."""

    def set_value(document: Any) -> None:  # noqa: ANN401 - JSON
        functools.reduce(operator.getitem, keys[:-1], document)[keys[-1]] = value

    return set_value


_FACTS = ("benchmarks", 0, "extra_info")
_FAULTS = {
    "no results": (_set("benchmarks", value=[]), "no results"),
    "results are an object": (_set("benchmarks", value={"a": 1}), "benchmarks is missing or not a list"),
    "a result is a number": (_set("benchmarks", 0, value=5), "benchmarks[0] is missing or not an object"),
    "run is a list": (_set("run", value=[]), "run is missing or not an object"),
    "unknown format": (_set("run", "format", value=2), "format 2"),
    "format is text": (_set("run", "format", value="1"), "format is missing or not a count"),
    "count is true": (_set("run", "image_set", "count", value=True), "image_set.count"),
    "count is negative": (_set("run", "image_set", "count", value=-1), "image_set.count"),
    "image set is missing": (_set("run", "image_set", value=None), "image_set"),
    "memory is text": (_set("run", "memory_bytes", value="24 GB"), "memory_bytes is missing or not a count"),
    "memory is negative": (_set("run", "memory_bytes", value=-1), "memory_bytes"),
    "inodes are true": (_set("run", "store_directory", "free_inodes", value=True), "store_directory.free_inodes"),
    "inodes are half": (_set("run", "store_directory", "free_inodes", value=0.5), "store_directory.free_inodes"),
    "layouts are a list": (_set("run", "layouts", value=["png"]), "layouts is missing or not an object"),
    "a layout is a number": (_set("run", "layouts", "png", value=1), "layouts.png is missing or not text"),
    "maintainers are text": (_set("run", "maintainers", value="me"), "maintainers is missing or not an object"),
    "a licence is null": (_set("run", "licences", "png", value=None), "licences.png is missing or not text"),
    "a reason is true": (_set("run", "unavailable", "a", value=True), "unavailable.a is missing or not text"),
    "complete is a number": (_set("run", "complete", value=1), "complete is missing or not true or false"),
    "a library without version": (_set("run", "libraries", "lmdb", value=None), "libraries.lmdb"),
    "a reason that is a list": (_set("run", "failed", "cell", value=[]), "failed.cell"),
    "intended holds a number": (_set("run", "intended", 1, value=7), "intended[1]"),
    "no machine": (_set("machine_info", value=None), "machine_info"),
    "no architecture": (_set("machine_info", value={"system": "a", "release": "b"}), ": machine.cpu is missing"),
    "no commit": (_set("commit_info", value=None), "commit"),
    "no date": (_set("datetime", value="yesterday"), "datetime isn't a date and time"),
    "date is a number": (_set("datetime", value=3), "datetime isn't a date and time"),
    "cell without a name": (_set("benchmarks", 1, "fullname", value=None), "benchmarks[1].fullname"),
    "no facts": (_set("benchmarks", 0, "extra_info", value=None), "extra_info"),
    "no images": (_set(*_FACTS, "images", value=0), "no images"),
    "an empty store": (_set(*_FACTS, "store_images", value=0), "no images"),
    "images past 64 bits": (_set(*_FACTS, "images", value=2**63), "images"),
    "operation is a number": (_set(*_FACTS, "operation", value=1), "operation is missing or not text"),
    "definition is a number": (_set(*_FACTS, "definition", value=1), "definition is missing or not text"),
    "threshold is text": (_set(*_FACTS, "threshold", value="0.1"), "threshold isn't a fraction between 0 and 10"),
    "threshold is true": (_set(*_FACTS, "threshold", value=True), "threshold isn't a fraction"),
    "threshold is nothing": (_set(*_FACTS, "threshold", value=0), "threshold isn't a fraction"),
    "threshold is too wide": (_set(*_FACTS, "threshold", value=10), "threshold isn't a fraction"),
    "threshold is not a number": (_set(*_FACTS, "threshold", value=float("nan")), "threshold isn't a fraction"),
    "half of the disk figures": (_set(*_FACTS, "apparent_bytes", value=None), "apparent_bytes"),
    "params are a list": (_set("benchmarks", 0, "params", value=[1]), "params"),
    "a param is an object": (_set("benchmarks", 0, "params", "x", value={}), "params.x"),
    "rounds are a number": (_set("benchmarks", 0, "stats", "data", value=1.0), "rounds"),
    "rounds are empty": (_set("benchmarks", 0, "stats", "data", value=[]), "no rounds"),
    "a round is text": (_set("benchmarks", 0, "stats", "data", 2, value="1"), "rounds[2]"),
    "a round is true": (_set("benchmarks", 0, "stats", "data", 2, value=True), "rounds[2]"),
    "a round is not a number": (_set("benchmarks", 0, "stats", "data", 2, value=float("nan")), "rounds[2]"),
    "a round is endless": (_set("benchmarks", 0, "stats", "data", 2, value=float("inf")), "rounds[2]"),
    "a round is negative": (_set("benchmarks", 0, "stats", "data", 2, value=-1.0), "rounds[2]"),
    "a round is nothing": (_set("benchmarks", 0, "stats", "data", 2, value=0), "rounds[2]"),
    "no statistics": (_set("benchmarks", 0, "stats", value=None), "stats"),
}


@pytest.mark.parametrize(("fault", "words"), _FAULTS.values(), ids=_FAULTS.keys())
def test_a_damaged_field_is_named(fault: Callable[[Any], None], words: str, tmp_path: Path) -> None:
    document = make_run()
    fault(document)
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
        yield from (text for field in fields(value) for text in _list_texts(getattr(value, field.name)))
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for part in pair for text in _list_texts(part))
    elif isinstance(value, tuple):
        yield from (text for part in value for text in _list_texts(part))


@pytest.mark.parametrize(
    "text",
    ["a\n\r\t\v\fb", "\x00\x1b[31m\x7f\x9b", "\u202e\u2066\u200b\u2028", "\ud800", "W" * 10_000],
    ids=["white space", "control", "bidi", "half a letter", "long"],
)
def test_every_string_of_a_run_is_one_clean_line_of_limited_length(text: str, tmp_path: Path) -> None:
    document = make_run(["png"], [10], durable=True, workers=[1])
    document["run"] |= {"failed": {"x": "y"}, "skipped": {"x": "y"}}
    spoil(document, text)
    for number, cell in enumerate(document["benchmarks"]):
        cell["fullname"] = f"{number}{text}"
    texts = list(_list_texts(read_run(save(document, tmp_path))))
    assert len(texts) > 100
    assert all(clean.isprintable() and len(clean) <= 2000 for clean in texts)
