"""What the PNG backends share: a folder of numbered files, and the table of labels beside them."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..arrays import CHANNELS, LABEL, check_index, check_shape, make_array, read_range
from ..contract import Images, Labels
from ..errors import CorruptStoreError, StorageError, reading, writing
from ..paths import claim_store, find_file, join_path

FILE = "labels.csv"
HEADER = re.compile(rb"label,images=(\d{1,12}),height=(\d{1,9}),width=(\d{1,9}),characters=([1-9]\d?)\n")
LINES = re.compile(rb"(?: *+-?\d++\n)*+")
LONGEST_HEADER = 128  # bytes
MOST_PIXELS = 1032  # bytes that deflate makes of one
MOST_OTHERS = 1 << 20  # bytes of comments and the like
OPEN = os.O_RDONLY | os.O_NONBLOCK  # a pipe in a file's place must not make us wait


class Table(NamedTuple):
    """What the header of ``labels.csv`` says, and how long the header is."""

    images: int
    height: int
    width: int
    characters: int
    start: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all images."""
        return self.images, self.height, self.width, CHANNELS


@contextmanager
def create_folder(store: Path) -> Iterator[int]:
    """Claim a new store and open it; yield the descriptor in which files are created."""
    folder = os.open(claim_store(store), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with writing(store):
            yield folder
    finally:
        os.close(folder)


@contextmanager
def open_folder(store: Path, *library_errors: type[Exception]) -> Iterator[int]:
    """Open a store; yield the descriptor in which its files are found.

    Parameters
    ----------
    store : Path
    *library_errors : type[Exception]
        As for `reading`.
    """
    with reading(store, *library_errors):
        try:
            folder = os.open(join_path(store, ""), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            find_file(store, FILE)  # says what is wrong
            raise
        try:
            yield folder
        finally:
            os.close(folder)


def name_lack_of_memory(store: Path) -> StorageError:
    """Make the error that stands for a `MemoryError` about `store`."""
    return StorageError(
        f"{store}: its images do not fit in memory: read fewer at a time, through open_reader; if they should be "
        "smaller, the store is damaged"
    )


def write_file(folder: int, name: str, content: bytes | memoryview) -> None:
    """Write a new file.

    Parameters
    ----------
    folder : int
        Descriptor of the directory.
    name : str
        No file has it yet.
    content : bytes or memoryview
    """
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)


def open_image(store: Path, folder: int, index: int) -> int:
    """Open the file of one image; return its descriptor."""
    try:
        return os.open(f"{index:08}.png", OPEN, dir_fd=folder)
    except FileNotFoundError:
        raise CorruptStoreError(
            f"{store}: {index:08}.png is missing: the store is not complete: store the images again"
        ) from None


def measure_file(store: Path, folder: int, index: int) -> int:
    """Return how many bytes the file of one image has."""
    descriptor = open_image(store, folder, index)
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def read_start(store: Path, folder: int, index: int, size: int) -> bytes:
    """Read the file of one image, or as many of its bytes."""
    descriptor = open_image(store, folder, index)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def read_file(store: Path, folder: int, index: int, pixels: int) -> bytes:
    """Read the file of one image.

    Parameters
    ----------
    store : Path
        The store, for messages.
    folder : int
        Its descriptor.
    index : int
        Which image.
    pixels : int
        Bytes of the image in memory.

    Returns
    -------
    bytes

    Raises
    ------
    CorruptStoreError
        The file is missing, or it is far too short or too long for so many pixels; then it was not read.
    """
    descriptor = open_image(store, folder, index)
    try:
        size = os.fstat(descriptor).st_size
        if size * MOST_PIXELS < pixels or size > 4 * pixels + MOST_OTHERS:
            raise CorruptStoreError(
                f"{store}: {index:08}.png has {size} bytes, which hold no {pixels} bytes of pixels: it is damaged, or "
                "another program wrote it"
            )
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def write_labels(folder: int, images: Images, labels: Labels) -> None:
    """Write ``labels.csv``; it marks the store as complete."""
    lines = [str(label) for label in labels.tolist()]
    characters = max(map(len, lines), default=1)
    count, height, width, _ = images.shape
    header = f"label,images={count},height={height},width={width},characters={characters}\n"
    write_file(folder, FILE, (header + "".join(f"{line:>{characters}}\n" for line in lines)).encode("ascii"))


def read_label(store: Path, folder: int, index: int) -> tuple[Table, int, int]:
    """Read one label.

    Parameters
    ----------
    store : Path
        The store, for messages.
    folder : int
        Its descriptor.
    index : int
        Negative ones count from the end.

    Returns
    -------
    table : Table
    position : int
        The index from the start.
    label : int
    """
    descriptor = _open_labels(store, folder)
    try:
        table = _read_table(store, descriptor)
        position = check_index(store, index, table.images)
        length = table.characters + 1
        line = os.pread(descriptor, length, table.start + position * length)
    finally:
        os.close(descriptor)
    label = int(line) if LINES.fullmatch(line) else LABEL.max + 1
    if not LABEL.min <= label <= LABEL.max:
        raise CorruptStoreError(f"{store}: {FILE} has {line!r} for a label: another program wrote it, or it is damaged")
    return table, position, label


def read_labels(store: Path, folder: int) -> tuple[Table, Labels]:
    """Read all labels."""
    descriptor = _open_labels(store, folder)
    try:
        table = _read_table(store, descriptor)
        lines = make_array(store, (table.images, table.characters + 1))
        read_range(store, descriptor, table.start, lines)
    finally:
        os.close(descriptor)
    try:
        if LINES.fullmatch(lines.data) is not None and (lines[:, -1] == ord("\n")).all():
            return table, lines.view(f"S{table.characters + 1}").reshape(-1).astype(np.int64)
    except (ValueError, OverflowError):
        pass  # a number of more than 64 bits
    raise CorruptStoreError(f"{store}: {FILE} has other lines than ours: another program wrote it, or it is damaged")


def find_lines(store: Path, folder: int) -> dict[str, list[range]]:
    """Find the bytes of the labels in ``labels.csv``, behind its header."""
    descriptor = _open_labels(store, folder)
    try:
        return {FILE: [range(_read_table(store, descriptor).start, os.fstat(descriptor).st_size)]}
    finally:
        os.close(descriptor)


def _open_labels(store: Path, folder: int) -> int:
    try:
        return os.open(FILE, OPEN, dir_fd=folder)
    except OSError:
        find_file(store, FILE)  # says what is wrong
        raise


def _read_table(store: Path, descriptor: int) -> Table:
    status = os.fstat(descriptor)
    match = HEADER.match(os.pread(descriptor, LONGEST_HEADER, 0)) if stat.S_ISREG(status.st_mode) else None
    if match is None:
        raise CorruptStoreError(f"{store}: {FILE} has no header of ours: another program wrote it, or it is damaged")
    images, height, width, characters = map(int, match.groups())
    table = Table(*check_shape(store, images, height, width), characters, match.end())
    expected = table.start + table.images * (table.characters + 1)
    if status.st_size != expected:
        raise CorruptStoreError(f"{store}: {FILE} has {status.st_size} bytes, not {expected}: the store is damaged")
    return table
