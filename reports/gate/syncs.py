"""Durability: how often storing waits for the disk. The clock doesn't show it, because stores are in memory."""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CALLS = "fsync,fdatasync,msync,sync_file_range,syncfs,sync,openat,?open,?stat,?newfstatat,?statx"
OPERATION = re.compile(r'"gate:([^"]*)"')  # the marks of benchmarks/gate_syncs.py
SYNC = re.compile(r"\d+ +((fsync|fdatasync|sync_file_range|syncfs|sync)\(|msync\(.*MS_SYNC|open.*\bO_D?SYNC\b)")
MISSING = "strace is not installed (apt-get install strace)"

Counts = Mapping[str, int]  # by operation and backend, such as `store_many[hdf5]`


class SyncChange(NamedTuple):
    """An operation that syncs more or less often than in the baseline."""

    operation: str
    base: int
    new: int

    @property
    def harmful(self) -> bool:
        """Whether it waits for the disk without being asked to, or doesn't although it was."""
        return self.new < self.base if self.operation.startswith("durable") else self.new > self.base


def make_command(python: str, folder: Path, backends: Iterable[str], log: Path) -> Sequence[str]:
    """Make the command that traces how a side stores with these backends."""
    program = (python, "-m", "benchmarks.gate_syncs", str(folder), ",".join(backends))
    return "strace", "-f", "-s", "200", "-e", f"trace={CALLS}", "-o", str(log), *program


def count_syncs(lines: Iterable[str]) -> Counts:
    """Count the syncs of each operation in a trace."""
    counts: Counter[str] = Counter()
    operation = ""
    for line in lines:
        if found := OPERATION.search(line):
            operation = found[1]
            counts[operation] += 0
        elif operation and SYNC.match(line):
            counts[operation] += 1
    del counts[""]
    return counts


def find_obstacle() -> str:
    """Say why no call can be traced here; empty if it can."""
    return "" if shutil.which("strace") else MISSING


def compare_syncs(count_both: Callable[[], Sequence[Counts]]) -> tuple[SyncChange, ...]:
    """Find the operations that sync more or less often; a second count must agree, because threads come and go."""
    changes = _find_changes(*count_both())
    again = {each.operation: each for each in _find_changes(*count_both())} if changes else {}
    return tuple(
        each
        for each in changes
        if each.operation in again
        and (each.new > each.base) == (again[each.operation].new > again[each.operation].base)
    )


def _find_changes(base: Counts, new: Counts) -> list[SyncChange]:
    both = sorted(base.keys() & new.keys())
    return [SyncChange(name, base[name], new[name]) for name in both if base[name] != new[name]]
