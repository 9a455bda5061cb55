"""Limits on work that a file asks for: checked before anything is allocated, copied, listed or iterated."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import CorruptStoreError, StorageError

MAX_MEMORY = 64 << 20  # bytes that any read may take; a caller can raise it
MAX_EXPANSION = 10  # bytes that it may take in addition for each byte on the disk, if nothing is compressed
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


def check_memory(store: Path, needed: int, content: int, what: str = "reading everything") -> None:
    """Refuse to take far more memory than a file has bytes, those of `measure_content`."""
    if needed > MAX_MEMORY + MAX_EXPANSION * content:
        raise StorageError(
            f"{what} takes {needed:,} bytes of memory, but {content:,} are on the disk: it is damaged, or has holes",
            store=store,
            hint=f"if that is right, read batches through open_reader, or raise {__name__}.MAX_MEMORY",
        )


def check_store(store: Path, needed: int, ratio: int = 1) -> None:
    """Do what `check_memory` does for all files of a store; `ratio` is how much its compression can expand a byte."""
    if needed <= MAX_MEMORY:
        return
    content = 0
    for path, status in _list_files(store):
        content += ratio * measure_content(path, status)
        if needed <= MAX_MEMORY + MAX_EXPANSION * content:  # of many files, the first ones are enough
            return
    check_memory(store, needed, content)


def _list_files(store: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    def fail(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(os.fsencode(store), onerror=fail):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - a Path takes longer
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                yield path, status


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
