"""Comparing two runs: which can't be compared, and the verdict on each cell."""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.compare.comparison import Comparison, compare_runs, find_differences
from reports.noise import Thresholds, Verdict
from reports.reading import read_run
from reports.run import Run
from tests.support.runs import add_replicates, find_cell, make_cell, make_reference, make_run, run_of, save, slow_down

Change = Callable[[dict[str, Any]], object]
CELL = "test_store_many[png-1000]"


@pytest.fixture
def read(tmp_path: Path) -> Callable[[dict[str, Any]], Run]:
    """Turn the JSON of a run into a run."""
    return lambda document: read_run(save(document, tmp_path))


@pytest.fixture
def compare(read: Callable[[dict[str, Any]], Run]) -> Callable[..., Comparison]:
    """Compare a made run with itself after a change."""

    def compare_changed(change: Change, threshold: float = Thresholds.threshold, **made: Any) -> Comparison:  # noqa: ANN401
        document = add_replicates(make_run(**made))
        base = read(document)
        document = add_replicates(make_run(**made), seed=1)
        change(document)
        return compare_runs(base, read(document), threshold)

    return compare_changed


def _verdict(comparison: Comparison, name: str = CELL) -> str:
    """Return the verdict on a cell."""
    (row,) = [row for row in comparison.rows if row.cell.endswith(f"::{name}")]
    return row.verdict


def test_a_run_compared_with_another_of_the_same_is_ok(compare: Callable[..., Comparison]) -> None:
    comparison = compare(lambda _: None)
    assert {row.verdict for row in comparison.rows} == {"ok"}
    assert len(comparison.rows) == 39
    assert all(row.low < row.ratio < row.high and row.processes == (10, 10) for row in comparison.rows)
    assert (comparison.differences, comparison.missing, comparison.added) == ((), (), ())
    assert comparison.choose_exit_code("fail") == 0


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (3, "regression"),
        (1.65, "regression"),
        (1.3, "regression"),
        (1.05, "ok"),
        (0.95, "ok"),
        (0.5, "improvement"),
    ],
)
def test_a_verdict_follows_from_the_processes(
    factor: float, verdict: Verdict, compare: Callable[..., Comparison]
) -> None:
    comparison = compare(lambda run: slow_down(run, CELL, factor))
    assert _verdict(comparison) == verdict
    assert len(comparison.select_rows("ok")) == 38 + (verdict == "ok")
    assert comparison.choose_exit_code("fail") == comparison.choose_exit_code("warn") == (verdict == "regression")


@pytest.mark.parametrize("factor", [1, 1.2, 1.65])
def test_a_cell_whose_processes_disagree_is_never_ok(factor: float, read: Callable[[dict[str, Any]], Run]) -> None:
    documents = [add_replicates(make_run(), seed=seed) for seed in range(2)]
    for run in documents:
        cell = find_cell(run, CELL)["fullname"]
        for number, process in enumerate(run["run"]["replicates"]):
            process[cell] = [seconds * 2 ** (number % 4) for seconds in process[cell]]
    slow_down(documents[1], CELL, factor)
    base, new = map(read, documents)
    comparison = compare_runs(base, new, Thresholds.threshold)
    assert _verdict(comparison) == "inconclusive"
    (row,) = [row for row in comparison.rows if row.cell.endswith(CELL)]
    assert min(row.spreads) > 7
    assert comparison.choose_exit_code("fail") == 0


def test_a_noisy_cell_that_no_number_of_processes_can_decide_is_not_measured_again(
    read: Callable[[dict[str, Any]], Run],
) -> None:
    base, new = add_replicates(make_run(), scatter=0.5), add_replicates(make_run(), scatter=0.5, seed=1)
    rows = compare_runs(read(base), read(new), Thresholds.threshold).rows
    assert {row.verdict for row in rows} == {"inconclusive"}
    assert {row.open for row in rows if not row.suspect} == {False}
    assert {row.open for row in rows if row.suspect} == {True}


