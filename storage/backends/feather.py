"""Feather: one Arrow IPC file, whose columns are mapped into memory as they are.

On disk: ``images.arrow`` in the file format of Arrow IPC, also called Feather V2. Column ``image`` has Arrow's type for
tensors of one shape, *fixed_shape_tensor*: uint8, (H, W, 3), dimensions named H, W and C. Column ``label`` is int64.
The schema's metadata hold the number of images, ``images``. All is in one record batch, uncompressed. The footer is
written last: a file without it is refused.

Why it is fast: the pixels are in the file as they are in memory. One call writes them, a read of everything goes
straight into the result, and a reader copies images out of a memory map without calling Arrow. Other tools see numbers
of a known shape: pyarrow makes an array of (N, H, W, 3) without a copy. Files of more record batches, or compressed
ones, are read one batch at a time. Arrow validates each column before it is touched.

Library: pyarrow (https://arrow.apache.org/docs/python/ipc.html,
https://arrow.apache.org/docs/format/CanonicalExtensions.html#fixed-shape-tensor).
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..arrays import CHANNELS, check_images, make_all, make_array, read_range
from ..contract import Images, Labels
from ..errors import CorruptStoreError, StorageError, reading, writing
from ..limits import check_store
from ..paths import create_file, stat_file
from ..reader import Description, fork_lock
from ._arrow import APPEND, ERRORS, IMAGE, INFO, LABEL, RowGroupReader, count_bytes, view_column

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "store_many"]

FILE = "images.arrow"
BATCH = 384 << 10  # bytes of pixels in a record batch that is compressed: 128 images of CIFAR-10
MAX_LZ4 = 255  # bytes that LZ4 can make of one
COUNT = b"images"
DIMENSIONS = ["H", "W", "C"]


def store_many(store: Path, images: Images, labels: Labels, *, compression: str | None = None) -> None:
    """Store an image set; see `storage.Backend`.

    Parameters
    ----------
    store, images, labels
        As in the contract.
    compression : str, optional
        ``lz4`` or ``zstd``. The images are then cut into record batches, because one is always decompressed as a whole.
    """
    images, labels = check_images(images, labels)
    size = count_bytes(images)
    rows = max(1, BATCH // size) if compression else max(1, len(images))
    with fork_lock, writing(store, pa.ArrowException):
        columns = {IMAGE: _make_tensors(images, size), LABEL: pa.array(labels)}
        table = pa.table(columns).replace_schema_metadata({COUNT: str(len(images))})
        options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
        with pa.OSFile(create_file(store, FILE), APPEND) as file:
            writer = pa.ipc.new_file(file, table.schema, options=options)
            writer.write_table(table, max_chunksize=rows)
            writer.close()  # not a `with` statement, which would write a footer after an error


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), FeatherReader(store) as reader:
        return reader.read_all(out)


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels and labels; see `storage.Backend`."""
    with FeatherReader(store) as reader:
        return {FILE: reader.find_ranges() if reader.is_mapped else []}


