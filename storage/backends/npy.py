"""NumPy: two files as numpy.save writes them, mapped into memory to read.

On disk: ``images.npy``, uint8 of shape (N, H, W, 3), and ``labels.npy``, little-endian int64 of shape (N,), both in
version 1.0 of NumPy's format: a header of 128 bytes that describes the array, then its values in C order. Any program
that knows the format reads them. ``labels.npy`` is written last, so a store without it isn't complete.

Why it is fast: there is nothing between the file and the array. One system call reads everything into the result. A
reader maps the files, and one call of `numpy.take` copies a batch out of the map. A file with another size than its
header says, or with another type or order of values, is refused before it is mapped. Nothing is unpickled.

Library: NumPy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, read_array_header_1_0, read_magic, write_array_header_1_0
from numpy.typing import NDArray

from ..arrays import (
    CHANNELS,
    check_images,
    check_index,
    check_shape,
    make_all,
    make_array,
    make_result,
    read_range,
    write_range,
)
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import CorruptStoreError, reading, writing
from ..limits import check_store
from ..paths import claim_store, open_file
from ..reader import Reader

IMAGES, LABELS = "images.npy", "labels.npy"
INFO = BackendInfo({"numpy": np.__version__}, "the NumPy team", "BSD-3-Clause")


class ArrayFile(NamedTuple):
    """An open file; the values of its array begin at byte `start`."""

    descriptor: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_files(store) as (images, labels):
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
    with _open_files(store) as (images, labels):
        result = make_all(store, images.shape, out), make_array(store, labels.shape, np.int64)
        for opened, array in zip((images, labels), result, strict=True):
            read_range(store, opened.descriptor, opened.start, array)
        return result


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find all bytes after the headers; see `storage.Backend`."""
    with _open_files(store) as (images, labels):
        return {
            name: [range(opened.start, opened.start + math.prod(opened.shape) * opened.dtype.itemsize)]
            for name, opened in ((IMAGES, images), (LABELS, labels))
        }


class NpyReader(Reader):
    """Copies out of memory maps."""

    def _open(self) -> tuple[int, int, int]:
        with _open_files(self.store) as (images, labels):
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
        check_store(self.store, self._labels.nbytes)
        return self._labels.astype(np.int64)

    def view(self) -> Images:
        """View all images in the map of the file; see `storage.Reader`."""
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
        file.write(header.getvalue())  # last, so that an incomplete file isn't one of NumPy's format


@contextmanager
def _open_files(store: Path) -> Iterator[tuple[ArrayFile, ArrayFile]]:
    with (
        reading(store),
        _open_file(store, IMAGES, np.dtype(np.uint8)) as images,
        _open_file(store, LABELS, np.dtype("<i8")) as labels,
    ):
        if len(images.shape) != len("NHWC") or images.shape[3] != CHANNELS:
            raise CorruptStoreError(f"{IMAGES} has an array of shape {images.shape}: not RGB images", store=store)
        check_shape(store, *images.shape[:3])
        if labels.shape != images.shape[:1]:
            raise CorruptStoreError(
                f"{LABELS} has an array of shape {labels.shape}: not one label for each of {images.shape[0]} images",
                store=store,
            )
        yield images, labels


@contextmanager
def _open_file(store: Path, name: str, dtype: np.dtype[Any]) -> Iterator[ArrayFile]:
    with open_file(store, name) as (descriptor, status):
        with reading(store, Exception), open(descriptor, "rb", closefd=False) as file:  # a header can raise anything
            version = read_magic(file)
            shape, fortran_order, found = read_array_header_1_0(file)
            start = file.tell()
        if version != (1, 0) or fortran_order or found != dtype:
            raise CorruptStoreError(
                f"{name} isn't an array of {dtype} in C order, format 1.0", store=store, hint="store the images again"
            )
        if start + math.prod(shape) * dtype.itemsize != status.st_size:
            raise CorruptStoreError(
                f"{name} has {status.st_size} bytes, which don't fit its array of shape {shape}",
                store=store,
                hint="store the images again",
            )
        yield ArrayFile(descriptor, shape, dtype, start)


def _map(opened: ArrayFile) -> NDArray[Any]:
    content = mmap.mmap(opened.descriptor, 0, prot=mmap.PROT_READ)
    return np.ndarray(opened.shape, opened.dtype, content, opened.start)


def _read_at(store: Path, opened: ArrayFile, position: int) -> NDArray[Any]:
    array = make_array(store, opened.shape[1:], opened.dtype)
    read_range(store, opened.descriptor, opened.start + position * array.nbytes, array)
    return array
