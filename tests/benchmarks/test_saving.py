"""A run is checked to be savable before it is measured, and isn't lost if saving fails after all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.session import SESSION, Session, _save_json
from tests.benchmarks.test_options import NOTHING
from tests.benchmarks.test_seaweedfs import runs
from tests.support.backends import need_backend
from tests.support.privileges import respect_permissions
from tests.support.suite import HERE, QUICK, clean_environment, copy_suite, find_runs, run_pytest

pytestmark = need_backend("npy")

SMALL = (*QUICK, "--cutoffs=10", "--backends=npy", "-k", "test_read_many")
SPOILER = """
import shutil
from pathlib import Path
def test_read_many_spoils():
    shutil.rmtree("reports/runs")
    Path("reports/runs").touch()
"""
STUCK = """
import time
def test_read_many_stuck(stores):
    (stores / "large").write_bytes(bytes(1000))
    print("stuck", stores, flush=True)
    time.sleep(600)
"""
STUCK_AGAIN = """

def pytest_runtest_call(item):
    import os, time
    from pathlib import Path
    if "IMAGE_STORAGE_STARTED" in os.environ:
        Path({note!r} + ".part").write_text(str(os.getpid()))
        Path({note!r} + ".part").rename({note!r})
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the suite."""
    return copy_suite(tmp_path_factory.mktemp("suite"))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--benchmark-storage=file:///proc/runs", "choose another place with --benchmark-storage=file:///FOLDER"),
        pytest.param(
            "--benchmark-json=missing/run.json",
            "choose another place with --benchmark-json=FILE",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "--page=/proc/report.html",
            "the page can't be saved in /proc (No such file or directory): choose another",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "--benchmark-json=/dev/null",
            "/dev/null isn't an ordinary file: name another --benchmark-json",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["storage", "missing folder", "page", "device"],
)
def test_a_run_that_cannot_be_saved_is_not_measured(folder: Path, option: str, words: str) -> None:
    ended = run_pytest(folder, "benchmarks", *SMALL, option)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "PASSED" not in ended.stdout


@pytest.mark.slow
def test_a_checkout_that_cannot_be_written_is_noticed_before_measuring(folder: Path, tmp_path: Path) -> None:
    plugins = {"PYTEST_PLUGINS": "pytest_benchmark.plugin,_hypothesis_pytestplugin"} if find_spec("hypothesis") else {}
    usual = [option for option in SMALL if option not in HERE]  # such as with pytest's cache

    def measure(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "benchmarks", *usual, f"--basetemp={tmp_path / 'stores'}", *options],
            cwd=folder,
            env=clean_environment(**plugins),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=respect_permissions,
        )

    shutil.rmtree(folder / "reports" / "runs", ignore_errors=True)
    folders = [folder, folder / "reports"]
    for each in folders:
        each.chmod(0o555)
    try:
        refused, elsewhere = measure(), measure(f"--benchmark-storage={tmp_path / 'runs'}")
    finally:
        for each in folders:
            each.chmod(0o755)
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert re.search(r"the run can't be saved in \S+/reports/runs/\S+ \(Permission denied\)", refused.stderr)
    assert "PASSED" not in refused.stdout
    assert elsewhere.returncode == 0, elsewhere.stdout + elsewhere.stderr
    assert f"\nrun saved as {tmp_path}/runs/" in elsewhere.stdout
    assert "Traceback" not in elsewhere.stdout + elsewhere.stderr


@pytest.mark.slow
def test_a_run_whose_place_is_lost_is_saved_in_a_temporary_folder(folder: Path, tmp_path: Path) -> None:
    spoiler = folder / "benchmarks" / "test_spoiler.py"
    spoiler.write_text(SPOILER)
    options = [option for option in SMALL if option != "--benchmark-only"]  # which would skip the spoiler
    options += ["--benchmark-autosave", "--page=report.html"]
    ended = run_pytest(folder, "benchmarks", *options, TMPDIR=str(tmp_path))
    spoiler.unlink()
    (folder / "reports" / "runs").unlink()
    assert ended.returncode == 3, ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    found = re.search(r"the run can't be saved as \S+ \(.*\): it is in (\S+)", ended.stdout)
    assert found is not None, ended.stdout
    assert len(json.loads(Path(found[1]).read_text())["benchmarks"]) == 1
    assert f"run saved as {found[1]}" in ended.stdout
    assert (folder / "report.html").is_file(), "the page is made from the rescued run"


def test_a_baseline_that_had_to_be_saved_elsewhere_is_not_called_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    session = Session(NOTHING, None, 0, baseline=Path("/proc/usual.json"))
    config: Any = SimpleNamespace(stash={SESSION: session})
    _save_json(config, {"run": {"complete": True}}, Path("/proc/usual.json"))
    assert session.saved is not None
    assert session.saved.is_relative_to(tmp_path)
    assert session.rescued[0].startswith("the run can't be saved as /proc/usual.json (")
    assert session.baseline is None
    session.baseline = tmp_path / "usual.json"
    _save_json(config, {"run": {"complete": True}}, session.baseline)
    assert session.baseline == session.saved


@pytest.mark.slow
def test_a_run_that_fits_nowhere_is_printed(folder: Path) -> None:
    code = "from benchmarks.session import _rescue_run; print(_rescue_run('the run'))"
    script = f"import os, sys; sys.path.insert(0, os.getcwd()); os.chdir('/proc'); {code}"
    places = clean_environment(TMPDIR="/proc", HOME="/proc")
    command = ["bash", "-c", f'ulimit -f 0; exec {sys.executable} -B -c "{script}"']
    ended = subprocess.run(command, cwd=folder, env=places, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "the run\nNone\n", ended.stderr


@pytest.mark.slow
def test_a_link_at_the_place_of_the_run_is_replaced_and_numbers_are_taken_once(folder: Path) -> None:
    (folder / "precious").write_text("precious")
    (folder / "own.json").symlink_to("precious")
    before = len(find_runs(folder))
    for _ in range(2):
        assert run_pytest(folder, "benchmarks", *SMALL, "--benchmark-json=own.json").returncode == 0
    assert (folder / "precious").read_text() == "precious"
    assert not (folder / "own.json").is_symlink()
    assert len(find_runs(folder)) == before + 2


@pytest.mark.slow
def test_the_next_session_deletes_the_stores_of_a_killed_one(folder: Path, tmp_path: Path) -> None:
    stuck = folder / "benchmarks" / "test_stuck.py"
    stuck.write_text(STUCK)
    options = [option for option in SMALL if not option.startswith(("--basetemp", "--benchmark-only"))]
    environment = clean_environment(PYTEST_DEBUG_TEMPROOT=str(tmp_path))
    command = [sys.executable, "-m", "pytest", "benchmarks/test_stuck.py", "-s", *options]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "stuck /" in line)
        os.kill(process.pid, signal.SIGKILL)
    stuck.unlink()
    stores = Path(line.split()[-1])
    assert stores.is_dir()
    assert run_pytest(folder, "benchmarks", *options, PYTEST_DEBUG_TEMPROOT=str(tmp_path)).returncode == 0
    assert stores.parent.is_dir()
    assert not stores.exists()


@pytest.mark.slow
def test_a_process_that_measures_again_ends_with_its_session_and_the_next_session_deletes_its_folder(
    folder: Path, tmp_path: Path
) -> None:
    conftest, note = folder / "conftest.py", tmp_path / "process"
    text = conftest.read_text(encoding="utf-8")
    conftest.write_text(text + STUCK_AGAIN.format(note=str(note)), encoding="utf-8")
    options = [option for option in SMALL if not option.startswith("--basetemp")]
    environment = clean_environment(PYTEST_DEBUG_TEMPROOT=str(tmp_path))
    command = [sys.executable, "-m", "pytest", "benchmarks", *options, "--replicates=2"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as session:
        wait_until(note.exists)
        session.terminate()
    conftest.write_text(text, encoding="utf-8")
    process = int(note.read_text(encoding="utf-8"))
    wait_until(lambda: not runs(process))
    (left,) = tmp_path.glob("pytest-of-*/pytest-0/replicate")
    assert run_pytest(folder, "benchmarks", *options, PYTEST_DEBUG_TEMPROOT=str(tmp_path)).returncode == 0
    assert left.parent.is_dir()
    assert not left.exists()


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it doesn't happen"
        time.sleep(0.01)
