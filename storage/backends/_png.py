"""The folder of numbered files and the table of labels that the PNG backends share."""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import paths
from ..arrays import BYTE, CHANNELS, DTYPES, LABEL, check_index, check_limit, check_shape, make_array, read_range
from ..contract import Images, Labels
from ..errors import CorruptStoreError, reading, writing
from ..limits import MAX_DEFLATE, check_memory, measure_content
from ..paths import READ, open_first, write_file

FILE = "labels.csv"
HEADER = re.compile(
    rb"label,images=(\d{1,12}),height=(\d{1,9}),width=(\d{1,9})(?:,channels=(0|4(?=,dtype=uint8,)),dtype=(uint8|uint16))?"
    rb",characters=([1-9]\d?)\n"
)
LINES = re.compile(rb"(?: *+-?\d++\n)*+")
MAX_HEIGHT = 10**9 - 1  # as far as `HEADER` goes
MAX_HEADER = 128  # bytes
MAX_COMMENTS = 1 << 20  # bytes of all that isn't pixels
DAMAGED = "it is damaged, or another program wrote it"


class Samples(NamedTuple):
    """What the pixels of a file are: Pillow's mode, that of the bytes in the file, and how its header says it."""

    mode: str
    raw: str
    header: bytes  # bits, kind of colour, the only compression and filter method, not interlaced


SAMPLES = {  # by the channels in the shape of an image, and the bytes of a value
    ((CHANNELS,), 1): Samples("RGB", "RGB", b"\x08\x02\x00\x00\x00"),
    ((), 1): Samples("L", "L", b"\x08\x00\x00\x00\x00"),
    ((), 2): Samples("I;16", "I;16B", b"\x10\x00\x00\x00\x00"),
    ((4,), 1): Samples("RGBA", "RGBA", b"\x08\x06\x00\x00\x00"),
}


class Table(NamedTuple):
    """The header of ``labels.csv``; `start` is its length."""

    images: int
    height: int
    width: int
    characters: int
    start: int
    channels: int = CHANNELS  # 0 if images have no axis of them
    dtype: np.dtype[Any] = BYTE

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all images."""
        shape = self.images, self.height, self.width
        return (*shape, self.channels) if self.channels else shape


def check_size(images: Images) -> None:
    """Refuse more rows than a table says, and longer ones than Pillow writes, which counts their bits in 32 bits."""
    check_limit("an image", images.shape[1], MAX_HEIGHT, FILE, unit="rows")
    limit = (2**31 - 1) // (8 * images.itemsize * math.prod(images.shape[3:])) - 7
    check_limit("a row", images.shape[2], limit, "Pillow", unit="pixels")


@contextmanager
def create_folder(store: Path) -> Iterator[int]:
    """Claim a new store and open it; yield the descriptor in which files are created."""
    with writing(store, SyntaxError), paths.create_folder(store) as folder:
        yield folder


@contextmanager
def open_folder(store: Path) -> Iterator[int]:
    """Open a store; yield the descriptor in which its files are found."""
    with reading(store, SyntaxError), paths.open_folder(store, FILE) as folder:
        yield folder


def open_image(store: Path, folder: int, index: int) -> int:
    """Open the file of one image; return its descriptor."""
    try:
        return os.open(f"{index:08}.png", READ, dir_fd=folder)
    except FileNotFoundError:
        raise CorruptStoreError(
            f"{index:08}.png is missing", store=store, record=index, hint="store the images again"
        ) from None


def read_file(store: Path, folder: int, index: int, pixels: int) -> bytes:
    """Read the file of one image, unless its size shows that it can't hold so many bytes of pixels."""
    descriptor = open_image(store, folder, index)
    try:
        size = os.fstat(descriptor).st_size
        if size * MAX_DEFLATE < pixels or size > 4 * pixels + MAX_COMMENTS:
            raise CorruptStoreError(
                f"{index:08}.png has {size} bytes, which can't hold {pixels} bytes of pixels: {DAMAGED}",
                store=store,
                record=index,
            )
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def write_labels(folder: int, images: Images, labels: Labels) -> None:
    """Write ``labels.csv``, which completes the store."""
    lines = [str(label) for label in labels.tolist()]
    characters = max(map(len, lines), default=1)
    count, height, width, channels = (*images.shape, 0)[:4]
    form = "" if channels == CHANNELS else f",channels={channels},dtype={images.dtype}"
    header = f"label,images={count},height={height},width={width}{form},characters={characters}\n"
    write_file(folder, FILE, (header + "".join(f"{line:>{characters}}\n" for line in lines)).encode("ascii"))


def read_label(store: Path, folder: int, index: int) -> tuple[Table, int, int]:
    """Read one label; return the table, the index counted from the start, and the label."""
    descriptor, status = open_first(store, folder, FILE)
    try:  # not a generator's context, which takes a microsecond
        table = _read_header(store, descriptor, status)
        position = check_index(store, index, table.images)
        length = table.characters + 1
        line = os.pread(descriptor, length, table.start + position * length)
    finally:
        os.close(descriptor)
    label = int(line) if LINES.fullmatch(line) else LABEL.max + 1
    if not LABEL.min <= label <= LABEL.max:
        raise CorruptStoreError(f"{FILE} has the label {line!r}: {DAMAGED}", store=store, record=position)
    return table, position, label


def read_labels(store: Path, folder: int) -> tuple[Table, Labels]:
    """Read all labels."""
    with _open_table(store, folder) as (table, descriptor, status):
        check_memory(store, table.images * LABEL.bits // 8, measure_content(descriptor, status))
        lines = make_array(store, (table.images, table.characters + 1))
        read_range(store, descriptor, table.start, lines)
    try:
        if LINES.fullmatch(lines.data) is not None and (lines[:, -1] == ord("\n")).all():
            return table, lines.view(f"S{table.characters + 1}").reshape(-1).astype(np.int64)
    except (ValueError, OverflowError):
        pass  # a number of more than 64 bits
    raise CorruptStoreError(f"{FILE} has lines that aren't labels: {DAMAGED}", store=store)


def find_lines(store: Path, folder: int) -> dict[str, list[range]]:
    """Find the bytes of the labels in ``labels.csv``."""
    with _open_table(store, folder) as (table, _, status):
        return {FILE: [range(table.start, status.st_size)]}


@contextmanager
def _open_table(store: Path, folder: int) -> Iterator[tuple[Table, int, os.stat_result]]:
    descriptor, status = open_first(store, folder, FILE)
    try:
        yield _read_header(store, descriptor, status), descriptor, status
    finally:
        os.close(descriptor)


def _read_header(store: Path, descriptor: int, status: os.stat_result) -> Table:
    match = HEADER.match(os.pread(descriptor, MAX_HEADER, 0))
    if match is None:
        raise CorruptStoreError(f"{FILE} has another header: {DAMAGED}", store=store)
    images, height, width, characters = map(int, match.group(1, 2, 3, 6))
    check_shape(store, images, height, width)
    table = Table(images, height, width, characters, match.end())
    if match[4]:
        table = table._replace(channels=int(match[4]), dtype=DTYPES[match[5].decode()])
    expected = table.start + table.images * (table.characters + 1)
    if status.st_size != expected:
        raise CorruptStoreError(f"{FILE} has {status.st_size} bytes, not {expected}: {DAMAGED}", store=store)
    return table
