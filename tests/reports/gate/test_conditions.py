"""What else the machine does during the gate's self-test, and that it stops."""

import os
import subprocess
from pathlib import Path

import pytest

from reports.gate.background_load import CONDITIONS


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Note the processes that are started."""
    processes: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return processes


@pytest.mark.parametrize("condition", ["cpu", "disk"])
def test_a_process_runs_beside_and_ends_with_the_condition(
    condition: str, started: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with CONDITIONS[condition]():
        assert [process.poll() for process in started] == [None]
    assert [process.returncode for process in started] == [-9]
    assert list(tmp_path.iterdir()) == []


def test_nothing_runs_beside_an_idle_machine(started: list[subprocess.Popen[bytes]]) -> None:
    with CONDITIONS["idle"]():
        assert started == []


def test_one_core_is_one_core_and_ends_with_the_condition() -> None:
    before = os.sched_getaffinity(0)
    with CONDITIONS["one-core"]():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
