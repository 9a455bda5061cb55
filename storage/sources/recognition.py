"""Recognizes by its first bytes what kind of file a source is, and says so if it can't hold images.

A folder whose files are all ``.tar`` archives or Parquet files is a set of shards.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

from ..encoded import UNKNOWN, find_extension
from ..errors import InvalidInputError
from .archives import ArchiveSource, read_archives
from .cifar10 import EDITIONS, read_cifar
from .files import open_input
from .hdf5 import read_hdf5
from .idx import is_idx, read_idx
from .memory import ArraySource
from .numpy_files import is_npz, read_npy, read_npz
from .parquet import ParquetSource, list_shards, read_parquet
from .pixels import PixelSource, describing
from .tars import TarArchive
from .tree import is_ignored, order_naturally
from .zips import ZipArchive

Source = PixelSource | ArraySource | ArchiveSource | ParquetSource

HEAD = 512  # bytes: the header of a tar archive, in which its magic number is
GZIP, TAR, TAR_PLACE = b"\x1f\x8b", b"ustar", 257
ZIP = b"PK"
SHARDS, INDEX = {".tar", ".parquet"}, ".bin"  # the latter is beside the .tar of a plain store
CIFAR = tuple(edition.folder.encode() for edition in EDITIONS)
READERS: dict[bytes, Callable[[Path], Source]] = {
    b"\x93NUMPY": read_npy,
    b"\x89HDF\r\n\x1a\n": read_hdf5,
    b"PAR1": lambda path: read_parquet(path, [path]),
}
OTHERS = {  # what else people may have
    "an Arrow file": (b"ARROW1",),
    "an SQLite database": (b"SQLite format 3\0",),
    "a MATLAB file": (b"MATLAB",),
    "a pickle": tuple(b"\x80%c" % protocol for protocol in range(2, 6)),
    "compressed by bzip2": (b"BZh",),
    "compressed by xz": (b"\xfd7zXZ\0",),
    "compressed by Zstandard": (b"\x28\xb5\x2f\xfd",),
    "a 7z archive": (b"7z\xbc\xaf\x27\x1c",),
    "a RAR archive": (b"Rar!",),
    "a PDF document": (b"%PDF",),
}
WHITE = b"\t\n\r\f"
HINT = "`convert --help` lists what can; of image files, name the folder that holds them"


def read_file(path: Path, class_depth: int = 1) -> Source:
    """Find the images of a file. `class_depth` as in `find_classes`, for archives."""
    with open_input(path) as file:
        head = file.read(HEAD)
    for magic, read in READERS.items():
        if head.startswith(magic):
            return read(path)
    if head.startswith(ZIP):
        return read_npz(path) if is_npz(path) else read_archives(path, [ZipArchive(path)], class_depth)
    inner = _unpack(path, head) if head.startswith(GZIP) else head
    if inner[TAR_PLACE:].startswith(TAR):
        if inner is not head and inner.startswith(CIFAR):
            return read_cifar(path)
        return read_archives(path, [TarArchive(path)], class_depth)
    if is_idx(inner):
        return read_idx(path)
    what = f"{_describe(inner)}, compressed by gzip" if head.startswith(GZIP) else _describe(head)
    raise InvalidInputError(f"it is {what}, which can't be converted", store=path, hint=HINT)


def read_shards(folder: Path, class_depth: int = 1) -> ArchiveSource | ParquetSource | None:
    """Find the images of a folder whose files are all shards; None if they aren't."""
    files = _list_files(folder)
    endings = {path.suffix.lower() for path in files}
    if endings == {".tar"}:
        return read_archives(folder, [TarArchive(path) for path in files], class_depth)
    if endings == {".parquet"}:
        return read_parquet(folder, list_shards(folder, files))
    return None


def check_shards(folder: Path) -> None:
    """Refuse a folder of shards and other files."""
    files = _list_files(folder)
    others = [path.name for path in files if path.suffix.lower() not in {*SHARDS, INDEX}]
    if others and len(others) < len(files):
        hint = "move it elsewhere, or name a folder with links to the shards"
        raise InvalidInputError(f"not all of its files are shards: {others[0]} isn't", store=folder, hint=hint)


def _list_files(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if not is_ignored(path.name)] if folder.is_dir() else []
    return sorted(files, key=lambda path: order_naturally(path.name))


def _describe(head: bytes) -> str:
    """Say what kind of file begins like this."""
    if not head:
        return "an empty file"
    extension = find_extension(head)
    if extension != UNKNOWN:
        return f"a single image ({extension})"
    for what, magics in OTHERS.items():
        if head.startswith(magics):
            return what
    return (
        "a text file" if head.isascii() and head.translate(None, WHITE).decode().isprintable() else "of no known kind"
    )


def _unpack(path: Path, head: bytes) -> bytes:
    """Unpack the first bytes of what gzip packed."""
    with describing(path, "a file compressed by gzip", zlib.error):
        return zlib.decompressobj(wbits=31).decompress(head, HEAD)