def test_two_processes_show_only_a_large_slowdown(read: Callable[[dict[str, Any]], Run]) -> None:
    base, new = make_run(), make_run()
    slow_down(new, CELL, 1.65)
    slow_down(new, "test_store_many[lmdb-1000]", 50)
    comparison = compare_runs(read(base), read(new), Thresholds.threshold)
    assert _verdict(comparison, "test_store_many[lmdb-1000]") == "regression"
    assert comparison.counts["inconclusive"] == 38
    (row,) = [row for row in comparison.rows if row.cell.endswith(CELL)]
    assert 1.65 < row.detectable < 50
    assert row.processes == (1, 1)


@pytest.mark.parametrize(("factor", "expected"), [(2, "inconclusive"), (1 / 2, "ok")])
def test_a_few_microseconds_are_neither_a_change_nor_ok(
    factor: float, expected: str, read: Callable[[dict[str, Any]], Run]
) -> None:
    document = make_run()
    find_cell(document, CELL)["stats"]["data"][:] = [9e-6] * 5
    base = read(add_replicates(document))
    slow_down(document, CELL, factor)
    assert _verdict(compare_runs(base, read(document), Thresholds.threshold)) == expected


def test_the_threshold_of_a_cell_overrides_that_of_the_command(compare: Callable[..., Comparison]) -> None:
    def slow_both_down(run: dict[str, Any]) -> None:
        for name in (CELL, "test_store_many[lmdb-1000]"):
            slow_down(run, name, 2)
        find_cell(run, CELL)["extra_info"]["threshold"] = 2.5

    comparison = compare(slow_both_down, 0.5)
    assert _verdict(comparison) == "ok"
    assert _verdict(comparison, "test_store_many[lmdb-1000]") == "regression"
    assert _verdict(compare(slow_both_down, 1.2), "test_store_many[lmdb-1000]") == "ok"


@pytest.mark.parametrize("slow", [{"png", "hdf5"}, {"png", "hdf5", "lmdb", "other"}], ids=["half", "all"])
def test_many_slower_cells_neither_hide_each_other_nor_count_as_drift(
    slow: set[str], compare: Callable[..., Comparison]
) -> None:
    def slow_down_some(run: dict[str, Any]) -> None:
        for cell in run["benchmarks"]:
            if cell["params"] and cell["params"]["backend"] in slow:
                slow_down(run, cell["name"], 1.3)

    comparison = compare(slow_down_some, backends=["png", "hdf5", "lmdb", "other"])
    changed = {row.cell for row in comparison.rows if re.split(r"[\[\]-]", row.cell)[1] in slow}
    assert len(changed) == len(comparison.rows) * len(slow) / 4
    assert {row.cell for row in comparison.select_rows("regression")} == changed


def test_a_cell_that_only_one_run_has_is_missing_or_new(compare: Callable[..., Comparison]) -> None:
    def exchange(run: dict[str, Any]) -> None:
        run["benchmarks"].remove(find_cell(run, CELL))
        run["benchmarks"].append(make_cell("read_many", "png", 77))

    comparison = compare(exchange)
    assert {row.verdict for row in comparison.rows} == {"ok"}
    assert [result.cell.partition("::")[2] for result in comparison.missing] == [CELL]
    assert [result.cell.partition("::")[2] for result in comparison.added] == ["test_read_many[png-77]"]
    assert len(comparison.rows) == 38
    assert (comparison.choose_exit_code("fail"), comparison.choose_exit_code("warn")) == (1, 0)


def test_runs_of_other_cells_and_with_other_free_memory_and_disk_can_be_compared(
    compare: Callable[..., Comparison],
) -> None:
    def narrow(run: dict[str, Any]) -> None:
        run["benchmarks"] = make_run(["png"], [10])["benchmarks"]
        run["run"]["image_set"]["count"] = 10
        run["run"]["store_directory"] |= {"free_bytes": 5, "free_inodes": None}
        run["run"] |= {"command": "pytest benchmarks --benchmark-max-time=3", "memory_bytes": 2**30}
        for name in ("layouts", "maintainers", "licences", "unavailable"):  # as in an older run
            del run["run"][name]
        del run["run"]["libraries"]["numpy"]

    comparison = compare(narrow)
    assert comparison.differences == ()
    assert len(comparison.missing) == 39 - 5


