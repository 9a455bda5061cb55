"""Which files of a store are there, and which of them this process has open, and in its memory."""

import time
from pathlib import Path


def count_open(store: Path) -> int:
    links = Path("/proc/self/fd").iterdir()
    return sum(str(store) in str(link.readlink()) for link in links if link.is_symlink())


def count_open_files() -> int:
    """Count what this process has open, but for sockets: other tests' idle connections end at any time."""
    return sum("socket:" not in str(link.resolve()) for link in Path("/proc/self/fd").iterdir())


def count_maps(store: Path) -> int:
    return Path("/proc/self/maps").read_text(encoding="utf-8").count(str(store))


def count_maps_left(store: Path) -> int:
    """Count the maps of files of a store when there are none any more, or after ten seconds.

    A thread of Arrow that has read where a file ends may hold its map for some milliseconds more.
    """
    end = time.monotonic() + 10
    while (found := count_maps(store)) and time.monotonic() < end:
        time.sleep(0.001)
    return found


def list_names(folder: Path) -> list[str]:
    """List what is beside a dataset, without locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))
