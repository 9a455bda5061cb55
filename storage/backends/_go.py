"""Badger and Bolt share the records of an image set, and their reader.

The key of an image is its index, 8 bytes big-endian; its value is the raw pixels, or an image file, and then the label,
8 bytes little-endian. The record ``metadata``, written last, is three little-endian integers of 8 bytes: the number of
images, height and width; or of files, their number, the bytes of all, and 0. Unless pixels are 8-bit RGB, 16 bytes
follow: the number of channels, 0 if images have no axis of them, and NumPy's name of the dtype. The record
``_offsets``, little-endian int64, says where each file would start if all were joined, then where the last one would
end.
"""

from abc import abstractmethod
from contextlib import ExitStack, suppress

import numpy as np
from numpy.typing import NDArray

from ..arrays import check_offsets, make_all, make_array, make_result, refuse_out
from ..contract import Images, Labels
from ..encoded import Encoded, measure_offsets
from ..errors import reading
from ..filling import report_filled
from ..go_bridge import BridgeError, Records
from ..limits import check_store
from ..reader import Description, Reader
from ._records import (
    FORM,
    NUMBERS,
    Layout,
    RecordSet,
    check_lengths,
    check_set,
    cut_batches,
    describe,
    pack_form,
    unpack_layout,
)

OFFSETS = np.frombuffer(b"_offsets", np.uint8)  # sorts after the key of any image
METADATA = np.frombuffer(b"metadata", np.uint8)  # sorts after that
NOTHING = np.empty(0, np.uint8)
LABEL = np.dtype("<i8")
BATCH = 1_536 << 10  # bytes of images that are put, or scanned, at once
OVERHEAD = 64  # bytes at most that an engine adds to a value
SPARE = 4 << 20  # bytes of addresses for pages of a tree: Bolt dies if it runs out of them


def check_records(images: Images | Encoded, labels: Labels, limit: int, engine: str) -> tuple[RecordSet, Labels]:
    """Refuse what isn't an image set, and records too large for an engine; cut the set into one per image."""
    records, labels = check_set(images, labels)
    lengths = np.append(records.lengths + LABEL.itemsize, records.offsets.nbytes * isinstance(images, Encoded))
    check_lengths(lengths, limit, f"a value of {engine}")
    return records, labels


def write_records(engine: str, path: bytes, images: Images | Encoded, records: RecordSet, labels: Labels) -> None:
    """Write the records of an image set."""
    labels = labels.astype(LABEL, copy=False)
    size = records.content.nbytes + len(records) * (LABEL.itemsize + OVERHEAD)
    with Records(engine, path, 2 * size + SPARE) as opened:
        for numbers in cut_batches(records.offsets, BATCH):
            part = slice(numbers.start, numbers.stop)
            offsets = records.offsets[numbers.start : numbers.stop + 1]
            opened.put(_make_keys(numbers), records.content[offsets[0] : offsets[-1]], labels[part], offsets)
        if isinstance(images, Encoded):
            opened.put(OFFSETS, records.offsets.astype("<i8", copy=False), NOTHING)
        opened.put(METADATA, np.frombuffer(NUMBERS.pack(*describe(images)) + pack_form(images), np.uint8), NOTHING)


class RecordsReader(Reader):
    """Gets a batch with one call."""

    @abstractmethod
    def _open_records(self) -> Records:
        """Open the records of the store."""

    def _open(self) -> Description:
        with reading(self.store, BridgeError), ExitStack() as stack:
            self._records = stack.enter_context(self._open_records())
            layout = self._read_layout()
            self._offsets = np.zeros(1, np.int64)
            last = self._size = layout.image_size
            if not layout.shape:
                self._offsets = make_array(self.store, (layout.images + 1,), "<i8")
                self._records.get(OFFSETS, self._offsets, NOTHING)
                check_offsets(self.store, self._offsets, layout.size)
                last = layout.size - int(self._offsets[-2:][0])
            keys = _make_keys(range(layout.images)[-1:])  # the last one must be there
            self._records.scan_tails(keys, last, np.empty(len(keys), LABEL))
            stack.pop_all()
        return Description(layout.images, layout.shape, layout.dtype)

    def _read_layout(self) -> Layout:
        content = np.empty(NUMBERS.size, np.uint8)
        try:
            self._records.get(METADATA, content, NOTHING)
        except BridgeError:  # maybe the record is longer
            longer = np.empty(NUMBERS.size + FORM.size, np.uint8)
            with suppress(BridgeError):
                self._records.get(METADATA, longer, NOTHING)
                content = longer
            if content is not longer:
                raise
        return unpack_layout(self.store, content.tobytes())[0]

    def read_all(self, out: Images | None) -> tuple[Images | Encoded, Labels]:
        """Read everything, for `read_many`."""
        if self.kind == "encoded":
            refuse_out(self.store, out)
            return self._read_encoded(np.arange(self._count))
        images = make_all(self.store, (self._count, *self._shape), out, self._dtype)
        labels = make_array(self.store, (self._count,), LABEL)
        step = max(1, BATCH // self._size)
        with reading(self.store, BridgeError):
            for start in range(0, self._count, step):
                part = slice(start, start + step)
                keys = _make_keys(range(start, min(start + step, self._count)))
                self._records.scan(keys, images[part], labels[part])
                report_filled(images[part])
        return images, labels.astype(np.int64, copy=False)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        labels = make_array(self.store, (len(positions),), LABEL)
        with reading(self.store, BridgeError):
            self._records.get(positions.astype(">u8"), images, labels)
        return images, labels.astype(np.int64, copy=False)

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        offsets = measure_offsets(self._offsets[positions + 1] - self._offsets[positions])
        content = make_array(self.store, (int(offsets[-1]),))
        labels = make_array(self.store, (len(positions),), LABEL)
        with reading(self.store, BridgeError):
            self._records.get(positions.astype(">u8"), content, labels, offsets)
        return Encoded(content, offsets), labels.astype(np.int64, copy=False)

    def _read_labels(self) -> Labels:
        check_store(self.store, self._count * LABEL.itemsize)
        labels = make_array(self.store, (self._count,), LABEL)
        size, offsets = self._count * self._size, None
        if self.kind == "encoded":
            size, offsets = int(self._offsets[-1]), self._offsets
        with reading(self.store, BridgeError):
            self._records.scan_tails(_make_keys(range(self._count)), size, labels, offsets)
        return labels.astype(np.int64, copy=False)

    def _close(self) -> None:
        with reading(self.store, BridgeError):  # Badger syncs its folder
            self._records.close()


def _make_keys(numbers: range) -> NDArray[np.uint64]:
    return np.arange(numbers.start, numbers.stop, dtype=np.uint64).astype(">u8")
