"""`python -m reports gate`: its options, what it prints and writes, how it fails. Blocks are made up, or few."""

import importlib.util
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reports import arms, gate, gate_command
from reports.__main__ import main
from reports.blocks import Arm, Block
from tests.repositories import commit_all, make_repository, run_git, write_files
from tests.runs import make_run, save
from tests.suite import copy_suite

READ, STORE = (f"benchmarks/test_many.py::test_{name}_many[hdf5-10]" for name in ("read", "store"))


class Machine:
    """A machine whose blocks are made up: cells of a millisecond, ratios that a test chooses."""

    def __init__(self) -> None:
        self.ratios = {READ: 1.0, STORE: 1.0}
        self.absent: dict[str, str] = {}
        self.libraries = {"base": {"h5py": "3.15"}, "new": {"h5py": "3.15"}}
        self.pythons: set[tuple[str, str]] = set()
        self.blocks = 0
        self.before: Callable[[], object] = lambda: None

    def run_block(self, arm: Arm, *_: object, **__: object) -> Block:
        """Run a block that takes no time."""
        self.before()
        self.blocks += 1
        self.pythons.add((arm.name, arm.python))
        new = arm.name == "new"
        measured = {cell: ratio for cell, ratio in self.ratios.items() if not (new and cell in self.absent)}
        noise = 1 + 0.001 * (self.blocks % 7)
        return Block(
            {cell: 1e-3 * noise * (ratio if new else 1) for cell, ratio in measured.items()},
            absent=self.absent if new else {},
            libraries=self.libraries[arm.name],
        )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository of one commit, and have the gate work in it."""
    folder = tmp_path / "project"
    make_repository(folder, {"__init__.py": b""})
    monkeypatch.setattr(gate_command, "PROJECT", folder)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return folder


@pytest.fixture
def machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Make up what blocks measure."""
    assert project.exists()
    machine = Machine()
    monkeypatch.setattr(arms, "run_block", machine.run_block)
    return machine


def save_run(folder: Path, commit: str, *, dirty: bool = False) -> Path:
    """Save a run of this commit."""
    return save(make_run() | {"commit_info": {"id": commit, "dirty": dirty}}, folder)


def fail(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """Run a gate that must end with this code and one line; return the line."""
    assert main(["gate", *arguments]) == code
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    return complaint


# --- wrong usage, broken input


@pytest.mark.parametrize(
    "option",
    [
        "--cutoffs=0",
        "--cutoffs=",
        "--cutoffs=10,x",
        "--budget=0",
        "--budget=nan",
        "--budget=inf",
        "--budget=x",
        "--alpha=0",
        "--alpha=1",
        "--alpha=nan",
        "--threshold=0",
        "--threshold=99",
        "--threshold=10%",
        "--missing=maybe",
    ],
)
def test_a_number_that_cannot_be_is_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["gate", "HEAD", option])
    assert ended.value.code == 2
    assert f"argument {option.partition('=')[0]}: " in capsys.readouterr().err


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("arguments", [["nothing"], ["HEAD", "--ref=nothing"]], ids=["base", "ref"])
def test_an_unknown_commit_is_broken_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing: no such commit here" in fail(capsys, 2, *arguments)


def test_a_folder_without_history_cannot_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate_command, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert f"no git history in {tmp_path}" in fail(capsys, 3, "HEAD")


def test_a_base_before_this_suite_cannot_be_measured(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "storage" / "__init__.py").rename(project / "storage" / "other.py")
    commit_all(project)
    assert "is older than this suite" in fail(capsys, 3, "HEAD")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"benchmarks": []}'])
