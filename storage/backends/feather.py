"""Feather: one Arrow IPC file, whose columns are mapped into memory as they are.

On disk: ``images.arrow`` in the file format of Arrow IPC, also called Feather V2. Column ``image`` has Arrow's type for
tensors of one shape, *fixed_shape_tensor*, of the pixels' dtype, with dimensions named H, W and, if there are
channels, C. Column ``label`` is int64.
The schema's metadata hold the number of images, ``images``. All is in one record batch, uncompressed. The footer is
written last: a file without it is refused. Image files are a column ``image`` of type *large_binary*: one buffer with
all of them, and 64-bit offsets, so neither a file nor all of them together reach a limit.

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
from numpy.typing import NDArray

from ..arrays import (
    ANY_PIXELS,
    DTYPES,
    Image,
    check_encoded,
    check_images,
    check_offsets,
    make_all,
    make_array,
    read_range,
    read_result,
    take_files,
)
from ..contract import Images, Labels, Records
from ..encoded import Encoded
from ..errors import CorruptStoreError, StorageError, reading, writing
from ..limits import check_store
from ..paths import create_file, stat_file
from ..reader import Description, fork_lock
from ._arrow import APPEND, ERRORS, IMAGE, INFO, LABEL, RowGroupReader, count_bytes, make_files, view_column

__all__ = ["INFO", "find_pixels", "find_records", "open_reader", "read_many", "store_many"]

FILE = "images.arrow"
BATCH = 384 << 10  # bytes of images in a record batch that is compressed: 128 images of CIFAR-10
MAX_IMAGE = 2**31 - 1  # bytes: Arrow counts the numbers in a list of fixed size in 32 bits
MAX_LZ4 = 255  # bytes that LZ4 can make of one
COUNT = b"images"
DIMENSIONS = ["H", "W", "C"]
OFFSETS: dict[Any, np.dtype[Any]] = {pa.binary(): np.dtype("<i4"), pa.large_binary(): np.dtype("<i8")}


def store_many(store: Path, images: Images | Encoded, labels: Labels, *, compression: str | None = None) -> None:
    """Store an image set; see `storage.Backend`.

    Parameters
    ----------
    store, images, labels
        As in the contract.
    compression : str, optional
        ``lz4`` or ``zstd``. The images are then cut into record batches, because one is always decompressed as a whole.
        Each has as many image files as have the right size on average.
    """
    if isinstance(images, Encoded):
        labels = check_encoded(images, labels)
        size = max(1, len(images.content) // max(1, len(images)))
    else:
        images, labels = check_images(images, labels, ANY_PIXELS)
        size = count_bytes(images, MAX_IMAGE, "a list of Arrow")
    rows = max(1, BATCH // size) if compression else max(1, len(images))
    with fork_lock, writing(store, pa.ArrowException):
        column = make_files(images) if isinstance(images, Encoded) else _make_tensors(images)
        table = pa.table({IMAGE: column, LABEL: pa.array(labels)}).replace_schema_metadata({COUNT: str(len(images))})
        options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False, allow_64bit=True)
        with pa.OSFile(create_file(store, FILE), APPEND) as file:
            writer = pa.ipc.new_file(file, table.schema, options=options)
            writer.write_table(table, max_chunksize=rows)
            writer.close()  # not a `with` statement, which would write a footer after an error


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), FeatherReader(store) as reader:
        return reader.read_all(out)


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels and labels; see `storage.Backend`."""
    with FeatherReader(store) as reader:
        return {FILE: reader.find_ranges() if reader.is_mapped else []}


def find_records(store: Path) -> list[Records]:
    """Find the bytes of each image in a file that is mapped; see `storage.Backend`."""
    with FeatherReader(store) as reader:
        return reader.find_records() if reader.is_mapped else []


