"""HDF5: one file with two datasets.

On disk: ``images.h5`` holds ``images``, uint8 of shape (N, H, W, 3), and ``labels``, little-endian int64 of shape (N,).
Both are contiguous, neither chunked nor compressed: the pixels lie in the file as they lie in memory.

Why it is fast: HDF5 says where a contiguous dataset begins, so one system call writes all pixels there, and one reads
them into the result. A reader copies images out of a memory map, without a call of HDF5. The file's blocks are
allocated first: a full disk is noticed while HDF5 has nothing to flush, because it can't recover from that later. The
low-level interface of h5py opens a dataset in a third of the time of ``file["images"]``.

Files in chunks, as the variants write them, are read too. Chunks without filters are copied out of the map; HDF5
unpacks others, each once per batch, because its own selection of many single rows takes longer.

Library: h5py (https://docs.h5py.org, low-level interface: https://api.h5py.org). HDF5's advice on chunks:
https://support.hdfgroup.org/documentation/hdf5/latest/hdf5_chunking.html.
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
from h5py import h5d, h5f, h5l, h5p, h5s, h5t
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_images, check_index, make_array, make_result, read_range, write_range
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import CorruptStoreError, StorageError, hold_interrupts, reading, writing
from ..limits import MAX_DEFLATE, check_amount, check_memory, measure_content
from ..paths import claim_store, stat_file
from ..reader import Description, Reader

FILE = "images.h5"
OTHER = "another program wrote it"
DTYPES: dict[bytes, np.dtype[Any]] = {b"images": np.dtype(np.uint8), b"labels": np.dtype("<i8")}
TYPES = {name: h5t.py_create(dtype) for name, dtype in DTYPES.items()}
COPIES = 4  # of a row, while some are read
CHUNK_MEMORY = 4096  # bytes that HDF5 takes for each chunk that it reads
MAX_CHUNKS = 1024  # read at once
MAX_METADATA = 4096  # bytes: headers of the file and of two datasets
MAX_INDEX, MAX_CHUNK_INDEX = 4096, 256  # bytes: the index of a dataset in chunks, and what it takes for each chunk
UNLOCKED = h5p.create(h5p.FILE_ACCESS)  # a child that is forked meanwhile would keep a lock
UNLOCKED.set_file_locking(use_file_locking=False, ignore_when_disabled=False)
TIMELESS = h5p.create(h5p.FILE_CREATE)  # the same images make the same file at any time
TIMELESS.set_obj_track_times(False)
UNCACHED = h5p.create(h5p.DATASET_ACCESS)  # a chunk is written at once, and read right into the result
UNCACHED.set_chunk_cache(0, 0, 0)
INFO = BackendInfo({"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version}, "The HDF Group", "BSD-3-Clause")


class OpenDataset(NamedTuple):
    """A dataset of an open file; its values begin at byte `offset`, which is None if they aren't one run of bytes."""

    dataset: h5d.DatasetID
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    descriptor: int


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_datasets(store) as (images, labels):
        position = check_index(store, index, images.shape[0])
        return _read_at(store, images, position), int(_read_at(store, labels, position))


