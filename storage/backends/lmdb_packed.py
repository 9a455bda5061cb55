"""LMDB with many images per record.

On disk: ``data.mdb`` as in `lmdb`, but each record holds as many images as fit into 768 KiB, 256 of CIFAR-10, one after
another; its key is the number of the record, 8 bytes big-endian. The record ``layout`` has a fourth number after width:
how many images a record holds. The last record may hold fewer. Image files are cut into records of 768 KiB wherever
they end: ``file_offsets``, little-endian int64, N + 1 of them, says where each starts in the content of all records,
then where the last one ends. The fourth number is the bytes of a record.

Why it is fast: LMDB puts a value of more than half a page on separate pages, so an image of 3,072 bytes takes 4,096,
and 256 of them take 193 pages instead of 256. Few large values need few calls. A reader asks LMDB for each record once;
then it knows the addresses of the images in the map, and NumPy collects a batch from there in one call. Files are
joined from views of the records.

Library: py-lmdb (https://lmdb.readthedocs.io); the C library's documentation is http://www.lmdb.tech/doc/.
"""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import lmdb
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ..arrays import (
    LABEL,
    check_encoded,
    check_images,
    check_index,
    check_offsets,
    check_range,
    make_all,
    make_array,
    make_result,
    refuse_out,
    view_bytes,
)
from ..contract import ANY_PIXELS, Image, Images, Labels
from ..encoded import Encoded, measure_offsets
from ..errors import CorruptStoreError, reading, writing
from ..filling import report_filled
from ..reader import Description, Reader
from ._lmdb import (
    FILE_OFFSETS,
    INFO,
    PART,
    begin_reading,
    find_pixels,
    read_layout,
    refuse_replacement,
    view_labels,
    write_store,
)
from ._records import Layout, cut_evenly, describe, pack_form, pack_key

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "read_single", "store_many"]

LAYOUT = struct.Struct("<4Q")  # number of images, height, width, images per record
RECORD = 768 << 10  # bytes of images