class FeatherReader(RowGroupReader):
    """Copies out of a memory map; a file of several record batches, or a compressed one, is decoded instead."""

    def _open(self) -> Description:
        path, _ = stat_file(self.store, FILE)
        with fork_lock, reading(self.store, *ERRORS):
            self._open_source(pa.memory_map(path))
            if not self.is_mapped:  # don't decode from a map: touched pages count as memory of this process
                self._close()
                self._open_source(pa.OSFile(path))
        return Description(self._count, self._shape, self._dtype)

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
            image, label = (schema.field(column).type for column in columns)
            if label != pa.int64() or not (image in OFFSETS or _is_picture(image)):
                raise CorruptStoreError(f"{FILE} has images of {image} and labels of {label}", store=self.store)
            expected = (schema.metadata or {}).get(COUNT)
            if number == 1:
                only = self._batches.get_batch(0)
                sizes = [only.num_rows]
            else:  # opened a second time, which takes as long as all the rest, to decompress labels alone
                self._label_batches = _open_file(source, columns[1:])
                batches = range(number) if expected is None else range(number)[:: max(number - 1, 1)]  # first and last
                sizes = [self._label_batches.get_batch(batch).num_rows for batch in batches]
            self._set_groups(sizes, number, *(() if image in OFFSETS else (tuple(image.shape), _find_dtype(image))))
            if expected is not None and int(expected) != self._count:
                raise CorruptStoreError(f"{FILE} has {self._count} of {int(expected)} images", store=self.store)
            self._ratio = 1 if is_map else MAX_LZ4
            if self._groups == 1:
                self._last = (0, *self._view_batch(only, sizes[0]))
            self.is_mapped = self._groups == 1 and len(self.find_ranges()) == len(columns)
            stack.pop_all()

    def _decode(self, groups: Sequence[int]) -> tuple[Any, Labels]:
        (group,) = groups
        count = self._count_rows(groups)
        with fork_lock, reading(self.store, *ERRORS):
            return self._view_batch(self._batches.get_batch(group), count)

    def _view_batch(self, batch: Any, count: int) -> tuple[Any, Labels]:  # noqa: ANN401 - pyarrow.RecordBatch
        column, labels = batch.column(IMAGE), view_column(batch.column(LABEL), np.int64, (count,))
        images = (
            view_column(column, self._dtype, (count, *self._shape)) if self._shape else self._view_files(column, count)
        )
        return images, labels

    def _view_files(self, column: Any, count: int) -> Encoded:  # noqa: ANN401 - of pyarrow
        column.validate()  # the first and the last offset are in the buffer
        if len(column) != count or column.null_count:
            raise ValueError(f"a column has {len(column)} values, or lacks some: not {count}")
        check_store(self.store, (count + 1) * 8, self._ratio)
        _, places, content = column.buffers()
        dtype = OFFSETS[column.type]
        offsets = np.frombuffer(places, dtype, count + 1, column.offset * dtype.itemsize)
        start, end = int(offsets[0]), int(offsets[-1])
        offsets = offsets.astype(np.int64) - start
        check_offsets(self.store, offsets, end - start)
        return Encoded(np.frombuffer(content or b"", np.uint8, end - start, start), offsets)

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        if self.is_mapped:
            files, labels = self._decode_one(0)
            return take_files(self.store, files.content, files.offsets, positions), labels[positions]
        labels = make_array(self.store, (len(positions),), np.int64)
        taken = [b""] * len(positions)
        for place in np.argsort(positions, kind="stable").tolist():
            group, row = divmod(int(positions[place]), self._rows)
            files, values = self._decode_one(group)
            taken[place], labels[place] = bytes(files[row]), values[row]
        return Encoded.join(taken), labels

    def find_ranges(self) -> list[range]:
        """Find the bytes of the first record batch's images and labels in the map, if they are there."""
        images, labels = self._decode_one(0)
        found = images.content if isinstance(images, Encoded) else images, labels
        starts = [(values.ctypes.data - self._content.address, values.nbytes) for values in found]
        return [range(start, start + size) for start, size in starts if 0 <= start <= self._content.size - size]

    def find_records(self) -> list[Records]:
        """Find the bytes of each image in the map."""
        images, _ = self._decode_one(0)
        start = self.find_ranges()[0].start
        if isinstance(images, Encoded):
            return [Records(FILE, start + images.offsets)]
        size = math.prod(self._shape) * self._dtype.itemsize
        return [Records(FILE, range(start, start + self._count * size + 1, size))]

    def _read_all_files(self) -> tuple[Encoded, Labels]:
        if not self.is_mapped:
            return super()._read_all_files()
        files, labels = self._decode_one(0)
        check_store(self.store, files.nbytes + labels.nbytes)
        content = make_array(self.store, files.content.shape)
        read_range(self.store, self._source.fileno(), self.find_ranges()[0].start, content)
        return Encoded(content, files.offsets), labels.copy()

    def read_all(self, out: Images | None) -> tuple[Images | Encoded, Labels]:
        """Read everything, straight into the result if the file isn't compressed."""
        if not self.is_mapped or self.kind == "encoded":
            return super().read_all(out)
        images = make_all(self.store, (self._count, *self._shape), out, self._dtype)
        read_result(self.store, self._source.fileno(), self.find_ranges()[0].start, images)
        return images, self._read_labels()

    def _read_labels(self) -> Labels:
        check_store(self.store, self._count * 8, self._ratio)
        if self._groups == 1:
            return self._decode_one(0)[1].copy()
        labels = make_array(self.store, (self._count,), np.int64)
        with fork_lock, reading(self.store, *ERRORS):
            for group in range(self._groups):
                part = labels[group * self._rows : (group + 1) * self._rows]
                part[...] = view_column(self._label_batches.get_batch(group).column(0), np.int64, part.shape)
        return labels

    def view(self) -> Images | Sequence[Image] | Sequence[memoryview]:
        """View all images in the map of the file; see `storage.Reader`."""
        self._be_ready()
        if not self._count:
            return np.frombuffer(b"", self._dtype).reshape(0, *self._shape) if self._shape else Encoded.join(())
        if not self.is_mapped:
            raise StorageError(
                f"{FILE} is compressed or in pieces, so it can't be viewed", store=self.store, hint="use read"
            )
        images: Images | Encoded = self._decode_one(0)[0]
        return images

    def _close(self) -> None:
        for name in ("_content", "_batches", "_label_batches"):
            vars(self).pop(name, None)
        super()._close()


