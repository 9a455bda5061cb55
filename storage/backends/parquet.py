"""Parquet: one file, cut into small row groups, each page with a checksum.

On disk: ``images.parquet``. Column ``image`` holds the raw pixels (FIXED_LEN_BYTE_ARRAY), column ``label`` is INT64;
both are required, PLAIN and uncompressed. The file's key-value metadata hold ``images``, ``height`` and ``width`` as
decimal numbers, and unless pixels are 8-bit RGB, ``channels``, 0 if images have no axis of them, and ``dtype``, NumPy's
name; values are little-endian. The footer is written last: a file without it is refused.

Image files are a column ``image`` of BYTE_ARRAY, which pyarrow reads as *large_binary*; a third column ``size``, INT64,
holds their lengths; the metadata hold only ``images``. A row group has at most 4 MiB of files, or one file. Its column
``image`` is one page, of which Parquet counts the bytes in 32 bits: a file of more than 2**31 - 5 bytes is refused.

Why so: a row group is always decoded as a whole. With 192 KiB of pixels, 64 images of CIFAR-10, a shuffled image costs
a third of what it costs with 768 KiB, and a read of everything costs no more, since 16 row groups are decoded with one
call. A row group is one page of each column, whose CRC-32 is verified when it is read: 3.5 GB/s, two fifths of the time
of a read. Parquet would turn numbers of a list into 32 bits each, so an image is plain bytes. Pixels hardly compress
and never repeat: no compression, no dictionary, no statistics.

Why files are read fast: in such a page, each file follows its length in 4 bytes. So `size` and the place where a page
ends, which the footer tells, say where each file is. A reader asks the operating system for these bytes alone, instead
of having whole pages decoded, and compares the length in the page with `size`. It doesn't verify checksums of pages. A
file of another program that isn't laid out like this is refused; pyarrow itself reads them all.

Library: pyarrow (https://arrow.apache.org/docs/python/parquet.html); the format: https://parquet.apache.org/docs/.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.parquet import ParquetFile, ParquetWriter

from ..arrays import BYTE, CHANNELS, check_dtype, check_encoded, check_images, check_limit, make_array, read_range
from ..contract import ANY_PIXELS, Images, Labels
from ..encoded import Encoded, measure_offsets
from ..errors import CorruptStoreError, reading, writing
from ..limits import check_store
from ..parquet_footer import RowGroup, read_footer
from ..paths import create_file, stat_file
from ..reader import Description, fork_lock
from ._arrow import APPEND, ERRORS, IMAGE, INFO, LABEL, RowGroupReader, count_bytes, make_files, view_column

__all__ = ["INFO", "open_reader", "read_many", "store_many"]

FILE = "images.parquet"
GROUP = 192 << 10  # bytes of pixels: 64 images of CIFAR-10
OTHER = "another program wrote it"
NUMBERS, FORM = ("images", "height", "width"), ("channels", "dtype")  # in the metadata
TOGETHER = 3 << 20  # bytes of pixels that are decoded with one call
SIZE = "size"  # the column of the lengths of files
FILE_GROUP, FILE_ROWS = 4 << 20, 1 << 14  # bytes of files, and how many of them
MAX_GROUPS = 1_000_000  # row groups of a file: Arrow reads no more unless it is told to
MAX_FOOTER = 64 << 20  # bytes: of 100,000 row groups of files, 400 GB
PREFIX = 4  # bytes of the length before each file
PAGE = 2**31 - 1  # bytes at most, so that a row group can be one page; its header counts them in 32 bits
MAX_FILE = PAGE - PREFIX
MAX_IMAGE = (2**31 - 1) // 8  # bytes: Arrow counts the bits of a value of fixed size in 32 bits, when it reads one
OPTIONS = {
    "compression": "none",
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,
    "data_page_size": PAGE,
}


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    if isinstance(images, Encoded):
        labels = check_encoded(images, labels)
        _check_lengths(images)
        rows, cuts = FILE_ROWS, _cut_files(images.offsets)
    else:
        images, labels = check_images(images, labels, ANY_PIXELS)
        rows, cuts = max(1, GROUP // _count_bytes(images), -(-len(images) // MAX_GROUPS)), iter([0, len(images)])
    with fork_lock, writing(store, pa.ArrowException):
        columns = _make_columns(images) | {LABEL: pa.array(labels)}
        fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
        table = pa.table(list(columns.values()), pa.schema(fields, _describe(images)))
        path = create_file(store, FILE)
        with pa.OSFile(path, APPEND) as file, ParquetWriter(file, table.schema, **OPTIONS) as writer:
            for start, end in pairwise(cuts):
                writer.write_table(table.slice(start, end - start), row_group_size=rows)


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), ParquetReader(store) as reader:
        return reader.read_all(out)


class ParquetReader(RowGroupReader):
    """Decodes row groups of pixels, and reads image files where they lie.

    The file isn't mapped, because touched pages of a map count as memory of this process.
    """

    def _open(self) -> Description:
        path, _ = stat_file(self.store, FILE)
        with fork_lock, reading(self.store, *ERRORS), ExitStack() as stack:
            self._source = stack.enter_context(pa.OSFile(path))
            self._file = ParquetFile(self._source, pre_buffer=False, page_checksum_verification=True)
            fields = {field.name: field.type for field in self._file.schema_arrow}
            metadata = self._file.metadata
            numbers = metadata.metadata or {}
            count, *size = (int(numbers.get(name.encode(), -1)) for name in NUMBERS)
            channels, dtype = (numbers.get(name.encode()) for name in FORM)
            if SIZE in fields:
                self._count, self._shape, self._dtype, image = metadata.num_rows, (), BYTE, pa.large_binary()
            else:
                size += [CHANNELS] if channels is None else [int(channels)] * (channels != b"0")
                found = BYTE if dtype is None else check_dtype(self.store, dtype.decode())
                groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
                self._measure_groups(groups, tuple(size), found)
                image = pa.binary(self._size)
            wanted = {IMAGE: image, LABEL: pa.int64()} | ({} if self._shape else {SIZE: pa.int64()})
            if self._count != count:
                raise CorruptStoreError(f"{FILE} has {self._count} of {count} images", store=self.store)
            if fields != wanted:
                raise CorruptStoreError(f"{FILE} has columns {fields}, not {wanted}", store=self.store)
            if not self._shape:
                self._find_files(read_footer(self._source.fileno(), MAX_FOOTER))
            stack.pop_all()
        return Description(count, self._shape, self._dtype)

    def _measure_groups(self, sizes: Sequence[int], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Find out how many images are in a row group, and how many row groups are decoded with one call."""
        self._set_groups(sizes, len(sizes), shape, dtype)
        self._size = math.prod(shape) * dtype.itemsize
        self._together = max(1, TOGETHER // (self._rows * self._size))
        rows = min(self._count, self._rows * self._together)
        check_store(self.store, 2 * rows * (self._size + 8))  # compressed pages are unpacked first

    def _find_files(self, groups: Sequence[RowGroup]) -> None:
        """Compute where each file is from what the footer says about the columns of each row group."""
        chunks = [chunk for group in groups for chunk in group.chunks]
        if any(chunk.codec != "UNCOMPRESSED" for chunk in chunks):
            raise CorruptStoreError(f"{FILE} is compressed: {OTHER}", store=self.store)
        self._sizes, self._labels = self._read_column(SIZE), self._read_column(LABEL)
        if self._sizes.min(initial=0) < 0 or self._sizes.max(initial=0) > MAX_FILE:
            raise CorruptStoreError(f"{FILE} has sizes that no page can hold", store=self.store)
        found = [chunk for chunk in chunks if chunk.name == IMAGE]
        rows = measure_offsets(np.array([chunk.values for chunk in found], np.int64))
        pages = np.array([chunk.page for chunk in found], np.int64)
        ends = pages + np.array([chunk.packed for chunk in found], np.int64)
        places = measure_offsets(PREFIX + self._sizes)  # if there were nothing between the files
        starts = ends - np.diff(places[rows])
        fit = (pages >= 0) & (pages < starts) & (starts <= ends) & (ends <= self._source.size())
        if rows[-1] != self._count or not fit.all():
            raise CorruptStoreError(f"{FILE} has pages that don't hold its files: {OTHER}", store=self.store)
        self._starts = places[:-1] + np.repeat(starts - places[rows[:-1]], np.diff(rows))

    def _decode(self, groups: Sequence[int]) -> tuple[Images, Labels]:
        count = self._count_rows(groups)
        with fork_lock, reading(self.store, *ERRORS):
            table = self._file.read_row_groups(groups, use_threads=False)
            images, labels = (table.column(name).chunk(0) for name in (IMAGE, LABEL))  # there is only one
            return view_column(images, self._dtype, (count, *self._shape)), view_column(labels, np.int64, (count,))

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        starts, sizes = self._starts[positions], self._sizes[positions]
        check_store(self.store, int(sizes.max(initial=0)))
        offsets = measure_offsets(sizes)
        content = make_array(self.store, (int(offsets[-1]),))
        prefixes = make_array(self.store, (len(positions),), "<u4")
        self._read_files(starts, offsets, content, prefixes)
        wrong = np.flatnonzero(prefixes != sizes)
        if wrong.size:
            raise CorruptStoreError(
                f"its length in {FILE} isn't its size: {OTHER}", store=self.store, record=int(positions[wrong[0]])
            )
        return Encoded(content, offsets), self._labels[positions]

    def _read_files(
        self,
        starts: NDArray[np.int64],
        offsets: NDArray[np.int64],
        content: NDArray[np.uint8],
        prefixes: NDArray[np.uint32],
    ) -> None:
        descriptor, files, lengths = self._source.fileno(), content.data, prefixes.view(np.uint8).data
        for number, (start, (place, end)) in enumerate(zip(starts.tolist(), pairwise(offsets.tolist()), strict=True)):
            parts = [lengths[number * PREFIX : (number + 1) * PREFIX], files[place:end]]
            if os.preadv(descriptor, parts, start) < PREFIX + end - place:  # it stops a little below 2**31 bytes
                read_range(self.store, descriptor, start + PREFIX, content[place:end])

    def _read_all_files(self) -> tuple[Encoded, Labels]:
        check_store(self.store, int(self._sizes.sum()))
        return super()._read_all_files()

    def _read_labels(self) -> Labels:
        return self._read_column(LABEL)

    def _read_column(self, name: str) -> NDArray[np.int64]:
        check_store(self.store, self._count * 8)
        with fork_lock, reading(self.store, *ERRORS):
            column = self._file.read([name], use_threads=False).column(name)
            return view_column(column.combine_chunks(), np.int64, (self._count,)).copy()

    def _close(self) -> None:
        del self._file
        super()._close()


open_reader = ParquetReader


def _count_bytes(images: Images) -> int:
    return count_bytes(images, MAX_IMAGE, "a value of Parquet of fixed size, as Arrow reads it,")


def _check_lengths(images: Encoded) -> None:
    """Refuse a file that no page can hold."""
    for record in np.flatnonzero(images.lengths > MAX_FILE):
        check_limit("it", images.lengths[record], MAX_FILE, "a page of Parquet", record=int(record))


def _cut_files(offsets: NDArray[np.int64]) -> Iterator[int]:
    """Cut files into row groups: yield where each starts, then where the last one ends."""
    start, count = 0, len(offsets) - 1
    size = max(FILE_GROUP, 3 * int(offsets[-1]) // MAX_GROUPS)  # two neighbours have more than this together
    yield start
    while start < count:
        end = int(np.searchsorted(offsets, offsets[start] + size, "right")) - 1
        start = min(max(end, start + 1), start + FILE_ROWS)
        yield start


def _make_columns(images: Images | Encoded) -> dict[str, Any]:
    """Make the columns besides the labels without copying the images."""
    if isinstance(images, Encoded):
        return {IMAGE: make_files(images), SIZE: pa.array(images.lengths)}
    pixels = pa.binary(_count_bytes(images))
    return {IMAGE: pa.Array.from_buffers(pixels, len(images), [None, pa.py_buffer(images)])}


def _describe(images: Images | Encoded) -> dict[str, str]:
    """Describe the image set in the metadata of the file."""
    if isinstance(images, Encoded):
        return {NUMBERS[0]: str(len(images))}
    count, height, width, *rest = images.shape
    facts = dict(zip(NUMBERS, map(str, (count, height, width)), strict=True))
    if (rest, images.dtype) == ([CHANNELS], BYTE):
        return facts
    return facts | {"channels": str(rest[0] if rest else 0), "dtype": images.dtype.name}
