"""Reading a run: what is in it, and what is refused."""

import copy
import datetime as dt
import functools
import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.reading import parse_run, read_content, read_run
from reports.run import BrokenRunError, Disk
from tests.support.properties import given, settings, st
from tests.support.runs import IMAGE_BYTES, make_cell, make_run, run_of, save


def _refusal(document: object, folder: Path) -> str:
    """Read a document that must be refused, and return what is said about it."""
    with pytest.raises(BrokenRunError) as refused:
        read_run(save(document, folder))
    return str(refused.value)


def test_a_run_says_where_and_how_it_was_measured(tmp_path: Path) -> None:
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


def test_a_run_made_before_memory_and_inodes_were_noted_is_read(tmp_path: Path) -> None:
    document = make_run()
    del document["run"]["memory_bytes"], document["run"]["store_directory"]["free_inodes"]
    run = read_run(save(document, tmp_path))
    assert (run.memory_bytes, run.store_directory.free_inodes) == (None, None)


@pytest.mark.parametrize("name", ["layouts", "maintainers", "licences", "unavailable"])
def test_a_run_made_before_its_backends_were_described_is_read(name: str, tmp_path: Path) -> None:
    document = make_run()
    del document["run"][name]
    assert getattr(read_run(save(document, tmp_path)), name) is None


def test_a_file_system_may_have_no_fixed_number_of_inodes(tmp_path: Path) -> None:
    document = make_run()
    document["run"]["store_directory"]["free_inodes"] = None
    assert read_run(save(document, tmp_path)).store_directory.free_inodes is None


def test_every_cell_becomes_a_result_with_its_facts(tmp_path: Path) -> None:
    cell = make_cell("store_many", "lmdb", 1000, durability="durable")
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert result.cell == "benchmarks/test_suite.py::test_store_many[lmdb-1000-durable]"
    assert (result.operation, result.backend, result.durability) == ("store_many", "lmdb", "durable")
    assert (result.images, result.store_images, result.bytes) == (1000, 1000, 1000 * IMAGE_BYTES)
    assert result.disk == Disk(apparent_bytes=8192 + 4118000, allocated_bytes=12288 + 4118000, files=1)
    assert result.rounds == tuple(cell["stats"]["data"])


def test_a_reading_cell_has_neither_disk_use_nor_durability(tmp_path: Path) -> None:
    (result,) = read_run(save(run_of([make_cell("read_many", "png", 10)]), tmp_path)).results
    assert result.disk is None
    assert result.durability is None
    assert result.axes == ()


def test_further_params_become_axes_in_the_order_of_their_names(tmp_path: Path) -> None:
    cell = make_cell("read_epoch", "png", 10, workers=2, cache="cold", share=0.5)
    cell["params"] |= {"images": 7, "flag": True, "nothing": None, "endless": 10**400}
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    expected = (("cache", "cold"), ("endless", str(10**400)), ("flag", "True"), ("share", 0.5), ("workers", 2))
    assert result.axes == expected


def test_an_axis_is_also_found_among_the_facts_of_a_cell(tmp_path: Path) -> None:
    cell = make_cell("read_epoch", "png", 10)
    cell["extra_info"] |= {"workers": 4, "first_batch_seconds": 0.25}
    cell["params"] = None  # a test without parameters
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert result.axes == (("workers", 4),), "a measurement is not an axis"


def test_a_cell_says_how_it_was_defined_and_when_it_counts_as_slower(tmp_path: Path) -> None:
    cell = make_cell("read_many", "png", 10)
    cell["extra_info"] |= {"definition": "00ff00ff00ff00ff", "threshold": 1}
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert (result.definition, result.threshold) == ("00ff00ff00ff00ff", 1.0)


def test_a_run_made_before_cells_had_definitions_is_read(tmp_path: Path) -> None:
    cell = make_cell("read_many", "png", 10)
    del cell["extra_info"]["definition"]
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert (result.definition, result.threshold) == (None, None)


def test_unknown_backends_and_operations_are_read(tmp_path: Path) -> None:
    (result,) = read_run(save(run_of([make_cell("rotate_many", "tape", 3)]), tmp_path)).results
    assert (result.operation, result.backend) == ("rotate_many", "tape")


