"""LMDB with many images a record.

On disk: ``data.mdb`` as in `lmdb`, but each record holds as many images as fit 768 KiB, 256 of CIFAR-10, one
after another; its key is the number of the record, 8 bytes big-endian. The record ``layout`` has a fourth number: how
many images a record holds. The last one may hold fewer.

Why it is fast: LMDB puts a value of more than half a page on pages of its own, so an image of 3,072 bytes takes 4,096,
and 256 of them take 193 pages instead of 256. Few large values cost few calls. A reader asks LMDB once for each record.
From then on it knows where in the map the images are, and NumPy collects a batch from there in one call.

Library: py-lmdb (https://lmdb.readthedocs.io); the C library's own documentation is http://www.lmdb.tech/doc/.
"""

from collections.abc import Iterable
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_images, check_index, make_result
from ..contract import Image, Images, Labels
from ..reader import Reader
from ._lmdb import (
    INFO,
    PART,
    append_description,
    append_pixels,
    begin_reading,
    create_environment,
    find_pixels,
    refuse_change,
    view_labels,
)
from ._lmdb_records import LAYOUT, Layout, Lease, Records, read_packed_layout, view_record

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "read_single", "store_many"]

RECORD = 768 << 10  # bytes of pixels


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with begin_reading(store) as transaction:
        layout = read_packed_layout(store, transaction)
        number, place = divmod(check_index(store, index, layout.images), layout.images_per_record)
        label = view_labels(store, transaction, layout.images)[number * layout.images_per_record + place]
        return view_record(store, transaction, layout, number)[place].copy(), int(label)


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    count, height, width, _ = images.shape
    layout = Layout(count, height, width, max(1, RECORD // (height * width * CHANNELS)))
    with create_environment(store, images) as environment:
        append_pixels(environment, images, layout.images_per_record)
        append_description(environment, LAYOUT, layout, labels)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with refuse_change(store):
        with begin_reading(store) as transaction:
            layout = read_packed_layout(store, transaction)
            labels = view_labels(store, transaction, layout.images).astype(np.int64)
            images = make_result(store, layout.shape, out)
            step = max(1, PART // (layout.images_per_record * layout.height * layout.width * CHANNELS))
            _copy_records(store, transaction, layout, layout.records[:step], images)
        for start in layout.records[step::step]:
            with begin_reading(store) as transaction:
                _copy_records(store, transaction, layout, layout.records[start : start + step], images)
    return images, labels


class LmdbPackedReader(Reader):
    """Reads under one transaction that stays open, and looks each record up once."""

    def _open(self) -> tuple[int, int, int]:
        with Lease() as lease:
            transaction = lease.enter_context(begin_reading(self.store))
            layout = read_packed_layout(self.store, transaction)
            self._labels = view_labels(self.store, transaction, layout.images)
            self._records = Records(self.store, transaction, layout, lease.pop_all())
        return layout.images, layout.height, layout.width

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        labels = self._labels[positions].astype(np.int64)
        return self._records.collect(positions, out), labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        return self._records[position].copy(), int(self._labels[position])

    def view(self) -> Records:
        """View all images where they are in the map, without a copy.

        Returns
        -------
        Records
            A sequence of read-only images. `numpy.asarray` of it copies them into one array.
        """
        self._be_ready()
        return self._records

    def _read_labels(self) -> Labels:
        return self._labels.astype(np.int64)

    def _close(self) -> None:
        del self._labels, self._records


open_reader = LmdbPackedReader


def _copy_records(
    store: Path, transaction: lmdb.Transaction, layout: Layout, numbers: Iterable[int], images: Images
) -> None:
    for number in numbers:
        record = view_record(store, transaction, layout, number)
        images[number * layout.images_per_record :][: len(record)] = record
