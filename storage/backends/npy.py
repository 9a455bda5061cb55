"""NumPy: the arrays as numpy.save writes them, mapped into memory.

On disk: ``images.npy``, uint8 of shape (N, H, W, 3), and ``labels.npy``, little-endian int64 of shape (N,), each in
version 1.0 of NumPy's format: a header of 128 bytes that describes the array, then its values in C order. Any program
that reads this format reads them. ``labels.npy`` is written last: a store without all of it is not complete.

Why it is fast: there is nothing between the file and the array. Everything is read with one call, straight into the
result, which gets huge pages from `numpy.empty`. A reader maps the files into memory, and `numpy.take` copies a batch
from there in one call. A file that is shorter or longer than its header says is refused before it is mapped; so is any
other type or order of values. Nothing is unpickled.

Library: NumPy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, read_array_header_1_0, read_magic, write_array_header_1_0
from numpy.typing import NDArray

from ..arrays import (
    CHANNELS,
    check_images,
    check_index,
    check_shape,
    make_array,
    make_result,
    read_range,
    write_range,
)
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import CorruptStoreError, reading, writing
from ..paths import claim_store, stat_file
from ..reader import Reader

IMAGES, LABELS = "images.npy", "labels.npy"
INFO = BackendInfo({"numpy": np.__version__}, "the NumPy team", "BSD-3-Clause")


class Source(NamedTuple):
    """An open file: the shape and type of its array, and where the values begin, bytes."""

    file: BinaryIO
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_sources(store) as (images, labels):
        position = check_index(store, index, images.shape[0])
        return _read_at(store, images, position), int(_read_at(store, labels, position))


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    folder = claim_store(store)
    with writing(store):
        _write(folder / IMAGES, images)
        _write(folder / LABELS, labels.astype("<i8", copy=False))


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_sources(store) as (images, labels):
        result = make_result(store, images.shape, out), make_array(store, labels.shape, np.int64)
        for source, array in zip((images, labels), result, strict=True):
            read_range(store, source.file.fileno(), source.start, array)
        return result


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels and labels: all behind the headers; see `storage.Backend`."""
    with _open_sources(store) as (images, labels):
        return {
            name: [range(source.start, source.start + math.prod(source.shape) * source.dtype.itemsize)]
            for name, source in ((IMAGES, images), (LABELS, labels))
        }


class NpyReader(Reader):
    """Copies out of memory maps."""

    def _open(self) -> tuple[int, int, int]:
        with _open_sources(self.store) as (images, labels):
            self._images, self._labels = _map(images), _map(labels)
        count, height, width, _ = self._images.shape
        return count, height, width

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out)
        np.take(self._images, positions, axis=0, out=images, mode="clip")  # "raise" would copy through a buffer
        return images, self._labels[positions].astype(np.int64, copy=False)

    def _read_one(self, position: int) -> tuple[Image, int]:
        return self._images[position].copy(), int(self._labels[position])

    def _read_labels(self) -> Labels:
        return self._labels.astype(np.int64)

    def view(self) -> Images:
        """View all images where they are in the file, without a copy.

        Returns
        -------
        ndarray of uint8, shape (N, H, W, 3)
            Read-only. It keeps the map of the file open, after the reader is closed too.
        """
        self._be_ready()
        return self._images

    def _close(self) -> None:
        del self._images, self._labels


open_reader = NpyReader


def _write(path: Path, array: Images | Labels) -> None:
    header = BytesIO()
    write_array_header_1_0(header, header_data_from_array_1_0(array))
    start = header.tell()
    with path.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, start + array.nbytes)
        write_range(file.fileno(), start, array)  # numpy.save would lose the system's error code on a full disk
        file.write(header.getvalue())  # last: until then it is no file of NumPy's


@contextmanager
def _open_sources(store: Path) -> Iterator[tuple[Source, Source]]:
    with (
        reading(store, ValueError),
        _open_file(store, IMAGES, np.dtype(np.uint8)) as images,
        _open_file(store, LABELS, np.dtype("<i8")) as labels,
    ):
        if len(images.shape) != len("NHWC") or images.shape[3] != CHANNELS:
            raise CorruptStoreError(f"{store}: {IMAGES} has an array of shape {images.shape}: no RGB images")
        check_shape(store, *images.shape[:3])
        if labels.shape != images.shape[:1]:
            raise CorruptStoreError(f"{store}: {LABELS} has an array of shape {labels.shape}: not one label an image")
        yield images, labels


@contextmanager
def _open_file(store: Path, name: str, dtype: np.dtype[Any]) -> Iterator[Source]:
    path, status = stat_file(store, name)
    with open(path, "rb") as file:  # noqa: PTH123 - a Path takes longer
        with reading(store, Exception):  # whatever damage makes of a header
            version = read_magic(file)
            shape, backwards, found = read_array_header_1_0(file)
        start = file.tell()
        if version != (1, 0) or backwards or found != dtype:
            raise CorruptStoreError(f"{store}: {name} is no array of {dtype} in C order, format 1.0: store it anew")
        if start + math.prod(shape) * dtype.itemsize != status.st_size:
            raise CorruptStoreError(f"{store}: {name} has {status.st_size} bytes, its array {shape} needs others")
        yield Source(file, shape, dtype, start)


def _map(source: Source) -> NDArray[Any]:
    content = mmap.mmap(source.file.fileno(), 0, prot=mmap.PROT_READ)
    return np.ndarray(source.shape, source.dtype, content, source.start)


def _read_at(store: Path, source: Source, position: int) -> NDArray[Any]:
    array = make_array(store, source.shape[1:], source.dtype)
    read_range(store, source.file.fileno(), source.start + position * array.nbytes, array)
    return array
