"""Sessions that save a baseline with replicates, or compare with one and measure doubtful cells again."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import replicates
from benchmarks.replicates import choose_images
from benchmarks.session import choose_cheap, estimate_costs
from tests.benchmarks.test_options import NOTHING, collect
from tests.support.backends import need_backend
from tests.support.suite import QUICK, clean_environment, copy_suite, find_runs, read_last_run, run_pytest

pytestmark = need_backend("npy")

CELLS = ("-k", "test_interpret or test_read_many", "--cutoffs=10", "--backends=npy")
SMALL = (*QUICK, *CELLS)
READ = "benchmarks/test_many.py::test_read_many[npy-10]"
COUNT = 2  # cells, one of them a reference cell


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the suite, and save a baseline of three processes."""
    suite = copy_suite(tmp_path_factory.mktemp("suite"))
    ended = run_pytest(suite, "benchmarks", *SMALL, "--save-baseline=usual", "--replicates=3")
    assert ended.returncode == 0, ended.stdout
    assert "process 2 of 3, all cells\nprocess 3 of 3, all cells\n" in ended.stdout
    saved = f"baseline saved as {suite}/reports/baselines/usual.json; --compare-with=usual compares a session with it"
    assert saved in ended.stdout.splitlines()
    return suite


def read_baseline(folder: Path, name: str = "usual") -> dict[str, Any]:
    run: dict[str, Any] = json.loads((folder / f"reports/baselines/{name}.json").read_text(encoding="utf-8"))
    return run


def change_baseline(folder: Path, name: str, factor: float, scatter: float = 1.0) -> None:
    """Save a baseline in which reading took so many times as long, and processes differ that much."""
    run = read_baseline(folder)
    (cell,) = [cell for cell in run["benchmarks"] if cell["fullname"] == READ]
    reference = cell["stats"]["data"][0] * factor
    for number, process in enumerate(({READ: cell["stats"]["data"]}, *run["run"]["replicates"])):
        process[READ][:] = [reference * scatter**number]
    (folder / f"reports/baselines/{name}.json").write_text(json.dumps(run), encoding="utf-8")


def test_a_baseline_has_the_rounds_of_every_process(folder: Path) -> None:
    run = read_baseline(folder)
    cells = {cell["fullname"] for cell in run["benchmarks"]}
    assert len(cells) == COUNT
    assert [process.keys() for process in run["run"]["replicates"]] == [cells, cells]
    assert all(seconds > 0 for process in run["run"]["replicates"] for rounds in process.values() for seconds in rounds)
    assert run["run"]["complete"] is True
    assert not list((folder / "temporary").glob("replicate"))


def test_a_pass_takes_a_third_of_the_time_of_a_cell_that_has_its_own(folder: Path) -> None:
    rounds = ("--replicates=2", "-k", "test_hash_everywhere or test_read_many")
    ended = run_pytest(folder, *QUICK, "--cutoffs=10", "--backends=npy", *rounds)
    assert ended.returncode == 0, ended.stdout
    run = read_last_run(folder)
    cell = "benchmarks/test_reference.py::test_hash_everywhere"
    (first,) = [len(each["stats"]["data"]) for each in run["benchmarks"] if each["fullname"] == cell]
    assert len(run["run"]["replicates"][0][cell]) < 2 * first, "each of three passes has as many rounds as a session"


def test_a_replicate_measures_its_cells_in_passes_even_if_there_is_only_one(folder: Path) -> None:
    rounds = ("--benchmark-min-rounds=3", "--benchmark-max-time=0.000001", "--replicates=2")
    ended = run_pytest(folder, READ, *QUICK, "--cutoffs=10", "--backends=npy", *rounds)
    assert ended.returncode == 0, ended.stdout
    (process,) = read_last_run(folder)["run"]["replicates"]
    assert {cell: len(each) for cell, each in process.items()} == {READ: replicates.PASSES}


