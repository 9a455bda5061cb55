"""HDF5: one file with two datasets.

On disk: ``images.h5`` holds ``images``, uint8 of shape (N, H, W, 3), and ``labels``, little-endian int64 of shape (N,).
Both are contiguous, neither chunked nor compressed: the pixels lie in the file as they lie in memory.

Why it is fast: HDF5 says where a contiguous dataset begins. There the pixels are written, with one call. From there a
read of everything goes straight into the result, which gets huge pages from `numpy.empty`, and a reader maps the file
into memory and copies the images that it is asked for, with no HDF5 call for each. All blocks of the file are allocated
before it is written; so a full disk is noticed before HDF5 has anything to flush, too: it does not recover from that.
The low-level interface of h5py opens a dataset in a third of the time of ``file["images"]``. Files in chunks are read,
too (`_hdf5_chunks`), and written for the variants.

Library: h5py (https://docs.h5py.org, low-level interface: https://api.h5py.org).
"""

import math
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5f, h5p, h5s, h5t
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_images, check_index, make_array, make_result, read_range, write_range
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import CorruptStoreError, StorageError, reading, writing
from ..paths import claim_store, stat_file
from ..reader import Reader
from ._hdf5_chunks import UNCACHED, Rows, find_chunks, measure_chunks, read_rows, write_chunks

