"""PNG files whose pixels aren't compressed: any viewer opens them, and NumPy reads and writes many at a time.

On disk: the files of `png`, but each holds its pixels in one IDAT chunk, in the *stored* blocks of the deflate format
(RFC 1951, 3.2.4), every row with filter 0. An image of CIFAR-10 takes one block of 4 KiB, as a compressed one does.

Why it is fast: nothing is compressed. Files of one shape differ only in pixels and checksums, so many are built at once
as rows of one array, and many are read into one array and compared with what they should be. The CRC of the pixels is
checked for every file. A file with any other byte in it is left to `png`, which reads any PNG.

Library: NumPy (https://numpy.org), and Pillow as in `png`.
"""

import math
import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import BYTE, check_images, check_limit, make_array, make_result, view_bytes
from ..contract import Image, Images, Labels
from ..errors import reading
from ..paths import write_file
from ._png import SAMPLES, check_size, create_folder, open_folder, open_image, read_label, read_labels, write_labels
from .png import CHUNK, INFO, SIGNATURE, PngReader, find_pixels, read_image

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "read_single", "store_many"]

BLOCK = 0xFFFF  # bytes that a stored block may hold
HEADER = 5  # bytes of a stored block before those that it holds
FRAME = 63  # bytes of a file beside its blocks
MAX_CHUNK = 2**31 - 1  # bytes
BATCH = 1 << 20  # bytes of files that are built or read at once: they stay in the processor's cache


class Form(NamedTuple):
    """The bytes that all files of one shape share.

    `content` is a file with 0 in the bytes that differ, `fixed` the positions of the others. `head` comes before the
    first row, `tail` after the CRC of the pixels' chunk. `rows` are the parts with pixels, one for each stored block.
    `row` is how many bytes a row of pixels has, with its filter.
    `idat` is the part that the CRC covers. `batch` is how many files are built or read at once.
    """

    content: NDArray[np.uint8]
    fixed: NDArray[np.intp]
    head: bytes
    tail: bytes
    row: int
    rows: tuple[slice, ...]
    idat: slice
    batch: int


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with open_folder(store) as folder:
        table, position, label = read_label(store, folder, index)
        return _read_image(store, folder, position, table.shape[1:], table.dtype), label


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels, INFO.dtypes)
    check_size(images)
    check_limit("a file", count_bytes(images.shape[1:], images.itemsize), MAX_CHUNK, "a chunk of PNG")
    with create_folder(store) as folder:
        if len(images):
            _write_images(folder, images)
        write_labels(folder, images, labels)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with open_folder(store) as folder:
        table, labels = read_labels(store, folder)
        images = make_result(store, table.shape, out, table.dtype)
        _read_images(store, folder, range(len(images)), images)
        return images, labels


class PngStoredReader(PngReader):
    """Reads a batch of files into one array."""

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        with reading(self.store, SyntaxError):
            _read_images(self.store, self._folder, positions.tolist(), images)
        return images, self._labels[positions]

    def _read_one(self, position: int) -> tuple[Image, int]:
        with reading(self.store, SyntaxError):
            image = _read_image(self.store, self._folder, position, self._shape, self._dtype)
            return image, int(self._labels[position])


open_reader = PngStoredReader


def measure_row(shape: tuple[int, ...], itemsize: int) -> int:
    """Compute how many bytes a row of pixels has, with its filter."""
    return 1 + math.prod(shape[1:]) * itemsize


def count_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Compute the size of a file without laying it out, which a damaged table could make take gigabytes."""
    size = shape[0] * measure_row(shape, itemsize)
    return FRAME + size + HEADER * -(-size // BLOCK)


def find_form(shape: tuple[int, ...], itemsize: int) -> Form:
    """Find the form of one shape; those of large files aren't kept in memory."""
    make = make_form if count_bytes(shape, itemsize) <= BATCH else make_form.__wrapped__
    return make(shape, itemsize)


@lru_cache(maxsize=8)
def find_small_form(shape: tuple[int, ...], itemsize: int) -> Form | None:
    """Find the form of files with one stored block; None if they have more."""
    return make_form(shape, itemsize) if shape[0] * measure_row(shape, itemsize) <= BLOCK else None


