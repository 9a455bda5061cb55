"""The members of tar archives, and shards of image files with their index."""

import mmap
import os
import struct
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from tarfile import BLOCKSIZE, GNU_FORMAT, RECORDSIZE, TarInfo
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays import read_range, write_range
from ..contract import Labels
from ..encoded import EXTENSIONS, UNKNOWN, Encoded, find_extension
from ..errors import CorruptStoreError, InvalidInputError

FILE = "index.bin"
FILES_HEADER = struct.Struct("<8s2Q")
FILES_SIGNATURE = b"any+cls1"
LABEL = np.dtype("<i8")  # and all other numbers in the index
DIGITS = 12  # of a member's name
TEXT = np.dtype("S20")  # a label in decimal
ENDING = np.dtype("S4")  # the extension of a member's name
LENGTH, SIZE, CHECKSUM = 124, 133, 148  # where a tar header has the size, its last two digits, and the checksum
PICTURE = 2 * BLOCKSIZE  # where the header of the picture begins in a record
START = PICTURE + BLOCKSIZE  # where its content begins
DECIMAL = np.array([b"%04d" % number for number in range(10_000)])
OCTAL = np.array([b"%06o" % number for number in range(10_000)])  # our checksums are smaller
SUMS = DECIMAL.view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int64) - 4 * ord("0")
SHIFTS = np.arange(30, -1, -3)  # of the octal digits of a size
MAX_FILE = 8 ** len(SHIFTS) - 1  # bytes
CALL = 256  # image files written by one call, which takes at most 1,024 pieces


class Shards(Protocol):
    """Archives of records, with zeros at the end."""

    def measure_records(self, shard: int) -> int:
        """Compute the size of all records of a shard."""


class FileIndex:
    """The index of shards of image files, mapped into memory."""

    def __init__(self, store: Path, descriptor: int, size: int) -> None:
        self._store = store
        content = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        _, self.images, shards = FILES_HEADER.unpack_from(content)
        expected = FILES_HEADER.size + LABEL.itemsize * (shards + 1 + 3 * self.images + 1)
        if size != expected:
            raise CorruptStoreError(
                f"{FILE} is damaged: it has {size} bytes, not {expected}", store=store, hint="store the images again"
            )
        self.shards = range(shards)
        self.start_of_labels = FILES_HEADER.size + LABEL.itemsize * (shards + 1)
        numbers = np.frombuffer(content, LABEL, offset=FILES_HEADER.size)
        cuts = np.cumsum([shards + 1, self.images, self.images])
        self.firsts, self.labels, self.lengths, self.starts = np.split(numbers, cuts)
        if self.firsts[0] != 0 or self.firsts[-1] != self.images or (np.diff(self.firsts) < 1).any():
            self._refuse("the first images of its shards")

    def check_lengths(self) -> None:
        """Refuse lengths and starts that don't fit each other."""
        steps = measure_records(np.clip(self.lengths, 0, MAX_FILE))
        if (self.lengths != np.clip(self.lengths, 0, MAX_FILE)).any():
            self._refuse("the bytes of its images")
        if self.starts[0] != 0 or (np.diff(self.starts) != steps).any():
            self._refuse("the places of its images")

    def _refuse(self, what: str) -> None:
        raise CorruptStoreError(f"{FILE} is damaged: {what} are impossible", store=self._store)

    def measure_records(self, shard: int) -> int:
        """Compute the size of all records of a shard."""
        first, end = self.starts[self.firsts[shard : shard + 2]].tolist()
        return int(end - first)

    def find_shards(self, positions: NDArray[np.intp]) -> NDArray[np.intp]:
        """Find the shard of each image."""
        return np.searchsorted(self.firsts, positions, side="right") - 1

    def find_contents(self) -> NDArray[np.int64]:
        """Find where the content of each image begins in its shard."""
        firsts = np.repeat(self.starts[self.firsts[:-1]], np.diff(self.firsts))
        return (self.starts[:-1] - firsts + START).astype(np.int64, copy=False)

    def find_starts(self, shard: int) -> NDArray[np.int64]:
        """Find where the record of each image of a shard begins, and where the last one ends."""
        first, end = self.firsts[shard : shard + 2].tolist()
        starts: NDArray[np.int64] = self.starts[first : end + 1] - self.starts[first]
        return starts

    def find_record(self, position: int) -> tuple[int, int]:
        """Find the shard of one image, and where its record begins there."""
        shard = int(self.find_shards(np.array([position]))[0])
        return shard, int(self.starts[position] - self.starts[self.firsts[shard]])


