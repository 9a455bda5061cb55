"""The suite as its users start it: sessions in their own processes."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.workers import START_METHODS, choose_counts
from reports.answer import make_answer
from reports.figures.plan import plan_figures
from reports.reading import read_run
from storage import BACKENDS
from tests.support.backends import EXAMPLE, EXAMPLES, need_backend
from tests.support.cifar import write_folder
from tests.support.suite import BRIEF, HERE, QUICK, clean_environment, copy_suite, find_runs, read_last_run, run_pytest

WORKERS = len(choose_counts()) * len(START_METHODS)  # cells of one backend and cutoff
CELLS = 11 + WORKERS  # of one backend at one cutoff, durable ones too
MEASURED = EXAMPLES[:2]
CHOSEN = f"--backends={','.join(MEASURED)}"
WITHOUT_TORCH = ("-k", "not dataloader")  # whether it is installed or not
REFERENCES = [f"test_{name}" for name in ("copy", "write", "read", "hash", "hash_everywhere", "decode", "interpret")]

INTERRUPTION = """
def pytest_runtest_setup(item):
    if "read_many" in item.name:
        stop()

def stop():
    raise KeyboardInterrupt

stop.__code__ = stop.__code__.replace(co_linetable=b"")
"""

Session = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Measure every cell of two backends at one cutoff, durable ones too."""
    folder = copy_suite(tmp_path_factory.mktemp("session"))
    chosen = ("--cutoffs=10", "--durable", "--tables", CHOSEN, *WITHOUT_TORCH)
    return folder, run_pytest(folder, "benchmarks", *QUICK, *chosen)


@pytest.fixture(scope="module")
def run(session: Session) -> dict[str, Any]:
    """Return the JSON of that session."""
    return read_last_run(session[0])


def test_session_measures_every_cell(run: dict[str, Any]) -> None:
    workers = [f"read_epoch_workers[{{}}-10-{count}-{start}]" for count in choose_counts() for start in START_METHODS]
    stores = ["store_single[{}]", "store_single[{}-durable]", "store_many[{}-10]", "store_many[{}-10-durable]"]
    others = ("read_single", "read_open_single", "read_many", "read_epoch", "save", "load", "load_unverified")
    cells = [*workers, *stores, *(f"{operation}[{{}}-10]" for operation in others)]
    assert len(cells) == CELLS
    expected = {f"test_{cell.format(backend)}" for cell in cells for backend in MEASURED}
    assert {cell["name"] for cell in run["benchmarks"]} == expected | set(REFERENCES)
    assert run["run"]["complete"] is True
    assert sorted(run["run"]["intended"]) == sorted(cell["fullname"] for cell in run["benchmarks"])


@need_backend("hdf5")
def test_run_has_the_images_libraries_backends_and_machine(run: dict[str, Any]) -> None:
    facts = run["run"]
    assert facts["image_set"] == {"name": "standin", "count": 10, "sha256": facts["image_set"]["sha256"]}
    assert len(facts["image_set"]["sha256"]) == 64
    assert {"python", "numpy", *BACKENDS["hdf5"].INFO.versions} <= set(facts["libraries"])
    assert facts["layouts"].keys() == facts["maintainers"].keys() == facts["licences"].keys() == set(MEASURED)
    assert facts["layouts"]["hdf5"].startswith("HDF5")
    assert all(facts["licences"].values())
    assert facts["unavailable"] == {}, "only backends that were chosen count"
    assert facts["cpu_count"] >= 1
    assert facts["store_directory"]["free_bytes"] > 0
    assert facts["store_directory"]["file_system"] != ""
    assert "--cutoffs=10" in facts["command"]


def test_every_cell_has_its_facts(run: dict[str, Any]) -> None:
    has_peaks = any("peak_bytes" in cell["extra_info"] for cell in select_cells(run))  # not every kernel counts them
    for cell in select_cells(run):
        facts = cell["extra_info"]
        assert cell["name"].startswith(f"test_{facts['operation']}[{facts['backend']}")
        assert facts["bytes"] == facts["images"] * (32 * 32 * 3 + 8)
        assert facts["images_per_second"] == pytest.approx(facts["images"] / cell["stats"]["median"])
        assert facts["store_images"] == (1 if facts["operation"] == "store_single" else 10)
        assert len(cell["stats"]["data"]) == cell["stats"]["rounds"] >= 1
        assert all(seconds == round(seconds, 9) > 0 for seconds in cell["stats"]["data"])
        assert len(facts["definition"]) == 16
        assert "threshold" not in facts, "no benchmark of the suite has the marker"
        if facts["operation"].startswith(("store", "save")):
            assert facts["durability"] == ("durable" if cell["name"].endswith("-durable]") else "buffered")
            assert min(facts["allocated_bytes"], facts["apparent_bytes"], facts["files"]) >= 1
        else:
            assert facts["cache"] == cell["params"].get("cache", "warm") == "warm"
            assert "resident_share" not in facts
        assert 0 <= facts.get("peak_bytes", 0) < 1 << 30
        assert ("peak_bytes" in facts) == (has_peaks and facts["operation"] != "read_epoch_workers")
        if facts["operation"] == "read_epoch_workers":
            assert 0 < facts["startup_seconds"] < 60
            assert 0 < facts["first_batch_seconds"] < 60


