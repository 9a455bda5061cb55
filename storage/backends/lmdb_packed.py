"""LMDB with many images per record.

On disk: ``data.mdb`` as in `lmdb`, but each record holds as many images as fit into 768 KiB, 256 of CIFAR-10, one after
another; its key is the number of the record, 8 bytes big-endian. The record ``layout`` has a fourth number: how many
images a record holds. The last record may hold fewer.

Why it is fast: LMDB puts a value of more than half a page on separate pages, so an image of 3,072 bytes takes 4,096,
and 256 of them take 193 pages instead of 256. Few large values need few calls. A reader asks LMDB for each record once;
then it knows the addresses of the images in the map, and NumPy collects a batch from there in one call.

Library: py-lmdb (https://lmdb.readthedocs.io); the C library's documentation is http://www.lmdb.tech/doc/.
"""

import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import lmdb
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_images, check_index, make_all, make_array, make_result
from ..contract import Image, Images, Labels
from ..errors import CorruptStoreError
from ..reader import Description, Reader
from ._lmdb import (
    INFO,
    PART,
    begin_reading,
    find_pixels,
    pack_key,
    read_layout,
    refuse_replacement,
    view_labels,
    write_store,
)

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "read_single", "store_many"]

LAYOUT = struct.Struct("<4Q")  # number of images, height, width, images per record
RECORD = 768 << 10  # bytes of pixels


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with begin_reading(store) as transaction:
        layout = Layout(*read_layout(store, transaction, LAYOUT))
        position = check_index(store, index, layout.images)
        number, place = divmod(position, layout.images_per_record)
        label = view_labels(store, transaction, layout.images)[position]
        return _view_record(store, transaction, layout, number)[place].copy(), int(label)


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    count, height, width, _ = images.shape
    layout = Layout(count, height, width, max(1, RECORD // (height * width * CHANNELS)))
    write_store(store, images, labels, LAYOUT.pack(*layout), layout.images_per_record)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with refuse_replacement(store):
        with begin_reading(store) as transaction:
            layout = Layout(*read_layout(store, transaction, LAYOUT))
            labels = view_labels(store, transaction, layout.images).astype(np.int64)
            images = make_all(store, layout.shape, out)
            step = max(1, PART // (layout.images_per_record * layout.height * layout.width * CHANNELS))
            _copy_records(store, transaction, layout, layout.records[:step], images)
        for start in layout.records[step::step]:
            with begin_reading(store) as transaction:
                _copy_records(store, transaction, layout, layout.records[start : start + step], images)
    return images, labels


class LmdbPackedReader(Reader):
    """Reads under one transaction that stays open, and looks each record up once."""

    def _open(self) -> Description:
        with OpenEnvironment() as environment:
            transaction = environment.enter_context(begin_reading(self.store))
            layout = Layout(*read_layout(self.store, transaction, LAYOUT))
            self._labels = view_labels(self.store, transaction, layout.images)
            self._images = MappedImages(self.store, transaction, layout, environment.pop_all())
        return Description(layout.images, (layout.height, layout.width, CHANNELS))

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        labels = self._labels[positions].astype(np.int64)
        return self._images.collect(positions, out), labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        return self._images[position].copy(), int(self._labels[position])

    def view(self) -> "MappedImages":
        """View all images in the map, without a copy; `numpy.asarray` of the view copies them into one array."""
        self._be_ready()
        return self._images

    def _read_labels(self) -> Labels:
        return self._labels.astype(np.int64)

    def _close(self) -> None:
        del self._labels, self._images


open_reader = LmdbPackedReader


class Layout(NamedTuple):
    """The numbers in the record ``layout``."""

    images: int
    height: int
    width: int
    images_per_record: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all images."""
        return self.images, self.height, self.width, CHANNELS

    @property
    def records(self) -> range:
        """Numbers of the records that hold pixels."""
        return range(-(-self.images // self.images_per_record))


class OpenEnvironment(ExitStack):
    """Keeps an environment open as long as anything refers to its map."""

    def __del__(self) -> None:
        """Close it: nothing refers to the map any more."""
        self.close()


class _MapView:
    """NumPy makes an array of this that keeps the environment open."""

    def __init__(self, array: NDArray[np.uint8], environment: OpenEnvironment) -> None:
        self.__array_interface__ = array.__array_interface__
        self._environment = environment


class MappedImages(Sequence[Image]):
    """The images of a store in LMDB's map: read-only, not copied, looked up once per record.

    The map stays open as long as this object, or an image taken from it, is in use.
    """

    def __init__(
        self, store: Path, transaction: lmdb.Transaction, layout: Layout, environment: OpenEnvironment
    ) -> None:
        self._store, self._transaction, self._layout, self._environment = store, transaction, layout, environment
        self._views: dict[int, Images] = {}  # by record
        self._addresses = np.zeros(layout.images, np.int64)  # of the images in memory, 0 if not yet known
        self._first = make_array(store, layout.shape[1:])  # the image at the lowest of them
        self._places = np.arange(min(layout.images_per_record, layout.images)) * self._first.nbytes
        self._start = self._end = 0  # the lowest address, and the end of the last image
        self._windows = 0, self._first[np.newaxis][:0]  # the lowest address, and an image at each address from there on
        self._looking_up = Lock()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all images."""
        return self._layout.shape

    def __len__(self) -> int:
        """Return the number of images."""
        return self._layout.images

    def __getitem__(self, index: int) -> Image:  # type: ignore[override] # no slices: they would need a copy
        """View one image, shape (H, W, 3); negative indices count from the end."""
        number, place = divmod(check_index(self._store, index, self._layout.images), self._layout.images_per_record)
        image: Image = self._find_record(number)[place]
        return image

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:  # noqa: ANN401 - as NumPy calls it
        """Copy all images into one array."""
        if copy is False:
            raise ValueError("the images don't lie side by side: an array of them is a copy")
        images = self.collect(np.arange(len(self)))
        return images if dtype is None else images.astype(dtype)

    def collect(self, positions: NDArray[np.intp], out: Images | None = None) -> Images:
        """Copy images into `out` or a fresh array, in the order of `positions`, which are in range."""
        at_once = self._layout.images_per_record  # as many stay in the processor's cache until they are in `out`
        if out is None and at_once > 1 and positions.size:
            with suppress(MemoryError):  # make_result has a better message
                return self._gather(positions)
        images = make_result(self._store, (len(positions), *self.shape[1:]), out)
        for start in range(0, len(positions), at_once):
            part = slice(start, start + at_once)
            images[part] = self._gather(positions[part]) if at_once > 1 else self[int(positions[start])]
        return images

    def _gather(self, positions: NDArray[np.intp]) -> Images:
        addresses = self._addresses[positions]
        if not addresses.all():
            with self._looking_up:
                self._look_up(np.unique(positions[addresses == 0] // self._layout.images_per_record))
            addresses = self._addresses[positions]
        start, images = self._windows  # taken after the addresses: another thread may have stretched them
        return images[addresses - start]

    def _look_up(self, numbers: NDArray[np.intp]) -> None:
        """Stretch the windows over these records: all lie in one map, so their distances in memory are fixed."""
        records = [self._find_record(number) for number in numbers.tolist()]
        addresses: list[int] = [record.__array_interface__["data"][0] for record in records]
        lowest = min(addresses)
        if not self._end or lowest < self._start:
            self._start, self._first = lowest, records[addresses.index(lowest)][0]
        ends = [
            address + int(self._places[len(record) - 1]) for address, record in zip(addresses, records, strict=True)
        ]
        self._end = max(self._end, *ends)
        shape = self._end - self._start + 1, *self._first.shape
        self._windows = self._start, as_strided(self._first, shape, (1, *self._first.strides), writeable=False)
        # Only now: a thread that finds an address doesn't check whether the windows reach it.
        for number, address, record in zip(numbers.tolist(), addresses, records, strict=True):
            first = number * self._layout.images_per_record
            self._addresses[first : first + len(record)] = self._places[: len(record)] + address

    def _find_record(self, number: int) -> Images:
        view = self._views.get(number)
        if view is None:
            record = _view_record(self._store, self._transaction, self._layout, number)
            view = self._views[number] = np.asarray(_MapView(record, self._environment))
        return view


def _view_record(store: Path, transaction: lmdb.Transaction, layout: Layout, number: int) -> Images:
    """View one record in the map, shape (n, H, W, 3)."""
    start = number * layout.images_per_record
    count = min(layout.images_per_record, layout.images - start)
    try:
        value = transaction.get(pack_key(number))
        return np.frombuffer(value, np.uint8).reshape(count, *layout.shape[1:])  # type: ignore[arg-type] # None: missing
    except (TypeError, ValueError, lmdb.Error) as error:
        last = start + count - 1
        raise CorruptStoreError(f"records {start} to {last} are missing or damaged", store=store) from error


def _copy_records(
    store: Path, transaction: lmdb.Transaction, layout: Layout, numbers: Iterable[int], images: Images
) -> None:
    for number in numbers:
        record = _view_record(store, transaction, layout, number)
        images[number * layout.images_per_record :][: len(record)] = record
