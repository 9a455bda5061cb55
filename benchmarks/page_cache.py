"""How a store leaves the page cache, and how much of it is in there. No privileges are needed.

Only pages that are on the disk and not mapped by any program can leave, so a store is synced first, and no reader may
be open on it.
"""

import ctypes
import math
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.durability import make_durable

Cache = Literal["warm", "cold"]

COLD = 0.01  # a store is cold if a smaller fraction of its pages is in memory
CHECKS = 2  # in a row that must find it cold
MAX_ATTEMPTS, PAUSE = 20, 0.03  # seconds

LIBRARY = ctypes.CDLL(None, use_errno=True)
LIBRARY.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class ColdStore:
    """A store that is evicted from the page cache before each round."""

    def __init__(self, store: Path) -> None:
        make_durable(store)
        self.resident_fraction = 0.0
        self._store = store

    def evict(self) -> None:
        """Evict the store, and fail the cell unless it leaves the memory and stays out.

        Pages that are still being read ahead from the last round can't be dropped, and count only once they have
        arrived. So a store that looks cold is evicted and checked again after a pause.
        """
        cold = 0
        for _ in range(MAX_ATTEMPTS):
            evict_store(self._store)
            fraction = measure_residency(self._store)
            cold = cold + 1 if fraction < COLD else 0
            if cold == CHECKS:
                break
            time.sleep(PAUSE)
        else:
            pytest.fail(
                f"not cold: {fraction:.1%} of {self._store} is still in memory: its file system keeps files there, or "
                "a program has them mapped: choose a disk with --basetemp"
            )
        self.resident_fraction = max(self.resident_fraction, fraction)


def evict_store(store: Path) -> None:
    """Have the kernel drop a store's pages from memory, except those that aren't on the disk yet."""
    for descriptor in _open_files(store):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def measure_residency(store: Path) -> float:
    """Measure which fraction of a store's pages is in memory; 0 if all files are empty."""
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
                raise OSError(ctypes.get_errno(), "mincore didn't say which pages are in memory")
    return found & np.uint8(1)  # other bits are reserved