def _set(*keys: str, value: object) -> Change:
    """Make a change: a value put at a place in the JSON."""

    def set_value(run: dict[str, Any]) -> None:
        part = run
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value

    return set_value


def _fail(run: dict[str, Any], *never_run: str, name: str = CELL) -> None:
    """Have a cell fail that was measured before, as in a second process; others were never run."""
    run["run"] |= {"failed": {find_cell(run, name)["fullname"]: "in process 2: SIGSEGV"}, "complete": False}
    run["run"]["intended"] += never_run


def _change_cells(change: Change, count: int | None = None) -> Change:
    """Make a change of the first `count` cells."""
    return lambda run: [change(cell) for cell in run["benchmarks"][:count]]


_forget_definitions = _change_cells(lambda cell: cell["extra_info"].pop("definition"))

_rename = _change_cells(lambda cell: cell.update(fullname=f"other/{cell['fullname']}"))
_redefine = _change_cells(_set("extra_info", "definition", value="f" * 16), 7)
_DIFFERENCES = {
    "image set": (_set("run", "image_set", "name", value="cifar10"), "images: standin ab12cd34"),
    "digest": (_set("run", "image_set", "sha256", value="00"), "in the base, standin 00 in the new run"),
    "processor": (_set("machine_info", "cpu", "brand_raw", value="Z80"), "Processor in the base, Z80 in the new run"),
    "count": (_set("run", "cpu_count", value=64), "number of processors: 2 in the base, 64 in the new run"),
    "system": (_set("machine_info", "system", value="Darwin"), "system: Linux in the base, Darwin in the new run"),
    "kernel": (_set("machine_info", "release", value="6.19"), "kernel: 6.18.44 in the base, 6.19 in the new run"),
    "disk": (_set("run", "store_directory", "file_system", value="xfs"), "file system: ext4 in the base, xfs in the"),
    "python": (_set("run", "libraries", "python", value="3.14.0"), "version of python: 3.11.7 in the base, 3.14.0 in"),
    "added": (_set("run", "libraries", "simd", value="9"), "version of simd: none in the base, 9 in the new run"),
    "gone": (_set("run", "libraries", value={"python": "3.11.7"}), "numpy: 2.4.6 in the base, none in the new run"),
    "interrupted": (_set("run", "complete", value=False), "the new run was interrupted: repeat it"),
    "never run": (lambda run: _fail(run, "never run"), "the new run was interrupted: repeat it"),
    "definition": (_redefine, "test_store_many[png-1000], test_read_single[png-10] and 2 more"),
    "old": (_forget_definitions, "the new run was made before cells had definitions: repeat it"),
    "other cells": (_rename, "the runs have no cell in common"),
}


@pytest.mark.parametrize(("change", "words"), _DIFFERENCES.values(), ids=_DIFFERENCES.keys())
def test_runs_that_cannot_be_compared_say_why(change: Change, words: str, compare: Callable[..., Comparison]) -> None:
    comparison = compare(change)
    (difference,) = comparison.differences
    assert words in difference
    assert comparison.rows == ()
    assert comparison.choose_exit_code("fail") == comparison.choose_exit_code("warn") == 3


@pytest.mark.parametrize(("factor", "code"), [(1, 3), (3, 1)])
@pytest.mark.parametrize("has_result", [True, False])
def test_a_cell_that_failed_is_not_measured_and_the_others_are_judged(
    factor: float, code: int, compare: Callable[..., Comparison], *, has_result: bool
) -> None:
    def fail(run: dict[str, Any]) -> None:
        slow_down(run, CELL, 2)
        _fail(run)
        slow_down(run, "test_store_many[lmdb-1000]", factor)
        if not has_result:
            run["benchmarks"].remove(find_cell(run, CELL))

    comparison = compare(fail)
    assert comparison.absent == {f"benchmarks/test_suite.py::{CELL}": "in process 2: SIGSEGV"}
    assert CELL not in {row.cell.partition("::")[2] for row in comparison.rows}
    assert comparison.counts["ok"] == (38 if factor == 1 else 37)
    assert (comparison.missing, comparison.added, comparison.counts["not measured"]) == ((), (), 1)
    assert comparison.choose_exit_code("fail") == comparison.choose_exit_code("warn") == code