def check_files(images: Encoded) -> None:
    """Refuse image files that a tar header can't describe."""
    too_long = np.flatnonzero(images.lengths > MAX_FILE)
    if len(too_long):
        raise InvalidInputError(
            f"image {too_long[0]} has {images.lengths[too_long[0]]:,} bytes, more than the limit of tar, {MAX_FILE:,}",
            hint="choose another backend",
        )


def write_files(folder: Path, images: Encoded, labels: Labels, shard_size: int) -> None:
    """Write the shards of image files, then their index."""
    starts = np.zeros(len(images) + 1, LABEL)
    np.cumsum(measure_records(images.lengths), out=starts[1:])
    firsts = [0]
    while firsts[-1] < len(images):
        end = int(np.searchsorted(starts, starts[firsts[-1]] + shard_size, side="right")) - 1
        firsts.append(max(end, firsts[-1] + 1))
    for number, (first, end) in enumerate(pairwise(firsts)):
        with (folder / name_shard(number)).open("xb", buffering=0) as file:
            size = int(starts[end] - starts[first])
            os.posix_fallocate(file.fileno(), 0, round_up(size + 2 * BLOCKSIZE, RECORDSIZE))
            for start in range(first, end, CALL):
                part = slice(start, min(start + CALL, end))
                pieces = _make_pieces(images[part], labels[part], start)
                _write_pieces(file.fileno(), int(starts[start] - starts[first]), pieces)
    header = FILES_HEADER.pack(FILES_SIGNATURE, len(images), len(firsts) - 1)
    numbers = (np.array(firsts), labels, images.lengths, starts)
    with (folder / FILE).open("xb", buffering=0) as file:
        content = header + b"".join(array.astype(LABEL, copy=False).tobytes() for array in numbers)
        write_range(file.fileno(), 0, np.frombuffer(content, np.uint8))


def _make_pieces(images: Encoded, labels: Labels, index: int) -> list[NDArray[np.uint8]]:
    """Make the records of some images: headers, content and padding of each."""
    endings = np.array([find_extension(image).encode() for image in images], ENDING)
    heads = make_file_heads(index, labels, images.lengths, endings)
    zeros = np.zeros(BLOCKSIZE, np.uint8)
    pieces: list[NDArray[np.uint8]] = []
    for head, (start, end) in zip(heads, pairwise(images.offsets.tolist()), strict=True):
        pieces += head, images.content[start:end], zeros[: (start - end) % BLOCKSIZE]
    return pieces


def _write_pieces(descriptor: int, offset: int, pieces: list[NDArray[np.uint8]]) -> None:
    """Write arrays one after the other; what the first call leaves is written one by one."""
    written = os.pwritev(descriptor, [piece.data for piece in pieces], offset)
    for piece in pieces if written < sum(map(len, pieces)) else ():
        if written < len(piece):
            write_range(descriptor, offset + written, piece[written:])
        offset, written = offset + len(piece), max(0, written - len(piece))