@pytest.mark.parametrize(("failed", "expected"), [({}, {}), ({"one": "ValueError"}, {"one": "ValueError"})])
def test_a_replicate_has_the_rounds_of_all_passes_and_fails_if_one_does(
    failed: dict[str, str], expected: dict[str, str], tmp_path: Path
) -> None:
    measured = [
        {"fullname": name, "stats": {"data": [seconds]}} for name, seconds in (("one", 1), ("two", 2), ("one", 3))
    ]
    run = {"benchmarks": measured, "run": {"failed": failed, "skipped": {}}}
    (tmp_path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    found = replicates._read(tmp_path, 0, ["one", "two"])  # noqa: SLF001
    assert found == ({"one": [1, 3], "two": [2]}, expected)


def test_a_run_is_saved_without_indentation(folder: Path) -> None:
    text = (folder / "reports/baselines/usual.json").read_text(encoding="utf-8")
    assert text == json.dumps(read_baseline(folder), separators=(",", ":"))


def test_a_further_process_finds_the_images_of_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert choose_images(replace(NOTHING, cifar10="~/cifar")) == {"cifar10": "/home/me/cifar"}
    assert choose_images(replace(NOTHING, cifar10="auto")) == {"cifar10": "auto"}
    assert choose_images(replace(NOTHING, images="~/photos", size=9))["images"] == "/home/me/photos"
    assert choose_images(replace(NOTHING, images="standin", size=9))["images"] == "standin"


def test_a_further_process_has_the_same_clock(tmp_path: Path) -> None:
    names = {"timer": "time.process_time", "max_time": "0.5", "min_rounds": 5, "disable_gc": True}
    config: Any = SimpleNamespace(option=SimpleNamespace(**{f"benchmark_{name}": names[name] for name in names}))
    command = replicates._make_command(config, NOTHING, [READ], tmp_path)  # noqa: SLF001
    assert "--benchmark-timer=time.process_time" in command


@pytest.mark.slow
def test_pytest_benchmark_reads_a_baseline_and_shows_its_first_process(folder: Path) -> None:
    baseline = str(folder / "reports/baselines/usual.json")
    command = [sys.executable, "-m", "pytest_benchmark", "compare", baseline, "--columns=rounds", "--sort=name"]
    ended = subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"{COUNT} tests" in " ".join(ended.stdout.split()) or "test_read_many[npy-10]" in ended.stdout
    ended = run_pytest(folder, "benchmarks", *SMALL, f"--benchmark-compare={baseline}")
    assert ended.returncode == 0, ended.stdout
    assert "test_read_many[npy-10] (NOW)" in ended.stdout


@pytest.mark.slow
def test_cells_that_look_slower_are_measured_again_until_they_are_decided(folder: Path) -> None:
    change_baseline(folder, "quick", 0.01)
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=quick")
    assert ended.returncode == 1, ended.stdout
    assert "## 1 regression, 0 ok" in ended.stdout
    assert "compared with quick.json" in ended.stdout
    processes = read_last_run(folder)["run"]["replicates"]
    numbers = [int(number) for number in re.findall(r"process (\d+) for 1 cell that the comparison", ended.stdout)]
    assert numbers == list(range(2, len(processes) + 2))
    assert len(processes) + 1 in {1, 2, 4, 8, 16}, "decisions come at planned numbers of processes"
    assert all(process.keys() >= {READ, "benchmarks/test_reference.py::test_interpret"} for process in processes)


@pytest.mark.parametrize("option", ["--compare-with=usual", "--save-baseline=other"])
def test_a_baseline_without_the_cells_that_measure_the_machine_is_refused(folder: Path, option: str) -> None:
    ended = run_pytest(folder, "benchmarks/test_many.py", *QUICK, "--cutoffs=10", "--backends=png", option)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR, ended.stdout
    assert "add benchmarks/test_reference.py to the paths, or 'or reference' to the expression of -k" in ended.stdout
    assert "test_read_many" not in ended.stdout, "it is refused before anything is measured"


def test_no_time_is_spent_on_cells_that_cannot_be_decided(folder: Path) -> None:
    change_baseline(folder, "wild", 50.0, scatter=90.0)
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=wild")
    assert ended.returncode == 0, ended.stdout
    assert "## 1 inconclusive, 0 ok" in ended.stdout
    assert read_last_run(folder)["run"]["replicates"] == []


@pytest.mark.slow
def test_without_a_budget_nothing_is_measured_again(folder: Path) -> None:
    change_baseline(folder, "doubtful", 0.5, scatter=3.0)
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=doubtful", "--budget=0")
    assert read_last_run(folder)["run"]["replicates"] == []
    assert "## 1 " in ended.stdout


@pytest.mark.slow
def test_a_cell_that_fails_in_a_later_process_makes_the_baseline_incomplete(folder: Path) -> None:
    before = read_baseline(folder)
    conftest = folder / "conftest.py"
    text = conftest.read_text(encoding="utf-8")
    conftest.write_text(f"{text}\n\ndef pytest_runtest_call(item):\n    import os\n    {FAIL}\n", encoding="utf-8")
    ended = run_pytest(folder, "benchmarks", *SMALL, "--save-baseline=usual", "--replicates=3")
    conftest.write_text(text, encoding="utf-8")
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout
    assert f"{READ} failed in process 2: ValueError: no luck" in ended.stdout
    assert "baseline usual not saved: the run is incomplete" in ended.stdout
    run = read_last_run(folder)["run"]
    assert run["failed"] == {READ: "in process 2: ValueError: no luck"}
    assert run["complete"] is False
    assert read_baseline(folder) == before


FAIL = 'if "read_many" in item.name and "IMAGE_STORAGE_STARTED" in os.environ: raise ValueError("no luck")'


@pytest.mark.slow
def test_a_cell_that_kills_a_later_process_is_named(folder: Path) -> None:
    conftest = folder / "conftest.py"
    text = conftest.read_text(encoding="utf-8")
    kill = FAIL.replace('raise ValueError("no luck")', "os.kill(os.getpid(), 11)")
    conftest.write_text(f"{text}\n\ndef pytest_runtest_call(item):\n    import os\n    {kill}\n", encoding="utf-8")
    ended = run_pytest(folder, "benchmarks", *SMALL, "--replicates=2")
    conftest.write_text(text, encoding="utf-8")
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout
    assert f"{READ} failed in process 2: SIGSEGV" in ended.stdout
    assert read_last_run(folder)["run"]["complete"] is False


@pytest.mark.slow
def test_an_interrupted_baseline_is_not_saved(folder: Path) -> None:
    before = read_baseline(folder)
    command = [sys.executable, "-u", "-m", "pytest", "benchmarks", *SMALL, "--save-baseline=usual", "--replicates=50"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None
        for line in session.stdout:
            if line.startswith("process 3 of 50"):
                session.send_signal(signal.SIGINT)
                break
        rest = session.stdout.read()
        assert session.wait(timeout=60) == pytest.ExitCode.INTERRUPTED
    assert "baseline usual not saved: the run is incomplete" in rest
    assert "\nINCOMPLETE run saved as" in rest
    assert read_baseline(folder) == before
    run = read_last_run(folder)["run"]
    assert (run["complete"], len(run["replicates"])) == (False, 1)


@pytest.mark.slow
def test_other_libraries_are_refused_unless_they_are_allowed(folder: Path) -> None:
    run = read_baseline(folder)
    run["run"]["libraries"]["numpy"] = "0.1"
    (folder / "reports/baselines/older.json").write_text(json.dumps(run), encoding="utf-8")
    runs = find_runs(folder)
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=older", "--budget=0")
    assert ended.returncode == 3
    assert "\n! _pytest.outcomes.Exit: the runs can't be compared: version of numpy: 0.1 in the base" in ended.stdout
    assert "`python -m reports gate` measures two versions side by side" in ended.stdout
    assert "--new-python PATH; --allow=libraries compares anyway" in ended.stdout
    assert find_runs(folder) == runs
    allowing = ("--allow=libraries", "--page=allowed.html")
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=older", "--budget=0", *allowing)
    assert ended.returncode in {0, 1}
    assert "- Other libraries: version of numpy: 0.1 in the base" in ended.stdout
    assert "Other libraries: version of numpy: 0.1 in the base" in (folder / "allowed.html").read_text(encoding="utf-8")


@need_backend("png")
def test_a_session_that_has_no_cell_of_the_base_is_refused_before_it_measures(folder: Path) -> None:
    runs = find_runs(folder)
    cells = (option for option in SMALL if option != "--backends=npy")
    ended = run_pytest(folder, "benchmarks", *cells, "--backends=png", "--compare-with=usual")
    assert ended.returncode == 3
    assert "the runs have no cell in common" in ended.stdout
    assert find_runs(folder) == runs


def test_a_session_is_described_by_its_own_cells(folder: Path) -> None:
    run, runs = read_baseline(folder), find_runs(folder)
    (cell,) = [each for each in run["benchmarks"] if each["fullname"] == READ]
    names = {"fullname": READ.replace("read_many", "read_epoch_decoded"), "extra_info": dict(cell["extra_info"])}
    run["benchmarks"].append(cell | names)
    run["benchmarks"][-1]["extra_info"]["operation"] = "read_epoch_decoded"
    run["run"]["libraries"]["pillow"] = "0.1"  # which this session doesn't need
    (folder / "reports/baselines/more.json").write_text(json.dumps(run), encoding="utf-8")
    ended = run_pytest(folder, "benchmarks", *SMALL, "--compare-with=more", "--compare-missing=warn", "--budget=0")
    assert ended.returncode == 0, ended.stdout
    assert len(find_runs(folder)) == len(runs) + 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--compare-with=unusual"],
            "cannot be read (No such file or directory); name the JSON file of a run; the baselines here are ",
        ),
        pytest.param(
            ["--save-baseline=x", "--benchmark-json=y.json"],
            "save-baseline: the run has one file: leave --benchmark-json",
            marks=pytest.mark.slow,
        ),
        (
            ["--save-baseline=usual", "--compare-with=usual"],
            "save-baseline: it is what the run is compared with: save the run under another name",
        ),
        (
            ["--benchmark-json=reports/baselines/usual.json", "--compare-with=usual"],
            "benchmark-json: it is what the run is compared with: save the run under another name",
        ),
        ([f"--compare-with={300 * 'W'}"], "cannot be read (File name too long); name the JSON file of a run"),
        ([f"--save-baseline={100 * '語'}"], "語.json can't be saved (File name too long)"),
        ([f"--benchmark-json={300 * 'W'}"], "W (File name too long): name another --benchmark-json"),
    ],
)
def test_a_base_or_a_file_that_does_not_fit_is_a_usage_error(options: list[str], words: str, folder: Path) -> None:
    ended = run_pytest(folder, "benchmarks", *SMALL, *options)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--save-baseline=../x", "save-baseline: '../x' isn't a name: use up to 100 letters, digits, dots, - and _"),
        (f"--save-baseline={300 * 'W'}", "W' isn't a name: use up to 100 letters, digits, dots, - and _"),
        ("--replicates=0", "'0' isn't a number from 1 to 100"),
        ("--replicates=101", "'101' isn't a number from 1 to 100"),
        ("--budget=-1", "'-1' isn't a number of seconds"),
        ("--budget=soon", "'soon' isn't a number of seconds"),
        ("--budget=5", "budget: there is nothing to compare with: add --compare-with, or leave it out"),
        ("--allow=libraries", "allow: there is nothing to compare with: add --compare-with, or leave it out"),
        ("--compare-missing=warn", "compare-missing: there is nothing to compare with"),
    ],
)
def test_wrong_values_are_usage_errors(option: str, words: str) -> None:
    ended = collect("--cutoffs=10", "--backends=npy", option)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("option", ["--save-baseline=x", "--compare-with=x", "--replicates=2"])
@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["-p", "xdist.plugin", "-n", "2"], "--numprocesses"),
        (["--benchmark-disable"], "--benchmark-disable"),
        (["--benchmark-skip"], "--benchmark-skip"),
    ],
)
def test_a_baseline_is_refused_where_nothing_is_measured(option: str, options: list[str], cause: str) -> None:
    if cause == "--numprocesses":
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    ended = collect("--cutoffs=10", "--backends=npy", option, *options)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    name = option[2:].partition("=")[0]
    assert f"{name}: with {cause}, nothing is measured: leave one of the two out" in ended.stderr


def test_a_further_process_is_expected_to_repeat_all_but_the_rounds() -> None:
    costs = estimate_costs({"cell": 3.0}, {"cell": [0.5, 1.5]})
    assert costs == {"cell": 2.0 + replicates.PASSES * 1.0}


def test_cells_that_are_only_noisy_take_no_longer_than_there_is_time() -> None:
    costs = {"slow": 3.0, "quick": 1.0, "usual": 2.0}
    assert choose_cheap(costs, 3.5) == ["quick", "usual"]
    assert choose_cheap(costs, -1.0) == []
