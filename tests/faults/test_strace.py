"""Faults come to the threads of a process, too, and to nothing beside the call that was meant."""

import os
import signal
from pathlib import Path
from threading import Thread

import pytest

from tests.faults.children import Ending
from tests.faults.strace import Call, drop_overtaken, inject, trace_calls

pytestmark = pytest.mark.usefixtures("traced")


class Work:
    """Write two files, one after the other: the first thread one, another thread one."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self._wrong: list[str] = []

    def write(self) -> str:
        """Write; return which file could not be written."""
        self._write("own")
        thread = Thread(target=self._write, args=["other"])
        thread.start()
        thread.join()
        return " ".join(self._wrong)

    def _write(self, name: str) -> None:
        descriptor = os.open(f"{self.store}-{name}", os.O_WRONLY | os.O_CREAT)
        try:
            os.write(descriptor, b"a")
        except OSError:
            self._wrong.append(name)
        os.close(descriptor)


@pytest.fixture
def work(folder: Path) -> Work:
    return Work(folder)


def find_writes(work: Work) -> list[Call]:
    """Find both writes, that of the first thread first."""
    calls = [call for call in trace_calls(work.write, work.store) if call.name == "write"]
    return sorted(calls, key=lambda call: not call.first)


def test_calls_of_all_threads_are_found(work: Work) -> None:
    own, other = find_writes(work)
    assert own.first
    assert "store-own" in own.text
    assert not other.first
    assert "store-other" in other.text
    assert (own.ordinal, other.ordinal) == (1, 1)


def test_a_call_of_another_thread_fails_though_the_first_thread_makes_the_same(work: Work) -> None:
    injected = inject(work.write, find_writes(work)[1], "error=EIO", work.store)
    assert injected.ending == Ending(0, "other")
    assert ["store-other" in call.text for call in injected.failed] == [True]
    assert not injected.elsewhere


def test_a_fault_in_a_call_of_the_first_thread_comes_to_the_same_call_of_other_threads(work: Work) -> None:
    injected = inject(work.write, find_writes(work)[0], "error=EIO", work.store)
    assert injected.ending == Ending(0, "own other")
    assert [call.first for call in injected.failed] == [True, False]


def test_a_call_that_is_not_reached_does_not_fail(work: Work) -> None:
    call = find_writes(work)[0]._replace(ordinal=9)
    injected = inject(work.write, call, "error=EIO", work.store)
    assert (injected.ending, injected.failed, injected.signalled) == (Ending(0, ""), [], None)


def test_a_signal_comes_to_the_thread_that_is_first(work: Work) -> None:
    writes = drop_overtaken(find_writes(work))
    assert [call.first for call in writes] == [True]
    Path(f"{work.store}-other").unlink()
    injected = inject(work.write, writes[0], "signal=KILL", work.store)
    assert injected.signalled is not None
    assert "store-own" in injected.signalled.text
    assert injected.ending.signal == signal.SIGKILL
    assert not Path(f"{work.store}-other").exists()