def test_reference_cells_measure_the_machine_throughout_the_session(run: dict[str, Any]) -> None:
    names = [cell["name"] for cell in run["benchmarks"]]
    assert [name for name in names if name in REFERENCES] == REFERENCES
    places = [names.index(name) for name in REFERENCES]
    step = CELLS * len(MEASURED) // len(REFERENCES)
    assert all(abs(place - number * (step + 1)) <= len(REFERENCES) for number, place in enumerate(places)), places
    for cell in run["benchmarks"]:
        if cell["name"] in REFERENCES:
            facts = {name: value for name, value in cell["extra_info"].items() if name != "definition"}
            marks = {"reference": True} | ({"is_parallel": True} if cell["name"] == "test_hash_everywhere" else {})
            assert (facts, cell["params"], cell["group"]) == (marks, None, "reference")
            assert len(cell["extra_info"]["definition"]) == 16
            assert len(cell["stats"]["data"]) >= 1


def select_cells(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Select the cells of backends."""
    return [cell for cell in run["benchmarks"] if cell["name"] not in REFERENCES]


def test_tables_of_the_session_compare_backends(session: Session) -> None:
    groups = [line for line in session[1].stdout.splitlines() if "benchmark '" in line and "reference" not in line]
    assert len(groups) == CELLS
    assert any("'read_epoch_workers      10 images workers 2 spawn'" in line for line in groups)
    assert all(f"{len(MEASURED)} tests" in line for line in groups)


def test_session_ends_with_the_answer_of_its_run(session: Session) -> None:
    folder, ended = session
    title, text = make_answer(read_run(find_runs(folder)[-1]))
    assert f" {title} =" in ended.stdout
    assert f"\n{text}=" in ended.stdout, "nothing follows but the summary"


def test_session_shows_its_progress_leaves_no_store_and_ends_with_the_next_commands(session: Session) -> None:
    folder, ended = session
    count = CELLS * len(MEASURED) + len(REFERENCES)
    assert f"[{count}/{count}]" in ended.stdout
    assert not list((folder / "temporary").glob("stores*/"))
    assert f"test_read_many[{EXAMPLE}-10] PASSED" in ended.stdout
    *_, page, compare = ended.stdout.splitlines()
    command = page.removeprefix("next: ").split()
    assert command[:4] == ["python", "-m", "reports", "page"]
    assert folder / command[4] == find_runs(folder)[-1]
    subprocess.run([sys.executable, *command[1:]], cwd=folder, capture_output=True, check=True)
    assert EXAMPLE in (folder / "report.html").read_text(encoding="utf-8")
    command = compare.split()
    assert command[:3] == ["python", "-m", "pytest_benchmark"]
    compared = subprocess.run([sys.executable, *command[1:]], cwd=folder, capture_output=True, text=True, check=True)
    assert f"test_read_many[{EXAMPLE}-10]" in compared.stdout


WRONG = """
'''Wrong on purpose. On disk: what HDF5 has.'''
from storage.backends.hdf5 import INFO, open_reader, read_many, read_single
from storage.backends.hdf5 import store_many as store_right
import numpy as np

def store_many(store, images, labels):
    {mistake}
    store_right(store, images, labels)
"""
MISTAKES = {
    "wrong_pixel": "images = images.copy(); images[-1, -1, -1, -1] ^= 1",
    "wrong_labels": "labels = np.roll(labels, 1) + (len(labels) == 1)",
    "wrong_count": "images, labels = images[:-1], labels[:-1]",
}


@need_backend("hdf5")
@pytest.mark.slow
def test_cells_of_wrong_backends_fail_and_a_right_one_is_measured_without_registration(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    for name, mistake in (MISTAKES | {"newcomer": "pass"}).items():
        (folder / "storage" / "backends" / f"{name}.py").write_text(WRONG.format(mistake=mistake))
    names = ",".join([*MISTAKES, "newcomer"])
    ended = run_pytest(folder, "benchmarks", *QUICK, "--cutoffs=10", f"--backends={names}", *WITHOUT_TORCH)
    run = read_last_run(folder)
    assert {cell["extra_info"]["backend"] for cell in select_cells(run)} == {"newcomer"}, ended.stdout
    assert len(select_cells(run)) == CELLS - 2
    assert len(run["run"]["failed"]) == 3 * (CELLS - 2)
    reasons = {reason for cell, reason in run["run"]["failed"].items() if "wrong_labels-10-2" in cell}
    assert reasons == {"Failed: worker 1 of 2: batch 1 of its 1 was not read as it was stored"}
    assert run["run"]["complete"] is False
    assert "\nINCOMPLETE run saved as" in ended.stdout
    assert plan_figures(read_run(find_runs(folder)[-1]))


@pytest.mark.slow
@need_backend("lmdb")
def test_backend_whose_library_is_missing_is_absent_and_says_how_to_get_it(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    (folder / "storage" / "backends" / "tape.py").write_text("import a_tape_library\n")
    cells = run_pytest(folder, "benchmarks", *HERE, "--collect-only")
    reason = 'a_tape_library is not installed: python -m pip install -e ".[tape]"'
    assert f"no backend tape: {reason}" in cells.stdout
    assert "[lmdb-10]" in cells.stdout
    asked = run_pytest(folder, "benchmarks", *HERE, "--backends=tape")
    assert f"backends: tape is not here: {reason}" in asked.stderr


@pytest.mark.slow
@need_backend("hdf5")
def test_run_with_cells_is_saved_where_the_user_says_or_in_the_repository(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    chosen = ["--benchmark-json=mine.json", "--cutoffs=10", "--backends=hdf5", "-k", "read_many"]
    ended = run_pytest(folder, "benchmarks", *BRIEF, *chosen)
    assert ended.stdout.splitlines()[-2:] == [
        "run saved as mine.json",
        "next: python -m reports page mine.json --out report.html",
    ]
    ended = run_pytest(folder, "benchmarks", *QUICK, "--cutoffs=10", "-k", "nothing")
    assert ended.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not find_runs(folder)
    run_pytest(folder / "benchmarks", ".", *QUICK, *chosen[1:])
    assert len(find_runs(folder)) == 1, "a session that was started in another folder"
    run_pytest(folder, "benchmarks", *BRIEF, *chosen[1:])
    assert len(find_runs(folder)) == 2, "a session without --benchmark-only"
    ended = run_pytest(folder, *QUICK, *chosen[1:])
    assert "test_read_many[hdf5-10] PASSED" in ended.stdout, "a session that names no folder"
    assert "tests/" not in ended.stdout
    assert len(find_runs(folder)) == 3


def test_interrupted_session_saves_an_incomplete_run(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    command = [sys.executable, "-u", "-m", "pytest", "benchmarks", *QUICK, "--cutoffs=10,100,1000"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None
        for line in session.stdout:
            if "PASSED" in line:
                session.send_signal(signal.SIGINT)
                break
        rest = session.stdout.read()
        assert session.wait(timeout=60) == pytest.ExitCode.INTERRUPTED
    assert "\nINCOMPLETE run saved as" in rest
    run = read_last_run(folder)
    assert run["run"]["complete"] is False
    assert 0 < len(run["benchmarks"]) < len(run["run"]["intended"])
    assert not list((folder / "temporary").glob("stores*/"))


@pytest.mark.slow
def test_interruption_in_a_line_without_a_number_saves_the_run(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    (folder / "interruption.py").write_text(INTERRUPTION)
    ended = run_pytest(folder, "benchmarks", "-p", "interruption", *QUICK, "--cutoffs=10", f"--backends={EXAMPLE}")
    assert ended.returncode == pytest.ExitCode.INTERRUPTED, ended.stdout + ended.stderr
    assert read_last_run(folder)["run"]["complete"] is False


@pytest.mark.slow
def test_every_cell_also_runs_once_as_a_test(tmp_path: Path) -> None:
    chosen = ("--benchmark-disable", "--cutoffs=10", CHOSEN, "-k", "not spawn and not dataloader")
    ended = run_pytest(copy_suite(tmp_path), "benchmarks", *HERE, *chosen)
    assert ended.returncode == 0, ended.stdout
    assert f"{(9 + WORKERS // 2) * len(MEASURED) + len(REFERENCES)} passed" in ended.stdout
    assert not find_runs(tmp_path)


def test_genuine_images_are_named_in_the_run(tmp_path: Path) -> None:
    folder, images = copy_suite(tmp_path), write_folder(tmp_path / "images")
    chosen = ("--cutoffs=10", f"--cifar10={images}", f"--backends={EXAMPLE}", "-k", "read_many")
    ended = run_pytest(folder, "benchmarks", *QUICK, *chosen)
    assert "images: custom, 10 of 24" in ended.stdout
    assert read_last_run(folder)["run"]["image_set"]["name"] == "custom"
