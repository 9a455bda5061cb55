"""NumPy: files as numpy.save writes them, mapped into memory to read.

On disk: ``images.npy``, little-endian, of shape (N, H, W) or (N, H, W, C), and ``labels.npy``, little-endian int64 of
shape (N,), both in version 1.0 of NumPy's format: a header of 128 bytes that describes the array, then its values in C
order. Any program that knows the format reads them. Image files are one after the other in ``content.npy``, uint8 of
shape (total,); ``offsets.npy``, little-endian int64 of shape (N + 1,), says where each starts, then where the last one
ends. ``labels.npy`` is written last, so a store without it isn't complete.

Why it is fast: there is nothing between the file and the array. One system call reads everything into the result. A
reader maps the files, and one call of `numpy.take` copies a batch of pixels out of the map. A file with another size
than its header says, or with another type or order of values, is refused before it is mapped. Nothing is unpickled.

Library: NumPy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, read_array_header_1_0, read_magic, write_array_header_1_0
from numpy.typing import NDArray

from ..arrays import (
    BYTE,
    DTYPES,
    check_encoded,
    check_images,
    check_index,
    check_offsets,
    check_range,
    check_shape,
    make_all,
    make_array,
    make_result,
    read_range,
    read_result,
    refuse_out,
    take_files,
    take_rows,
    write_range,
)
from ..contract import ANY_PIXELS, BackendInfo, Image, Images, Labels, Records
from ..encoded import Encoded
from ..errors import CorruptStoreError, reading, writing
from ..limits import check_store
from ..paths import claim_store, join_path, open_file
from ..reader import Description, Reader

IMAGES, CONTENT, OFFSETS, LABELS = "images.npy", "content.npy", "offsets.npy", "labels.npy"
PIXELS, NUMBER = tuple(DTYPES.values()), np.dtype("<i8")
INFO = BackendInfo(
    {"numpy": np.__version__}, "the NumPy team", "BSD-3-Clause", kinds=("pixels", "encoded"), dtypes=ANY_PIXELS
)


class ArrayFile(NamedTuple):
    """An open file; the values of its array begin at byte `start`."""

    descriptor: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int


class OpenStore(NamedTuple):
    """The open files of a store; `images` holds the content of all files if there are `offsets`."""

    images: ArrayFile
    labels: ArrayFile
    offsets: ArrayFile | None


def read_single(store: Path, index: int) -> tuple[Image | bytes, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_files(store) as (images, labels, offsets):
        position = check_index(store, index, labels.shape[0])
        label = int(_read_at(store, labels, position))
        if offsets is None:
            return _read_at(store, images, position), label
        start, end = (int(_read_at(store, offsets, place)) for place in (position, position + 1))
        check_range(store, position, start, end, images.shape[0])
        check_store(store, end - start)
        content = make_array(store, (end - start,))
        read_range(store, images.descriptor, images.start + start, content)
        return content.tobytes(), label


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    if isinstance(images, Encoded):
        labels = check_encoded(images, labels)
        arrays: dict[str, NDArray[Any]] = {CONTENT: images.content, OFFSETS: images.offsets}
    else:
        images, labels = check_images(images, labels, INFO.dtypes)
        arrays = {IMAGES: images}
    folder = claim_store(store)
    with writing(store):
        for name, array in (arrays | {LABELS: labels}).items():
            _write(folder / name, array.astype(array.dtype.newbyteorder("<"), copy=False))


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_files(store) as opened:
        if opened.offsets is not None:
            return _read_files(store, opened, out)
        result = (
            make_all(store, opened.images.shape, out, opened.images.dtype),
            make_array(store, opened.labels.shape, np.int64),
        )
        for file, array in zip((opened.images, opened.labels), result, strict=True):
            read_result(store, file.descriptor, file.start, array)
        return result


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find all bytes after the headers, but for the offsets; see `storage.Backend`."""
    with _open_files(store) as opened:
        return {
            name: [range(file.start, file.start + math.prod(file.shape) * file.dtype.itemsize)]
            for name, file in ((CONTENT if opened.offsets else IMAGES, opened.images), (LABELS, opened.labels))
        }


def find_records(store: Path) -> list[Records]:
    """Find the bytes of each image; see `storage.Backend`."""
    with _open_files(store) as (images, labels, offsets):
        if offsets is not None:
            return [Records(CONTENT, images.start + _read_offsets(store, images, offsets))]
        size = math.prod(images.shape[1:]) * images.dtype.itemsize
        return [Records(IMAGES, range(images.start, images.start + labels.shape[0] * size + 1, size))]


