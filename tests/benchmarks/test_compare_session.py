"""Sessions that compare themselves with a run of before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from tests.support.backends import need_backend
from tests.support.suite import QUICK, copy_suite, find_runs, run_pytest

pytestmark = need_backend("hdf5")

SMALL = (*QUICK, "--cutoffs=10", "--backends=hdf5", "-k", "test_read_many or test_store_many")


MARKED = """
import itertools, pytest

@pytest.mark.threshold(0.25)
def test_read_many_marked(cell, cutoff, cache, image_set):
    images, labels = image_set.take(cutoff)
    store = cell.fill_store(images, labels, cache=cache)
    cell.measure_read(cell.backend.read_many, itertools.repeat((store,)), images, lambda *_: None)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the suite, and measure three cells for a base, one of a benchmark with a marker."""
    suite = copy_suite(tmp_path_factory.mktemp("suite"))
    (suite / "benchmarks" / "test_marked.py").write_text(MARKED)
    ended = run_pytest(suite, "benchmarks", *SMALL, "--benchmark-json=base.json")
    assert ended.returncode == 0, ended.stdout
    return suite


def _compare(folder: Path, change: Callable[[dict[str, Any]], object], *options: str) -> tuple[int, str]:
    """Compare a session with a base that was changed; return its exit code, and what it printed."""
    base = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    change(base)
    (folder / "changed.json").write_text(json.dumps(base), encoding="utf-8")
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=changed.json", *options)
    return ended.returncode, ended.stdout + ended.stderr


def _set_rounds(seconds: float) -> Callable[[dict[str, Any]], None]:
    def set_rounds(base: dict[str, Any]) -> None:
        for cell in base["benchmarks"]:
            cell["stats"]["data"] = [seconds] * 5

    return set_rounds


def _add_cell(base: dict[str, Any]) -> None:
    base["benchmarks"].append(base["benchmarks"][0] | {"fullname": "benchmarks/test_many.py::test_gone[hdf5-10]"})
    _set_rounds(1e3)(base)


def test_a_cell_says_its_threshold_where_its_benchmark_has_the_marker(folder: Path) -> None:
    base = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    thresholds = {cell["name"]: cell["extra_info"].get("threshold") for cell in base["benchmarks"]}
    assert thresholds == {
        "test_read_many_marked[hdf5-10]": 0.25,
        "test_read_many[hdf5-10]": None,
        "test_store_many[hdf5-10]": None,
    }


def test_a_slower_session_fails_and_says_what_the_command_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = _compare(folder, _set_rounds(1e-6))
    assert code == 1
    assert "## 3 regressions, 0 ok" in printed
    assert "3 passed" in printed
    assert main(["compare", str(folder / "changed.json"), str(find_runs(folder)[-1])]) == 1
    said = capsys.readouterr().out
    assert said.replace(str(folder / "changed.json"), "changed.json") in printed


def test_a_missing_cell_is_fine_where_it_is_only_warned_of(folder: Path) -> None:
    code, printed = _compare(folder, _add_cell, "--compare-missing=warn")
    assert code == 0
    assert "compared with changed.json" in printed
    assert "## 1 missing, 3 improvements, 0 ok" in printed


def test_a_session_that_failed_keeps_its_exit_code(folder: Path) -> None:
    benchmark = folder / "benchmarks" / "test_wrong.py"
    benchmark.write_text("def test_read_many_wrong(benchmark, backend): assert not backend\n")
    code, printed = _compare(folder, _set_rounds(1e3))
    benchmark.unlink()
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "the runs can't be compared: the new run is incomplete: repeat it" in printed


def _change_machine(base: dict[str, Any]) -> None:
    base["run"] |= {"cpu_count": 999, "store_directory": {"file_system": "tape", "free_bytes": 1}}
    base["run"]["libraries"] |= {"HDF5": "0.1"}
    base["run"]["image_set"]["sha256"] = "00"
    base["machine_info"]["release"] = "0.01"
    base["benchmarks"][-1]["extra_info"]["definition"] = "0" * 16


def test_what_cannot_be_compared_is_refused_before_anything_is_measured(folder: Path) -> None:
    runs = find_runs(folder)
    code, printed = _compare(folder, _change_machine)
    assert code == 3
    for words in ("processors: 999 in", "file system: tape in", "version of HDF5: 0.1 in", "images: standin 00 in"):
        assert words in printed
    assert "kernel: 0.01 in" in printed
    assert "measured in another way than in the base: test_" in printed
    assert "Traceback" not in printed
    assert find_runs(folder) == runs


def test_a_base_that_is_broken_is_a_usage_error(folder: Path) -> None:
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=nowhere.json")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "compare-with: nowhere.json: cannot be read (No such file or directory)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_session_that_saves_no_run_cannot_be_compared(folder: Path) -> None:
    runs = find_runs(folder)
    ended = run_pytest(folder, "benchmarks", *SMALL[:-2], "--collect-only", "--compare-with=base.json")
    assert ended.returncode == 3
    assert "no run was saved that could be compared: measure with --benchmark-only" in ended.stdout
    assert find_runs(folder) == runs


def test_a_run_saved_without_its_rounds_cannot_be_compared(folder: Path) -> None:
    options = ("-o", "addopts=", "--benchmark-storage=file://./other")
    ended = run_pytest(folder, "benchmarks", *SMALL, *options, "--compare-with=base.json")
    assert ended.returncode == 3
    assert "no raw rounds; save with --benchmark-save-data" in ended.stdout
