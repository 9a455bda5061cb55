"""Recognizes by its first bytes what kind of file a source is, and says so if it can't hold images."""

import zlib
from pathlib import Path

from ..encoded import UNKNOWN, find_extension
from ..errors import InvalidInputError
from .array import ArraySource
from .cifar10 import read_cifar
from .files import open_input
from .hdf5 import read_hdf5
from .idx import is_idx, read_idx
from .numpy_files import read_npy, read_npz
from .pixels import PixelSource, describing

HEAD = 512  # bytes: the header of a tar archive, in which its magic number is
GZIP, TAR, TAR_PLACE = b"\x1f\x8b", b"ustar", 257
READERS = {b"\x93NUMPY": read_npy, b"PK": read_npz, b"\x89HDF\r\n\x1a\n": read_hdf5}
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


def read_file(path: Path) -> PixelSource | ArraySource:
    """Find the images of a file."""
    with open_input(path) as file:
        head = file.read(HEAD)
    for magic, read in READERS.items():
        if head.startswith(magic):
            return read(path)
    inner = _unpack(path, head) if head.startswith(GZIP) else head
    if is_idx(inner):
        return read_idx(path)
    if head.startswith(GZIP) and _is_tar(inner):
        return read_cifar(path)
    what = f"{_describe(inner)}, compressed by gzip" if head.startswith(GZIP) else _describe(head)
    raise InvalidInputError(f"it is {what}, which can't be converted", store=path, hint=HINT)


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


def _is_tar(head: bytes) -> bool:
    return head[TAR_PLACE:].startswith(TAR)
