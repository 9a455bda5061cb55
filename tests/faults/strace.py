"""Faults in system calls, through strace: which calls touch a store, and one of them that fails or kills.

strace attaches to a child that waits to be released, and counts the calls of each name of each of its threads from
there on. A thread does the same each time, so the third ``write`` of one run is the third of all. Of several threads
this is only likely: what was hit is read from strace's words, and a run may end before the call comes.

strace cannot be told which thread to count: a fault hits the call of this number in each. So that it comes to another
thread than the first one, the first has made as many calls of nothing before. A signal ends the first at one of those:
it comes to the thread that is the first to get there.

Sources: strace(1), "-e inject"; ptrace(2).
"""

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from tests.faults.children import Child, Ending

LINE = re.compile(r"(?P<thread>\d+) +\[ *(?P<number>\d+)\] (?P<name>\w+)\(")
CUT, RESUMED = " <unfinished ...>\n", re.compile(r"(\d+) +\[ *\d+\] <\.\.\. \w+ resumed>")
SYNCS = ("fsync", "fdatasync", "syncfs")
RENAMES = ("rename", "renameat", "renameat2")
SYNCED = re.compile(rf"\b(?:{'|'.join(SYNCS)})\(\d+<(.*)>\) += 0$")
FAILED = "(INJECTED)\n"
MAP = "mmap"  # an allocator maps memory, too, and not always as often
SIGNALLED = re.compile(r"^\d+ +(\[[^]]*\] )?(--- SIGINT |\+\+\+ killed by SIGKILL)")

_libc = ctypes.CDLL(None)


class Call(NamedTuple):
    """A system call that touches a store."""

    name: str
    ordinal: int
    first: bool
    committed: bool
    text: str
    number: int

    def describe(self) -> str:
        """Say which call it is."""
        thread = "" if self.first else " of a thread"
        return f"{self.name} {self.ordinal}{thread} ({self.text[:160]})"


class Injected(NamedTuple):
    """The outcome of a fault."""

    ending: Ending
    signalled: Call | None
    failed: list[Call]
    elsewhere: int
    syncs: list[str]


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
    """Do `work` in a child; return its calls that touch a store."""
    ending, lines = _run(work)
    if ending != Ending(0, ""):
        raise RuntimeError(f"without a fault, the work ends like this: {ending.describe()}")
    calls: dict[tuple[str, int, bool], Call] = {}
    for call, _ in _find_calls(lines, store):
        if _touches(call.text, store):
            calls.setdefault((call.name, call.ordinal, call.first), call)
    return list(calls.values())


def drop_overtaken(calls: Iterable[Call]) -> list[Call]:
    """Drop calls to which no signal can come: another thread comes first to the one of the same name and ordinal."""
    return list({(call.name, call.ordinal): call for call in reversed(list(calls))}.values())[::-1]


def inject(work: Callable[[], str], call: Call, fault: str, store: Path) -> Injected:
    """Do `work` in a child, with a fault in one call."""
    if not call.first and fault.startswith("error="):
        work = partial(_count_first, work, call)
    names = ",".join({call.name, *SYNCS, *RENAMES})
    ending, lines = _run(work, "-e", f"trace={names}", "-e", f"inject={call.name}:{fault}:when={call.ordinal}")
    calls = list(_find_calls(lines, store))
    meant = (hit for hit, _ in calls if (hit.name, hit.ordinal) == (call.name, call.ordinal))
    signalled = next(meant, call) if any(SIGNALLED.search(line) for line in lines) else None
    failed = [hit for hit, line in calls if line.endswith(FAILED) and (call.first or not hit.first)]
    elsewhere = sum(not _touches(hit.text, store) for hit in failed)
    return Injected(
        ending, signalled, failed, elsewhere, find_syncs(call.text for call, _ in calls if _touches(call.text, store))
    )


def find_syncs(calls: Iterable[str]) -> list[str]:
    """Find what calls have waited for, and were told that the disk holds it: the paths of files and folders."""
    return [found[1] for call in calls if (found := SYNCED.search(call))]


def _count_first(work: Callable[[], str], call: Call) -> str:
    """Have the first thread's count of a call be beyond the one that is to fail, by calls that can do nothing."""
    for _ in range(call.ordinal):
        _libc.syscall(ctypes.c_long(call.number), ctypes.c_long(-1), None, None, None, None, None)
    return work()


def _find_calls(lines: Iterable[str], store: Path) -> Iterator[tuple[Call, str]]:
    """Find the calls among what strace has written, in the order in which they ended."""
    counts: Counter[tuple[str, str]] = Counter()
    committed, first = False, ""
    own = re.compile(rf'rename.*"([^"]*/)?{re.escape(store.name)}"')
    for line in _join(lines):
        if found := LINE.match(line):
            thread, number, name = found.groups()
            first = first or thread  # which waits to be released
            counts[thread, name] += 1
            text = line[found.end("number") + 2 :].strip()
            yield Call(name, counts[thread, name], thread == first, committed, text, int(number)), line
            committed = committed or bool(own.search(line))


def _join(lines: Iterable[str]) -> Iterator[str]:
    """Join the halves of calls that another thread's came between."""
    halves: dict[str, str] = {}
    for line in lines:
        if line.endswith(CUT):
            halves[line.split()[0]] = line.removesuffix(CUT)
        elif (found := RESUMED.match(line)) and found[1] in halves:
            yield halves.pop(found[1]) + line[found.end() :]
        else:
            yield line


def _touches(text: str, store: Path) -> bool:
    return str(store.parent) in text or "/proc/self/fd/" in text


def _run(work: Callable[[], str], *options: str) -> tuple[Ending, list[str]]:
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        child = Child(work)
        child.await_rest()
        tracer = _attach(child, "-y", "-n", "-o", log.name, *options)
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
