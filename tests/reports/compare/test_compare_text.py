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
from tests.support.photo_runs import describe_photos
from tests.support.runs import add_replicates, find_cell, make_cell, make_reference, make_run, run_of, save, slow_down

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


def _make_runs() -> list[dict[str, Any]]:
    """Make two runs of ten processes of the same code."""
    return [add_replicates(make_run(), seed=seed) for seed in range(2)]


def _disturb(run: dict[str, Any], name: str, factor: float) -> None:
    """Make a cell `factor` times as slow in every other process."""
    cell = find_cell(run, name)["fullname"]
    for process in run["run"]["replicates"][::2]:
        process[cell] = [factor * seconds for seconds in process[cell]]


def test_all_that_is_not_ok_is_listed_and_the_rest_is_counted(show: Show) -> None:
    base, new = _make_runs()
    slow_down(new, CELL, 3)
    slow_down(new, OTHER, 1 / 3)
    for run in (base, new):
        _disturb(run, "test_read_many[png-10]", 4)
    _disturb(new, "test_read_many[png-100]", 4)
    new["benchmarks"].remove(find_cell(new, "test_read_many[hdf5-10]"))
    new["benchmarks"].append(make_cell("read_many", "hdf5", 77))
    text = show(base, new)
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
    assert rows[2][1:3] == ["110 ms", "331 ms"]
    assert 2.9 < float(rows[2][3]) < 3.1
    low, high = map(float, rows[2][4].split(" to "))
    assert 2.5 < low < 3 < high < 3.5
    assert "inconclusive: neither a regression nor certain to be less than 1.2 times as long (twice the thr" in text
    assert "--save-baseline" not in text, "ten processes are enough"


def test_cells_that_were_not_measured_are_listed_with_the_reason(show: Show) -> None:
    base, new = _make_runs()
    cell = find_cell(new, CELL)
    new["benchmarks"].remove(cell)
    new["run"] |= {"failed": {cell["fullname"]: "OSError: <disk>"}, "complete": False}
    text = show(base, new)
    assert text.startswith("## 1 not measured, 38 ok\n")
    assert text.endswith(f"\n\nNot measured:\n\n- {CELL} (OSError: &lt;disk&gt;)\n")


def test_runs_without_a_change_need_neither_table_nor_command(show: Show) -> None:
    text = show(*_make_runs())
    assert text.startswith("## 39 ok\n\n- Base: run of 2026-11-21 06:39, commit 01234567, 10 processes\n- New: run of ")
    assert "\n- Machine: 1.00 times as long as for the base, by its reference cells; ratios are corrected\n" in text
    assert "|" not in text
    assert "    " not in text


def test_processors_that_were_less_free_are_named_if_cells_need_them(show: Show) -> None:
    base, new = (add_replicates(make_run(workers=workers), seed=seed) for seed, workers in ((1, (2,)), (2, (2,))))
    words = r"\n- Processors: not as free as for the base; cells of several workers or threads may be [34]\."
    assert "\n- Processors: how free they were isn't known; cells of several workers or threads may be 4.1" in show(
        base, new
    )
    for run, seconds in ((base, 0.01), (new, 0.016)):
        reference = make_reference("hash_everywhere", seconds)
        reference["extra_info"]["is_parallel"] = True
        run["benchmarks"].append(reference)
        for process in run["run"]["replicates"]:
            process[reference["fullname"]] = [seconds]
    assert re.search(words, show(base, new))
    assert "Processors" not in show(base, base)
    assert "Processors" not in show(*_make_runs()), "no cell needs them"


def test_a_base_of_one_process_says_what_it_can_show_and_how_to_make_a_better_one(show: Show) -> None:
    text = show(make_run(), make_run())
    assert text.startswith(
        "## 39 inconclusive, 0 ok\n\n- Base: run of 2026-11-21 06:39, commit 01234567, one process\n"
    )
    assert "\n- Machine: no reference cells in both runs, so its drift is unknown\n" in text
    found = re.search(r"This base has one process: it can show most cells' slowdowns of more than ([\d.]+)x", text)
    assert found is not None
    assert 2 < float(found[1]) < 100
    assert "`--save-baseline=NAME` makes a better one." in text


def test_an_interval_that_says_nothing_is_replaced_by_how_far_processes_differ(show: Show) -> None:
    base, new = _make_runs()
    for number, process in enumerate(new["run"]["replicates"]):
        cell = find_cell(new, CELL)["fullname"]
        process[cell] = [seconds * 10 ** (number % 5) for seconds in process[cell]]
    text = show(base, new)
    assert re.search(r"too noisy: 10 processes differ by a factor of 1\d,\d{3} \| inconclusive", text)


