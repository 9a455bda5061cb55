"""Sessions that compare their run with an earlier one, and write its page."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from tests.support.backends import need_backend
from tests.support.pages import Element, check_soundness, read_page, unpack
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
WRONG = """
import shutil
def test_read_many_wrong(benchmark, backend):
    shutil.rmtree("pages", ignore_errors=True)
    assert not backend
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the suite, and measure three cells for a base with a page, one of a benchmark with a marker."""
    suite = copy_suite(tmp_path_factory.mktemp("suite"))
    (suite / "benchmarks" / "test_marked.py").write_text(MARKED)
    ended = run_pytest(suite, "benchmarks", *SMALL, "--benchmark-json=base.json", "--page=first.html")
    assert ended.returncode == 0, ended.stdout
    page, saved, step = ended.stdout.splitlines()[-3:]
    assert page == "page written to first.html"
    assert re.fullmatch(r"run saved as reports/runs/\S+\.json", saved)
    assert step.startswith("next: python -m pytest_benchmark "), "no command to make the page, since it exists"
    assert "benchmark 'read_many" not in ended.stdout, "no tables that nobody asked for"
    return suite


def _compare(folder: Path, change: Callable[[dict[str, Any]], object], *options: str) -> tuple[int, str]:
    """Compare a session with a base that was changed; return its exit code, and what it printed."""
    base = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    change(base)
    (folder / "changed.json").write_text(json.dumps(base), encoding="utf-8")
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=changed.json", "--budget=0", *options)
    return ended.returncode, ended.stdout + ended.stderr


def _set_rounds(seconds: float) -> Callable[[dict[str, Any]], None]:
    def set_rounds(base: dict[str, Any]) -> None:
        for cell in base["benchmarks"]:
            cell["stats"]["data"] = [seconds] * 5

    return set_rounds


def _add_cell(base: dict[str, Any]) -> None:
    base["benchmarks"].append(base["benchmarks"][0] | {"fullname": "benchmarks/test_many.py::test_gone[hdf5-10]"})
    _set_rounds(1e3)(base)


def _change_machine(base: dict[str, Any]) -> None:
    base["run"] |= {"cpu_count": 999, "store_directory": {"file_system": "tape", "free_bytes": 1}}
    base["run"]["libraries"] |= {"HDF5": "0.1"}
    base["run"]["image_set"]["sha256"] = "00"
    base["machine_info"]["release"] = "0.01"
    base["benchmarks"][-1]["extra_info"]["definition"] = "0" * 16


def _read(path: Path) -> Element:
    page = read_page(path.read_text(encoding="utf-8"))
    check_soundness(page)
    return page


def test_a_run_has_the_threshold_of_a_marked_benchmark(folder: Path) -> None:
    base = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    thresholds = {cell["name"]: cell["extra_info"].get("threshold") for cell in base["benchmarks"]}
    expected = {"test_read_many_marked": 0.25, "test_read_many": None, "test_store_many": None}
    assert thresholds == {f"{name}[hdf5-10]": threshold for name, threshold in expected.items()}


def test_a_session_writes_the_page_of_the_run_that_it_saved(folder: Path) -> None:
    page = _read(folder / "first.html")
    assert unpack(page, "json") == find_runs(folder)[0].read_bytes()
    (sentence,) = page.find("p", id="sentence")
    assert sentence.text == "Use hdf5: nothing else was measured."
    assert not list(page.find("section", id="base"))


def test_a_slower_session_fails_with_the_text_of_the_command_and_its_page_includes_the_base(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = _compare(folder, _set_rounds(1e-6), "--page=second.html")
    assert code == 1
    assert "## 3 regressions, 0 ok" in printed
    assert "3 passed" in printed
    assert main(["compare", str(folder / "changed.json"), str(find_runs(folder)[-1])]) == 1
    assert capsys.readouterr().out.replace(str(folder / "changed.json"), "changed.json") in printed
    assert "page written to second.html" in printed
    (section,) = _read(folder / "second.html").find("section", id="base")
    assert "test_read_many[hdf5-10]" in section.text


@pytest.mark.slow
def test_a_missing_cell_does_not_fail_a_session_that_only_warns_of_it(folder: Path) -> None:
    code, printed = _compare(folder, _add_cell, "--compare-missing=warn")
    assert code == 0
    assert "compared with changed.json" in printed
    assert "## 1 missing, 3 improvements, 0 ok" in printed


@pytest.mark.slow
def test_a_failed_session_keeps_its_exit_code_and_judges_the_cells_that_did_not_fail(folder: Path) -> None:
    benchmark = folder / "benchmarks" / "test_wrong.py"
    benchmark.write_text(WRONG)
    (folder / "pages").mkdir()
    code, printed = _compare(folder, _set_rounds(1e3), "--page=pages/report.html")
    benchmark.unlink()
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "## 1 not measured, 3 improvements, 0 ok" in printed
    assert "\n- test_read_many_wrong[hdf5] (AssertionError" in printed
    assert "\nno page: pages isn't a folder" in printed
    assert "\nINCOMPLETE run saved as " in printed
    assert "next: python -m reports" not in printed


def test_runs_that_cannot_be_compared_are_rejected_before_anything_is_measured(folder: Path) -> None:
    runs = find_runs(folder)
    code, printed = _compare(folder, _change_machine)
    assert code == 3
    for words in ("processors: 999 in", "file system: tape in", "version of HDF5: 0.1 in", "images: standin 00 in"):
        assert words in printed
    assert "kernel: 0.01 in" in printed
    assert "measured in another way than in the base: test_" in printed
    assert "Traceback" not in printed
    assert find_runs(folder) == runs


@pytest.mark.slow
def test_a_session_that_is_slower_than_pytest_benchmark_was_told_to_allow_fails_and_keeps_its_answer(
    folder: Path,
) -> None:
    base = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    for cell in base["benchmarks"]:
        cell["stats"]["median"] = 1e-9
    (folder / "quick.json").write_text(json.dumps(base), encoding="utf-8")
    options = ("--benchmark-compare=quick.json", "--benchmark-compare-fail=median:5%")
    ended = run_pytest(folder, "benchmarks", *SMALL, *options)
    assert ended.returncode == 1
    assert "slower than --benchmark-compare-fail allows" in ended.stdout
    assert "test_read_many[hdf5-10]" in ended.stdout.partition("slower than")[2]
    assert "benchmark 'read_many " in ended.stdout, "the tables that the option asks for"
    assert "= hdf5 (stand-in images) =" in ended.stdout
    assert ended.stdout.splitlines()[-3].startswith("run saved as ")
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_missing_base_is_a_usage_error(folder: Path) -> None:
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=nowhere.json")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "compare-with: nowhere.json: cannot be read (No such file or directory)" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--collect-only"], "no run was saved that could be compared: measure with --benchmark-only"),
        pytest.param(
            ["-o", "addopts=", "--benchmark-storage=file://./other"],
            "no raw rounds; save with --benchmark-save-data",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--benchmark-disable", "--page=none.html"],
            "no page: no run was saved; measure with --benchmark-only",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["not measured", "without rounds", "no page"],
)
def test_a_session_without_a_usable_run_says_how_to_save_one(folder: Path, options: list[str], reason: str) -> None:
    runs = find_runs(folder)
    small = [option for option in SMALL if option != "--benchmark-only" or "--benchmark-disable" not in options]
    base = () if "--benchmark-disable" in options else ("--compare-with=base.json", "--budget=0")
    ended = run_pytest(folder, "benchmarks", *small, *options, *base)
    assert ended.returncode == 3
    assert reason in ended.stdout
    assert find_runs(folder) == runs
    assert not (folder / "none.html").exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("base.json", "base.json is a run; name another file for the page"),
        pytest.param("other.json", "other.json isn't an earlier page; name another file", marks=pytest.mark.slow),
        pytest.param("own.json", "own.json is a run; name another file for the page", marks=pytest.mark.slow),
        pytest.param("W" * 300, "File name too long", marks=pytest.mark.slow),
    ],
    ids=["base", "other run", "own run", "long"],
)
def test_a_wrong_page_path_is_rejected_before_anything_is_measured(folder: Path, path: str, reason: str) -> None:
    runs = find_runs(folder)
    (folder / "other.json").write_bytes(runs[0].read_bytes())
    options = ("--compare-with=base.json", "--benchmark-json=own.json", f"--page={path}")
    ended = run_pytest(folder, "benchmarks", *SMALL, *options)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert ended.stderr.startswith("ERROR: page: ")
    assert reason in ended.stderr
    assert find_runs(folder) == runs
    assert not (folder / "own.json").exists()
    assert (folder / "other.json").read_bytes() == runs[0].read_bytes()
