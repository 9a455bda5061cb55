"""`python -m reports gate`: its files, annotations and progress, and how it is interrupted. Blocks are made up."""

import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.errors import NotMeasurableError
from tests.support.machine import READ, STORE, Machine


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
    assert len((tmp_path / "record").read_text().splitlines()) == machine.blocks / 2


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
    assert main(["gate", "HEAD"]) == 2
    assert terminal.getvalue().rpartition("\r\x1b[K")[2].startswith("error: no benchmark has such a name")


def test_where_nothing_can_be_measured_the_build_is_told_why(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash() -> None:
        raise NotMeasurableError("the new arm was killed by SIGBUS in <some> cell")

    machine.before = crash
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["gate", "HEAD", f"--markdown={tmp_path / 'summary.md'}"]) == 3
    assert (tmp_path / "summary.md").read_text() == (
        "## Gate: not measurable\n\nthe new arm was killed by SIGBUS in &lt;some&gt; cell\n"
    )
    printed, complaint = capsys.readouterr()
    assert printed == "::error title=Gate - not measurable::the new arm was killed by SIGBUS in <some> cell\n"
    assert complaint == "error: the new arm was killed by SIGBUS in <some> cell\n"


@pytest.mark.parametrize("name", ["missing", "folder"])
def test_stores_go_to_a_folder_that_exists(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").touch()
    assert main(["gate", "HEAD", f"--stores={tmp_path / name}"]) == 2
    assert "is no folder that stores can be made in" in capsys.readouterr().err


# --- the gate's test of itself


def test_the_self_test_shows_its_runs_and_replays_of_what_it_recorded(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.ratios = {cell.replace("-10]", "-100]"): 1.0 for cell in (READ, STORE)}
    record = tmp_path / "record"
    assert main(["gate", "--self-test", "--replays=2", f"--record={record}"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("idle: ")
    assert "one cell 1.2x" in printed
    assert "| idle      |     10 | " in printed, "the replays know the blocks of the run without a change"
    assert len(record.read_text().splitlines()) == 5


@pytest.mark.usefixtures("machine")
def test_a_self_test_without_a_cell_to_slow_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", "--self-test"]) == 3
    assert "no cell of 100 images or more is long enough to be slowed" in capsys.readouterr().err


def test_the_conditions_of_a_self_test_are_chosen_by_name(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ratios = {READ.replace("-10]", "-100]"): 1.0}
    assert main(["gate", "--self-test", "--replays=1", "--conditions=cpu"]) == 0
    assert capsys.readouterr().out.startswith("cpu: ")


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
        assert main(["gate", "HEAD", f"--stores={tmp_path / 'stores'}"]) == 130
        assert signal.getsignal(signal.SIGTERM) == before[1]
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert capsys.readouterr().err == "error: interrupted\n"
    assert [*(tmp_path / "temporary").iterdir(), *(tmp_path / "stores").iterdir()] == []
