"""What the PNG backends share: a folder of numbered files, and the table of labels beside them."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from storage.checks import CHANNELS, LABEL, Images, Labels, check_index, check_shape
from storage.errors import CorruptStoreError, translate_errors
from storage.paths import claim_store, find_file, join_path

FILE = "labels.csv"
HEADER = re.compile(rb"label,images=(\d{1,12}),height=(\d{1,9}),width=(\d{1,9}),characters=(\d{1,2})\n")
LONGEST_HEADER = 128  # bytes


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
        with translate_errors(store):
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
        As for `translate_errors`.
    """
    with translate_errors(store, *library_errors):
        try:
            folder = os.open(join_path(store, ""), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            find_file(store, FILE)  # says what is wrong
            raise
        try:
            yield folder
        finally:
            os.close(folder)


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
        return os.open(f"{index:08}.png", os.O_RDONLY, dir_fd=folder)
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


def read_file(store: Path, folder: int, index: int, size: int | None = None) -> bytes:
    """Read the file of one image, or as many of its bytes."""
    descriptor = open_image(store, folder, index)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size if size is None else size)
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
        table = _parse_header(store, os.pread(descriptor, LONGEST_HEADER, 0), os.fstat(descriptor).st_size)
        position = check_index(store, index, table.images)
        place = table.start + position * (table.characters + 1)
        label = int(os.pread(descriptor, table.characters, place))
    finally:
        os.close(descriptor)
    if not LABEL.min <= label <= LABEL.max:
        raise CorruptStoreError(f"{store}: {FILE} has a label of more than 64 bits: another program wrote it")
    return table, position, label


def read_labels(store: Path, folder: int) -> tuple[Table, Labels]:
    """Read all labels."""
    descriptor = _open_labels(store, folder)
    with os.fdopen(descriptor, "rb") as file, translate_errors(store, ValueError, OverflowError):
        content = file.read()
        table = _parse_header(store, content, len(content))
        labels = np.array([int(line) for line in content[table.start :].splitlines()], np.int64)
        if len(labels) != table.images:
            raise CorruptStoreError(f"{store}: {FILE} has {len(labels)} labels for {table.images} images")
        return table, labels


def _open_labels(store: Path, folder: int) -> int:
    try:
        return os.open(FILE, os.O_RDONLY, dir_fd=folder)
    except OSError:
        find_file(store, FILE)  # says what is wrong
        raise


def _parse_header(store: Path, head: bytes, size: int) -> Table:
    match = HEADER.match(head)
    if match is None:
        raise CorruptStoreError(f"{store}: {FILE} has no header of ours: another program wrote it, or it is damaged")
    images, height, width, characters = map(int, match.groups())
    table = Table(*check_shape(store, images, height, width), characters, match.end())
    expected = table.start + table.images * (table.characters + 1)
    if size != expected:
        raise CorruptStoreError(f"{store}: {FILE} has {size} bytes, not {expected}: the store was cut short")
    return table
