"""Parquet: one file, cut into small row groups, every page with a checksum.

On disk: ``images.parquet``. Column ``image`` holds the raw pixels, H x W x 3 bytes each (FIXED_LEN_BYTE_ARRAY), column
``label`` is INT64; both are required, PLAIN and uncompressed. The key-value metadata of the file have ``images``,
``height`` and ``width`` as decimal numbers. The footer is written last: a file without it is refused.

Why so: a row group is always decoded as a whole. At 192 KiB of pixels, 64 images of CIFAR-10, a shuffled image costs a
third of what it does at 768 KiB, and a read of everything no more, since 16 row groups are decoded with one call; still
smaller ones make the file slower to write and to open. A page of each column is a row group. CRC-32 of each page is
verified when it is read: 3.5 GB/s, two fifths of the time of a read. Values are never numbers of a list: Parquet would
make 32 bits of each byte. Pixels hardly compress, are never the same twice, and have no use for their smallest and
largest: no compression, no dictionary, no statistics.

Library: pyarrow (https://arrow.apache.org/docs/python/parquet.html); the format: https://parquet.apache.org/docs/.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from ..arrays import CHANNELS, check_images
from ..contract import Image, Images, Labels
from ..errors import CorruptStoreError, reading, writing
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

__all__ = ["INFO", "open_reader", "read_many", "read_single", "store_many"]

FILE = "images.parquet"
GROUP = 192 << 10  # bytes of pixels: 64 images of CIFAR-10
NUMBERS = ("images", "height", "width")
OPTIONS = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
TOGETHER = 3 << 20  # bytes of pixels that are decoded with one call
ERRORS = (pa.ArrowException, ValueError)


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_groups(store) as groups:
        return read_one(groups, index)


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    size = count_bytes(images)
    pixels = pa.Array.from_buffers(pa.binary(size), len(images), [None, pa.py_buffer(images)])
    numbers = dict(zip(NUMBERS, map(str, images.shape), strict=False))
    schema = pa.schema(
        [pa.field(IMAGE, pixels.type, nullable=False), pa.field(LABEL, pa.int64(), nullable=False)], numbers
    )
    table = pa.table([pixels, pa.array(labels)], schema)
    path = create_file(store, FILE)
    with (
        fork_lock,
        writing(store, pa.ArrowException),
        pa.OSFile(path, FILL) as file,
        ParquetWriter(file, schema, **OPTIONS) as writer,
    ):
        writer.write_table(table, row_group_size=max(1, GROUP // size))


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_groups(store) as groups:
        return read_all(groups, out)


class RowGroups(Blocks):
    """A Parquet file; it is read, not mapped: what was touched of a map would count as memory of this process."""

    def __init__(self, store: Path, source: Any) -> None:  # noqa: ANN401 - pyarrow.OSFile
        self._source = source
        self._file = ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
        metadata = self._file.metadata
        said = metadata.metadata or {}
        count, height, width = (int(said.get(name.encode(), -1)) for name in NUMBERS)
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        super().__init__(store, sizes, len(sizes), (height, width))
        self.together = max(1, TOGETHER // (self.rows * math.prod(self.image_shape)))
        if self.shape[0] != count:
            raise CorruptStoreError(f"{store}: {FILE} has {self.shape[0]} of {count} images: store them again")
        fields = {field.name: field.type for field in self._file.schema_arrow}
        wanted = {IMAGE: pa.binary(height * width * CHANNELS), LABEL: pa.int64()}
        if fields != wanted:
            raise CorruptStoreError(f"{store}: {FILE} has columns {fields}, not {wanted}: another program wrote it")

    def load(self, blocks: Sequence[int]) -> tuple[Images, Labels]:
        """Decode row groups, and verify the checksums of their pages; see `Blocks.load`."""
        count = self.count_rows(blocks)
        with fork_lock, reading(self.store, *ERRORS):
            table = self._file.read_row_groups(blocks, use_threads=False)
            images, labels = (table.column(name).chunk(0) for name in (IMAGE, LABEL))  # there is no other
            return view_column(images, np.uint8, (count, *self.image_shape)), view_column(labels, np.int64, (count,))

    def load_labels(self) -> Labels:
        """Decode the column of labels; see `Blocks.load_labels`."""
        with fork_lock, reading(self.store, *ERRORS):
            labels = self._file.read([LABEL], use_threads=False).column(LABEL)
            return view_column(labels.combine_chunks(), np.int64, self.shape[:1]).copy()

    def close(self) -> None:
        """Close the file."""
        with fork_lock:
            self._source.close()


class ParquetReader(BlockReader):
    """Decodes row groups."""

    def _open_blocks(self) -> RowGroups:
        return _open_file(self.store)


open_reader = ParquetReader


def _open_file(store: Path) -> RowGroups:
    path, _ = stat_file(store, FILE)
    with fork_lock, reading(store, *ERRORS):
        source = pa.OSFile(path)
        try:
            return RowGroups(store, source)
        except BaseException:
            source.close()
            raise


@contextmanager
def _open_groups(store: Path) -> Iterator[RowGroups]:
    with closing(_open_file(store)) as groups:
        yield groups