def store_many(store: Path, images: Images, labels: Labels, *, chunk: int = 0, compress_level: int = 0) -> None:
    """Store an image set; see `storage.Backend`.

    Parameters
    ----------
    store, images, labels
        See `storage.Backend`.
    chunk : int
        Bytes of pixels in a chunk, which holds at least one image; 0: contiguous, no chunks.
    compress_level : int
        Of gzip, 1 to 9, for chunks; 0: not compressed.
    """
    images, labels = check_images(images, labels)
    path = os.fsencode(claim_store(store) / FILE)
    rows = min(len(images), max(1, chunk // math.prod(images.shape[1:]))) if chunk else 0
    with writing(store), closing(h5f.create(path, h5f.ACC_EXCL, TIMELESS, UNLOCKED)) as file:
        size = _measure_chunks(images, rows) if rows else images.nbytes
        os.posix_fallocate(file.get_vfd_handle(), 0, size + labels.nbytes + MAX_METADATA)
        if rows:
            _write(file, b"labels", labels)
            _write_chunks(file, images, rows, compress_level)
        else:
            _write(file, b"images", images)
            _write(file, b"labels", labels)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_datasets(store) as (images, labels):
        _check_memory(store, labels)
        if out is None:
            _check_memory(store, images)
        result = make_result(store, images.shape, out), make_array(store, labels.shape, np.int64)
        for opened, array in zip((images, labels), result, strict=True):
            if opened.offset is not None:
                read_range(store, opened.descriptor, opened.offset, array)
            elif array.size:
                _read_chunks(opened.dataset, array)
        return result


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels and labels; see `storage.Backend`."""
    with _open_datasets(store) as datasets:
        return {FILE: [pixels for opened in datasets for pixels in _find_ranges(opened)]}


class Hdf5Reader(Reader):
    """Copies out of a memory map; HDF5 unpacks what is compressed."""

    def _open(self) -> Description:
        with ExitStack() as stack:
            images, labels = stack.enter_context(_open_datasets(self.store))
            content = mmap.mmap(images.descriptor, 0, prot=mmap.PROT_READ)
            self._images, self._labels = _view(self.store, images, content), _view(self.store, labels, content)
            self._label_dataset, self._resources = labels, stack.pop_all()
        return Description(images.shape[0], images.shape[1:])

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out)
        labels = make_array(self.store, (len(positions),), np.int64)
        _take(self._labels, positions, labels)
        _take(self._images, positions, images)
        return images, labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        if isinstance(self._images, np.ndarray) and isinstance(self._labels, np.ndarray):
            return self._images[position].copy(), int(self._labels[position])
        return super()._read_one(position)

    def _read_labels(self) -> Labels:
        _check_memory(self.store, self._label_dataset)
        if isinstance(self._labels, np.ndarray):
            return self._labels.astype(np.int64)
        return self._labels.read(0, self._count)

    def view(self) -> Images:
        """View all images in the map of a contiguous file; see `storage.Reader`."""
        self._be_ready()
        if not isinstance(self._images, np.ndarray):
            raise StorageError(f"{FILE} isn't contiguous, so it can't be viewed", store=self.store, hint="use read")
        return self._images

    def _close(self) -> None:
        del self._images, self._labels, self._label_dataset
        self._resources.close()


open_reader = Hdf5Reader


class ChunkedRows:
    """The images or labels of a dataset that isn't one run of bytes, in any order."""

    def __init__(self, store: Path, dataset: h5d.DatasetID, dtype: np.dtype[Any], content: mmap.mmap) -> None:
        self._store, self._dataset, self._dtype = store, dataset, dtype
        self._shape = dataset.shape[1:]
        self._per_chunk = _find_chunk_shape(dataset)[0]
        row = make_array(store, self._shape, dtype)
        chunks = _find_chunks(dataset)
        if any(chunk.stop > len(content) for chunk in chunks):
            chunks = []  # HDF5 says what is wrong with them
        starts = np.array([chunk.start for chunk in chunks], np.int64)
        self._addresses = (starts[:, np.newaxis] + row.nbytes * np.arange(self._per_chunk if chunks else 0)).ravel()
        if chunks:  # a row at each byte of the file
            windows = len(content) - row.nbytes + 1
            self._windows = np.ndarray((windows, *self._shape), dtype, content, 0, (1, *row.strides))

    def take(self, positions: NDArray[np.intp], result: NDArray[Any]) -> None:
        """Copy the rows at `positions`, which are in range, into `result`."""
        if not self._addresses.size:
            self._unpack(positions, result)
            return
        for start in range(0, len(positions), self._per_chunk):  # so many stay in the processor's cache
            part = slice(start, start + self._per_chunk)
            result[part] = self._windows[self._addresses[positions[part]]]

    def _unpack(self, positions: NDArray[np.intp], result: NDArray[Any]) -> None:
        order = np.argsort(positions, kind="stable")
        starts = np.flatnonzero(np.diff(positions[order] // self._per_chunk, prepend=-1))
        for places in np.split(order, starts[1:]) if order.size else ():
            wanted = positions[places]
            rows = self.read(int(wanted[0]), int(wanted[-1]) + 1)
            result[places] = rows[wanted - wanted[0]]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read consecutive rows."""
        rows = make_array(self._store, (stop - start, *self._shape), self._dtype)
        _read_rows(self._dataset, start, rows)
        return rows


def _write(file: h5f.FileID, name: bytes, array: NDArray[Any]) -> None:
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_layout(h5d.CONTIGUOUS)
    layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    dataset = h5d.create(file, name, TYPES[name], h5s.create_simple(array.shape), layout)
    if array.size:  # not by HDF5: if it can't flush its buffer when a dataset is closed, those values are lost
        write_range(file.get_vfd_handle(), dataset.get_offset(), array)


def _measure_chunks(images: Images, rows: int) -> int:
    """Compute how many bytes chunks of `rows` images take at most; gzip adds up to a thousandth."""
    size = rows * math.prod(images.shape[1:])
    return MAX_INDEX + -(-len(images) // rows) * (size + size // 1000 + MAX_CHUNK_INDEX)


def _write_chunks(file: h5f.FileID, images: Images, rows: int, compress_level: int) -> None:
    """Write images in chunks as the last dataset of a file, and give back what was allocated and isn't needed."""
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_chunk((rows, *images.shape[1:]))
    if compress_level:
        layout.set_deflate(compress_level)
    layout.set_obj_track_times(False)
    space = h5s.create_simple(images.shape)
    dataset = h5d.create(file, b"images", TYPES[b"images"], space, layout, None, UNCACHED)
    with hold_interrupts():  # Ctrl-C would be lost where h5py tidies up
        dataset.write(h5s.ALL, h5s.ALL, images)
        h5f.flush(file)
    os.ftruncate(file.get_vfd_handle(), file.get_filesize())  # HDF5 doesn't know that it is longer


@contextmanager
def _open_datasets(store: Path) -> Iterator[tuple[OpenDataset, OpenDataset]]:
    path, _ = stat_file(store, FILE)
    with reading(store), closing(_open_file(path)) as file:
        images = _open_dataset(store, file, b"images")
        labels = _open_dataset(store, file, b"labels")
        if len(images.shape) != len("NHWC") or images.shape[3] != CHANNELS:
            raise CorruptStoreError(f"{FILE} has images of shape {images.shape}: not RGB images", store=store)
        if labels.shape != images.shape[:1]:
            raise CorruptStoreError(
                f"{FILE} has labels of shape {labels.shape}: not one for each of {images.shape[0]} images", store=store
            )
        yield images, labels


def _open_file(path: bytes) -> h5f.FileID:
    try:
        return h5f.open(path, h5f.ACC_RDONLY)
    except OSError as error:
        if "unable to lock file" not in str(error):  # another program has locked the file, or there are no locks
            raise
        return h5f.open(path, h5f.ACC_RDONLY, UNLOCKED)  # not at first: h5py couldn't open it then in this process


def _open_dataset(store: Path, file: h5f.FileID, name: bytes) -> OpenDataset:
    if not file.links.exists(name):
        raise CorruptStoreError(f"{FILE} has no {name.decode()}: {OTHER}", store=store)
    is_linked = file.links.get_info(name).type != h5l.TYPE_HARD  # it isn't followed: a named pipe may be there
    if is_linked or _is_outside(dataset := h5d.open(file, name, UNCACHED)):
        raise CorruptStoreError(f"{FILE} has a link, or keeps its values in other files: {OTHER}", store=store)
    if dataset.get_type() != TYPES[name]:
        raise CorruptStoreError(
            f"{FILE} has {name.decode()} of type {dataset.dtype}, not {DTYPES[name]}: another program wrote it",
            store=store,
        )
    opened = OpenDataset(dataset, dataset.shape, DTYPES[name], dataset.get_offset(), file.get_vfd_handle())
    _check_size(store, opened, f"{FILE}: {name.decode()}")
    return opened


def _check_size(store: Path, opened: OpenDataset, what: str) -> None:
    """Refuse values after the end of the file, and chunks that are far larger than it."""
    size = os.fstat(opened.descriptor).st_size
    if opened.offset is not None:
        check_amount(what, opened.offset + math.prod(opened.shape) * opened.dtype.itemsize, size, store=store)
    elif math.prod(opened.shape):
        stored = opened.dataset.get_storage_size()
        check_amount(f"what is stored of {what}", stored, size, store=store)
        chunk, row = (math.prod(shape) for shape in (_find_chunk_shape(opened.dataset), opened.shape[1:]))
        if chunk > row:
            check_memory(store, chunk * opened.dtype.itemsize, size, f"a chunk of {what}")
        ratio = MAX_DEFLATE if opened.dataset.get_create_plist().get_nfilters() else 1
        needed = COPIES * row + CHUNK_MEMORY * _count_chunks(opened.dataset)
        check_memory(store, needed, ratio * stored, "reading one image")


def _check_memory(store: Path, opened: OpenDataset) -> None:
    """Refuse to read all values if they aren't there: HDF5 fills in what was never written."""
    size, content = math.prod(opened.shape) * opened.dtype.itemsize, opened.dataset.get_storage_size()
    if opened.offset is not None:
        content = min(content, measure_content(opened.descriptor, os.fstat(opened.descriptor)))
    elif opened.dataset.get_create_plist().get_nfilters() and size <= MAX_DEFLATE * content:
        return
    check_memory(store, size, content)


def _is_outside(dataset: h5d.DatasetID) -> bool:
    layout = dataset.get_create_plist()
    return bool(layout.get_external_count() or layout.get_layout() == h5d.VIRTUAL)


def _find_ranges(opened: OpenDataset) -> list[range]:
    if opened.offset is None:
        return _find_chunks(opened.dataset)
    return [range(opened.offset, opened.offset + math.prod(opened.shape) * opened.dtype.itemsize)]


def _find_chunks(dataset: h5d.DatasetID) -> list[range]:
    """Find the chunks' bytes, in order; none if chunks are filtered, split images, or aren't all there."""
    chunk, found = _find_chunk_shape(dataset), dict[int, range]()
    size = math.prod(chunk) * dataset.get_type().get_size()

    def note(entry: h5d.StoreInfo) -> None:
        found[entry.chunk_offset[0] // chunk[0]] = range(entry.byte_offset, entry.byte_offset + size)

    layout = dataset.get_create_plist()
    if layout.get_layout() == h5d.CHUNKED and not layout.get_nfilters() and chunk[1:] == dataset.shape[1:]:
        dataset.chunk_iter(note)
    numbers = range(-(-dataset.shape[0] // chunk[0]))
    return [found[number] for number in numbers] if len(found) == len(numbers) else []


def _find_chunk_shape(dataset: h5d.DatasetID) -> tuple[int, ...]:
    """Find the shape of a chunk; datasets without chunks are read row by row."""
    layout = dataset.get_create_plist()
    shape: tuple[int, ...] = layout.get_chunk() if layout.get_layout() == h5d.CHUNKED else (1, *dataset.shape[1:])
    return shape


def _read_at(store: Path, opened: OpenDataset, position: int) -> NDArray[Any]:
    array = make_array(store, opened.shape[1:], opened.dtype)
    if opened.offset is not None:
        read_range(store, opened.descriptor, opened.offset + position * array.nbytes, array)
    else:
        _read_rows(opened.dataset, position, array[np.newaxis])
    return array


def _count_chunks(dataset: h5d.DatasetID) -> int:
    """Count the chunks that a row lies in."""
    pairs = zip(dataset.shape[1:], _find_chunk_shape(dataset)[1:], strict=True)
    return math.prod(-(-size // per_chunk) for size, per_chunk in pairs)


def _read_chunks(dataset: h5d.DatasetID, array: NDArray[Any]) -> None:
    """Read all rows, some chunks at once."""
    step = max(1, MAX_CHUNKS // _count_chunks(dataset)) * _find_chunk_shape(dataset)[0]
    for start in range(0, len(array), step):
        _read_rows(dataset, start, array[start : start + step])


def _read_rows(dataset: h5d.DatasetID, start: int, rows: NDArray[Any]) -> None:
    space = dataset.get_space()
    space.select_hyperslab((start, *(0 for _ in rows.shape[1:])), rows.shape)
    dataset.read(h5s.create_simple(rows.shape), space, rows)


def _view(store: Path, opened: OpenDataset, content: mmap.mmap) -> NDArray[Any] | ChunkedRows:
    count = math.prod(opened.shape)
    if not count:
        return np.frombuffer(b"", opened.dtype).reshape(opened.shape)
    if opened.offset is None:
        return ChunkedRows(store, opened.dataset, opened.dtype, content)
    return np.frombuffer(content, opened.dtype, count, opened.offset).reshape(opened.shape)


def _take(values: NDArray[Any] | ChunkedRows, positions: NDArray[np.intp], result: NDArray[Any]) -> None:
    if isinstance(values, np.ndarray):
        np.take(values, positions, axis=0, out=result, mode="clip")  # "raise" would copy through a buffer
    else:
        values.take(positions, result)
