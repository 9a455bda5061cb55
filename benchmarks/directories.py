"""Where the stores of the cells are: fresh directories, their size on disk, and when they are deleted."""

import fcntl
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from storage import Encoded

DISK_BLOCK = 4_096  # bytes, on most file systems
SECTOR = 512  # bytes, the unit of st_blocks
EMPTY = 1 << 20  # bytes; the largest store of one small image, SQLite's, has 0.2 MB
FEW_FILES = 100  # deleting these is quick everywhere
MAX_BYTES = 2 << 30  # of stores in one cell, unless the minimum number of rounds needs more

# <linux/fs.h>: requests for the flags of an inode, and the flag that `chattr +T` sets.
GET_FLAGS, SET_FLAGS, TOP_OF_HIERARCHY = 0x80086601, 0x40086602, 0x00020000

STORES = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def stores(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the directory of all stores; at the end of the session, delete what the cells left.

    It is locked while the session lives: the next session deletes it after this one was killed.
    """
    unnamed = tmp_path_factory.mktemp("new")
    descriptor = os.open(unnamed, os.O_RDONLY)
    with suppress(OSError):  # not every file system has locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder = unnamed.rename(unnamed.with_name("stores"))  # only now can another session find it
    pytestconfig.stash[STORES] = folder.parent
    spread_directories(folder)
    yield folder
    shutil.rmtree(folder)
    os.close(descriptor)


class StoreDirectories:
    """Fresh directories for the stores of one cell, in an empty folder that belongs to this cell.

    A store is deleted as soon as it is discarded, before its files reach the disk: that is quick, and keeps the disk
    idle while the next store is measured. If directories can't be spread, a store of many files stays until the session
    ends: deleting it would slow down the creation of the next ones. Figures are in ``docs/decisions.md``, 17.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spread = spread_directories(folder)

    def make_store(self) -> Path:
        """Make a fresh empty directory."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def check_space(self, images: "NDArray[Any] | Encoded", stores: int) -> int:
        """Skip the cell if the disk may not hold this many stores; return how many rounds it can hold, with warm-up."""
        store, free = estimate_bytes(images), shutil.disk_usage(self.folder).free
        if free < store * stores:
            pytest.skip(
                f"{stores} stores may take {store * stores:,} bytes, and {self.folder} has {free:,} left: "
                "free some space, or choose another disk with --basetemp"
            )
        return min(MAX_BYTES, free // 2) // store

    def discard(self, folder: Path) -> None:
        """Delete a directory, now or at the end of the session."""
        if self._spread or sum(len(names) for _, _, names in os.walk(folder)) <= FEW_FILES:
            shutil.rmtree(folder)


def spread_directories(folder: Path) -> bool:
    """Have the file system place each new directory of `folder` far from the others; return False if it can't.

    ext4 without a journal doesn't reuse the inode of a deleted file for minutes. Whenever it creates a file, it
    searches past all such inodes of the block group: 550 instead of 18 microseconds a file were measured. In a folder
    with the attribute of ``chattr +T``, new directories go to random block groups.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, GET_FLAGS, struct.pack("l", 0)))
        fcntl.ioctl(descriptor, SET_FLAGS, struct.pack("l", flags | TOP_OF_HIERARCHY))
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def estimate_bytes(images: "NDArray[Any] | Encoded") -> int:
    """Estimate the maximum size of a store on disk: twice the whole blocks of each image and one more, and `EMPTY`.

    Bolt doubles its file: it takes up to 1.7 times the bytes of 10 photos, and 1.3 times those of 300.
    """
    lengths = np.full(len(images), images[0].nbytes) if isinstance(images, np.ndarray) else images.lengths
    blocks = -(-lengths // DISK_BLOCK) + 1
    return 2 * int(blocks.sum()) * DISK_BLOCK + EMPTY


def measure_disk(store: Path) -> dict[str, int]:
    """Measure a store: its files, the bytes in them, and the bytes of disk that they occupy."""
    states = [path.stat() for path in store.rglob("*") if path.is_file()]
    return {
        "apparent_bytes": sum(state.st_size for state in states),
        "allocated_bytes": sum(state.st_blocks * SECTOR for state in states),
        "files": len(states),
    }
