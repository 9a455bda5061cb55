"""Feather: one Arrow IPC file, its columns mapped into memory as they are.

On disk: ``images.arrow``: the file format of Arrow IPC, also called Feather V2. Column ``image`` has Arrow's
type for tensors of one shape, *fixed_shape_tensor*: uint8, (H, W, 3), dimensions named H, W and C. Column ``label`` is
int64; the metadata of the schema have the number of images, ``images``. All are in one record batch, uncompressed, so
the pixels lie in the file as they lie in memory. The footer is written last: a file without it is refused.

Why it is fast: the file is written out of the caller's arrays, with one call for all pixels. Arrow says where they
are in the file; from there a read of everything goes straight into the result, and a reader copies the images that it
is asked for out of a memory map, with no call of Arrow for each. A tensor takes as long as plain bytes of a fixed size
(*fixed_size_binary*), and other tools see numbers of a known shape: pyarrow gives an array of (N, H, W, 3) without a
copy, Polars and DuckDB have arrays of uint8. A file of more record batches, or a compressed one, is read all the same,
a batch at a time. Arrow checks what the file says of itself, and each column is validated before it is touched.

Library: pyarrow (https://arrow.apache.org/docs/python/ipc.html,
https://arrow.apache.org/docs/format/CanonicalExtensions.html#fixed-shape-tensor).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..arrays import CHANNELS, check_images, make_array, make_result, read_range
from ..contract import Image, Images, Labels
from ..errors import CorruptStoreError, StorageError, reading, writing
from ..paths import create_file, stat_file
from ..reader import fork_lock
from ._arrow import (
    FILL,
    IMAGE,
    INFO,
    LABEL,
    BlockReader,
    Blocks,
    count_bytes,
    read_all,
    read_one,
    view_column,
)

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "read_single", "store_many"]

FILE = "images.arrow"
BATCH = 384 << 10  # bytes of pixels in a record batch that is compressed: 128 images of CIFAR-10
COUNT = b"images"
DIMENSIONS = ["H", "W", "C"]
ERRORS = (pa.ArrowException, ValueError)


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_batches(store) as batches:
        return read_one(batches, index)


def store_many(store: Path, images: Images, labels: Labels, *, compression: str | None = None) -> None:
    """Store an image set; see `storage.Backend`.

    Parameters
    ----------
    store, images, labels
        As the contract says.
    compression : str, optional
        ``lz4`` or ``zstd``: then the images are cut into record batches, since one is always decompressed as a whole.
    """
    images, labels = check_images(images, labels)
    size = count_bytes(images)
    rows = max(1, BATCH // size) if compression else max(1, len(images))
    columns = {IMAGE: _make_tensors(images, size), LABEL: pa.array(labels)}
    table = pa.table(columns).replace_schema_metadata({COUNT: str(len(images))})
    options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
    path = create_file(store, FILE)
    with fork_lock, writing(store, pa.ArrowException), pa.OSFile(path, FILL) as file:
        writer = pa.ipc.new_file(file, table.schema, options=options)
        writer.write_table(table, max_chunksize=rows)
        writer.close()  # not with `with`: after an error it would write a footer, too


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_batches(store) as batches:
        if not batches.is_mapped:
            return read_all(batches, out)
        images = make_result(store, (batches.shape[0], *batches.image_shape), out)
        read_range(store, batches.descriptor, batches.find_ranges()[0].start, images)
        return images, batches.load_labels()


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels and labels; see `storage.Backend`."""
    with _open_batches(store) as batches:
        return {FILE: batches.find_ranges() if batches.is_mapped else []}


