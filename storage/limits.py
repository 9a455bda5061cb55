"""Limits on work that a file asks for: checked before anything is allocated, copied, listed or iterated."""

import os
import sys
from pathlib import Path

from .errors import CorruptStoreError, StorageError

MAX_MEMORY = 64 << 20  # bytes that any read may take
MAX_EXPANSION = 10  # bytes that it may take for each byte that exists, if the store isn't compressed
MAX_DEFLATE = 1032  # bytes that deflate can make of one


def check_amount(
    what: str, needed: int, available: int = sys.maxsize, *, store: Path, limit: int | None = None, unit: str = "bytes"
) -> None:
    """Refuse an amount that a file names: it's damaged above what is `available`, and too much above the `limit`.

    `what` begins the message, and the caller can raise the limit.
    """
    if needed > available:
        raise CorruptStoreError(f"{what} has {needed:,} {unit}, and there are {available:,}", store=store)
    if limit is not None and needed > limit:
        raise StorageError(
            f"{what} has {needed:,} {unit}, more than the limit of {limit:,}", store=store, hint="raise the limit"
        )


def check_memory(store: Path, needed: int, file: int | bytes, status: os.stat_result) -> None:
    """Refuse to read a file into far more memory than it has bytes on the disk: a sparse file can claim any size."""
    if needed > MAX_MEMORY and needed > MAX_MEMORY + MAX_EXPANSION * (content := measure_content(file, status)):
        raise StorageError(
            f"reading it takes {needed:,} bytes of memory, but only {content:,} bytes are on the disk: it has holes",
            store=store,
            hint="if that is right, read batches through open_reader, or give read_many an array to fill",
        )


def measure_content(file: int | bytes, status: os.stat_result) -> int:
    """Measure how many bytes of a file exist on the disk; holes, which are read as zeros, don't count.

    File systems that compress, or keep small files elsewhere, allocate fewer bytes than a file has without a hole in
    it. So allocated bytes count only if there is one.
    """
    allocated = status.st_blocks * 512
    if allocated >= status.st_size:
        return status.st_size
    descriptor = file if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return status.st_size if os.lseek(descriptor, 0, os.SEEK_HOLE) >= status.st_size else allocated
    finally:
        if descriptor != file:
            os.close(descriptor)