open_reader = FeatherReader


def _make_tensors(images: Images) -> Any:  # noqa: ANN401 - pyarrow.FixedShapeTensorArray
    shape, kind = images.shape[1:], pa.from_numpy_dtype(images.dtype)
    tensor = pa.fixed_shape_tensor(kind, shape, dim_names=DIMENSIONS[: len(shape)])
    pixels = pa.Array.from_buffers(kind, images.size, [None, pa.py_buffer(images)])
    return pa.ExtensionArray.from_storage(tensor, pa.FixedSizeListArray.from_arrays(pixels, math.prod(shape)))


def _is_picture(tensor: Any) -> bool:  # noqa: ANN401 - pyarrow.DataType
    return (
        isinstance(tensor, pa.FixedShapeTensorType)
        and _find_dtype(tensor) is not None
        and tensor.permutation in (None, [*range(len(tensor.shape))])
        and len(tensor.shape) in {2, 3}
        and tensor.storage_type.list_size == math.prod(tensor.shape)
    )


def _find_dtype(tensor: Any) -> np.dtype[Any] | None:  # noqa: ANN401 - pyarrow.FixedShapeTensorType
    """Find the dtype of the pixels in a tensor; None if it can't be one of an image set."""
    return next((dtype for dtype in DTYPES.values() if tensor.value_type == pa.from_numpy_dtype(dtype)), None)


def _open_file(source: Any, columns: list[int] | None = None) -> Any:  # noqa: ANN401 - of pyarrow
    return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False, included_fields=columns))