class NpyReader(Reader):
    """Copies out of memory maps."""

    def _open(self) -> Description:
        with _open_files(self.store) as (images, labels, offsets):
            self._images, self._labels = _map(images), _map(labels)
            if offsets is not None:
                self._offsets = _read_offsets(self.store, images, offsets)
        return Description(len(self._labels), self._images.shape[1:], self._images.dtype)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        take_rows(self._images, positions, images)
        return images, self._labels[positions].astype(np.int64, copy=False)

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        files = take_files(self.store, self._images, self._offsets, positions)
        return files, self._labels[positions].astype(np.int64, copy=False)

    def _read_one(self, position: int) -> tuple[Image, int]:
        return self._images[position].copy(), int(self._labels[position])

    def _read_labels(self) -> Labels:
        check_store(self.store, self._labels.nbytes)
        return self._labels.astype(np.int64)

    def view(self) -> Images | Sequence[Image] | Sequence[memoryview]:
        """View all images in the map of the file; see `storage.Reader`."""
        self._be_ready()
        return self._images if self.kind == "pixels" else Encoded(self._images, self._offsets)

    def _close(self) -> None:
        del self._images, self._labels


open_reader = NpyReader


def _read_files(store: Path, opened: OpenStore, out: Images | None) -> tuple[Encoded, Labels]:
    refuse_out(store, out)
    files = [file for file in opened if file is not None]
    check_store(store, sum(math.prod(file.shape) * file.dtype.itemsize for file in files))
    arrays = [make_array(store, file.shape, file.dtype) for file in files]
    for file, array in zip(files, arrays, strict=True):
        read_range(store, file.descriptor, file.start, array)
    content, labels, offsets = arrays
    check_offsets(store, offsets, len(content))
    return Encoded(content, offsets.astype(np.int64, copy=False)), labels.astype(np.int64, copy=False)


def _write(path: Path, array: NDArray[Any]) -> None:
    header = BytesIO()
    write_array_header_1_0(header, header_data_from_array_1_0(array))
    start = header.tell()
    with path.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, start + array.nbytes)
        write_range(file.fileno(), start, array)  # numpy.save would lose the system's error code on a full disk
        file.write(header.getvalue())  # last, so that an incomplete file isn't one of NumPy's format


@contextmanager
def _open_files(store: Path) -> Iterator[OpenStore]:
    is_encoded = os.path.lexists(join_path(store, CONTENT))
    with reading(store), ExitStack() as stack:
        images = stack.enter_context(
            _open_file(store, CONTENT if is_encoded else IMAGES, *((BYTE,) if is_encoded else PIXELS))
        )
        labels = stack.enter_context(_open_file(store, LABELS, NUMBER))
        offsets = stack.enter_context(_open_file(store, OFFSETS, NUMBER)) if is_encoded else None
        if offsets is None:
            _check_pixels(store, images.shape)
        elif len(images.shape) != 1 or len(offsets.shape) != 1:
            raise CorruptStoreError(f"{CONTENT} and {OFFSETS} aren't image files", store=store)
        count = images.shape[0] if offsets is None else offsets.shape[0] - 1
        if labels.shape != (count,):
            raise CorruptStoreError(
                f"{LABELS} has an array of shape {labels.shape}: not one label for each of {count} images", store=store
            )
        yield OpenStore(images, labels, offsets)


def _check_pixels(store: Path, shape: tuple[int, ...]) -> None:
    if len(shape) not in {3, 4}:
        raise CorruptStoreError(f"{IMAGES} has an array of shape {shape}: not images", store=store)
    check_shape(store, *shape)


@contextmanager
def _open_file(store: Path, name: str, *dtypes: np.dtype[Any]) -> Iterator[ArrayFile]:
    with open_file(store, name) as (descriptor, status):
        with reading(store, Exception), open(descriptor, "rb", closefd=False) as file:  # a header can raise anything
            version = read_magic(file)
            shape, fortran_order, found = read_array_header_1_0(file)
            start = file.tell()
        if version != (1, 0) or fortran_order or found not in dtypes:
            raise CorruptStoreError(
                f"{name} isn't an array of {' or '.join(map(str, dtypes))} in C order, format 1.0",
                store=store,
                hint="store the images again",
            )
        if start + math.prod(shape) * found.itemsize != status.st_size:
            raise CorruptStoreError(
                f"{name} has {status.st_size} bytes, which don't fit its array of shape {shape}",
                store=store,
                hint="store the images again",
            )
        yield ArrayFile(descriptor, shape, found, start)


def _read_offsets(store: Path, content: ArrayFile, opened: ArrayFile) -> NDArray[np.int64]:
    check_store(store, opened.shape[0] * opened.dtype.itemsize)
    offsets = make_array(store, opened.shape, opened.dtype)
    read_range(store, opened.descriptor, opened.start, offsets)
    check_offsets(store, offsets, content.shape[0])
    return offsets.astype(np.int64, copy=False)


def _map(opened: ArrayFile) -> NDArray[Any]:
    content = mmap.mmap(opened.descriptor, 0, prot=mmap.PROT_READ)
    return np.ndarray(opened.shape, opened.dtype, content, opened.start)


def _read_at(store: Path, opened: ArrayFile, position: int) -> NDArray[Any]:
    array = make_array(store, opened.shape[1:], opened.dtype)
    read_range(store, opened.descriptor, opened.start + position * array.nbytes, array)
    return array
