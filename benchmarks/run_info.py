"""What the JSON of a run says beside the timings: the images, the machine, and whether all cells were measured."""

import inspect
import math
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from storage import BACKENDS

FORMAT = 1
LIBRARIES = ("numpy", "pytest", "pytest-benchmark")
MOUNTS = Path("/proc/self/mountinfo")
CONTROL_GROUP = Path("/sys/fs/cgroup/cpu.max")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
CLOCK_DIGITS = 9  # after the point of a second: `time.perf_counter` counts nanoseconds


@dataclass
class Progress:
    """What was to be measured in this session, and what went wrong.

    Attributes
    ----------
    intended : list of str
        Ids of the cells that were selected, in order.
    failed, skipped : dict of str to str
        Id of a cell to the reason, one line.
    """

    intended: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def describe_run(
    progress: Progress,
    cells: Sequence[Mapping[str, Any]],
    images: Mapping[str, str | int],
    stores: Path,
    command: str,
    unavailable: Mapping[str, str],
) -> dict[str, Any]:
    """Describe a run for its JSON.

    Parameters
    ----------
    progress : Progress
        What was to be measured, and what went wrong.
    cells : sequence of dict
        The cells that have timings, as pytest-benchmark describes them.
    images : dict
        Name, count and SHA-256 of the image set.
    stores : Path
        A directory on the file system that held the stores.
    command : str
        What repeats the run, for a shell.
    unavailable : dict of str to str
        Name of a backend that would have been measured, but cannot be, to the reason.

    Returns
    -------
    dict
        Strings, numbers, and lists and dicts of them.
    """
    measured = {cell["fullname"] for cell in cells}
    backends = sorted({cell["params"]["backend"] for cell in cells})
    return {
        "format": FORMAT,
        "image_set": dict(images),
        "libraries": list_libraries(backends),
        "layouts": {name: describe_layout(BACKENDS[name]) for name in backends},
        "maintainers": {name: read_facts(BACKENDS[name]).maintainer for name in backends},
        "licences": {name: read_facts(BACKENDS[name]).licence for name in backends},
        "unavailable": dict(unavailable),
        "cpu_count": count_processors(),
        "memory_bytes": measure_memory(),
        "store_directory": {
            "file_system": find_file_system(stores),
            "free_bytes": shutil.disk_usage(stores).free,
            "free_inodes": count_inodes(stores),
        },
        "command": command,
        "intended": progress.intended,
        "failed": progress.failed,
        "skipped": progress.skipped,
        "complete": not progress.failed and not progress.skipped and measured == set(progress.intended),
    }


def round_to_clock(rounds: Iterable[float]) -> list[float]:
    """Round times to what the clock can tell; the digits beyond are noise of the arithmetic.

    Parameters
    ----------
    rounds : iterable of float
        Seconds.

    Returns
    -------
    list of float
        Whole nanoseconds, in seconds; at least one, since no call takes no time.
    """
    return [max(10.0**-CLOCK_DIGITS, round(seconds, CLOCK_DIGITS)) for seconds in rounds]


def list_libraries(backends: Iterable[str]) -> dict[str, str]:
    """List the versions of Python, of the libraries of these backends with their cores, and of what measures them."""
    found = {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    for name in backends:
        found |= read_facts(BACKENDS[name]).versions
    return found


class Facts(NamedTuple):
    """Facts about a backend."""

    versions: Mapping[str, str]
    maintainer: str
    licence: str


def read_facts(backend: object) -> Facts:
    """Read ``INFO``; an older `storage`, which the gate measures, has three constants in its place."""
    info = getattr(backend, "INFO", None)
    if info is None:
        return Facts(
            getattr(backend, "VERSIONS", {}), getattr(backend, "MAINTAINER", ""), getattr(backend, "LICENCE", "")
        )
    return Facts(info.versions, info.maintainer, info.licence)


def describe_layout(backend: object) -> str:
    """Say in one line what a backend keeps on disk: the first of its docstring, or nothing where it has none."""
    return (inspect.getdoc(backend) or "").partition("\n")[0]


def count_processors(quota: Path = CONTROL_GROUP) -> int:
    """Count the processors that this process may use: those it may run on, or fewer if its control group says so."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text(encoding="ascii").split()
        return max(1, min(allowed, math.ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        return allowed


def measure_memory(limit: Path = MEMORY_LIMIT) -> int:
    """Measure the bytes of memory that this process may use: the machine's, or fewer if its control group says so."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(memory, int(limit.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        return memory


def count_inodes(folder: Path) -> int | None:
    """Count the files that the file system of a folder can still hold; None where it has no fixed number of them."""
    state = os.statvfs(folder)
    return state.f_favail if state.f_files else None


def find_file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """Find the type of the file system that holds a folder, such as ``ext4``; ``unknown`` where none says."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    found: Mapping[Path, str] = {
        Path(line.split()[4].replace("\\040", " ")): line.partition(" - ")[2].split()[0] for line in lines
    }
    place = folder.resolve()
    return next((found[path] for path in (place, *place.parents) if path in found), "unknown")
