"""What stores with one record per image share: how records are cut and described, and how image files are joined.

Three numbers describe a store: of pixels, the number of images, height and width; of files, their number, the bytes of
all, and 0. If pixels aren't 8-bit RGB, the number of channels, 0 for images of shape (H, W), and the name of NumPy's
dtype follow. Values are little-endian.
"""

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import (
    BYTE,
    CHANNELS,
    LABEL,
    NAMES,
    check_dtype,
    check_encoded,
    check_images,
    check_shape,
    make_array,
    view_bytes,
)
from ..contract import ANY_PIXELS, Images, Labels
from ..encoded import Content, Encoded
from ..errors import CorruptStoreError, InvalidInputError
from ..limits import check_store

MAX_NUMBER = 1 << 62  # images or bytes, so that NumPy can count them
SPARE = 2  # times the average size of a file: so much memory is kept for each, and used as far as it is needed
MISSING = "it is missing or damaged"

RGB = CHANNELS, "uint8"
NUMBERS = struct.Struct("<3Q")
FORM = struct.Struct("<Q8s")  # the number of channels, and the name of the dtype, padded with zeros

pack_key = struct.Struct(">Q").pack

BeginRecords = Callable[[int], AbstractContextManager[Iterable[tuple[object, Content]]]]


class Layout(NamedTuple):
    """What a store holds: how many images; the shape of each, empty if they are files; bytes of all; of a record.

    `dtype` is that of pixels.
    """

    images: int
    shape: tuple[int, ...]
    size: int
    record: int = 0
    dtype: np.dtype[Any] = BYTE

    @property
    def image_size(self) -> int:
        """The bytes of an image's pixels."""
        return math.prod(self.shape) * self.dtype.itemsize


def describe(images: Images | Encoded) -> tuple[int, ...]:
    """Describe an image set in three numbers."""
    return (len(images), images.content.nbytes, 0) if isinstance(images, Encoded) else images.shape[:3]


def find_form(images: Images | Encoded) -> tuple[int, str]:
    """Find the number of channels, 0 for images of shape (H, W), and the name of the dtype; of files, those of RGB."""
    if isinstance(images, Encoded):
        return RGB
    return (*images.shape, 0)[3], NAMES[images.dtype]


def pack_form(images: Images | Encoded) -> bytes:
    """Write what the three numbers don't tell, if images are neither 8-bit RGB nor files."""
    channels, dtype = find_form(images)
    return b"" if (channels, dtype) == RGB else FORM.pack(channels, dtype.encode())


def unpack_layout(store: Path, content: bytes, numbers: struct.Struct = NUMBERS) -> tuple[Layout, list[int]]:
    """Read the record ``layout``: the three numbers, those that only this backend has, and what `pack_form` wrote."""
    if len(content) not in {numbers.size, numbers.size + FORM.size}:
        raise CorruptStoreError(
            f"there is no record 'layout' of {numbers.size} bytes: it isn't complete, or another backend wrote it",
            store=store,
        )
    images, height, width, *own = numbers.unpack_from(content)
    if len(content) == numbers.size:
        return check_layout(store, images, height, width), own
    channels, dtype = FORM.unpack_from(content, numbers.size)
    return check_layout(store, images, height, width, channels, dtype.rstrip(b"\0").decode("latin-1")), own