@lru_cache(maxsize=8)
def make_form(shape: tuple[int, ...], itemsize: int) -> Form:
    """Lay out the files of one shape."""
    height, width, *_ = shape
    size = height * measure_row(shape, itemsize)
    lengths = [min(BLOCK, size - start) for start in range(0, size, BLOCK)]
    header = _make_chunk(b"IHDR", struct.pack(">2I", width, height) + SAMPLES[shape[2:], itemsize].header)
    content = bytearray(SIGNATURE + header + CHUNK.pack(len(b"\x78\x01") + size + HEADER * len(lengths) + 4, b"IDAT"))
    start = len(content) - 4
    content += b"\x78\x01"  # zlib (RFC 1950): deflate, a window of 32 KiB, least effort
    rows = []
    for number, length in enumerate(lengths, 1):
        content += struct.pack("<B2H", number == len(lengths), length, length ^ 0xFFFF) + bytes(length)
        rows.append(slice(len(content) - length, len(content)))
    end = len(content) + 4
    content += bytes(8) + _make_chunk(b"IEND", b"")  # Adler-32 of the rows, CRC of the chunk
    differs = np.zeros(len(content), np.bool_)
    for part in (*rows, slice(end - 4, end + 4)):
        differs[part] = True
    return Form(
        content=np.frombuffer(content, np.uint8),
        fixed=np.flatnonzero(~differs),
        head=bytes(content[: rows[0].start]),
        tail=bytes(content[end + 4 :]),
        row=measure_row(shape, itemsize),
        rows=tuple(rows),
        idat=slice(start, end),
        batch=max(1, BATCH // len(content)),
    )


def _make_chunk(kind: bytes, content: bytes) -> bytes:
    return CHUNK.pack(len(content), kind) + content + struct.pack(">I", zlib.crc32(kind + content))


def _write_images(folder: int, images: Images) -> None:
    form = find_form(images.shape[1:], images.itemsize)
    for start in range(0, len(images), form.batch):
        for index, content in enumerate(_build_files(form, images[start : start + form.batch]), start):
            write_file(folder, f"{index:08}.png", content.data)


def _build_files(form: Form, images: Images) -> NDArray[np.uint8]:
    """Build the files of some images, one a row."""
    count, height = images.shape[:2]
    rows = np.zeros((count, height, measure_row(images.shape[1:], images.itemsize)), np.uint8)
    stored = images.astype(images.dtype.newbyteorder(">"), copy=False)
    rows[:, :, 1:] = view_bytes(stored).reshape(count, height, -1)
    flat = rows.reshape(count, -1)
    files = np.tile(form.content, (count, 1))
    for part, start in zip(form.rows, range(0, flat.shape[1], BLOCK), strict=True):
        files[:, part] = flat[:, start : start + BLOCK]
    end = form.idat.stop
    for file, checksum in zip(files, [zlib.adler32(row.data) for row in flat], strict=True):
        file[end - 4 : end].data[:] = checksum.to_bytes(4, "big")
        file[end : end + 4].data[:] = zlib.crc32(file[form.idat].data).to_bytes(4, "big")
    return files


def _read_image(store: Path, folder: int, index: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Image:
    """Read one file with less work than `_read_images` needs for any number."""
    form = find_small_form(shape, dtype.itemsize)
    if form is not None:
        height = shape[0]
        start, end = form.rows[0].start, form.rows[0].stop
        content = _read_start(store, folder, index, len(form.content) + 1)
        if (
            content.startswith(form.head)
            and content[start : end : form.row] == bytes(height)  # the filters
            and content[end + 4 :] == zlib.crc32(content[form.idat]).to_bytes(4, "big") + form.tail
        ):
            rows = np.frombuffer(content, np.uint8, end - start, start).reshape(height, -1)
            if dtype == BYTE:
                return rows[:, 1:].reshape(shape).copy()
            return rows[:, 1:].view(dtype.newbyteorder(">")).reshape(shape).astype(dtype)
    image = make_array(store, shape, dtype)
    read_image(store, folder, index, image)
    return image


def _read_start(store: Path, folder: int, index: int, size: int) -> bytes:
    descriptor = open_image(store, folder, index)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def _read_images(store: Path, folder: int, indices: Sequence[int], images: Images) -> None:
    """Fill `images` from the files of `indices`, many at once if the first one looks like a file of this module."""
    if indices and _measure_file(folder, indices[0]) == count_bytes(images.shape[1:], images.itemsize):
        _read_batches(store, folder, indices, images)
        return
    for index, image in zip(indices, images, strict=True):
        read_image(store, folder, index, image)


def _measure_file(folder: int, index: int) -> int:
    with suppress(OSError):  # `read_image` says what is wrong
        return os.stat(f"{index:08}.png", dir_fd=folder).st_size
    return 0


def _read_batches(store: Path, folder: int, indices: Sequence[int], images: Images) -> None:
    form = find_form(images.shape[1:], images.itemsize)
    files = np.empty((min(len(indices), form.batch), len(form.content) + 1), np.uint8)
    for start in range(0, len(indices), form.batch):
        part = slice(start, start + form.batch)
        whole = _read_files(store, folder, indices[part], files)
        known = _copy_rows(form, files[: len(whole), :-1], images[part]) & whole
        for number in np.flatnonzero(~known).tolist():
            read_image(store, folder, indices[start + number], images[start + number])


def _read_files(store: Path, folder: int, indices: Sequence[int], files: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Read files into rows of an array; return which ones are one byte shorter than a row, as ours are."""
    sizes = []
    for index, file in zip(indices, files, strict=False):
        descriptor = open_image(store, folder, index)
        try:
            sizes.append(os.readv(descriptor, [file]))
        finally:
            os.close(descriptor)
    whole: NDArray[np.bool_] = np.equal(sizes, files.shape[1] - 1)
    return whole


def _copy_rows(form: Form, files: NDArray[np.uint8], images: Images) -> NDArray[np.bool_]:
    """Copy the pixels of files into images; return for which files that was right."""
    count, height = images.shape[:2]
    row = measure_row(images.shape[1:], images.itemsize)
    parts = [files[:, part] for part in form.rows]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    rows = rows.reshape(count, height, row)
    stored = rows[:, :, 1:].view(images.dtype.newbyteorder(">"))
    images.reshape(stored.shape)[...] = stored
    known: NDArray[np.bool_] = (files[:, form.fixed] == form.content[form.fixed]).all(axis=1) & ~rows[:, :, 0].any(
        axis=1
    )
    end = form.idat.stop
    found = np.ascontiguousarray(files[:, end : end + 4]).view(">u4").reshape(count)
    computed = np.fromiter((zlib.crc32(content) for content in files[:, form.idat]), np.uint32, count)
    known &= found == computed
    return known
