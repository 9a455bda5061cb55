"""HDF5: one file with two datasets.

On disk: ``images.h5`` holds ``images``, uint8 of shape (N, H, W, 3), and ``labels``, little-endian int64 of shape (N,).
Both are contiguous, neither chunked nor compressed: the pixels lie in the file as they lie in memory. So a read of
everything goes straight into the result, and a reader maps the file into memory and copies the images that it is
asked for, with no HDF5 call for each. A file of another layout is read through h5py's own indexing.

Library: h5py (https://docs.h5py.org).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from storage.checks import (
    CHANNELS,
    Image,
    Images,
    Labels,
    check_image,
    check_images,
    check_index,
    claim_store,
    find_file,
)
from storage.errors import CorruptStoreError, translate_errors
from storage.reader import Reader

FILE = "images.h5"
VERSIONS = {"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version}


def store_single(store: Path, image: Image, label: int) -> None:
    """Store one image alone; see `storage.Backend`."""
    store_many(store, *check_image(image, label))


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_file(store) as file:
        images, labels = _find_datasets(store, file)
        position = check_index(store, index, len(images))
        image = np.empty(images.shape[1:], np.uint8)
        images.read_direct(image, np.s_[position])
        return image, int(labels[position])


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    path = claim_store(store) / FILE
    with translate_errors(store, RuntimeError), h5py.File(path, "x") as file:
        file.create_dataset("images", data=images)
        file.create_dataset("labels", data=labels, dtype="<i8")


def read_many(store: Path) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_file(store) as file:
        images, labels = _find_datasets(store, file)
        return _read_all(images), _read_all(labels)


def open_reader(store: Path) -> Reader:
    """Open a store for reading in any order; see `storage.Backend`."""
    return Hdf5Reader(store)


class Hdf5Reader(Reader):
    """Copies out of a memory map; a file that is not contiguous is read through h5py's indexing."""

    def _open(self) -> tuple[int, int, int]:
        with ExitStack() as stack:
            file = stack.enter_context(_open_file(self.store))
            images, labels = _find_datasets(self.store, file)
            self._images, self._labels = _map_dataset(images), _map_dataset(labels)
            self._resources = stack.pop_all()
            count, height, width, _ = images.shape
        return count, height, width

    def _read(self, positions: NDArray[np.intp], images: Images, labels: Labels) -> None:
        with translate_errors(self.store, RuntimeError):
            _take(self._images, positions, images)
            _take(self._labels, positions, labels)

    def _close(self) -> None:
        del self._images, self._labels
        self._resources.close()


@contextmanager
def _open_file(store: Path) -> Iterator[h5py.File]:
    path = find_file(store, FILE)
    with translate_errors(store, KeyError, RuntimeError, ValueError), h5py.File(path) as file:
        yield file


def _find_datasets(store: Path, file: h5py.File) -> tuple[h5py.Dataset, h5py.Dataset]:
    for name in ("images", "labels"):
        # A link or an external dataset would lead out of the store.
        if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            raise CorruptStoreError(f"{store}: {FILE} has no dataset {name!r}: another program wrote it")
        if file[name].external or file[name].is_virtual:
            raise CorruptStoreError(f"{store}: dataset {name!r} of {FILE} keeps its values in other files")
    images, labels = file["images"], file["labels"]
    if images.dtype != np.uint8 or images.ndim != len("NHWC") or images.shape[3] != CHANNELS:
        raise CorruptStoreError(f"{store}: {FILE} holds {images.dtype} of shape {images.shape}, not RGB images")
    if labels.dtype != np.dtype("<i8") or labels.shape != images.shape[:1]:
        raise CorruptStoreError(
            f"{store}: {FILE} holds labels of shape {labels.shape}, {labels.dtype}: not one an image"
        )
    return images, labels


def _read_all(dataset: h5py.Dataset) -> NDArray[Any]:
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read_direct(array)
    return array


def _map_dataset(dataset: h5py.Dataset) -> NDArray[Any] | h5py.Dataset:
    offset = dataset.id.get_offset()
    if offset is None:  # chunked, compact or empty: not one run of bytes in the file
        return dataset
    return np.memmap(dataset.file.filename, dataset.dtype, "r", offset, dataset.shape)


def _take(source: NDArray[Any] | h5py.Dataset, positions: NDArray[np.intp], result: NDArray[Any]) -> None:
    if isinstance(source, np.ndarray):
        np.take(source, positions, axis=0, out=result, mode="clip")  # "raise" would copy through a buffer
    elif positions.size:
        distinct, inverse = np.unique(positions, return_inverse=True)
        result[...] = source[distinct][inverse]