def measure_records(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute the size of records with contents of these lengths."""
    sizes: NDArray[np.int64] = START + -(-lengths // BLOCKSIZE) * BLOCKSIZE
    return sizes


def name_shard(number: int) -> str:
    """Name the file of a shard."""
    return f"{number:06}.tar"


def measure_shard(shards: Shards, number: int) -> int:
    """Compute the size of a shard, with the zeros that end an archive."""
    return round_up(shards.measure_records(number) + 2 * BLOCKSIZE, RECORDSIZE)


@lru_cache(maxsize=8)
def make_head(size: int, ending: str = "ppm") -> bytes:
    """Make the bytes before the content of picture 0, which has `size` bytes, with an empty label."""
    label, picture = TarInfo("0" * DIGITS + ".cls"), TarInfo("0" * DIGITS + f".{ending}")
    picture.size = size
    headers = [member.tobuf(GNU_FORMAT) for member in (label, picture)]  # this format has no limit of 8 GiB
    return headers[0] + bytes(BLOCKSIZE) + headers[1]


def fill_heads(head: bytes, records: NDArray[np.uint8], index: int, labels: NDArray[np.bytes_]) -> None:
    """Fill in what differs between records, of which the first is `index`: names, labels, their sizes, checksums."""
    rest, low = np.divmod(np.arange(index, index + len(records)), 10_000)
    high, middle = np.divmod(rest, 10_000)
    names = np.stack([DECIMAL[group] for group in (high, middle, low)], axis=1).view(f"S{DIGITS}")[:, 0]
    added = SUMS[high] + SUMS[middle] + SUMS[low]  # to the checksum of a name of zeros
    eights, ones = np.divmod(np.strings.str_len(labels), 8)
    _put(records, BLOCKSIZE, labels)
    records[:, SIZE], records[:, SIZE + 1] = eights + ord("0"), ones + ord("0")
    for start, sums in ((0, added + eights + ones), (PICTURE, added)):
        place = start + CHECKSUM
        _put(records, start, names)
        _put(records, place, OCTAL[sums + int(head[place : place + OCTAL.itemsize], 8)])


def make_file_heads(
    index: int, labels: Labels, lengths: NDArray[np.int64], endings: NDArray[np.bytes_]
) -> NDArray[np.uint8]:
    """Make the bytes before the contents of image files, of which the first is `index`."""
    head = make_head(0)
    heads = np.tile(np.frombuffer(head, np.uint8), (len(labels), 1))
    fill_heads(head, heads, index, labels.astype(TEXT))
    pictures = heads[:, PICTURE:]
    _put(pictures, DIGITS + 1, endings)
    pictures[:, LENGTH : LENGTH + len(SHIFTS)] = (lengths[:, np.newaxis] >> SHIFTS & 7) + ord("0")
    field = slice(CHECKSUM, CHECKSUM + OCTAL.itemsize)  # counts as blanks; two more bytes of it follow
    blanks = (OCTAL.itemsize + 1) * ord(" ")
    sums = pictures.sum(axis=1, dtype=np.int64) - pictures[:, field].sum(axis=1, dtype=np.int64) + blanks
    _put(pictures, CHECKSUM, OCTAL[sums])
    return heads


def _put(records: NDArray[np.uint8], place: int, texts: NDArray[np.bytes_]) -> None:
    records[:, place : place + texts.itemsize].view(texts.dtype)[:, 0] = texts


def check_file_head(store: Path, index: FileIndex, descriptor: int, position: int) -> None:
    """Refuse a record that doesn't begin exactly as this module writes it; any known extension is right."""
    shard, start = index.find_record(position)
    found = np.empty(START, np.uint8)
    read_range(store, descriptor, start, found)
    ending = found[PICTURE + DIGITS + 1 :][: ENDING.itemsize].tobytes().rstrip(b"\0")
    endings = np.array([ending if ending.decode("latin-1") in EXTENSIONS else UNKNOWN.encode()], ENDING)
    one = slice(position, position + 1)
    compare_heads(
        store, position, shard, found, make_file_heads(position, index.labels[one], index.lengths[one], endings)
    )


def compare_heads(
    store: Path, position: int, shard: int, found: NDArray[np.uint8], expected: NDArray[np.uint8]
) -> None:
    """Refuse headers other than those that belong to the image at `position`."""
    if not np.array_equal(found.reshape(-1), expected.reshape(-1)):
        raise CorruptStoreError(
            f"its headers in {name_shard(shard)} don't fit {FILE}: one is damaged",
            store=store,
            record=position,
            hint="store the images again",
        )


def round_up(size: int, unit: int) -> int:
    """Round a size up to a multiple of a unit."""
    return -(-size // unit) * unit
