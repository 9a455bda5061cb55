"""Opens zip files, and limits what listing and unpacking their members can take."""

import io
import os
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..dataset.annotations import Problem
from ..errors import CorruptStoreError, StorageError
from ..limits import MAX_EXPANSION, MAX_MEMORY
from .archives import Member
from .files import AT_ONCE, open_input
from .pixels import check_unpacked, describing

ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others may unpack to any size at once
KIND = "a zip file"
ENCRYPTED, WINDOWS = 1, 0  # flag, and number of the system: older programs of .NET write backslashes
END = struct.Struct("<4s4H2LH")  # of the list of members; only a comment follows
MANY = 0xFFFF  # members: there are so many or more
LISTING = 16  # bytes of memory that zipfile takes for each byte of the list of members


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file of which all members are listed."""
    with open_input(path) as file:
        bounded = _BoundedFile(file.raw)
        bounded.limit = (MAX_MEMORY + MAX_EXPANSION * os.fstat(file.fileno()).st_size) // LISTING
        with zipfile.ZipFile(bounded) as archive:
            bounded.limit = sys.maxsize
            _check_count(bounded, archive)
            yield archive


def explain_member(member: zipfile.ZipInfo) -> str | None:
    """Say why a member can't be read; None if it can."""
    if member.flag_bits & ENCRYPTED:
        return "it is encrypted in the archive"
    if member.compress_type not in METHODS:
        return "it is compressed in the archive by another method than deflate"
    return None


def _check_count(file: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Refuse a list of members that isn't as long as the end of the file says: damage can hide some from zipfile."""
    found = len(archive.infolist())
    file.seek(-len(archive.comment) - END.size, io.SEEK_END)
    magic, _, _, _, count, _, _, _ = END.unpack(file.read(END.size))
    if magic != b"PK\5\6" or count not in {found % (MANY + 1), MANY}:
        raise zipfile.BadZipFile(f"it lists {found:,} members, and should have {count:,}")


@dataclass(frozen=True)
class ZipArchive:
    """A zip file."""

    path: Path
    is_webdataset = False

    def list_members(self) -> Iterator[Member | Problem]:
        """List the regular files; see `Archive`."""
        with describing(self.path, KIND, *ERRORS), open_zip(self.path) as archive:
            total = sum(member.file_size for member in archive.infolist())  # members may even overlap
            check_unpacked(self.path, total, self.path.stat().st_size)
            for place, member in enumerate(archive.infolist()):
                mode, refusal = member.external_attr >> 16, explain_member(member)
                name = member.filename.replace("\\", "/") if member.create_system == WINDOWS else member.filename
                if name.endswith("/"):
                    continue
                if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
                    yield Problem(name, "it is a link or no regular file in the archive")
                elif refusal is not None:
                    yield Problem(name, refusal)
                elif member.file_size > AT_ONCE.measure(member.compress_size):
                    yield Problem(name, f"it would unpack to {member.file_size:,} bytes")
                else:
                    yield Member(name, member.file_size, place)

    def read_members(self, members: Iterable[Member]) -> Iterator[bytes | StorageError]:
        """Read files in any order; see `Archive`."""
        with describing(self.path, KIND, *ERRORS), open_zip(self.path) as archive:
            listed = archive.infolist()
            for member in members:
                try:
                    with archive.open(listed[member.place]) as file:  # of one name there may be two
                        content = file.read(member.size + 1)  # never more at once than it claims
                except (*ERRORS, UnicodeError) as error:
                    yield CorruptStoreError(f"it is damaged in the archive ({error})")
                    continue
                yield content if len(content) == member.size else CorruptStoreError("it was cut short")


class _BoundedFile(io.BufferedReader):
    """Refuses to read more at once: zipfile reads as much for the list of members as the file says."""

    limit: int

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.limit:
            raise ValueError(f"its list of members has {size:,} bytes")
        return super().read(size)
