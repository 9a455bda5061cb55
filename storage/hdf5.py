"""HDF5: one file with two datasets.

On disk: ``images.h5`` holds ``images``, uint8 of shape (N, H, W, 3), and ``labels``, little-endian int64 of shape (N,).
Both are contiguous, neither chunked nor compressed: the pixels lie in the file as they lie in memory. So a read of
everything goes straight into the result, and a reader maps the file into memory and copies the images that it is
asked for, with no HDF5 call for each. A file of another layout is read through HDF5's own selections.

Why it is fast: h5py's low-level interface opens a dataset in a third of the time of ``file["images"]``; a result from
`numpy.empty` gets huge pages; and all blocks of the file are allocated before it is written. So a full disk is noticed
before HDF5 has anything to flush, too: it does not recover from that.

Library: h5py (https://docs.h5py.org, low-level interface: https://api.h5py.org).
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5p, h5s, h5t
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
    make_array,
)
from storage.errors import CorruptStoreError, translate_errors
from storage.reader import Reader

FILE = "images.h5"
METADATA = 4096  # bytes at most: headers of the file and of two datasets
VERSIONS = {"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version}


def store_single(store: Path, image: Image, label: int) -> None:
    """Store one image alone; see `storage.Backend`."""
    store_many(store, *check_image(image, label))


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_datasets(store) as (images, labels):
        position = check_index(store, index, images.shape[0])
        return _read_at(store, images, position), int(_read_at(store, labels, position))


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    path = claim_store(store) / FILE
    with translate_errors(store, RuntimeError), _close_at_end(h5f.create(os.fsencode(path), h5f.ACC_EXCL)) as file:
        os.posix_fallocate(file.get_vfd_handle(), 0, images.nbytes + labels.nbytes + METADATA)
        _write(file, b"images", h5t.STD_U8LE, images)
        _write(file, b"labels", h5t.STD_I64LE, labels)


def read_many(store: Path) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_datasets(store) as (images, labels):
        return _read_all(store, images), _read_all(store, labels)


def open_reader(store: Path) -> Reader:
    """Open a store for reading in any order; see `storage.Backend`."""
    return Hdf5Reader(store)


class Hdf5Reader(Reader):
    """Copies out of a memory map; a file that is not contiguous is read through HDF5's selections."""

    def _open(self) -> tuple[int, int, int]:
        with ExitStack() as stack:
            images, labels = stack.enter_context(_open_datasets(self.store))
            self._images, self._labels = _map(images), _map(labels)
            count, height, width, _ = images.shape
            self._resources = stack.pop_all()
        return count, height, width

    def _read(self, positions: NDArray[np.intp], images: Images, labels: Labels) -> None:
        with translate_errors(self.store, RuntimeError):
            _take(self._images, positions, images)
            _take(self._labels, positions, labels)

    def _read_one(self, position: int) -> tuple[Image, int]:
        if isinstance(self._images, np.ndarray):
            return self._images[position].copy(), int(self._labels[position])
        return super()._read_one(position)

    def _close(self) -> None:
        del self._images, self._labels
        self._resources.close()


@contextmanager
def _close_at_end(file: h5f.FileID) -> Iterator[h5f.FileID]:
    try:
        yield file
    finally:
        file.close()


def _write(file: h5f.FileID, name: bytes, kind: h5t.TypeID, array: NDArray[Any]) -> None:
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_layout(h5d.CONTIGUOUS)
    layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5d.FILL_TIME_NEVER)
    dataset = h5d.create(file, name, kind, h5s.create_simple(array.shape), layout)
    if array.size:
        dataset.write(h5s.ALL, h5s.ALL, array)


@contextmanager
def _open_datasets(store: Path) -> Iterator[tuple[h5d.DatasetID, h5d.DatasetID]]:
    path = os.fsencode(find_file(store, FILE))
    with (
        translate_errors(store, KeyError, RuntimeError, ValueError),
        _close_at_end(h5f.open(path, h5f.ACC_RDONLY)) as file,
    ):
        images, labels = h5d.open(file, b"images"), h5d.open(file, b"labels")
        if images.dtype != np.uint8 or images.rank != len("NHWC") or images.shape[3] != CHANNELS:
            raise CorruptStoreError(f"{store}: {FILE} holds {images.dtype} of shape {images.shape}, not RGB images")
        if labels.dtype != np.dtype("<i8") or labels.shape != images.shape[:1]:
            raise CorruptStoreError(
                f"{store}: {FILE} has labels of shape {labels.shape}, {labels.dtype}: not one an image"
            )
        for dataset in (images, labels):
            if h5f.get_name(dataset) != path or (dataset.get_offset() is None and _is_outside(dataset)):
                raise CorruptStoreError(f"{store}: {FILE} keeps its values in other files: another program wrote it")
        yield images, labels


def _is_outside(dataset: h5d.DatasetID) -> bool:
    layout = dataset.get_create_plist()
    return bool(layout.get_external_count() or layout.get_layout() == h5d.VIRTUAL)


def _read_all(store: Path, dataset: h5d.DatasetID) -> NDArray[Any]:
    array = make_array(store, dataset.shape, dataset.dtype)
    if array.size:
        dataset.read(h5s.ALL, h5s.ALL, array)
    return array


def _read_at(store: Path, dataset: h5d.DatasetID, position: int) -> NDArray[Any]:
    shape = dataset.shape[1:]
    array = make_array(store, shape, dataset.dtype)
    selection = dataset.get_space()
    selection.select_hyperslab((position, *(0 for _ in shape)), (1, *shape))
    dataset.read(h5s.create_simple((1, *shape)), selection, array)
    return array


def _map(dataset: h5d.DatasetID) -> NDArray[Any] | h5d.DatasetID:
    offset = dataset.get_offset()
    if offset is None:  # chunked, compact or empty: not one run of bytes in the file
        return dataset
    return np.memmap(os.fsdecode(h5f.get_name(dataset)), dataset.dtype, "r", offset, dataset.shape).view(np.ndarray)


def _take(source: NDArray[Any] | h5d.DatasetID, positions: NDArray[np.intp], result: NDArray[Any]) -> None:
    if isinstance(source, np.ndarray):
        np.take(source, positions, axis=0, out=result, mode="clip")  # "raise" would copy through a buffer
    elif positions.size:
        distinct, inverse = np.unique(positions, return_inverse=True)
        result[...] = h5py.Dataset(source)[distinct][inverse]