class FeatherReader(RowGroupReader):
    """Copies out of a memory map; a file of several record batches, or a compressed one, is decoded instead."""

    def _open(self) -> Description:
        path, _ = stat_file(self.store, FILE)
        with fork_lock, reading(self.store, *ERRORS):
            self._open_source(pa.memory_map(path))
            if not self.is_mapped:  # don't decode from a map: touched pages count as memory of this process
                self._close()
                self._open_source(pa.OSFile(path))
        return Description(self._count, self._shape)

    def _open_source(self, source: Any) -> None:  # noqa: ANN401 - pyarrow.NativeFile
        with ExitStack() as stack:
            self._source = stack.enter_context(source)
            is_map = isinstance(source, pa.MemoryMappedFile)
            self._content = source.read_buffer() if is_map else pa.py_buffer(b"")
            self._batches = _open_file(source)
            schema, number = self._batches.schema, self._batches.num_record_batches
            columns = [schema.get_field_index(name) for name in (IMAGE, LABEL)]
            if min(columns) < 0:
                raise CorruptStoreError(f"{FILE} has no columns image and label", store=self.store)
            tensor, label = (schema.field(column).type for column in columns)
            if label != pa.int64() or not _is_picture(tensor):
                raise CorruptStoreError(f"{FILE} has images of {tensor} and labels of {label}", store=self.store)
            self._label_batches = _open_file(source, columns[1:])
            expected = (schema.metadata or {}).get(COUNT)
            batches = range(number) if expected is None else range(number)[:: max(number - 1, 1)]  # the first, the last
            sizes = [self._label_batches.get_batch(batch).num_rows for batch in batches]
            self._set_groups(sizes, number, *tensor.shape[:2])
            if expected is not None and int(expected) != self._count:
                raise CorruptStoreError(f"{FILE} has {self._count} of {int(expected)} images", store=self.store)
            self._ratio = 1 if is_map else MAX_LZ4
            self.is_mapped = self._groups == 1 and len(self.find_ranges()) == len(columns)
            stack.pop_all()

    def _decode(self, groups: Sequence[int]) -> tuple[Images, Labels]:
        (group,) = groups
        count = self._count_rows(groups)
        with fork_lock, reading(self.store, *ERRORS):
            batch = self._batches.get_batch(group)
            images = view_column(batch.column(IMAGE), np.uint8, (count, *self._shape))
            return images, view_column(batch.column(LABEL), np.int64, (count,))

    def find_ranges(self) -> list[range]:
        """Find the bytes of the first record batch's images and labels in the map, if they are there."""
        starts = [(values.ctypes.data - self._content.address, values.nbytes) for values in self._decode([0])]
        return [range(start, start + size) for start, size in starts if 0 <= start <= self._content.size - size]

    def read_all(self, out: Images | None) -> tuple[Images, Labels]:
        """Read everything, straight into the result if the file isn't compressed."""
        if not self.is_mapped:
            return super().read_all(out)
        images = make_all(self.store, (self._count, *self._shape), out)
        read_range(self.store, self._source.fileno(), self.find_ranges()[0].start, images)
        return images, self._read_labels()

    def _read_labels(self) -> Labels:
        check_store(self.store, self._count * 8, self._ratio)
        labels = make_array(self.store, (self._count,), np.int64)
        with fork_lock, reading(self.store, *ERRORS):
            for group in range(self._groups):
                part = labels[group * self._rows : (group + 1) * self._rows]
                part[...] = view_column(self._label_batches.get_batch(group).column(0), np.int64, part.shape)
        return labels

    def view(self) -> Images:
        """View all images in the map of the file; see `storage.Reader`."""
        self._be_ready()
        if not self._count:
            return np.frombuffer(b"", np.uint8).reshape(0, *self._shape)
        if not self.is_mapped:
            raise StorageError(
                f"{FILE} is compressed or in pieces, so it can't be viewed", store=self.store, hint="use read"
            )
        return self._decode_one(0)[0]

    def _close(self) -> None:
        del self._content, self._batches, self._label_batches
        super()._close()


open_reader = FeatherReader


def _make_tensors(images: Images, size: int) -> Any:  # noqa: ANN401 - pyarrow.FixedShapeTensorArray
    tensor = pa.fixed_shape_tensor(pa.uint8(), images.shape[1:], dim_names=DIMENSIONS)
    pixels = pa.Array.from_buffers(pa.uint8(), images.size, [None, pa.py_buffer(images)])
    return pa.ExtensionArray.from_storage(tensor, pa.FixedSizeListArray.from_arrays(pixels, size))


def _is_picture(tensor: Any) -> bool:  # noqa: ANN401 - pyarrow.DataType
    return (
        isinstance(tensor, pa.FixedShapeTensorType)
        and tensor.value_type == pa.uint8()
        and tensor.permutation in (None, [0, 1, 2])
        and len(tensor.shape) == len(DIMENSIONS)
        and tensor.shape[-1] == CHANNELS
        and tensor.storage_type.list_size == math.prod(tensor.shape)
    )


def _open_file(source: Any, columns: list[int] | None = None) -> Any:  # noqa: ANN401 - of pyarrow
    return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False, included_fields=columns))
