"""Tar archives, packed by gzip or not: what is in them, and where.

Damage of a header would end an archive for `tarfile` without an error, so the zeros that end it must be there.
"""

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast

from ..dataset.annotations import Problem
from ..errors import CorruptStoreError, StorageError
from .archives import Member
from .files import AT_ONCE, IN_PIECES, open_input
from .pixels import describing

KIND = "a tar archive"
GZIP = b"\x1f\x8b"
ERRORS = (tarfile.TarError, zlib.error, EOFError)
MAX_HEADER = 64 << 10  # bytes of a header, which holds long names and attributes
MAX_PADDING = 1 << 20  # zeros after the last member


@dataclass(frozen=True)
class TarArchive:
    """A tar archive."""

    path: Path
    is_webdataset = True

    def list_members(self) -> Iterator[Member | Problem]:
        """List the regular files; see `Archive`."""
        with describing(self.path, KIND, *ERRORS), _open_stream(self.path) as (stream, limit):
            headers, largest = _Headers(stream, limit), AT_ONCE.measure(self.path.stat().st_size)
            with tarfile.open(fileobj=cast("IO[bytes]", headers), mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # they would be kept
                    if not 0 <= member.size <= limit:
                        raise ValueError(f"{member.name} has {member.size:,} bytes")
                    if member.isreg() and not member.issparse() and member.size > largest:
                        yield Problem(member.name, f"it would unpack to {member.size:,} bytes")
                    elif member.isreg() and not member.issparse():
                        yield Member(member.name, member.size, member.offset_data)
                    elif not member.isdir():
                        what = "a link" if member.islnk() or member.issym() else "no regular file"
                        yield Problem(member.name, f"it is {what} in the archive")
            rest = headers.last + stream.read(MAX_PADDING)
            if len(headers.last) < tarfile.BLOCKSIZE or rest.strip(b"\0") or stream.read(1):
                problem = (
                    f"it is {KIND}, and doesn't end as one: a header is damaged, it was cut short, or more follows"
                )
                raise CorruptStoreError(problem, store=self.path, hint="restore a copy")

    def read_members(self, members: Iterable[Member]) -> Iterator[bytes | StorageError]:
        """Read files in increasing order; see `Archive`."""
        with describing(self.path, KIND, *ERRORS), _open_stream(self.path) as (stream, _):
            for member in members:
                stream.seek(member.place)
                content = stream.read(member.size)
                yield content if len(content) == member.size else CorruptStoreError("it was cut short")


class _Headers:
    """What tarfile reads of a stream: headers of a limited size, as far as the stream may unpack to."""

    def __init__(self, stream: BufferedIOBase, limit: int) -> None:
        self._stream, self._limit = stream, limit
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise ValueError(f"a header has {size:,} bytes")
        self.last = self._stream.read(size)
        return self.last

    def seek(self, place: int) -> int:
        if place > self._limit:
            raise ValueError(f"it unpacks to {place:,} bytes and more")
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()


@contextmanager
def _open_stream(path: Path) -> Iterator[tuple[BufferedIOBase, int]]:
    """Open an archive; yield a stream of what it holds, and how many bytes that may be."""
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        if file.peek(len(GZIP)).startswith(GZIP):
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream, IN_PIECES.measure(size)
        else:
            yield file, size
