"""Durability of any store: one function, so that every backend pays the same price."""

import os
from pathlib import Path

from .errors import writing
from .paths import walk_files


def make_durable(store: Path) -> None:
    """Wait until the disk holds a store: its files, its directories, and its name in the folder above.

    Parameters
    ----------
    store : Path
        A complete store of any backend.

    Raises
    ------
    StoreFullError
        The file system had no room for what was still in memory.
    StorageError
        A file or directory could not be synced.
    """
    with writing(store):
        for folder, names in walk_files(store):
            for name in names:
                sync(folder / name)
            sync(folder)
        sync(Path(store).absolute().parent)


def sync(path: Path) -> None:
    """Wait until the disk holds one file, or the names in one directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