@pytest.mark.parametrize(("wild", "count"), [(0, 3), (1, 10)])
def test_the_processes_that_differ_most_are_counted_in_their_own_run(wild: int, count: int, show: Show) -> None:
    runs = [add_replicates(make_run(), number) for number in (2, 9)]
    for place, run in enumerate(runs):
        cell = find_cell(run, CELL)["fullname"]
        for number, process in enumerate(run["run"]["replicates"], 1):
            process[cell] = [seconds * (5e5 if place == wild else 2.0) ** (number % 2) for seconds in process[cell]]
    slow_down(runs[1], CELL, 1.5)
    assert re.search(rf"too noisy: {count} processes differ by a factor of \d{{3}},\d{{3}}", show(*runs))


def test_one_process_of_each_run_does_not_differ_from_itself(show: Show) -> None:
    runs = [make_run(workers=(2,)) for _ in range(2)]
    for run, seconds in zip(runs, (0.01, 0.1), strict=True):
        reference = make_reference("hash_everywhere", seconds)
        reference["extra_info"]["is_parallel"] = True
        run["benchmarks"].append(reference)
    slow_down(runs[1], "test_read_epoch_workers[png-1000-2-fork]", 2)
    assert re.search(r"test_read_epoch_workers\[png-1000-2-fork\].*\| too noisy +\| inconclusive", show(*runs))


@pytest.mark.parametrize(("factor", "words"), [(500, r"above \d{3}"), (1 / 500, r"below 0\.00")])
def test_a_change_of_more_than_a_hundred_times_has_one_bound(factor: float, words: str, show: Show) -> None:
    base, new = _make_runs()
    slow_down(new, CELL, factor)
    assert re.search(rf"\| +{words} \| (regression|improvement) ", show(base, new))


def test_other_libraries_are_named_and_marked_on_each_line(tmp_path: Path) -> None:
    base, new = _make_runs()
    slow_down(new, CELL, 3)
    new["benchmarks"].remove(find_cell(new, OTHER))
    new["run"]["libraries"]["numpy"] = "3.0"
    before = read_run(save(base, tmp_path))
    comparison = compare_runs(before, read_run(save(new, tmp_path)), Thresholds.threshold, ("libraries",))
    text = make_verdicts(comparison)
    assert "\n- Other libraries: version of numpy: 2.4.6 in the base, 3.0 in the new run\n" in text
    lines = [line for line in text.splitlines() if line.startswith("| test_")]
    assert [line.rstrip(" |").endswith("(other libraries)") for line in lines] == [True, True]


def test_cells_that_look_slower_are_named_in_a_command_that_measures_them_again(show: Show) -> None:
    base, new = _make_runs()
    for name in (CELL, OTHER):
        _disturb(new, name, 4)
    assert _find_command(show(base, new)) == [
        *("python", "-m", "reports", "gate", "0123456789ab"),
        *("--cells", f"{CELL} or {OTHER}", "--cutoffs", "1000"),
    ]


@pytest.mark.parametrize(("name", "images"), [("standin", "standin"), ("photos/", "FOLDER")])
def test_the_command_names_the_photos_of_the_runs(name: str, images: str, show: Show) -> None:
    base, new = make_run(), make_run()
    for run in (base, new):
        run["run"]["image_set"] = describe_photos(1000) | {"name": name}
    slow_down(new, CELL, 2)
    assert _find_command(show(base, new))[-2:] == ["--images", images]


@pytest.mark.parametrize(
    "commit",
    [{"id": "unversioned", "dirty": False}, {"id": "0123456789", "dirty": True}, {"id": "--help", "dirty": False}],
    ids=["no repository", "changed tree", "no digest"],
)
def test_a_base_that_is_no_commit_is_named_by_its_file(commit: object, show: Show, tmp_path: Path) -> None:
    base, new = make_run() | {"commit_info": commit}, make_run()
    slow_down(new, CELL, 2)
    assert _find_command(show(base, new))[4] == str(tmp_path / "run.json")


@pytest.mark.parametrize(
    "name", ["a|b", "`code`", "<script>", "x'; rm -rf ~; '", "line\nbreak\n# title", "\x1b[31mred", "$(touch x)"]
)
def test_a_hostile_name_is_shown_and_breaks_nothing(name: str, show: Show) -> None:
    base, new = (run_of([make_cell("read_many", name, 10), make_cell("read_many", name, 20)]) for _ in range(2))
    new["benchmarks"][0]["stats"]["data"] = [9e3] * 5
    new["benchmarks"][1]["stats"]["data"] = [0.9e-3] * 5
    new["benchmarks"].append(make_cell("read_epoch", name, 10))
    base["benchmarks"].append(make_cell("store_many", name, 10))
    text = show(base, new)
    assert text.startswith("## 1 regression, 1 missing, 1 inconclusive, 1 new, 0 ok\n")
    assert all(line.isprintable() for line in text.splitlines())
    assert len(_find_command(text)) == 9, "the shell runs one command, and the names are one argument"
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 6
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in table)
    assert not re.search(r"<|(?<!\\)`", "".join(table))
