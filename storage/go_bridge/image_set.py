"""What the backends over the Go bridge share: the records of an image set, and their reader.

The key of an image is its index, 8 bytes big-endian; its value is the raw pixels and then the label, 8 bytes
little-endian. The record ``metadata``, the number of images, height and width as little-endian integers of 8 bytes, is
written last.
"""

from abc import abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_index, check_shape, make_array, make_result
from ..contract import Image, Images, Labels
from ..errors import InvalidInputError, reading
from ..reader import Reader
from . import BridgeError, Records

METADATA = np.frombuffer(b"metadata", np.uint8)  # behind the key of any image
NOTHING = np.empty(0, np.uint8)
BATCH = 1_536 << 10  # bytes of pixels that are put, or scanned, at once
LARGEST = 1 << 30  # bytes of an image
RECORD = 64  # bytes at most that an engine adds to a value
SPARE = 4 << 20  # bytes of addresses for pages of a tree: Bolt dies if it needs more, and gets none


def count_bytes(images: Images) -> int:
    """Count the bytes of one image; an `InvalidInputError` if Badger's log, or a page of Bolt, may not hold them."""
    size = images.nbytes // max(len(images), 1)
    if size > LARGEST:
        raise InvalidInputError(f"an image has {size} bytes, a record at most {LARGEST}: choose another backend")
    return size


def write_image_set(engine: str, path: bytes, images: Images, labels: Labels) -> None:
    """Write the records of an image set; what says that they are complete is written last."""
    size = count_bytes(images)
    step = max(1, BATCH // max(size, 1))
    labels = labels.astype("<i8", copy=False)
    with Records(engine, path, 2 * len(images) * (size + RECORD) + SPARE) as records:
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            records.put(_make_keys(start, min(start + step, len(images))), images[part], labels[part])
        records.put(METADATA, np.array(images.shape[:3], "<u8"), NOTHING)


def read_shape(store: Path, records: Records) -> tuple[int, int, int]:
    """Read how many images there are, their height and their width; the last one must be there."""
    numbers = np.empty(3, "<u8")
    records.get(METADATA, numbers, NOTHING)
    count, height, width = check_shape(store, *numbers.tolist())
    if count:
        records.scan_tails(_make_keys(count - 1, count), height * width * CHANNELS, np.empty(1, "<i8"))
    return count, height, width


def read_image(store: Path, records: Records, index: int) -> tuple[Image, int]:
    """Read one image and its label."""
    count, height, width = read_shape(store, records)
    position = check_index(store, index, count)
    image, label = make_array(store, (height, width, CHANNELS)), np.empty(1, "<i8")
    records.get(_make_keys(position, position + 1), image, label)
    return image, int(label[0])


def read_image_set(store: Path, records: Records, out: Images | None) -> tuple[Images, Labels]:
    """Read all images and labels."""
    count, height, width = read_shape(store, records)
    images = make_result(store, (count, height, width, CHANNELS), out)
    labels = make_array(store, (count,), "<i8")
    step = max(1, BATCH // (height * width * CHANNELS))
    for start in range(0, count, step):
        part = slice(start, start + step)
        records.scan(_make_keys(start, min(start + step, count)), images[part], labels[part])
    return images, labels.astype(np.int64, copy=False)


class RecordsReader(Reader):
    """Gets a batch with one call."""

    @abstractmethod
    def _open_records(self) -> Records:
        """Open the records of the store."""

    def _open(self) -> tuple[int, int, int]:
        records = self._open_records()
        try:
            with reading(self.store, BridgeError):
                shape = read_shape(self.store, records)
        except BaseException:
            records.close()
            raise
        self._records = records
        return shape

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out)
        labels = make_array(self.store, (len(positions),), "<i8")
        with reading(self.store, BridgeError):
            self._records.get(positions.astype(">u8"), images, labels)
        return images, labels.astype(np.int64, copy=False)

    def _read_labels(self) -> Labels:
        labels = make_array(self.store, (self._count,), "<i8")
        height, width, channels = self._shape
        with reading(self.store, BridgeError):
            self._records.scan_tails(_make_keys(0, self._count), height * width * channels, labels)
        return labels.astype(np.int64, copy=False)

    def _close(self) -> None:
        self._records.close()


def _make_keys(start: int, stop: int) -> NDArray[np.uint64]:
    return np.arange(start, stop, dtype=np.uint64).astype(">u8")
