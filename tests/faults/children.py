"""Child processes: a fault happens to a child, so that a signal which kills it is seen from outside."""

import ctypes
import faulthandler
import json
import mmap
import os
import resource
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

Case = TypeVar("Case")

PATIENCE = 60.0  # seconds that a case may take
FEW = 12  # cases
TRIES = 5  # to tell what came of a child's work
LONG = 6 * 3600.0  # seconds that all cases may take
SET_TRACER, ANY = 0x59616D61, ctypes.c_ulong(-1)  # <linux/prctl.h>: PR_SET_PTRACER, PR_SET_PTRACER_ANY
SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG

_libc = ctypes.CDLL(None)


class Ending(NamedTuple):
    """How a child ended."""

    signal: int
    told: str

    def describe(self) -> str:
        """Return what was told, or which signal it was."""
        return f"killed by {signal.Signals(self.signal).name}" if self.signal else self.told


class Child:
    """A forked process that waits to be released, does its work, and tells what came of it."""

    def __init__(self, work: Callable[[], str]) -> None:
        gate, self._gate = os.pipe()
        self._told, tell = os.pipe()
        self.process = _fork()
        if not self.process:
            os.close(self._gate)
            _live(work, gate, tell)
        os.close(gate)
        os.close(tell)

    def await_rest(self) -> None:
        """Wait until the child waits to be released: what it does before is not to be counted."""
        while Path(f"/proc/{self.process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "R":
            time.sleep(0.0002)

    def release(self) -> None:
        """Let the child do its work."""
        os.write(self._gate, b"!")  # closing would not do: a child that was forked later holds the same pipe

    def kill(self) -> None:
        """Kill the child, whatever it does."""
        os.kill(self.process, signal.SIGKILL)

    def wait(self, patience: float = PATIENCE) -> Ending:
        """Wait until the child has ended; one that takes longer than `patience` seconds is killed."""
        ready, _, _ = select.select([self._told], [], [], patience)
        if not ready:
            self._question()
        with os.fdopen(self._told, "rb") as pipe:
            told = pipe.read().decode()
        os.close(self._gate)
        status = os.waitpid(self.process, 0)[1]
        if not ready:
            return Ending(0, f"hung for {patience:.0f} seconds: {told}")
        return Ending(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, told)

    def _question(self) -> None:
        """Have a hung child say where it is, which ends it; kill one that can't."""
        ended = os.pidfd_open(self.process)
        os.kill(self.process, signal.SIGUSR1)
        select.select([ended], [], [], PATIENCE)
        os.close(ended)
        self.kill()


def run_child(work: Callable[[], str], patience: float = PATIENCE) -> Ending:
    """Do `work` in a child."""
    child = Child(work)
    child.release()
    return child.wait(patience)


def run_cases(
    cases: Sequence[Case],
    run: Callable[[Case], str],
    patience: float = PATIENCE,
    begin: Callable[[], object] = lambda: None,
) -> str:
    """Run cases in one child until one is wrong; return which, and what came of it.

    A child for each would cost more than most cases: a fork of a large process takes tens of milliseconds.
    """

    def run_all() -> str:
        begin()
        for number, case in enumerate(cases):
            place[:] = number.to_bytes(len(place), "little")
            if wrong := run(case):
                return wrong
        return ""

    with mmap.mmap(-1, mmap.PAGESIZE) as place:  # which the child shares
        wrong = run_child(run_all, patience).describe()
        return f"{cases[int.from_bytes(place[:], 'little')]}: {wrong}" if wrong else ""


def spread(cases: Sequence[Case], run: Callable[[Case, Path], str], folder: Path) -> list[str]:
    """Run cases on all processors; a few are not worth processes of their own."""
    shares = len(os.sched_getaffinity(0)) if len(cases) > FEW else 1
    owned = [folder / f"process-{number}" for number in range(shares)]
    for own in owned:
        own.mkdir()
    if shares == 1:
        return [run(case, owned[0]) for case in cases]
    children = [Child(partial(_run_share, cases[number::shares], run, own)) for number, own in enumerate(owned)]
    for child in children:
        child.release()
    outcomes = [""] * len(cases)
    for number, child in enumerate(children):
        ending = child.wait(LONG)
        if ending.signal or not ending.told.startswith("["):
            raise RuntimeError(f"the harness itself failed: {ending.describe()}")
        outcomes[number::shares] = json.loads(ending.told)
    return outcomes


def _run_share(cases: Sequence[Case], run: Callable[[Case, Path], str], own: Path) -> str:
    return json.dumps([run(case, own) for case in cases])


def _fork() -> int:
    """Fork untraced: a child would wait for coverage's lock if another thread holds it."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # this process may have threads: the child needs none
            return os.fork()
    finally:
        sys.settrace(trace)


def _live(work: Callable[[], str], gate: int, tell: int) -> NoReturn:
    """Be the child; nothing of the parent's is run when it ends."""
    told = "ended without a word"
    try:
        sys.settrace(None)  # who measures coverage makes system calls of its own, which would be counted
        faulthandler.disable()  # the parent says which signal it was
        faulthandler.register(signal.SIGUSR1, tell, chain=True)  # which then ends the process
        signal.signal(signal.SIGINT, signal.default_int_handler)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _libc.prctl(SET_DEATH_SIGNAL, signal.SIGKILL)  # a hung orphan would keep the pipes of those who wait
        _libc.prctl(SET_TRACER, ANY)  # where only parents may trace, strace may, too
        waiting = select.poll()  # a system call that no work makes: it does not matter whether it is counted
        waiting.register(gate, select.POLLIN)
        waiting.poll()
        told = work()
    except BaseException as error:  # noqa: BLE001 - whatever ends the work is told
        told = f"{type(error).__name__}: {error}"
    finally:
        _tell(tell, told.encode(errors="replace"))
        os._exit(0)


def _tell(tell: int, told: bytes) -> None:
    for _ in range(TRIES):
        with suppress(OSError):  # the fault may come as late as here
            while told:
                told = told[os.write(tell, told) :]
            return
