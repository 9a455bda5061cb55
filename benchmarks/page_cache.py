"""The page cache: how a store leaves it, and how much of a store is in it. No privileges are needed.

Only pages that the disk holds too can leave, and none that a program has mapped: so a store is synced first, and no
reader is open on it.
"""

import ctypes
import math
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.durability import make_durable

CACHES = ("warm", "cold")
COLD = 0.01  # of a store's pages: what has less in memory is cold
CHECKS = 2  # so many in a row find a cold store cold
ATTEMPTS, PAUSE = 20, 0.03  # seconds

LIBRARY = ctypes.CDLL(None, use_errno=True)
LIBRARY.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class ColdStore:
    """A store that is evicted from the page cache before each round.

    Parameters
    ----------
    store : Path
        A complete store, which nobody has open. It is synced.

    Attributes
    ----------
    resident_share : float
        The largest share of its pages that was still in memory after an eviction.
    """

    def __init__(self, store: Path) -> None:
        make_durable(store)
        self.resident_share = 0.0
        self._store = store

    def evict(self) -> None:
        """Evict the store, and fail the cell unless it has left the memory and stays out.

        Pages that are still read ahead for the last round cannot be dropped, and do not count before they have arrived.
        So what looks cold is evicted and checked again after a pause.
        """
        cold = 0
        for _ in range(ATTEMPTS):
            evict_store(self._store)
            share = measure_residency(self._store)
            cold = cold + 1 if share < COLD else 0
            if cold == CHECKS:
                break
            time.sleep(PAUSE)
        else:
            pytest.fail(
                f"not cold: {share:.1%} of {self._store} is still in memory: its file system keeps files there, or a "
                "program has them mapped: choose a disk with --basetemp"
            )
        self.resident_share = max(self.resident_share, share)


def evict_store(store: Path) -> None:
    """Have the kernel drop from memory what it caches of a store.

    Parameters
    ----------
    store : Path
        Synced; pages that the disk does not hold stay in memory.
    """
    for descriptor in _open_files(store):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def measure_residency(store: Path) -> float:
    """Measure which share of a store is in memory, by pages.

    Parameters
    ----------
    store : Path
        Any directory.

    Returns
    -------
    float
        From 0 to 1; 0 where all files are empty.

    Raises
    ------
    OSError
        The kernel does not say.
    """
    resident = pages = 0
    for descriptor in _open_files(store):
        found = _find_pages(descriptor)
        resident += int(np.count_nonzero(found))
        pages += len(found)
    return resident / max(pages, 1)


def _open_files(store: Path) -> Iterator[int]:
    for folder, _, names in os.walk(store):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)  # noqa: PTH118 - a Path takes twice as long
            try:
                yield descriptor
            finally:
                os.close(descriptor)


def _find_pages(descriptor: int) -> NDArray[np.uint8]:
    """Return for each page of a file whether it is in memory."""
    size = os.fstat(descriptor).st_size
    found = np.zeros(math.ceil(size / mmap.PAGESIZE), np.uint8)
    if size:
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapped:
            address = np.frombuffer(mapped, np.uint8).ctypes.data
            if LIBRARY.mincore(address, size, found.ctypes.data):
                raise OSError(ctypes.get_errno(), "mincore cannot say which pages are in memory")
    return found & np.uint8(1)  # other bits are reserved
