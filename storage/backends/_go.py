"""Badger and Bolt share the records of an image set, and their reader.

The key of an image is its index, 8 bytes big-endian; its value is the raw pixels and then the label, 8 bytes
little-endian. The record ``metadata``, the number of images, height and width as little-endian integers of 8 bytes, is
written last.
"""

from abc import abstractmethod
from contextlib import ExitStack
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_images, check_shape, make_all, make_array, make_result
from ..contract import Images, Labels
from ..errors import InvalidInputError, reading
from ..go_bridge import BridgeError, Records
from ..limits import check_store
from ..reader import Description, Reader

METADATA = np.frombuffer(b"metadata", np.uint8)  # sorts after the key of any image
NOTHING = np.empty(0, np.uint8)
BATCH = 1_536 << 10  # bytes of pixels that are put, or scanned, at once
MAX_IMAGE = 1 << 30  # bytes
OVERHEAD = 64  # bytes at most that an engine adds to a value
SPARE = 4 << 20  # bytes of addresses for pages of a tree: Bolt dies if it runs out of them


def check_set(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """Refuse what isn't an image set, and images too large for Badger's log or a page of Bolt."""
    images, labels = check_images(images, labels)
    size = prod(images.shape[1:])
    if size > MAX_IMAGE:
        raise InvalidInputError(
            f"an image has {size} bytes, and a record at most {MAX_IMAGE}", hint="choose another backend"
        )
    return images, labels


def write_records(engine: str, path: bytes, images: Images, labels: Labels) -> None:
    """Write the records of an image set."""
    size = prod(images.shape[1:])
    step = max(1, BATCH // size)
    labels = labels.astype("<i8", copy=False)
    with Records(engine, path, 2 * len(images) * (size + OVERHEAD) + SPARE) as records:
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            records.put(_make_keys(start, min(start + step, len(images))), images[part], labels[part])
        records.put(METADATA, np.array(images.shape[:3], "<u8"), NOTHING)


class RecordsReader(Reader):
    """Gets a batch with one call."""

    @abstractmethod
    def _open_records(self) -> Records:
        """Open the records of the store."""

    def _open(self) -> Description:
        with reading(self.store, BridgeError), ExitStack() as stack:
            self._records = stack.enter_context(self._open_records())
            numbers = np.empty(3, "<u8")
            self._records.get(METADATA, numbers, NOTHING)
            count, height, width = check_shape(self.store, *numbers.tolist())
            if count:  # the last one must be there
                size = height * width * CHANNELS
                self._records.scan_tails(_make_keys(count - 1, count), size, np.empty(1, "<i8"))
            stack.pop_all()
        return Description(count, (height, width, CHANNELS))

    def read_all(self, out: Images | None) -> tuple[Images, Labels]:
        """Read everything, for `read_many`."""
        images = make_all(self.store, (self._count, *self._shape), out)
        labels = make_array(self.store, (self._count,), "<i8")
        step = max(1, BATCH // prod(self._shape))
        with reading(self.store, BridgeError):
            for start in range(0, self._count, step):
                part = slice(start, start + step)
                self._records.scan(_make_keys(start, min(start + step, self._count)), images[part], labels[part])
        return images, labels.astype(np.int64, copy=False)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out)
        labels = make_array(self.store, (len(positions),), "<i8")
        with reading(self.store, BridgeError):
            self._records.get(positions.astype(">u8"), images, labels)
        return images, labels.astype(np.int64, copy=False)

    def _read_labels(self) -> Labels:
        check_store(self.store, self._count * 8)
        labels = make_array(self.store, (self._count,), "<i8")
        with reading(self.store, BridgeError):
            self._records.scan_tails(_make_keys(0, self._count), prod(self._shape), labels)
        return labels.astype(np.int64, copy=False)

    def _close(self) -> None:
        with reading(self.store, BridgeError):
            self._records.close()


def _make_keys(start: int, stop: int) -> NDArray[np.uint64]:
    return np.arange(start, stop, dtype=np.uint64).astype(">u8")
