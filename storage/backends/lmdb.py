"""LMDB: one record per image in a memory-mapped B+ tree.

On disk: ``data.mdb``, one environment with one unnamed database. The key of an image is its index, 8 bytes big-endian,
so LMDB's order is the order of the images, and they are appended instead of inserted. Its value is the raw pixels, or
an image file. Two more records follow: ``labels``, all of them as little-endian integers of 1, 2, 4 or 8 bytes,
whichever is enough, and ``layout``, three little-endian integers of 8 bytes: the number of images, height and width; or
of files, their number, the bytes of all, and 0. Unless pixels are 8-bit RGB, 16 bytes follow: the number of channels,
0 if images have no axis of them, and NumPy's name of the dtype, such as ``float16``, padded with zeros. ``layout`` is
written in the last transaction: a store without it isn't complete.

Why it is fast: images are appended, 1.5 MiB per transaction, and nothing is pickled. There is no lock file, because a
store is never written again. Values are read as views of the map and copied once, into the result.

Library: py-lmdb (https://lmdb.readthedocs.io); the C library's documentation is http://www.lmdb.tech/doc/.
"""

import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray

from ..arrays import check_index, cut_rows, make_all, make_result, refuse_out, view_bytes
from ..contract import Image, Images, Labels
from ..encoded import Content, Encoded
from ..errors import CorruptStoreError, reading, writing
from ..filling import report_filled
from ..reader import Description, Reader
from ._lmdb import (
    INFO,
    PART,
    begin_reading,
    find_pixels,
    read_layout,
    refuse_replacement,
    view_labels,
    write_store,
)
from ._records import Layout, check_set, collect_files, describe, join_files, pack_form, pack_key

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "read_single", "store_many"]

LAYOUT = struct.Struct("<3Q")  # number of images, height, width


def read_single(store: Path, index: int) -> tuple[Image | bytes, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with begin_reading(store, readahead=False) as transaction:  # from a cold disk, one page instead of megabytes
        layout = read_layout(store, transaction, LAYOUT)
        position = check_index(store, index, layout.images)
        label = int(view_labels(store, transaction, layout.images)[position])
        if layout.shape:
            return _copy_record(store, transaction, position, layout), label
        files = join_files(store, layout, [transaction.get(pack_key(position))], [position])
        return files.content.tobytes(), label


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    with writing(store):
        records, labels = check_set(images, labels)
        write_store(store, records, labels, LAYOUT.pack(*describe(images)) + pack_form(images))


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), refuse_replacement(store):
        with begin_reading(store) as transaction:
            layout = read_layout(store, transaction, LAYOUT)
            count, shape, _, size, dtype = layout
            labels = view_labels(store, transaction, count).astype(np.int64)
            if shape:
                images = make_all(store, (count, *shape), out, dtype)
                step = max(1, PART // size)
                _copy_part(store, transaction, 0, images[:step])
        if not shape:
            refuse_out(store, out)
            return collect_files(store, layout, partial(_begin_files, store), PART), labels
        for start in range(step, count, step):
            with begin_reading(store) as transaction:
                _copy_part(store, transaction, start, images[start : start + step])
    return images, labels


class LmdbReader(Reader):
    """Reads under one transaction that stays open."""

    def _open(self) -> Description:
        with ExitStack() as stack:
            self._transaction = stack.enter_context(begin_reading(self.store))
            self._layout = read_layout(self.store, self._transaction, LAYOUT)
            self._labels = view_labels(self.store, self._transaction, self._layout.images)
            self._resources = stack.pop_all()
        return Description(self._layout.images, self._layout.shape, self._layout.dtype)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        labels = self._labels[positions].astype(np.int64)
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        get = self._transaction.get
        with reading(self.store, lmdb.Error):
            _copy_values(self.store, (get(pack_key(position)) for position in positions.tolist()), images)
        return images, labels

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        labels = self._labels[positions].astype(np.int64)
        get = self._transaction.get
        with reading(self.store, lmdb.Error):
            files = (get(pack_key(position)) for position in positions.tolist())
            return join_files(self.store, self._layout, files, positions), labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        return _copy_record(self.store, self._transaction, position, self._layout), int(self._labels[position])

    def _read_labels(self) -> Labels:
        return self._labels.astype(np.int64)

    def _close(self) -> None:
        del self._labels, self._transaction
        self._resources.close()


open_reader = LmdbReader


def _copy_record(store: Path, transaction: lmdb.Transaction, position: int, layout: Layout) -> Image:
    try:
        value = transaction.get(pack_key(position))
        return np.frombuffer(value, layout.dtype).reshape(layout.shape).copy()  # type: ignore[arg-type] # None if it is missing
    except (TypeError, ValueError, lmdb.Error) as error:
        raise CorruptStoreError("it is missing or damaged", store=store, record=position) from error


@contextmanager
def _begin_files(store: Path, start: int) -> Iterator[Iterable[tuple[Content, Content]]]:
    with begin_reading(store) as transaction, transaction.cursor() as cursor:
        cursor.set_key(pack_key(start))
        yield cursor.iternext()


def _copy_part(store: Path, transaction: lmdb.Transaction, start: int, part: Images) -> None:
    with transaction.cursor() as cursor:
        cursor.set_key(pack_key(start))
        values = cursor.iternext(keys=False)
        for piece in cut_rows(part):
            _copy_values(store, islice(values, piece.stop - piece.start), part[piece])
            report_filled(part[piece])
        if len(part) and cursor.key() != pack_key(start + len(part) - 1):
            raise CorruptStoreError(f"a record before {start + len(part)} is missing", store=store)


def _copy_values(store: Path, values: Iterable[bytes | memoryview | None], images: Images) -> None:
    pixels = view_bytes(images).data
    size = images.nbytes // max(len(images), 1)
    start = 0
    try:
        for value in values:
            pixels[start : start + size] = value  # type: ignore[assignment] # None, a TypeError, if it is missing
            start += size
    except (TypeError, ValueError):
        start = -1
    if start != images.nbytes:
        raise CorruptStoreError(f"a record is missing, or isn't {size} bytes long", store=store)