def test_a_broken_run_is_broken_input(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    assert str(path) in fail(capsys, 2, str(path))


@pytest.mark.usefixtures("project")
def test_a_run_of_a_commit_that_is_not_here_is_broken_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such commit here" in fail(capsys, 2, str(save_run(tmp_path, "1" * 40)))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("commit", ["unknown", "unversioned"])
def test_a_run_without_a_commit_cannot_be_measured(
    commit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "does not say which commit it measured; name a commit" in fail(capsys, 3, str(save_run(tmp_path, commit)))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("option", ["--base-python", "--new-python"])
def test_an_interpreter_that_is_not_there_is_broken_input(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no/such/python: no such interpreter" in fail(capsys, 2, "HEAD", f"{option}=no/such/python")


def test_without_scipy_the_gate_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "scipy" else pytest.fail(name))
    assert 'python -m pip install -e ".[gate]"' in fail(capsys, 3, "HEAD")


@pytest.mark.usefixtures("machine")
def test_stores_in_a_folder_that_is_not_there_are_broken_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(tmp_path / "missing") in fail(capsys, 2, "HEAD", f"--stores={tmp_path / 'missing'}")


# --- what is printed and written


def test_identical_arms_are_fine(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", "HEAD", f"--stores={tmp_path}"]) == 0
    printed, complaints = capsys.readouterr()
    assert printed.startswith("## Gate: 2 ok\n\nthe working tree against HEAD (")
    assert "- storage/ is the same in both: whatever differs is noise\n" in printed
    assert f"- stores were in {tmp_path}\n" in printed
    assert complaints == ""
    assert machine.blocks == 10


def test_a_regression_is_exit_code_1_without_a_traceback(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ratios[READ] = 1.3
    assert main(["gate", "HEAD"]) == 1
    printed, complaints = capsys.readouterr()
    assert printed.startswith("## Gate: 1 regression, 1 ok\n")
    assert "| test_read_many[hdf5-10] | 1.00 ms | 1.30x | 2.4e-04 |    12 | regression |" in printed
    assert complaints == ""


def test_an_improvement_is_fine(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ratios[READ] = 0.7
    assert main(["gate", "HEAD"]) == 0
    assert capsys.readouterr().out.startswith("## Gate: 1 improvement, 1 ok\n")


def test_a_doubt_fails_a_strict_gate_only(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ratios[READ] = 1.3
    assert main(["gate", "HEAD", "--budget=1e-9"]) == 0
    assert main(["gate", "HEAD", "--budget=1e-9", "--strict"]) == 1
    assert capsys.readouterr().out.count("## Gate: 1 inconclusive, 1 ok\n") == 2


def test_a_threshold_of_the_run_decides(machine: Machine) -> None:
    machine.ratios[READ] = 1.3
    assert main(["gate", "HEAD", "--threshold=0.5"]) == 0


def test_a_smaller_alpha_wants_more_pairs(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ratios[READ] = 1.3
    assert main(["gate", "HEAD", "--alpha=0.00001"]) == 1  # 2 ** -12 is not below a fifth of it
    assert "|    24 | regression |" in capsys.readouterr().out


def test_a_cell_that_fails_in_one_arm_is_exit_code_3(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.absent = {READ: "OSError: disk"}
    assert main(["gate", "HEAD"]) == 3
    assert "Not measured:\n\n- test_read_many[hdf5-10] (new arm: OSError: disk)\n" in capsys.readouterr().out


def test_changes_of_the_working_tree_are_measured_and_said(
    project: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(project, {"storage/__init__.py": b"x"})
    assert main(["gate", "HEAD"]) == 0
    printed = capsys.readouterr().out
    assert machine.blocks == 10
    assert "- uncommitted changes in 1 file of storage/ are measured\n" in printed
    assert "is the same in both" not in printed


@pytest.mark.usefixtures("machine")
def test_two_commits_are_compared_without_the_working_tree(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_git(project, "rev-parse", "HEAD")
    write_files(project, {"storage/__init__.py": b"second"})
    second = commit_all(project)
    write_files(project, {"storage/__init__.py": b"third"})
    assert main(["gate", "HEAD~1", "--ref", "main"]) == 0
    printed = capsys.readouterr().out
    assert f"\nmain ({second[:8]}) against HEAD\\~1 ({first[:8]})\n" in printed
    assert "- uncommitted changes in 1 file of storage/ are not measured\n" in printed


@pytest.mark.usefixtures("machine")
def test_a_run_stands_for_its_commit(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = run_git(project, "rev-parse", "HEAD")
    commit_all(project)
    assert main(["gate", str(save_run(tmp_path, commit))]) == 0
    printed = capsys.readouterr().out
    assert f"against {commit} ({commit[:8]})\n" in printed
    assert "uncommitted" not in printed


@pytest.mark.usefixtures("machine")
def test_a_run_of_a_dirty_tree_is_said_to_be_one(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = run_git(project, "rev-parse", "HEAD")
    assert main(["gate", str(save_run(tmp_path, commit, dirty=True))]) == 0
    said = f"- the run was made with uncommitted changes; the base is its commit, {commit[:8]}, alone\n"
    assert said in capsys.readouterr().out


def test_each_arm_has_its_interpreter_and_what_differs_is_said(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.libraries["new"] = {"h5py": "3.16"}
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, {"old/python": b""})
    (tmp_path / "old" / "python").chmod(0o755)
    assert main(["gate", "HEAD", "--base-python=old/python"]) == 0
    assert machine.pythons == {("base", str(tmp_path / "old" / "python")), ("new", sys.executable)}
    assert "- h5py 3.15 -&gt; 3.16\n" in capsys.readouterr().out


def test_files_hold_what_was_found(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ratios[READ] = 1.3
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    options = [f"--json={tmp_path / 'gate.json'}", f"--markdown={summary}", f"--record={tmp_path / 'record'}"]
    assert main(["gate", "HEAD", *options]) == 1
    printed = capsys.readouterr().out
    assert summary.read_text(encoding="utf-8") == f"before\n{printed}"
    document = json.loads((tmp_path / "gate.json").read_text())
    assert document["exit_code"] == 1
    verdicts = {each["cell"]: each["verdict"] for each in document["outcome"]["verdicts"]}
    assert verdicts == {READ: "regression", STORE: "ok"}
    assert len((tmp_path / "record").read_text().splitlines()) == machine.blocks


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_a_file_that_cannot_be_written_is_broken_input(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", "HEAD", f"{option}={tmp_path / 'no' / 'such'}"]) == 2
    assert "cannot be written; name a file in a folder that exists" in capsys.readouterr().err


def test_github_gets_annotations(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.ratios[READ] = 1.3
    machine.absent = {STORE: "OSError: 100 %\n::error::mine"}
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["gate", "HEAD"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("::")] == [
        "::error title=Gate - regression::test_read_many[hdf5-10] takes 1.30 times as long (12 pairs)",
        "::error title=Gate - not measured::test_store_many[hdf5-10]: new arm: OSError: 100 %25 ::error::mine",
    ]


class Terminal(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        """Say that this is one."""
        return True


def test_progress_is_shown_on_a_terminal_and_wiped(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["gate", "HEAD"]) == 0
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown == ["", *(f"screen: pair {number} of 5" for number in range(1, 6)), ""]
    assert machine.blocks == 10


def test_progress_is_wiped_before_an_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    machine.ratios = {}
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["gate", "HEAD"]) == 3
    assert terminal.getvalue().rpartition("\r\x1b[K")[2].startswith("error: no benchmark has such a name")


# --- being interrupted


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_gate_and_leaves_no_folder(
    name: str,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder in ("temporary", "stores"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(signal.SIGTERM)
    machine.before = lambda: os.kill(os.getpid(), signal.Signals[name])
    try:
        assert fail(capsys, 130, "HEAD", f"--stores={tmp_path / 'stores'}").endswith(
            "no process and no folder is left behind\n"
        )
        assert signal.getsignal(signal.SIGTERM) == before[1]
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert [*(tmp_path / "temporary").iterdir(), *(tmp_path / "stores").iterdir()] == []


# --- few real blocks


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository of the suite, and have the gate screen it with one pair of blocks."""
    folder = copy_suite(tmp_path / "suite")
    commit_all(folder)
    monkeypatch.setattr(gate_command, "PROJECT", folder)
    monkeypatch.setattr(gate, "SCREEN_PAIRS", 1)
    monkeypatch.setenv("CIFAR10", "standin")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return folder


def run_gate(suite: Path, *options: str) -> tuple[int, Mapping[str, Any]]:
    """Run a gate without time to confirm; return its exit code and what it found."""
    path = suite.parent / "gate.json"
    code = main(["gate", "HEAD", "--budget=1e-9", "--cutoffs=10", f"--json={path}", *options])
    outcome: Mapping[str, Any] = json.loads(path.read_text())["outcome"]
    return code, outcome


def list_cells(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the cells that have a verdict."""
    return [each["cell"] for each in verdicts]


def test_a_cell_that_raises_in_one_arm_is_named_with_its_reason(suite: Path) -> None:
    path = suite / "storage" / "hdf5.py"
    path.write_text(path.read_text() + '\n\ndef read_many(*_: object) -> None:\n    raise OSError("disk")\n')
    code, outcome = run_gate(suite, "--cells", "read_many and (hdf5 or png_stored)")
    assert code == 3
    assert outcome["absent"] == {READ: "new arm: OSError: disk"}
    assert list_cells(outcome["verdicts"]) == [READ.replace("hdf5", "png_stored")]


def test_the_cells_of_a_backend_that_was_deleted_are_missing(suite: Path) -> None:
    (suite / "storage" / "hdf5.py").unlink()
    code, outcome = run_gate(suite, "--cells", "read_many and (hdf5 or png_stored)")
    assert code == 1
    assert outcome["missing"] == [READ]
    assert list_cells(outcome["verdicts"]) == [READ.replace("hdf5", "png_stored")]
    code, outcome = run_gate(suite, "--cells", "read_many and (hdf5 or png_stored)", "--missing=warn")
    assert code == 0
    assert outcome["missing"] == [READ]


def test_the_cells_of_a_new_backend_are_new(suite: Path) -> None:
    text = (suite / "storage" / "png_stored.py").read_text()
    (suite / "storage" / "png_other.py").write_text(text)
    code, outcome = run_gate(suite, "--cells", "read_many and (png_other or png_stored)")
    assert code == 0
    assert outcome["new"] == [READ.replace("hdf5", "png_other")]
