"""Reads members of a ``.tar.gz`` one by one: nothing is extracted, and no archive makes it read or hold too much."""

import gzip
import os
import tarfile
from collections.abc import Collection, Generator
from pathlib import Path
from typing import IO, BinaryIO, cast

from .files import AT_ONCE, open_input

MAX_BYTES = 192 * 2**20  # of one member: CIFAR-100's training images alone are 153,600,000
MAX_UNPACKED = 2 * MAX_BYTES  # of all members; a small archive may hold less
MAX_MEMBERS = 1_000  # CIFAR-10 has nine
MAX_HEADERS = 2**20  # bytes between two members, including what tarfile reads ahead


def read_members(path: Path, names: Collection[str], wanted: Collection[str]) -> Generator[tuple[str, bytes]]:
    """Find members by their exact names, in the order of the archive; yield name and content, empty if not `wanted`.

    A damaged archive raises what gzip, zlib or tarfile raise; one that exceeds a limit, or has one of `names` twice or
    not as a regular file, raises ValueError.
    """
    seen: set[str] = set()
    with open_input(path) as file, _BoundedGzip(file) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for number, member in enumerate(archive, 1):
            end = member.offset_data + member.size
            if number > MAX_MEMBERS or end > stream.max_unpacked:
                raise ValueError(f"it has more than {MAX_MEMBERS:,} members or {stream.max_unpacked:,} bytes")
            stream.limit = end + MAX_HEADERS
            if member.name not in names:
                continue
            if not member.isreg() or member.issparse() or not 0 <= member.size <= MAX_BYTES:
                raise ValueError(f"{member.name} isn't a regular file of at most {MAX_BYTES:,} bytes")
            if member.name in seen:
                raise ValueError(f"{member.name} is there twice")
            seen.add(member.name)
            content = cast("IO[bytes]", archive.extractfile(member))
            yield member.name, content.read() if member.name in wanted else b""


class _BoundedGzip(gzip.GzipFile):
    """Stops a small file from unpacking to gigabytes: the limit moves on with each member."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file)
        self.max_unpacked = min(MAX_UNPACKED, AT_ONCE.measure(os.fstat(file.fileno()).st_size))
        self.limit = MAX_HEADERS

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        if self.tell() > self.limit:
            raise ValueError(f"there is no next member before byte {self.limit:,}")
        return block
