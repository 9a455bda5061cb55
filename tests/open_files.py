"""Which files of a store are there, and which of them this process has open, and in its memory."""

from pathlib import Path


def count_open(store: Path) -> int:
    """Count how often this process has files of a store open."""
    links = Path("/proc/self/fd").iterdir()
    return sum(str(store) in str(link.readlink()) for link in links if link.is_symlink())


def count_maps(store: Path) -> int:
    """Count the maps of files of a store in this process."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count(str(store))


def list_names(folder: Path) -> list[str]:
    """List what is beside a dataset, without locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))