FILE = "images.h5"
DTYPES: dict[bytes, np.dtype[Any]] = {b"images": np.dtype(np.uint8), b"labels": np.dtype("<i8")}
TYPES = {name: h5t.py_create(dtype) for name, dtype in DTYPES.items()}
METADATA = 4096  # bytes at most: headers of the file and of two datasets
UNLOCKED = h5p.create(h5p.FILE_ACCESS)  # a lock would live on in a child that is forked meanwhile
UNLOCKED.set_file_locking(use_file_locking=False, ignore_when_disabled=False)
TIMELESS = h5p.create(h5p.FILE_CREATE)
TIMELESS.set_obj_track_times(False)  # of the root group: the same images make the same file at any time
INFO = BackendInfo({"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version}, "The HDF Group", "BSD-3-Clause")


class Source(NamedTuple):
    """A dataset of an open file.

    Attributes
    ----------
    dataset : h5d.DatasetID
    shape : tuple of int
    dtype : dtype
    offset : int or None
        Where its values begin in the file, bytes; None if they are not one run of bytes: chunked, compact or none.
    descriptor : int
        Of the file.
    """

    dataset: h5d.DatasetID
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    descriptor: int


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_sources(store) as (images, labels):
        position = check_index(store, index, images.shape[0])
        return _read_at(store, images, position), int(_read_at(store, labels, position))


def store_many(store: Path, images: Images, labels: Labels, *, chunk: int = 0, compress_level: int = 0) -> None:
    """Store an image set; see `storage.Backend`.

    Parameters
    ----------
    chunk : int
        Bytes of pixels in a chunk, which holds one image at least; 0: contiguous, no chunks.
    compress_level : int
        Of gzip, 1 to 9, for chunks; 0: they are not compressed.
    """
    images, labels = check_images(images, labels)
    path = os.fsencode(claim_store(store) / FILE)
    rows = min(len(images), max(1, chunk // math.prod(images.shape[1:]))) if chunk else 0
    with writing(store, RuntimeError), closing(h5f.create(path, h5f.ACC_EXCL, TIMELESS, UNLOCKED)) as file:
        size = measure_chunks(images, rows) if rows else images.nbytes
        os.posix_fallocate(file.get_vfd_handle(), 0, size + labels.nbytes + METADATA)
        if rows:
            _write(file, b"labels", labels)
            write_chunks(file, b"images", images, rows, compress_level)
        else:
            _write(file, b"images", images)
            _write(file, b"labels", labels)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_sources(store) as (images, labels):
        result = make_result(store, images.shape, out), make_array(store, labels.shape, np.int64)
        for source, array in zip((images, labels), result, strict=True):
            if source.offset is not None:
                read_range(store, source.descriptor, source.offset, array)
            elif array.size:
                source.dataset.read(h5s.ALL, h5s.ALL, array)
        return result


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels and labels; see `storage.Backend`."""
    with _open_sources(store) as sources:
        return {FILE: [pixels for source in sources for pixels in _find_ranges(source)]}


class Hdf5Reader(Reader):
    """Copies out of a memory map; what is not there as it is in memory, HDF5 unpacks."""

    def _open(self) -> tuple[int, int, int]:
        with ExitStack() as stack:
            images, labels = stack.enter_context(_open_sources(self.store))
            content = mmap.mmap(images.descriptor, 0, prot=mmap.PROT_READ)
            self._images, self._labels = _view(self.store, images, content), _view(self.store, labels, content)
            count, height, width, _ = images.shape
            self._resources = stack.pop_all()
        return count, height, width

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out)
        labels = make_array(self.store, (len(positions),), np.int64)
        with reading(self.store, RuntimeError):
            _take(self._labels, positions, labels)
            _take(self._images, positions, images)
        return images, labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        if isinstance(self._images, np.ndarray) and isinstance(self._labels, np.ndarray):
            return self._images[position].copy(), int(self._labels[position])
        return super()._read_one(position)

    def _read_labels(self) -> Labels:
        if isinstance(self._labels, np.ndarray):
            return self._labels.astype(np.int64)
        with reading(self.store, RuntimeError):
            return self._labels.read(0, self._count)

    def view(self) -> Images:
        """View all images where they are in the file, without a copy.

        Returns
        -------
        ndarray of uint8, shape (N, H, W, 3)
            Read-only. It keeps the map of the file open, after the reader is closed too.

        Raises
        ------
        StorageError
            The file is not contiguous, so its images are nowhere as they are in memory.
        """
        self._be_ready()
        if not isinstance(self._images, np.ndarray):
            raise StorageError(f"{self.store}: {FILE} is not contiguous, so it cannot be viewed: use read")
        return self._images

    def _close(self) -> None:
        del self._images, self._labels
        self._resources.close()


open_reader = Hdf5Reader


def _write(file: h5f.FileID, name: bytes, array: NDArray[Any]) -> None:
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_layout(h5d.CONTIGUOUS)
    layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    dataset = h5d.create(file, name, TYPES[name], h5s.create_simple(array.shape), layout)
    if array.size:  # not HDF5 writes it: what waits in its buffer until a dataset is closed is lost if that fails
        write_range(file.get_vfd_handle(), dataset.get_offset(), array)


@contextmanager
def _open_sources(store: Path) -> Iterator[tuple[Source, Source]]:
    path, _ = stat_file(store, FILE)
    with (
        reading(store, KeyError, RuntimeError, ValueError),
        closing(h5f.open(path, h5f.ACC_RDONLY)) as file,
    ):
        images = _open_source(store, file, path, b"images")
        labels = _open_source(store, file, path, b"labels")
        if len(images.shape) != len("NHWC") or images.shape[3] != CHANNELS:
            raise CorruptStoreError(f"{store}: {FILE} has images of shape {images.shape}: they are not RGB")
        if labels.shape != images.shape[:1]:
            raise CorruptStoreError(f"{store}: {FILE} has labels of shape {labels.shape}: not one an image")
        yield images, labels


def _open_source(store: Path, file: h5f.FileID, path: bytes, name: bytes) -> Source:
    dataset = h5d.open(file, name, UNCACHED)
    if dataset.get_type() != TYPES[name]:
        raise CorruptStoreError(f"{store}: {FILE} has {name.decode()} of type {dataset.dtype}: not {DTYPES[name]}")
    offset = dataset.get_offset()
    if h5f.get_name(dataset) != path or (offset is None and _is_outside(dataset)):
        raise CorruptStoreError(f"{store}: {FILE} keeps its values in other files: another program wrote it")
    return Source(dataset, dataset.shape, DTYPES[name], offset, file.get_vfd_handle())


def _is_outside(dataset: h5d.DatasetID) -> bool:
    layout = dataset.get_create_plist()
    return bool(layout.get_external_count() or layout.get_layout() == h5d.VIRTUAL)


def _find_ranges(source: Source) -> list[range]:
    if source.offset is None:
        return find_chunks(source.dataset)
    return [range(source.offset, source.offset + math.prod(source.shape) * source.dtype.itemsize)]


def _read_at(store: Path, source: Source, position: int) -> NDArray[Any]:
    array = make_array(store, source.shape[1:], source.dtype)
    if source.offset is not None:
        read_range(store, source.descriptor, source.offset + position * array.nbytes, array)
    else:
        read_rows(source.dataset, position, array[np.newaxis])
    return array


def _view(store: Path, source: Source, content: mmap.mmap) -> NDArray[Any] | Rows:
    count = math.prod(source.shape)
    if not count:
        return np.frombuffer(b"", source.dtype).reshape(source.shape)
    if source.offset is None:
        return Rows(store, source.dataset, source.dtype, content)
    return np.frombuffer(content, source.dtype, count, source.offset).reshape(source.shape)


def _take(source: NDArray[Any] | Rows, positions: NDArray[np.intp], result: NDArray[Any]) -> None:
    if isinstance(source, np.ndarray):
        np.take(source, positions, axis=0, out=result, mode="clip")  # "raise" would copy through a buffer
    else:
        source.take(positions, result)