@pytest.mark.parametrize("cpu", [None, {}, {"brand_raw": ""}], ids=["absent", "empty", "blank"])
def test_a_processor_without_a_name_is_called_by_its_architecture(cpu: object, tmp_path: Path) -> None:
    document = make_run()
    document["machine_info"]["cpu"] = cpu
    assert read_run(save(document, tmp_path)).machine.cpu == "x86_64"


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    path = save(make_run(), tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_run(path).results) == 3 * 13


def test_a_run_is_the_same_whoever_read_its_bytes(tmp_path: Path) -> None:
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
        (b"[]", "JSON, but no run"),
        (b"{}", "JSON, but no run"),
    ],
    ids=["empty", "blank", "binary", "comma", "deep", "huge number", "cut", "list", "object"],
)
def test_a_file_that_holds_no_run_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(BrokenRunError) as refused:
        read_run(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenRunError, match="No such file"):
        read_run(tmp_path / "run.json")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenRunError, match="Is a directory"):
        read_run(tmp_path)


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_a_truncated_run_is_refused(share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "run.json"
    whole = json.dumps(make_run(["png"], [10]))
    path.write_text(whole[: int(share * len(whole))], encoding="ascii")
    with pytest.raises(BrokenRunError, match=r"was cut off|is empty"):
        read_run(path)


def test_a_run_of_another_suite_is_refused(tmp_path: Path) -> None:
    document = make_run()
    del document["run"]
    assert "another suite" in _refusal(document, tmp_path)


def test_a_run_without_raw_rounds_names_the_option_that_saves_them(tmp_path: Path) -> None:
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
    "results are no list": (_set("benchmarks", value={"a": 1}), "benchmarks is missing or not a list"),
    "a result is no object": (_set("benchmarks", 0, value=5), "benchmarks[0] is missing or not an object"),
    "run is no object": (_set("run", value=[]), "run is missing or not an object"),
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
    "no date": (_set("datetime", value="yesterday"), "datetime is no date and time"),
    "date is a number": (_set("datetime", value=3), "datetime is no date and time"),
    "cell without a name": (_set("benchmarks", 1, "fullname", value=None), "benchmarks[1].fullname"),
    "no facts": (_set("benchmarks", 0, "extra_info", value=None), "extra_info"),
    "no images": (_set(*_FACTS, "images", value=0), "no images"),
    "an empty store": (_set(*_FACTS, "store_images", value=0), "no images"),
    "images past 64 bits": (_set(*_FACTS, "images", value=2**63), "images"),
    "operation is a number": (_set(*_FACTS, "operation", value=1), "operation is missing or not text"),
    "definition is a number": (_set(*_FACTS, "definition", value=1), "definition is missing or not text"),
    "threshold is text": (_set(*_FACTS, "threshold", value="0.1"), "threshold is not a share between 0 and 10"),
    "threshold is true": (_set(*_FACTS, "threshold", value=True), "threshold is not a share"),
    "threshold is nothing": (_set(*_FACTS, "threshold", value=0), "threshold is not a share"),
    "threshold is too wide": (_set(*_FACTS, "threshold", value=10), "threshold is not a share"),
    "threshold is not a number": (_set(*_FACTS, "threshold", value=float("nan")), "threshold is not a share"),
    "half of the disk figures": (_set(*_FACTS, "apparent_bytes", value=None), "apparent_bytes"),
    "params are a list": (_set("benchmarks", 0, "params", value=[1]), "params"),
    "a param is an object": (_set("benchmarks", 0, "params", "x", value={}), "params.x"),
    "rounds are no list": (_set("benchmarks", 0, "stats", "data", value=1.0), "rounds"),
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
def test_a_damaged_field_is_refused_by_its_name(fault: Callable[[Any], None], words: str, tmp_path: Path) -> None:
    document = make_run()
    fault(document)
    refusal = _refusal(document, tmp_path)
    assert words in refusal
    assert "repeat" in refusal, "the line says what to do next"


def test_a_cell_that_is_there_twice_is_refused(tmp_path: Path) -> None:
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
