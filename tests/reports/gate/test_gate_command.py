"""`python -m reports gate`: wrong usage, what it compares, what it says of it. Blocks are made up."""

import importlib.util
import sys
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.gate import command as gate_command
from tests.support.machine import READ, Machine
from tests.support.repositories import commit_all, run_git, write_files
from tests.support.runs import make_run, save


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
    ("name", "values"),
    [
        ("--cutoffs", ["0", "", "10,x", "-1"]),
        ("--budget", ["0", "-1", "nan", "inf", "x"]),
        ("--alpha", ["0", "1", "nan", "x"]),
        ("--threshold", ["0", "-0.1", "99", "nan", "10%"]),
        ("--missing", ["maybe"]),
    ],
)
def test_a_value_that_cannot_be_is_wrong_usage(
    name: str, values: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit) as ended:
            main(["gate", "HEAD", f"{name}={value}"])
        assert ended.value.code == 2, value
        assert f"argument {name}: " in capsys.readouterr().err


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("arguments", [["nothing"], ["HEAD", "--ref=nothing"]], ids=["base", "ref"])
def test_an_unknown_commit_is_broken_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing: neither a file nor a commit here" in fail(capsys, 2, *arguments)


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
    assert "neither a file nor a commit here" in fail(capsys, 2, str(save_run(tmp_path, "1" * 40)))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("commit", ["unknown", "unversioned"])
def test_a_run_without_a_commit_cannot_be_measured(
    commit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "does not say which commit it measured; name a commit" in fail(capsys, 3, str(save_run(tmp_path, commit)))


def test_what_differs_is_not_recorded_as_noise(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "storage" / "more.py").touch()
    assert "only what is the same in both arms can be recorded" in fail(capsys, 2, "HEAD", f"--record={project / 'r'}")


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
    assert f"- stores were in {tmp_path}, on a disk" in printed
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
    printed = capsys.readouterr().out
    assert "- h5py 3.15 -&gt; 3.16\n" in printed
    assert "noise" not in printed