class RecordBatches(Blocks):
    """An Arrow file, in a memory map or not.

    Attributes
    ----------
    descriptor : int
        Of the file.
    is_mapped : bool
        Whether all images lie one behind the other in the map, uncompressed, in one record batch.
    """

    def __init__(self, store: Path, source: Any) -> None:  # noqa: ANN401 - pyarrow.NativeFile
        self._source = source
        self._content = source.read_buffer() if isinstance(source, pa.MemoryMappedFile) else pa.py_buffer(b"")
        self._reader = _open_reader(source)
        places = [self._reader.schema.get_field_index(name) for name in (IMAGE, LABEL)]
        if min(places) < 0:
            raise CorruptStoreError(f"{store}: {FILE} has no columns image and label: another program wrote it")
        tensor, label = (self._reader.schema.field(place).type for place in places)
        if label != pa.int64() or not _is_picture(tensor):
            raise CorruptStoreError(f"{store}: {FILE} has images of {tensor} and labels of {label}: not ours")
        self._labels = _open_reader(source, [places[1]])
        number = self._reader.num_record_batches
        said = (self._reader.schema.metadata or {}).get(COUNT)
        blocks = range(number) if said is None else range(number)[:: max(number - 1, 1)]  # the first, the last
        super().__init__(store, [self._labels.get_batch(block).num_rows for block in blocks], number, tensor.shape[:2])
        if said is not None and int(said) != self.shape[0]:
            raise CorruptStoreError(f"{store}: {FILE} has {self.shape[0]} of {int(said)} images: store them again")
        self.descriptor: int = source.fileno()
        self.is_mapped = self.number == 1 and len(self.find_ranges()) == len(places)

    def load(self, blocks: Sequence[int]) -> tuple[Images, Labels]:
        """Decompress one record batch, or view it in the map; see `Blocks.load`."""
        (block,) = blocks
        count = self.count_rows(blocks)
        with fork_lock, reading(self.store, *ERRORS):
            batch = self._reader.get_batch(block)
            images = view_column(batch.column(IMAGE), np.uint8, (count, *self.image_shape))
            return images, view_column(batch.column(LABEL), np.int64, (count,))

    def load_labels(self) -> Labels:
        """Decompress the labels alone; see `Blocks.load_labels`."""
        labels = make_array(self.store, self.shape[:1], np.int64)
        with fork_lock, reading(self.store, *ERRORS):
            for block in range(self.number):
                part = labels[block * self.rows : (block + 1) * self.rows]
                part[...] = view_column(self._labels.get_batch(block).column(0), np.int64, part.shape)
        return labels

    def find_ranges(self) -> list[range]:
        """Find the bytes of the first record batch's images and labels in the map, if they are there."""
        starts = [(values.ctypes.data - self._content.address, values.nbytes) for values in self.load([0])]
        return [range(start, start + size) for start, size in starts if 0 <= start <= self._content.size - size]

    def close(self) -> None:
        """Close the file."""
        with fork_lock:
            self._source.close()


class FeatherReader(BlockReader):
    """Copies out of a memory map; a file of more record batches, or a compressed one, is decoded batch by batch."""

    _blocks: RecordBatches

    def _open_blocks(self) -> RecordBatches:
        return _open_file(self.store)

    def view(self) -> Images:
        """View all images where they are in the file, without a copy.

        Returns
        -------
        ndarray of uint8, shape (N, H, W, 3)
            Read-only. It keeps the map of the file open, after the reader is closed too.

        Raises
        ------
        StorageError
            The file has more than one record batch, or is compressed: its images are nowhere as they are in memory.
        """
        self._be_ready()
        if not self._count:
            return np.frombuffer(b"", np.uint8).reshape(0, *self._shape)
        if not self._blocks.is_mapped:
            raise StorageError(f"{self.store}: {FILE} is compressed or in pieces, so it cannot be viewed: use read")
        return self._load_one(0)[0]


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


def _open_reader(source: Any, columns: list[int] | None = None) -> Any:  # noqa: ANN401 - of pyarrow
    return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False, included_fields=columns))


def _open_file(store: Path) -> RecordBatches:
    path, _ = stat_file(store, FILE)
    batches = _open_source(store, pa.memory_map, path)
    if batches.is_mapped:
        return batches
    batches.close()
    return _open_source(store, pa.OSFile, path)  # of a map, what was touched counts as memory of this process


def _open_source(store: Path, open_source: Callable[[bytes], Any], path: bytes) -> RecordBatches:
    with fork_lock, reading(store, *ERRORS):
        source = open_source(path)
        try:
            return RecordBatches(store, source)
        except BaseException:
            source.close()
            raise


@contextmanager
def _open_batches(store: Path) -> Iterator[RecordBatches]:
    with closing(_open_file(store)) as batches, reading(store, *ERRORS):
        yield batches
