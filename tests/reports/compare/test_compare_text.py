"""A comparison in words: its words, its table, and the command that follows."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.compare.comparison import compare_runs
from reports.compare.text import make_verdicts
from reports.noise import Thresholds
from reports.reading import read_run
from tests.support.runs import find_cell, make_cell, make_run, run_of, save, slow_down

Show = Callable[[dict[str, Any], dict[str, Any]], str]

CELL = "test_store_many[png-1000]"
OTHER = "test_read_many[lmdb-1000]"


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Show how two runs compare."""

    def show_runs(base: dict[str, Any], new: dict[str, Any]) -> str:
        before = read_run(save(base, tmp_path))
        return make_verdicts(compare_runs(before, read_run(save(new, tmp_path)), Thresholds.threshold))

    return show_runs


def _find_command(text: str) -> list[str]:
    """Find the command that a comparison recommends, as a shell would split it."""
    (line,) = [line for line in text.splitlines() if line.startswith("    ")]
    return shlex.split(line)


def test_all_that_is_not_ok_is_listed_and_the_rest_is_counted(show: Show) -> None:
    new = make_run()
    slow_down(new, CELL, 3)
    slow_down(new, OTHER, 1 / 3)
    find_cell(new, "test_read_many[png-10]")["stats"]["data"][:] = [0.7e-3, 0.9e-3, 1.1e-3]  # as fast as before
    find_cell(new, "test_read_many[png-100]")["stats"]["data"][:] = [7e-3, 9e-3, 11e-3]
    new["benchmarks"].remove(find_cell(new, "test_read_many[hdf5-10]"))
    new["benchmarks"].append(make_cell("read_many", "hdf5", 77))
    text = show(make_run(), new)
    assert text.startswith("## 1 regression, 1 missing, 2 inconclusive, 1 improvement, 1 new, 34 ok\n")
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["cell", "base", "new", "new / base", "interval", "verdict"]
    assert [(row[0], row[-1]) for row in rows[2:]] == [
        (CELL, "regression"),
        (OTHER, "improvement"),
        ("test_read_many[png-100]", "inconclusive"),
        ("test_read_many[hdf5-10]", "missing"),
        ("test_read_many[hdf5-77]", "new"),
    ]
    assert rows[2][1:5] == ["110 ms", "329 ms", "3.00", "2.44 to 3.69"]
    assert "inconclusive: too noisy to be called ok, in one of the runs (IQR above 10 %" in text


def test_equal_runs_need_neither_table_nor_command(show: Show) -> None:
    text = show(make_run(), make_run())
    assert text.startswith("## 39 ok\n\n- Base: run of 2026-11-21 06:39, commit 01234567\n- New: run of 2026-")
    assert "|" not in text
    assert "    " not in text
    assert "Two runs are two processes" in text
    assert "weak evidence" in text


def test_suspects_are_named_in_a_command_that_measures_them_again(show: Show) -> None:
    new = make_run()
    slow_down(new, CELL, 3)
    slow_down(new, OTHER, 3)
    assert _find_command(show(make_run(), new)) == [
        *("python", "-m", "reports", "gate", "0123456789ab"),
        *("--cells", f"{CELL} or {OTHER}", "--cutoffs", "1000"),
    ]


@pytest.mark.parametrize(
    "commit",
    [{"id": "unversioned", "dirty": False}, {"id": "0123456789", "dirty": True}, {"id": "--help", "dirty": False}],
    ids=["no repository", "changed tree", "no digest"],
)
def test_a_base_that_is_no_commit_is_named_by_its_file(commit: object, show: Show, tmp_path: Path) -> None:
    base, new = make_run() | {"commit_info": commit}, make_run()
    slow_down(new, CELL, 3)
    assert _find_command(show(base, new))[4] == str(tmp_path / "run.json")


@pytest.mark.parametrize(
    "name", ["a|b", "`code`", "<script>", "x'; rm -rf ~; '", "line\nbreak\n# title", "\x1b[31mred", "$(touch x)"]
)
def test_a_hostile_name_is_shown_and_breaks_nothing(name: str, show: Show) -> None:
    base, new = (run_of([make_cell("read_many", name, 10)]) for _ in range(2))
    new["benchmarks"][0]["stats"]["data"] = [1.0] * 5
    new["benchmarks"].append(make_cell("read_epoch", name, 10))
    base["benchmarks"].append(make_cell("store_many", name, 10))
    text = show(base, new)
    assert text.startswith("## 1 regression, 1 missing, 1 new, 0 ok\n")
    assert all(line.isprintable() for line in text.splitlines())
    assert len(_find_command(text)) == 9, "the shell runs one command, and the names are one argument"
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in table)
    assert not re.search(r"<|(?<!\\)`", "".join(table))
