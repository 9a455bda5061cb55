"""How much memory this process takes while it reads a store, compared with the bytes that the store has."""

import re
import resource
from pathlib import Path

from storage.limits import MAX_EXPANSION, MAX_MEMORY

ADDRESSES = 8 << 30  # bytes beyond those that the process has, so that no machine is harmed


def limit_addresses() -> None:
    """Limit the memory that this process can ask for."""
    addresses = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize() + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))


def measure_files(store: Path) -> int:
    """Measure the bytes that files have on the disk, without holes."""
    return sum(path.lstat().st_blocks * 512 for path in store.rglob("*"))


class Peak:
    """The most memory that this process, or a child that it waited for, takes beyond what it had in the beginning."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak is now what there is
        self._before = _read_peak()

    def describe_excess(self, size: int) -> str:
        """Say how much was taken if it is more than may be taken for files of `size` bytes."""
        child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
        taken = max(_read_peak(), child) - self._before
        return f"{taken:,} bytes of memory" if taken > MAX_MEMORY + MAX_EXPANSION * size else ""


def _read_peak() -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return int(match[1]) << 10 if match else 0
