"""Opens the files of a source. They are the user's own, so links are followed; pipes and devices are refused."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePath
from typing import NamedTuple

from ..errors import (  # and nothing newer: the gate copies this folder into older storages
    InvalidInputError,
    StorageError,
)

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # doesn't wait for a named pipe


class Limit(NamedTuple):
    """How many bytes may be made of a file: some of any file, and more for each byte that it has on the disk."""

    base: int
    expansion: int

    def measure(self, content: int) -> int:
        """Measure what may be made of a file with so many bytes on the disk."""
        return self.base + self.expansion * content


AT_ONCE = Limit(16 << 20, 10)  # of a file that is read whole: in an archive, or with holes
IN_PIECES = Limit(128 << 20, 100)  # of one that is unpacked piece by piece


@contextmanager
def naming(path: PurePath) -> Iterator[None]:
    """Say where an error comes from, if it doesn't."""
    try:
        yield
    except StorageError as error:
        raise (error if error.store else error.replace(store=path)) from error


@contextmanager
def open_input(path: Path) -> Iterator[BufferedReader]:
    """Open a file that a program is about to read to its end; refuse one that isn't regular, or consists of holes."""
    descriptor = os.open(path, READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInputError("it isn't a regular file", store=path, hint="move it elsewhere")
        allocated = status.st_blocks * 512
        if status.st_size > AT_ONCE.measure(allocated) and os.lseek(descriptor, 0, os.SEEK_HOLE) < status.st_size:
            problem = f"it has {status.st_size:,} bytes, and only {allocated:,} of them are on the disk"
            raise InvalidInputError(problem, store=path, hint="copy it without holes: cp --sparse=never")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)