def test_a_process_that_measured_nothing_does_not_count(compare: Callable[..., Comparison]) -> None:
    def kill(run: dict[str, Any]) -> None:
        _fail(run)
        run["run"]["replicates"].append({})

    assert {row.processes for row in compare(kill).rows} == {(10, 10)}


def test_without_a_cell_that_did_not_fail_there_is_nothing_to_judge(read: Callable[[dict[str, Any]], Run]) -> None:
    base = run_of([make_cell("read_many", "png", 10)])
    new = copy.deepcopy(base)
    _fail(new, name="test_read_many[png-10]")
    comparison = compare_runs(read(base), read(new), Thresholds.threshold)
    assert (comparison.differences, comparison.rows, comparison.drift) == ((), (), None)
    assert comparison.choose_exit_code("fail") == 3


def test_a_base_with_a_cell_that_failed_is_refused(read: Callable[[dict[str, Any]], Run]) -> None:
    base = make_run()
    _fail(base)
    assert find_differences(read(base), read(make_run())) == ["the base is incomplete: repeat it"]


def test_problems_of_the_base_are_attributed_to_the_base(read: Callable[[dict[str, Any]], Run]) -> None:
    document = make_run()
    new = read(copy.deepcopy(document))
    _forget_definitions(document)
    document["run"]["complete"] = False
    assert find_differences(read(document), new) == [
        "the base is incomplete: repeat it",
        "the base was made before cells had definitions: repeat it",
    ]


def test_control_characters_of_a_run_stay_out_of_the_message(read: Callable[[dict[str, Any]], Run]) -> None:
    hostile = "\x1b[31m\n\x07" * 50
    document = run_of([make_cell("read_many", hostile, 10)])
    base = read(document)
    document["benchmarks"][0]["extra_info"]["definition"] = hostile
    document["run"]["libraries"] = {hostile: hostile}
    document["run"]["image_set"]["name"] = hostile
    differences = find_differences(base, read(document))
    assert len(differences) == 5, "images, three libraries, one cell"
    assert all(line.isprintable() and len(line) < 500 for line in differences)


def test_a_drift_of_the_machine_is_no_change(compare: Callable[..., Comparison]) -> None:
    def drift(run: dict[str, Any]) -> None:
        for name in [cell["name"] for cell in run["benchmarks"]]:
            slow_down(run, name, 1.8)

    comparison = compare(drift)
    assert {row.verdict for row in comparison.rows} == {"ok"}
    assert comparison.drift is not None
    assert math.exp(comparison.drift.shift) == pytest.approx(1.8, rel=0.02)


def test_a_reference_cell_that_is_measured_differently_measures_no_drift(read: Callable[[dict[str, Any]], Run]) -> None:
    documents = [run_of([make_cell("read_many", "png", 10), make_reference("hash")]) for _ in range(2)]
    documents[1]["benchmarks"][1]["extra_info"]["definition"] = "f" * 16
    assert find_differences(*map(read, documents)) == ["measured in another way than in the base: test_hash"]


def test_other_libraries_can_be_allowed_but_nothing_else(read: Callable[[dict[str, Any]], Run]) -> None:
    base, new = add_replicates(make_run()), add_replicates(make_run(), seed=1)
    new["run"]["libraries"]["numpy"] = "3.0"
    comparison = compare_runs(read(base), read(new), Thresholds.threshold, ("libraries",))
    assert comparison.counts["ok"] == 39
    assert comparison.allowed == ("version of numpy: 2.4.6 in the base, 3.0 in the new run",)
    new["run"]["cpu_count"] = 64
    comparison = compare_runs(read(base), read(new), Thresholds.threshold, ("libraries",))
    assert comparison.differences == ("number of processors: 2 in the base, 64 in the new run",)