def check_layout(
    store: Path, images: object, height: object, width: object, channels: object = CHANNELS, dtype: object = RGB[1]
) -> Layout:
    """Refuse numbers that can't describe an image set, or describe files of far more bytes than the store has."""
    if type(images) is int and type(height) is int and width == 0 and min(images, height) >= 0:
        check_store(store, height + LABEL.bits // 8 * images)
        layout = Layout(images, (), height)
    else:
        images, *shape = check_shape(store, images, height, width, *(() if channels == 0 else (channels,)))
        found = check_dtype(store, dtype)
        layout = Layout(images, tuple(shape), images * math.prod(shape) * found.itemsize, dtype=found)
    if max(layout.images, *layout.shape, layout.size) > MAX_NUMBER:
        raise CorruptStoreError(f"it claims to hold {layout.images} images of {layout.size} bytes", store=store)
    return layout


@dataclass(frozen=True)
class RecordSet:
    """The content of all records, where each starts in it, and where the last one ends: as `Encoded`, but unchecked."""

    content: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The bytes of each record."""
        return self.offsets[1:] - self.offsets[:-1]


def check_set(images: Images | Encoded, labels: Labels) -> tuple[RecordSet, Labels]:
    """Refuse what isn't an image set; cut it into one record per image."""
    if isinstance(images, Encoded):
        return RecordSet(images.content, images.offsets), check_encoded(images, labels)
    images, labels = check_images(images, labels, ANY_PIXELS)
    return cut_evenly(images, math.prod(images.shape[1:]) * images.itemsize), labels


def check_lengths(lengths: NDArray[np.int64], limit: int, what: str) -> None:
    """Refuse a record of more bytes than `what` has at most."""
    longest = int(lengths.max(initial=0))
    if longest > limit:
        raise InvalidInputError(
            f"a record has {longest} bytes, and {what} at most {limit}", hint="choose another backend"
        )


def cut_evenly(content: NDArray[Any], size: int) -> RecordSet:
    """Cut an array into records of `size` bytes; the last one may have fewer."""
    offsets = np.arange(0, content.nbytes + size, size)
    offsets[-1] = content.nbytes
    return RecordSet(view_bytes(content), offsets)


def cut_batches(offsets: NDArray[np.int64], limit: int) -> Iterator[range]:
    """Cut records into batches of at most `limit` bytes and as many empty records, or of one record."""
    start, count = 0, len(offsets) - 1
    while start < count:
        stop = int(np.searchsorted(offsets, offsets[start] + limit, "right")) - 1
        batch = range(start, max(start + 1, min(stop, start + limit)))
        yield batch
        start = batch.stop


def view_records(records: RecordSet, numbers: range) -> list[memoryview]:
    """View some records that follow each other; faster than one by one."""
    content = records.content.data
    bounds = records.offsets[numbers.start : numbers.stop + 1].tolist()
    return [content[start:end] for start, end in pairwise(bounds)]


def join_files(
    store: Path, layout: Layout, files: Iterable[Content | None], positions: Sequence[int] | NDArray[np.intp]
) -> Encoded:
    """Copy the files at `positions` one by one, so that the memory of each is used again; None is a missing one."""
    buffer = make_array(store, (SPARE * len(positions) * layout.size // max(layout.images, 1),))
    out, ends = buffer.data, [0]
    for number, file in enumerate(files):
        if file is None or len(file) > layout.size:  # a damaged one may be said to be longer than all
            raise CorruptStoreError(MISSING, store=store, record=int(positions[number]))
        start, end = ends[-1], ends[-1] + len(file)
        if end > len(out):
            buffer = np.concatenate((buffer[:start], make_array(store, (end,))))
            out = buffer.data
        out[start:end] = file
        ends.append(end)
    return Encoded(buffer[: ends[-1]], np.array(ends, np.int64))


def collect_files(store: Path, layout: Layout, begin: BeginRecords, part: int) -> Encoded:
    """Copy all files; `begin` yields keys and files from a number on, and is called again after each `part` bytes."""
    content = make_array(store, (layout.size,))
    out, ends = content.data, [0]
    while len(ends) <= layout.images:
        first, limit = len(ends), ends[-1] + part
        with begin(first - 1) as records:
            for number, (key, file) in enumerate(records, first):
                if key != pack_key(number - 1) or len(file) > layout.size - ends[-1]:
                    break
                out[ends[-1] : ends[-1] + len(file)] = file
                ends.append(ends[-1] + len(file))
                if ends[-1] >= limit:
                    break
        if len(ends) == first:
            raise CorruptStoreError(MISSING, store=store, record=first - 1)
    if ends[-1] != layout.size:
        raise CorruptStoreError(f"its files have {ends[-1]} bytes, not {layout.size}", store=store)
    return Encoded(content, np.array(ends, np.int64))
