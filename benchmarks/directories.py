"""Where the stores of the cells are: fresh directories, their size on disk, and when they are deleted."""

import fcntl
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

BLOCK = 4_096  # bytes, of most file systems
FEW_FILES = 100  # that can be deleted at once anywhere
MOST_BYTES = 2 << 30  # of stores in one cell, unless the least number of rounds needs more
SECTOR = 512  # bytes, the unit of st_blocks

# <linux/fs.h>: the flags of an inode, and the one that `chattr +T` sets.
GET_FLAGS, SET_FLAGS, TOP_OF_HIERARCHY = 0x80086601, 0x40086602, 0x00020000

STORES = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def stores(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the directory of all stores; delete at the end of the session what the cells left."""
    folder = tmp_path_factory.mktemp("stores")
    pytestconfig.stash[STORES] = folder.parent
    spread_directories(folder)
    yield folder
    shutil.rmtree(folder)


class Shelf:
    """Fresh directories for the stores of one cell.

    A store is deleted as soon as it is discarded, before its files reach the disk: that is quick, and the disk has
    nothing to do while the next one is measured. Where directories cannot be spread, a store of many files is left to
    the end of the session: the next ones would be created ever more slowly. Figures are in ``docs/decisions.md``, 17.

    Parameters
    ----------
    folder : Path
        An empty directory, and no other cell's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spread = spread_directories(folder)

    def make_store(self) -> Path:
        """Make a fresh empty directory."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def check_space(self, images: NDArray[np.uint8], stores: int) -> int:
        """Skip the cell if the disk may not hold so many stores of these images.

        Returns
        -------
        int
            How many rounds may fill a store each. Where these are more than the least number of rounds, the disk holds
            twice as many stores: there is room for two calls that warm up.
        """
        store, free = estimate_bytes(images), shutil.disk_usage(self.folder).free
        if free < store * stores:
            pytest.skip(
                f"{stores} stores may take {store * stores:,} bytes, and {self.folder} has {free:,} left: "
                "free some space, or choose another disk with --basetemp"
            )
        return min(MOST_BYTES, free // 2) // store

    def discard(self, folder: Path) -> None:
        """Delete a directory, or leave that to the end of the session."""
        if self._spread or sum(len(names) for _, _, names in os.walk(folder)) <= FEW_FILES:
            shutil.rmtree(folder)


def spread_directories(folder: Path) -> bool:
    """Have the file system place each new directory of `folder` far from the others.

    ext4 without a journal does not use an inode again for minutes after its file was deleted, and searches past all
    such inodes of the block group whenever it creates a file: 550 instead of 18 microseconds a file were measured.
    The directories of a folder with the attribute of ``chattr +T`` are placed in block groups taken at random.

    Parameters
    ----------
    folder : Path
        The parent of the directories to come.

    Returns
    -------
    bool
        False where the file system has no such attribute: then nothing was changed.
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


def estimate_bytes(images: NDArray[np.uint8]) -> int:
    """Estimate what a store takes on disk at most: whole blocks for each image, and one block more."""
    blocks: int = len(images) * (math.ceil(images[0].nbytes / BLOCK) + 1)
    return blocks * BLOCK


def measure_disk(store: Path) -> dict[str, int]:
    """Measure a store: its files, the bytes in them, and the bytes of disk that they occupy."""
    states = [path.stat() for path in store.rglob("*") if path.is_file()]
    return {
        "apparent_bytes": sum(state.st_size for state in states),
        "allocated_bytes": sum(state.st_blocks * SECTOR for state in states),
        "files": len(states),
    }