def read_single(store: Path, index: int) -> tuple[Image | bytes, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with begin_reading(store) as transaction:
        layout = read_layout(store, transaction, LAYOUT)
        position = check_index(store, index, layout.images)
        label = int(view_labels(store, transaction, layout.images)[position])
        view = partial(_view_record, store, transaction, layout)
        if not layout.shape:
            offsets = _view_offsets(store, transaction, layout.images)[position : position + 2]
            check_range(store, position, int(offsets[0]), int(offsets[1]), layout.size)
            return _join(view, layout.record, offsets[:1], offsets[1:]).content.tobytes(), label
        size = layout.image_size
        number, place = divmod(position, layout.record // size)
        pixels = view(number)[place * size : (place + 1) * size].view(layout.dtype)
        return pixels.reshape(layout.shape).copy(), label


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    with writing(store):
        offsets = b""
        if isinstance(images, Encoded):
            labels = check_encoded(images, labels)
            records, per_record = cut_evenly(images.content, RECORD), RECORD
            offsets = images.offsets.astype("<i8", copy=False).tobytes()
        else:
            images, labels = check_images(images, labels, ANY_PIXELS)
            size = math.prod(images.shape[1:]) * images.itemsize
            per_record = max(1, RECORD // size)
            records = cut_evenly(images, per_record * size)
        layout = LAYOUT.pack(*describe(images), per_record) + pack_form(images)
        write_store(store, records, labels, layout, offsets)


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), refuse_replacement(store):
        with begin_reading(store) as transaction:
            layout = read_layout(store, transaction, LAYOUT)
            labels = view_labels(store, transaction, layout.images).astype(np.int64)
            if layout.shape:
                images = make_all(store, (layout.images, *layout.shape), out, layout.dtype)
            else:
                refuse_out(store, out)
                images = make_array(store, (layout.size,))
                offsets = _view_offsets(store, transaction, layout.images).astype(np.int64)
                check_offsets(store, offsets, layout.size)
            numbers, step = range(-(-layout.size // layout.record)), max(1, PART // layout.record)
            _copy_records(store, transaction, layout, numbers[:step], images)
        for start in numbers[step::step]:
            with begin_reading(store) as transaction:
                _copy_records(store, transaction, layout, numbers[start : start + step], images)
        return (images if layout.shape else Encoded(images, offsets)), labels


class LmdbPackedReader(Reader):
    """Reads under one transaction that stays open, and looks each record up once."""

    def _open(self) -> Description:
        with OpenEnvironment() as environment:
            transaction = environment.enter_context(begin_reading(self.store))
            layout = read_layout(self.store, transaction, LAYOUT)
            self._labels = view_labels(self.store, transaction, layout.images)
            if layout.shape:
                self._images = MappedImages(self.store, transaction, layout, environment.pop_all())
            else:
                self._files = MappedFiles(self.store, transaction, layout, environment.pop_all())
        return Description(layout.images, layout.shape, layout.dtype)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        labels = self._labels[positions].astype(np.int64)
        return self._images.collect(positions, out), labels

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        labels = self._labels[positions].astype(np.int64)
        return self._files.collect(positions), labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        return self._images[position].copy(), int(self._labels[position])

    def view(self) -> Images | Sequence[Image] | Sequence[memoryview]:
        """View all images in the map; `numpy.asarray` of a view of pixels copies them into one array."""
        self._be_ready()
        return self._images if self._shape else self._files

    def _read_labels(self) -> Labels:
        return self._labels.astype(np.int64)

    def _close(self) -> None:
        for name in ("_labels", "_images", "_files"):
            vars(self).pop(name, None)


open_reader = LmdbPackedReader


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
        self._per_record = layout.record // layout.image_size
        self._views: dict[int, Images] = {}  # by record
        self._addresses = np.zeros(layout.images, np.int64)  # of the images in memory, 0 if not yet known
        self._first = make_array(store, layout.shape, layout.dtype)  # the image at the lowest of them
        self._places = np.arange(min(self._per_record, layout.images)) * self._first.nbytes
        self._start = self._end = 0  # the lowest address, and the end of the last image
        self._windows = 0, self._first[np.newaxis][:0]  # the lowest address, and an image at each address from there on
        self._looking_up = Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all images."""
        return self._layout.images, *self._layout.shape

    def __len__(self) -> int:
        """Return the number of images."""
        return self._layout.images

    def __getitem__(self, index: int) -> Image:  # type: ignore[override] # no slices: they would need a copy
        """View one image; negative indices count from the end."""
        number, place = divmod(check_index(self._store, index, self._layout.images), self._per_record)
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
        at_once = self._per_record  # as many stay in the processor's cache until they are in `out`
        if out is None and at_once > 1 and positions.size:
            with suppress(MemoryError):  # make_result has a better message
                return self._gather(positions)
        images = make_result(self._store, (len(positions), *self.shape[1:]), out, self._layout.dtype)
        for start in range(0, len(positions), at_once):
            part = slice(start, start + at_once)
            images[part] = self._gather(positions[part]) if at_once > 1 else self[int(positions[start])]
        return images

    def _gather(self, positions: NDArray[np.intp]) -> Images:
        addresses = self._addresses[positions]
        if not addresses.all():
            with self._looking_up:
                self._look_up(np.unique(positions[addresses == 0] // self._per_record))
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
            first = number * self._per_record
            self._addresses[first : first + len(record)] = self._places[: len(record)] + address

    def _find_record(self, number: int) -> Images:
        view = self._views.get(number)
        if view is None:
            record = _view_record(self._store, self._transaction, self._layout, number)
            pixels = np.asarray(_MapView(record, self._environment)).view(self._layout.dtype)
            view = self._views[number] = pixels.reshape(-1, *self.shape[1:])
        return view


class MappedFiles(Sequence[memoryview]):
    """The files of a store in LMDB's map: read-only, and copied only if two records share one, looked up once.

    The map stays open as long as this object, or a file taken from it, is in use.
    """

    def __init__(
        self, store: Path, transaction: lmdb.Transaction, layout: Layout, environment: OpenEnvironment
    ) -> None:
        self._store, self._environment, self._size = store, environment, layout.record
        self._offsets = _view_offsets(store, transaction, layout.images)
        check_offsets(store, self._offsets, layout.size)
        self._view = cache(partial(_view_record, store, transaction, layout))

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> memoryview:  # type: ignore[override] # no slices: they would need a copy
        """View one file; negative indices count from the end."""
        position = check_index(self._store, index, len(self))
        start, end = self._offsets[position : position + 2].tolist()
        number, place = divmod(start, self._size)
        if start < end <= (number + 1) * self._size:
            record = np.asarray(_MapView(self._view(number), self._environment))
            return record.data[place : place + end - start]
        return self.collect(np.array([position]))[0]

    def collect(self, positions: NDArray[np.intp]) -> Encoded:
        """Copy files in the order of `positions`, which are in range."""
        return _join(self._view, self._size, self._offsets[positions], self._offsets[positions + 1])


def _view_offsets(store: Path, transaction: lmdb.Transaction, count: int) -> NDArray[np.int64]:
    record = transaction.get(FILE_OFFSETS, b"")
    if len(record) != LABEL.bits // 8 * (count + 1):
        raise CorruptStoreError(f"there are {len(record)} bytes of offsets for {count} files", store=store)
    return np.frombuffer(record, "<i8")


def _join(
    view: Callable[[int], NDArray[np.uint8]], size: int, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Encoded:
    """Join files from views of the records, of `size` bytes each, in which they are."""
    parts = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        place = start
        while place < end:
            number, first = divmod(place, size)
            parts.append(view(number).data[first : first + end - place])
            place += len(parts[-1])
    return Encoded(np.frombuffer(b"".join(parts), np.uint8), measure_offsets(ends - starts))


def _view_record(store: Path, transaction: lmdb.Transaction, layout: Layout, number: int) -> NDArray[np.uint8]:
    """View the bytes of one record in the map."""
    start = number * layout.record
    end = min(start + layout.record, layout.size)
    try:
        return np.frombuffer(transaction.get(pack_key(number)), np.uint8).reshape(end - start)  # type: ignore[arg-type] # None: missing
    except (TypeError, ValueError, lmdb.Error) as error:
        size = layout.image_size
        what = (
            f"records {start // size} to {end // size - 1}" if layout.shape else f"bytes {start} to {end} of its files"
        )
        raise CorruptStoreError(f"{what} are missing or damaged", store=store) from error


def _copy_records(
    store: Path, transaction: lmdb.Transaction, layout: Layout, numbers: Iterable[int], images: NDArray[Any]
) -> None:
    content = view_bytes(images)
    for number in numbers:
        record = _view_record(store, transaction, layout, number)
        piece = content[number * layout.record :][: len(record)]
        piece[...] = record
        report_filled(piece)
