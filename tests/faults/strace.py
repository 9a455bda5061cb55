"""Faults in system calls, through strace: which calls touch a store, and one of them that fails or kills.

strace attaches to a child that waits to be released, and counts its calls of each name from there on. A child does the
same each time, so the third ``write`` of one run is the third of all.

Sources: strace(1), "-e inject"; ptrace(2).
"""

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.faults.children import Child, Ending

LINE = re.compile(r"(\d+) +(\w+)\(")
SYNCS = ("fsync", "fdatasync", "syncfs")
SYNCED = re.compile(rf"\b({'|'.join(SYNCS)})\(.*= 0$")
HAPPENED = re.compile(r"\(INJECTED\)$|^\d+ +--- SIGINT |^\d+ \+\+\+ killed by SIGKILL")


class Call(NamedTuple):
    """A system call that touches a store.

    Attributes
    ----------
    name : str
    ordinal : int
        Which of all calls of this name in its thread, from 1.
    committed : bool
        Whether it comes after the first rename to the store's own path.
    text : str
        As strace writes it.
    """

    name: str
    ordinal: int
    committed: bool
    text: str

    def describe(self) -> str:
        """Say which call it is."""
        return f"{self.name} {self.ordinal} ({self.text[:160]})"


class Injected(NamedTuple):
    """What came of a fault.

    Attributes
    ----------
    ending : Ending
    happened : bool
        Whether the call was reached.
    syncs : int
        As `count_syncs` counts.
    """

    ending: Ending
    happened: bool
    syncs: int


@cache
def find_obstacle() -> str:
    """Find out why no system call can be traced here; an empty text if it can."""
    if not shutil.which("strace"):
        return "strace is not installed: apt-get install strace"
    child = Child(str)
    try:
        tracer = _attach(child, "-e", "trace=none")
    except PermissionError as error:
        child.kill()
        child.wait()
        return str(error)
    child.release()
    child.wait()
    tracer.communicate()
    return ""


def trace_calls(work: Callable[[], str], store: Path) -> list[Call]:
    """Do `work` in a child; return its calls that touch a store.

    Parameters
    ----------
    work : callable
        As for `Child`; it must return nothing.
    store : Path
        The path of the store; what lies beside it counts, too.

    Returns
    -------
    list of Call
        In order, one for each name and ordinal.
    """
    ending, lines = _run(work, "-y")
    if ending != Ending(0, ""):
        raise RuntimeError(f"without a fault, the work ends like this: {ending.describe()}")
    counts: Counter[tuple[str, str]] = Counter()
    calls: dict[tuple[str, int], Call] = {}
    committed = False
    own = re.compile(rf'rename.*"([^"]*/)?{re.escape(store.name)}"')
    for line in lines:
        if found := LINE.match(line):
            thread, name = found.groups()
            counts[thread, name] += 1
            key = name, counts[thread, name]
            if str(store.parent) in line or "/proc/self/fd/" in line:
                calls.setdefault(key, Call(*key, committed, line[len(thread) :].strip()))
            committed = committed or bool(own.search(line))
    return list(calls.values())


def inject(work: Callable[[], str], call: Call, fault: str) -> Injected:
    """Do `work` in a child, with a fault in one call.

    Parameters
    ----------
    work : callable
        As for `Child`.
    call : Call
    fault : str
        As strace takes it: ``signal=KILL``, which comes before the call; ``error=ENOSPC``, instead of it.
    """
    names = ",".join({call.name, *SYNCS})
    ending, lines = _run(work, "-e", f"trace={names}", "-e", f"inject={call.name}:{fault}:when={call.ordinal}")
    return Injected(ending, any(HAPPENED.search(line) for line in lines), count_syncs(lines))


def count_syncs(lines: Iterable[str]) -> int:
    """Count the calls that have waited for the disk, and were told that it holds what they asked for."""
    return sum(bool(SYNCED.search(line)) for line in lines)


def _run(work: Callable[[], str], *options: str) -> tuple[Ending, list[str]]:
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        child = Child(work)
        child.await_rest()
        tracer = _attach(child, "-o", log.name, *options)
        child.release()
        ending = child.wait()
        tracer.communicate()  # what it says of threads must be read
        return ending, log.readlines()


def _attach(child: Child, *options: str) -> subprocess.Popen[str]:
    command = [str(shutil.which("strace")), "-f", *options, "-p", str(child.process)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    said = tracer.stderr.readline()  # comes when the child can do nothing any more without being seen
    if "attached" not in said:
        tracer.communicate()
        raise PermissionError(f"strace may not trace here: {said.strip()}")
    return tracer
