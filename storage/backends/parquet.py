"""Parquet: one file, cut into small row groups, each page with a checksum.

On disk: ``images.parquet``. Column ``image`` holds the raw pixels, H x W x 3 bytes each (FIXED_LEN_BYTE_ARRAY), column
``label`` is INT64; both are required, PLAIN and uncompressed. The file's key-value metadata hold ``images``, ``height``
and ``width`` as decimal numbers. The footer is written last: a file without it is refused.

Why so: a row group is always decoded as a whole. With 192 KiB of pixels, 64 images of CIFAR-10, a shuffled image costs
a third of what it costs with 768 KiB, and a read of everything costs no more, since 16 row groups are decoded with one
call. A row group is one page of each column, whose CRC-32 is verified when it is read: 3.5 GB/s, two fifths of the time
of a read. Parquet would turn numbers of a list into 32 bits each, so an image is plain bytes. Pixels hardly compress
and never repeat: no compression, no dictionary, no statistics.

Library: pyarrow (https://arrow.apache.org/docs/python/parquet.html); the format: https://parquet.apache.org/docs/.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from ..arrays import CHANNELS, check_images
from ..contract import Images, Labels
from ..errors import CorruptStoreError, reading, writing
from ..limits import check_store
from ..paths import create_file, stat_file
from ..reader import Description, fork_lock
from ._arrow import APPEND, ERRORS, IMAGE, INFO, LABEL, RowGroupReader, count_bytes, view_column

__all__ = ["INFO", "open_reader", "read_many", "store_many"]

FILE = "images.parquet"
GROUP = 192 << 10  # bytes of pixels: 64 images of CIFAR-10
NUMBERS = ("images", "height", "width")
OPTIONS = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
TOGETHER = 3 << 20  # bytes of pixels that are decoded with one call


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    size = count_bytes(images)
    with fork_lock, writing(store, pa.ArrowException):
        pixels = pa.Array.from_buffers(pa.binary(size), len(images), [None, pa.py_buffer(images)])
        numbers = dict(zip(NUMBERS, map(str, images.shape), strict=False))
        fields = [pa.field(IMAGE, pixels.type, nullable=False), pa.field(LABEL, pa.int64(), nullable=False)]
        table = pa.table([pixels, pa.array(labels)], pa.schema(fields, numbers))
        path = create_file(store, FILE)
        with pa.OSFile(path, APPEND) as file, ParquetWriter(file, table.schema, **OPTIONS) as writer:
            writer.write_table(table, row_group_size=max(1, GROUP // size))


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), ParquetReader(store) as reader:
        return reader.read_all(out)


class ParquetReader(RowGroupReader):
    """Decodes row groups; the file isn't mapped, because touched pages of a map count as memory of this process."""

    def _open(self) -> Description:
        path, _ = stat_file(self.store, FILE)
        with fork_lock, reading(self.store, *ERRORS), ExitStack() as stack:
            self._source = stack.enter_context(pa.OSFile(path))
            self._file = ParquetFile(self._source, pre_buffer=False, page_checksum_verification=True)
            metadata = self._file.metadata
            numbers = metadata.metadata or {}
            count, height, width = (int(numbers.get(name.encode(), -1)) for name in NUMBERS)
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            self._set_groups(sizes, len(sizes), height, width)
            self._together = max(1, TOGETHER // (self._rows * math.prod(self._shape)))
            rows = min(self._count, self._rows * self._together)
            check_store(self.store, 2 * rows * (math.prod(self._shape) + 8))  # compressed pages are unpacked first
            if self._count != count:
                raise CorruptStoreError(f"{FILE} has {self._count} of {count} images", store=self.store)
            fields = {field.name: field.type for field in self._file.schema_arrow}
            wanted = {IMAGE: pa.binary(height * width * CHANNELS), LABEL: pa.int64()}
            if fields != wanted:
                raise CorruptStoreError(f"{FILE} has columns {fields}, not {wanted}", store=self.store)
            stack.pop_all()
        return Description(count, self._shape)

    def _decode(self, groups: Sequence[int]) -> tuple[Images, Labels]:
        count = self._count_rows(groups)
        with fork_lock, reading(self.store, *ERRORS):
            table = self._file.read_row_groups(groups, use_threads=False)
            images, labels = (table.column(name).chunk(0) for name in (IMAGE, LABEL))  # there is only one
            return view_column(images, np.uint8, (count, *self._shape)), view_column(labels, np.int64, (count,))

    def _read_labels(self) -> Labels:
        check_store(self.store, self._count * 8)
        with fork_lock, reading(self.store, *ERRORS):
            labels = self._file.read([LABEL], use_threads=False).column(LABEL)
            return view_column(labels.combine_chunks(), np.int64, (self._count,)).copy()

    def _close(self) -> None:
        del self._file
        super()._close()


open_reader = ParquetReader
