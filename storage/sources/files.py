"""Opens the files of a source. They are the user's own, so links are followed; pipes and devices are refused."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from ..errors import InvalidInputError  # and nothing newer: the gate copies this folder into older storages

BASE = 16 << 20  # bytes that any file may unpack to, or have in holes
EXPANSION = 10  # bytes more for each byte on the disk
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # doesn't wait for a named pipe


@contextmanager
def open_input(path: Path) -> Iterator[BufferedReader]:
    """Open a file that a program is about to read to its end; refuse one that isn't regular, or consists of holes."""
    descriptor = os.open(path, READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInputError("it isn't a regular file", store=path, hint="move it elsewhere")
        allocated = status.st_blocks * 512
        if status.st_size > limit_bytes(allocated) and os.lseek(descriptor, 0, os.SEEK_HOLE) < status.st_size:
            problem = f"it has {status.st_size:,} bytes, and only {allocated:,} of them are on the disk"
            raise InvalidInputError(problem, store=path, hint="copy it without holes: cp --sparse=never")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def limit_bytes(content: int) -> int:
    """Limit what is made of a file with so many bytes on the disk."""
    return BASE + EXPANSION * content
