"""LMDB: one record an image in a memory-mapped B+ tree.

On disk: ``data.mdb``, one environment with one unnamed database. The key of an image is its index, 8 bytes
big-endian, so that LMDB's order is the order of the images and they are appended rather than inserted; its value is
the raw pixels, H x W x 3 bytes. Two more records stand behind the images: ``labels``, all of them as little-endian
integers of 1, 2, 4 or 8 bytes, whichever is enough for all, and ``layout``, the number of images, height and width as
little-endian integers of 8 bytes. ``layout`` is written in the last transaction: a store without it is not complete.

Why it is fast: nothing is pickled; images are appended, 1.5 MiB a transaction; no lock file is kept, because a store is
never written again; and values are read as views of the map and copied once, into the result.

Library: py-lmdb (https://lmdb.readthedocs.io); the C library's own documentation is http://www.lmdb.tech/doc/.
"""

import struct
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import lmdb
import numpy as np
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_images, check_index, make_result
from ..contract import Image, Images, Labels
from ..errors import CorruptStoreError, reading
from ..reader import Reader
from ._lmdb import (
    INFO,
    PART,
    append_description,
    append_pixels,
    begin_reading,
    count_records,
    create_environment,
    find_pixels,
    pack_key,
    read_layout,
    refuse_change,
    view_labels,
)

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "read_single", "store_many"]

LAYOUT = struct.Struct("<3Q")  # number of images, height, width

Value: TypeAlias = bytes | memoryview


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with begin_reading(store, readahead=False) as transaction:  # from a cold disk, one page instead of megabytes
        count, height, width = _read_shape(store, transaction)
        position = check_index(store, index, count)
        image = _copy_record(store, transaction, position, (height, width, CHANNELS))
        return image, int(view_labels(store, transaction, count)[position])


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    with create_environment(store, images) as environment:
        append_pixels(environment, images, images_per_record=1)
        append_description(environment, LAYOUT, images.shape[:3], labels)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with refuse_change(store):
        with begin_reading(store) as transaction:
            count, height, width = _read_shape(store, transaction)
            labels = view_labels(store, transaction, count).astype(np.int64)
            images = make_result(store, (count, height, width, CHANNELS), out)
            step = max(1, PART // (height * width * CHANNELS))
            _copy_part(store, transaction, 0, images[:step])
        for start in range(step, count, step):
            with begin_reading(store) as transaction:
                _copy_part(store, transaction, start, images[start : start + step])
    return images, labels


class LmdbReader(Reader):
    """Reads under one transaction that stays open."""

    def _open(self) -> tuple[int, int, int]:
        with ExitStack() as stack:
            self._transaction = stack.enter_context(begin_reading(self.store))
            shape = _read_shape(self.store, self._transaction)
            self._labels = view_labels(self.store, self._transaction, shape[0])
            self._resources = stack.pop_all()
        return shape

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        labels = self._labels[positions].astype(np.int64)
        images = make_result(self.store, (len(positions), *self._shape), out)
        get = self._transaction.get
        with reading(self.store, lmdb.Error):
            _copy_values(self.store, (get(pack_key(position)) for position in positions.tolist()), images)
        return images, labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        return _copy_record(self.store, self._transaction, position, self._shape), int(self._labels[position])

    def _read_labels(self) -> Labels:
        return self._labels.astype(np.int64)

    def _close(self) -> None:
        del self._labels, self._transaction
        self._resources.close()


open_reader = LmdbReader


def _read_shape(store: Path, transaction: lmdb.Transaction) -> tuple[int, int, int]:
    count, height, width = read_layout(store, transaction, LAYOUT)
    if (
        count_records(transaction) != count
        or len(transaction.get(pack_key(0), b"")) != bool(count) * height * width * 3
    ):
        raise CorruptStoreError(f"{store}: {count} images do not fit the records: store the images again")
    return count, height, width


def _copy_record(store: Path, transaction: lmdb.Transaction, position: int, shape: tuple[int, ...]) -> Image:
    try:
        value = transaction.get(pack_key(position))
        return np.frombuffer(value, np.uint8).reshape(shape).copy()  # type: ignore[arg-type] # no record is None
    except (TypeError, ValueError, lmdb.Error) as error:
        raise CorruptStoreError(f"{store}: record {position} is missing or damaged: store the images again") from error


def _copy_part(store: Path, transaction: lmdb.Transaction, start: int, part: Images) -> None:
    with transaction.cursor() as cursor:
        cursor.set_key(pack_key(start))
        _copy_values(store, islice(cursor.iternext(keys=False), len(part)), part)
        if len(part) and cursor.key() != pack_key(start + len(part) - 1):
            raise CorruptStoreError(f"{store}: a record before {start + len(part)} is missing: store the images again")


def _copy_values(store: Path, values: Iterable[Value | None], images: Images) -> None:
    pixels = images.reshape(-1).data
    size = images.nbytes // max(len(images), 1)
    start = 0
    try:
        for value in values:
            pixels[start : start + size] = value  # type: ignore[assignment] # no record is None: a TypeError
            start += size
    except (TypeError, ValueError):
        start = -1
    if start != images.nbytes:
        raise CorruptStoreError(
            f"{store}: a record is missing or has another size than {size} bytes: store the images again"
        )
