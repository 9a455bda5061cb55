"""HDF5: one file with two datasets, or three.

On disk: ``images.h5`` holds ``images``, little-endian, of shape (N, H, W) or (N, H, W, C), and ``labels``,
little-endian int64 of shape (N,). Both are contiguous, neither chunked nor compressed: the pixels lie in the file as
they lie in memory. Image files are one after the other in ``content``, uint8 of shape (total,), in place of ``images``;
``offsets``, little-endian int64 of shape (N + 1,), says where each starts, then where the last one ends.

Why it is fast: HDF5 says where a contiguous dataset begins, so one system call writes all pixels there, and one reads
them into the result. A reader copies images out of a memory map, without a call of HDF5. The file's blocks are
allocated first: a full disk is noticed while HDF5 has nothing to flush, because it can't recover from that later. The
low-level interface of h5py opens a dataset in a third of the time of ``file["images"]``.

Files in chunks, as the variants write them, are read too. Chunks without filters are copied out of the map; HDF5
unpacks others, each once per batch, because its own selection of many single rows takes longer. HDF5 has no limit that
an image set could reach: sizes and offsets have 64 bits.

Library: h5py (https://docs.h5py.org, low-level interface: https://api.h5py.org). HDF5's advice on chunks:
https://support.hdfgroup.org/documentation/hdf5/latest/hdf5_chunking.html.
"""

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import local
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5f, h5l, h5p, h5s, h5t
from numpy.typing import NDArray

from .. import limits
from ..arrays import (
    DTYPES,
    PIECE,
    check_encoded,
    check_images,
    check_index,
    check_limit,
    check_offsets,
    check_range,
    check_shape,
    make_array,
    make_result,
    read_result,
    refuse_out,
    take_files,
    take_rows,
    write_range,
)
from ..contract import ANY_PIXELS, BackendInfo, Image, Images, Labels, Records
from ..encoded import Encoded, gather, measure_offsets
from ..errors import HDF5_UNLOCKABLE, CorruptStoreError, StorageError, hold_interrupts, reading, writing
from ..filling import report_filled
from ..lazy import LazyProperty
from ..limits import MAX_DEFLATE, MAX_EXPANSION, check_amount, check_memory, measure_content
from ..paths import claim_store, stat_file
from ..reader import Description, Reader

FILE = "images.h5"
OTHER = "another program wrote it"
BYTES, NUMBERS = np.dtype(np.uint8), np.dtype("<i8")
ACCEPTED: dict[bytes, tuple[np.dtype[Any], ...]] = {
    b"images": tuple(DTYPES.values()),
    b"labels": (NUMBERS,),
    b"content": (BYTES,),
    b"offsets": (NUMBERS,),
}
TYPES = {dtype: h5t.py_create(dtype) for dtype in (*DTYPES.values(), NUMBERS)}  # h5py would make one for each read
KEPT = 4 << 20  # bytes at most that a thread keeps, to read what several images of a batch share
COPIES = 4  # of a row, while some are read
FILE_COPIES = 3  # of an image file: as HDF5 unpacks it, in a batch, and what HDF5 needs itself
OWN_MEMORY = 16 << 20  # bytes that HDF5 takes at most beside large arrays that it fills
CHUNK_MEMORY = 4096  # bytes that HDF5 takes for each chunk that it reads
MAX_CHUNKS = 1024  # read at once
MAX_CHUNK = 2**32 - 1  # bytes: HDF5 counted them in 32 bits before version 2
MAX_METADATA = 4096  # bytes: headers of the file and of three datasets
MAX_INDEX, MAX_CHUNK_INDEX = 4096, 256  # bytes: the index of a dataset in chunks, and what it takes for each chunk
UNLOCKED = h5p.create(h5p.FILE_ACCESS)  # a child that is forked meanwhile would keep a lock
UNLOCKED.set_file_locking(use_file_locking=False, ignore_when_disabled=False)
TIMELESS = h5p.create(h5p.FILE_CREATE)  # the same images make the same file at any time
TIMELESS.set_obj_track_times(False)
UNCACHED = h5p.create(h5p.DATASET_ACCESS)  # a chunk is written at once, and read right into the result
UNCACHED.set_chunk_cache(0, 0, 0)
VERSIONS = {"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version}
INFO = BackendInfo(VERSIONS, "The HDF Group", "BSD-3-Clause", kinds=("pixels", "encoded"), dtypes=ANY_PIXELS)

_here = local()


class OpenDataset(NamedTuple):
    """A dataset of an open file; its values begin at byte `offset`, which is None if they aren't one run of bytes.

    One that isn't has a `chunk`, the shape of a chunk or of one row; a row lies in `chunks_per_row` of them, which may
    be `filtered`.
    """

    dataset: h5d.DatasetID
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    descriptor: int
    chunk: tuple[int, ...] = ()
    chunks_per_row: int = 0
    filtered: bool = False


class OpenStore(NamedTuple):
    """The datasets of a store; `images` is the content of all files if there are `offsets`."""

    images: OpenDataset
    labels: OpenDataset
    offsets: OpenDataset | None


def read_single(store: Path, index: int) -> tuple[Image | bytes, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_datasets(store) as (images, labels, offsets):
        position = check_index(store, index, labels.shape[0])
        label = int(_read_part(store, labels, position, 1)[0])
        if offsets is None:
            return _read_part(store, images, position, 1)[0], label
        start, end = _read_part(store, offsets, position, 2).tolist()
        check_range(store, position, start, end, images.shape[0])
        _check_memory(store, images, size=FILE_COPIES * (end - start))
        return _read_part(store, images, start, end - start).tobytes(), label


def store_many(
    store: Path, images: Images | Encoded, labels: Labels, *, chunk: int = 0, compress_level: int = 0
) -> None:
    """Store an image set; see `storage.Backend`.

    Parameters
    ----------
    store, images, labels
        See `storage.Backend`.
    chunk : int
        Bytes of pixels in a chunk, which holds at least one image, or of image files; 0: contiguous, no chunks.
    compress_level : int
        Of gzip, 1 to 9, for chunks; 0: not compressed.
    """
    if isinstance(images, Encoded):
        labels = check_encoded(images, labels)
        name, values = b"content", images.content
        arrays: dict[bytes, NDArray[Any]] = {b"offsets": images.offsets, b"labels": labels, name: values}
    else:
        images, labels = check_images(images, labels, ANY_PIXELS)
        name, values = b"images", images
        arrays = {name: values, b"labels": labels}
    row = math.prod(values.shape[1:]) * values.itemsize
    rows = min(len(values), max(1, chunk // row)) if chunk else 0
    check_limit("an image", row if rows else 0, MAX_CHUNK, "a chunk of HDF5")
    path = os.fsencode(claim_store(store) / FILE)
    with writing(store), closing(h5f.create(path, h5f.ACC_EXCL, TIMELESS, UNLOCKED)) as file:
        size = sum(array.nbytes for array in arrays.values())
        if rows:
            size += _measure_chunks(values, rows) - arrays.pop(name).nbytes
        os.posix_fallocate(file.get_vfd_handle(), 0, size + MAX_METADATA)
        for other, array in arrays.items():
            _write(file, other, array)
        if rows:
            _write_chunks(file, name, values, rows, compress_level)


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_datasets(store) as opened:
        made = (opened.labels, opened.offsets, opened.offsets, opened.images if out is None else None)
        _check_memory(store, *filter(None, made))
        if opened.offsets is not None:
            refuse_out(store, out)
            offsets = _read_offsets(store, opened.offsets, opened.images)
            return Encoded(_read_all(store, opened.images), offsets), _read_all(store, opened.labels)
        labels: Labels = _read_all(store, opened.labels)
        if out is None:
            return _read_all(store, opened.images), labels
        _fill(store, opened.images, 0, make_result(store, opened.images.shape, out, opened.images.dtype))
        return out, labels


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels and labels; see `storage.Backend`."""
    with _open_datasets(store) as (images, labels, _):
        return {FILE: [*_find_ranges(images), *_find_ranges(labels)]}


def find_records(store: Path) -> list[Records]:
    """Find the bytes of each image in a contiguous file; see `storage.Backend`."""
    with _open_datasets(store) as (images, labels, offsets):
        if images.offset is None:
            return []
        if offsets is not None:
            return [Records(FILE, images.offset + _read_offsets(store, offsets, images))]
        size = math.prod(images.shape[1:]) * images.dtype.itemsize
        return [Records(FILE, range(images.offset, images.offset + labels.shape[0] * size + 1, size))]


class Hdf5Reader(Reader):
    """Copies out of a memory map; HDF5 unpacks what is compressed."""

    def _open(self) -> Description:
        with ExitStack() as stack:
            images, labels, offsets = stack.enter_context(_open_datasets(self.store))
            if offsets is not None:
                self._offsets = _read_offsets(self.store, offsets, images)
            content = mmap.mmap(images.descriptor, 0, prot=mmap.PROT_READ)
            self._images, self._labels = _view(self.store, images, content), _view(self.store, labels, content)
            self._label_dataset, self._resources = labels, stack.pop_all()
        return Description(labels.shape[0], images.shape[1:], images.dtype)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        labels = make_array(self.store, (len(positions),), np.int64)
        _take(self._labels, positions, labels)
        _take(self._images, positions, images)
        return images, labels

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        labels = make_array(self.store, (len(positions),), np.int64)
        _take(self._labels, positions, labels)
        if isinstance(self._images, np.ndarray):
            return take_files(self.store, self._images, self._offsets, positions), labels
        starts, ends = self._offsets[positions], self._offsets[positions + 1]
        offsets = measure_offsets(ends - starts)
        content = make_array(self.store, (int(offsets[-1]),))
        self._images.gather(starts, ends, content)
        return Encoded(content, offsets), labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        if isinstance(self._images, np.ndarray) and isinstance(self._labels, np.ndarray):
            return self._images[position].copy(), int(self._labels[position])
        return super()._read_one(position)

    def _read_labels(self) -> Labels:
        return _read_all(self.store, self._label_dataset)

    def view(self) -> Images | Sequence[Image] | Sequence[memoryview]:
        """View all images in the map of a contiguous file; see `storage.Reader`."""
        self._be_ready()
        if not isinstance(self._images, np.ndarray):
            raise StorageError(f"{FILE} isn't contiguous, so it can't be viewed", store=self.store, hint="use read")
        return self._images if self.kind == "pixels" else Encoded(self._images, self._offsets)

    def _close(self) -> None:
        del self._images, self._labels, self._label_dataset
        self._resources.close()


open_reader = Hdf5Reader


class ChunkedRows:
    """The images, files or labels of a dataset that isn't one run of bytes, in any order."""

    def __init__(self, store: Path, opened: OpenDataset, content: mmap.mmap) -> None:
        self._store, self._opened, self._content = store, opened, content
        self._per_chunk = opened.chunk[0]
        chunks = _find_chunks(opened)
        if any(chunk.stop > len(content) for chunk in chunks):
            chunks = []  # HDF5 says what is wrong with them
        self._starts = np.array([chunk.start for chunk in chunks], np.int64)

    @LazyProperty
    def _rows(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """The address of each row in the file, and a row at each byte of it."""
        row = make_array(self._store, self._opened.shape[1:], self._opened.dtype)
        shape = len(self._content) - row.nbytes + 1, *row.shape
        windows = np.ndarray(shape, row.dtype, self._content, 0, (1, *row.strides))
        return (self._starts[:, np.newaxis] + row.nbytes * np.arange(self._per_chunk)).ravel(), windows

    def take(self, positions: NDArray[np.intp], result: NDArray[Any]) -> None:
        """Copy the rows at `positions`, which are in range, into `result`."""
        if not self._starts.size:
            self._unpack(positions, positions + 1, result)
            return
        addresses, windows = self._rows
        for start in range(0, len(positions), self._per_chunk):  # so many stay in the processor's cache
            part = slice(start, start + self._per_chunk)
            result[part] = windows[addresses[positions[part]]]

    def gather(self, starts: NDArray[np.int64], ends: NDArray[np.int64], result: NDArray[np.uint8]) -> None:
        """Copy the bytes of files, which are in range, one file after the other into `result`."""
        if not self._starts.size:
            self._unpack(starts, ends, result)
            return
        first = np.minimum(starts // self._per_chunk, len(self._starts) - 1)  # an empty file may be after the last one
        counts = np.maximum(ends - 1, starts) // self._per_chunk - starts // self._per_chunk + 1
        pieces = np.repeat(np.arange(len(starts)), counts)
        chunks = np.arange(len(pieces)) - np.repeat(np.cumsum(counts) - counts - first, counts)
        shifts = self._starts[chunks] - chunks * self._per_chunk
        lows = np.maximum(starts[pieces], chunks * self._per_chunk)
        highs = np.minimum(ends[pieces], (chunks + 1) * self._per_chunk)
        gather(memoryview(self._content), lows + shifts, highs + shifts, result)

    def _unpack(self, starts: NDArray[np.integer], ends: NDArray[np.integer], result: NDArray[Any]) -> None:
        """Copy ranges of rows, with one read for those that share chunks."""
        places = measure_offsets(ends - starts)
        order = np.lexsort((ends, starts))
        first, last = starts[order] // self._per_chunk, (ends[order] - 1) // self._per_chunk
        cuts = np.flatnonzero(first[1:] > last[:-1]) + 1
        for ranges in np.split(order, cuts) if order.size else ():
            low, high = int(starts[ranges[0]]), int(ends[ranges[-1]])
            rows = _lend(self._store, (high - low, *self._opened.shape[1:]), self._opened.dtype)
            _fill(self._store, self._opened, low, rows)
            for number in ranges.tolist():
                found = rows[starts[number] - low : ends[number] - low]
                result[places[number] : places[number + 1]] = found


def _write(file: h5f.FileID, name: bytes, array: NDArray[Any]) -> None:
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_layout(h5d.CONTIGUOUS)
    layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    dataset = h5d.create(file, name, TYPES[array.dtype], h5s.create_simple(array.shape), layout)
    if array.size:  # not by HDF5: if it can't flush its buffer when a dataset is closed, those values are lost
        write_range(file.get_vfd_handle(), dataset.get_offset(), array)


def _measure_chunks(array: NDArray[Any], rows: int) -> int:
    """Compute how many bytes chunks of `rows` rows take at most; gzip adds up to a thousandth."""
    size = rows * math.prod(array.shape[1:]) * array.itemsize
    return MAX_INDEX + -(-len(array) // rows) * (size + size // 1000 + MAX_CHUNK_INDEX)


def _write_chunks(file: h5f.FileID, name: bytes, array: NDArray[Any], rows: int, compress_level: int) -> None:
    """Write the last dataset of a file in chunks, and give back what was allocated and isn't needed."""
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_chunk((rows, *array.shape[1:]))
    if compress_level:
        layout.set_deflate(compress_level)
    layout.set_obj_track_times(False)
    dataset = h5d.create(file, name, TYPES[array.dtype], h5s.create_simple(array.shape), layout, None, UNCACHED)
    with hold_interrupts():  # Ctrl-C would be lost where h5py tidies up
        dataset.write(h5s.ALL, h5s.ALL, array)
        h5f.flush(file)
    os.ftruncate(file.get_vfd_handle(), file.get_filesize())  # HDF5 doesn't know that it is longer


@contextmanager
def _open_datasets(store: Path) -> Iterator[OpenStore]:
    path, _ = stat_file(store, FILE)
    with reading(store), closing(_open_file(path)) as file:
        is_encoded = file.links.exists(b"content") and not file.links.exists(b"images")
        images = _open_dataset(store, file, b"content" if is_encoded else b"images")
        labels = _open_dataset(store, file, b"labels")
        offsets = _open_dataset(store, file, b"offsets") if is_encoded else None
        if offsets is None:
            if len(images.shape) not in {3, 4}:
                raise CorruptStoreError(f"{FILE} has images of shape {images.shape}: not images", store=store)
            check_shape(store, *images.shape)
        if offsets is not None and (len(images.shape) != 1 or len(offsets.shape) != 1):
            raise CorruptStoreError(f"{FILE} has content and offsets that aren't image files", store=store)
        count = images.shape[0] if offsets is None else offsets.shape[0] - 1
        if labels.shape != (count,):
            raise CorruptStoreError(
                f"{FILE} has labels of shape {labels.shape}: not one for each of {count} images", store=store
            )
        yield OpenStore(images, labels, offsets)


def _open_file(path: bytes) -> h5f.FileID:
    try:
        return h5f.open(path, h5f.ACC_RDONLY)
    except OSError as error:
        if not HDF5_UNLOCKABLE.search(str(error)):
            raise
        return h5f.open(path, h5f.ACC_RDONLY, UNLOCKED)  # not at first: h5py couldn't open it then in this process


def _open_dataset(store: Path, file: h5f.FileID, name: bytes) -> OpenDataset:
    if not file.links.exists(name):
        raise CorruptStoreError(f"{FILE} has no {name.decode()}: {OTHER}", store=store)
    if file.links.get_info(name).type != h5l.TYPE_HARD:  # it isn't followed: a named pipe may be there
        raise CorruptStoreError(f"{FILE} has a link, maybe to other files: {OTHER}", store=store)
    dataset = h5d.open(file, name, UNCACHED)
    kind = dataset.get_type()
    dtype = next((accepted for accepted in ACCEPTED[name] if kind == TYPES[accepted]), None)
    if dtype is None:
        expected = " or ".join(map(str, ACCEPTED[name]))
        raise CorruptStoreError(
            f"{FILE} has {name.decode()} of type {dataset.dtype}, not {expected}: another program wrote it",
            store=store,
        )
    shape, offset, descriptor = dataset.shape, dataset.get_offset(), file.get_vfd_handle()
    size = os.fstat(descriptor).st_size
    if offset is None:
        layout = _look_inside(store, name, dataset, shape, dtype.itemsize, size)
        return OpenDataset(dataset, shape, dtype, None, descriptor, *layout)
    check_amount(f"{FILE}: {name.decode()}", offset + math.prod(shape) * dtype.itemsize, size, store=store)
    return OpenDataset(dataset, shape, dtype, offset, descriptor)


def _look_inside(
    store: Path, name: bytes, dataset: h5d.DatasetID, shape: tuple[int, ...], value: int, size: int
) -> tuple[tuple[int, ...], int, bool]:
    """Find out how values that aren't one run of bytes are laid out: the last three fields of `OpenDataset`.

    Refuse chunks that are far larger than the file, which has `size` bytes; a value has `value`.
    """
    layout = dataset.get_create_plist()
    kind = layout.get_layout()
    if layout.get_external_count() or kind == h5d.VIRTUAL:
        raise CorruptStoreError(f"{FILE} keeps its values in other files: {OTHER}", store=store)
    chunk = layout.get_chunk() if kind == h5d.CHUNKED else (1, *shape[1:])
    per_row = math.prod(-(-length // chunk[axis]) for axis, length in enumerate(shape[1:], 1))
    filtered = layout.get_nfilters() > 0
    if math.prod(shape):
        what, stored = name.decode(), dataset.get_storage_size()
        row, rows = math.prod(shape[1:]) * value, math.prod(chunk) * value
        check_amount(f"what is stored of {FILE}: {what}", stored, size, store=store)
        if rows > row:
            check_memory(store, rows, size, f"a chunk of {FILE}: {what}")
        needed = COPIES * row + CHUNK_MEMORY * per_row
        check_memory(store, needed, MAX_DEFLATE * stored if filtered else stored, "reading one image")
    return chunk, per_row, filtered


def _check_memory(store: Path, *datasets: OpenDataset, size: int | None = None) -> None:
    """Refuse to read so many bytes, or all, if they aren't there: HDF5 fills in what was never written."""
    if size is None:
        size = sum(math.prod(opened.shape) * opened.dtype.itemsize for opened in datasets)
    needed = size + (OWN_MEMORY if size > OWN_MEMORY else 0)
    if needed > limits.MAX_MEMORY:
        check_memory(store, needed, sum(map(_measure_dataset, datasets)))


def _measure_dataset(opened: OpenDataset) -> int:
    """Measure how many bytes of a dataset exist on the disk; compressed ones count for what they may become."""
    content: int = opened.dataset.get_storage_size()
    if opened.offset is not None:
        return min(content, measure_content(opened.descriptor, os.fstat(opened.descriptor)))
    return content * MAX_DEFLATE // MAX_EXPANSION if opened.filtered else content


def _read_offsets(store: Path, opened: OpenDataset, content: OpenDataset) -> NDArray[np.int64]:
    """Read and check the offsets of image files, and that the longest one is there."""
    _check_memory(store, opened, opened, opened)  # their differences take as much, and HDF5 the rest
    offsets: NDArray[np.int64] = _read_all(store, opened)
    check_offsets(store, offsets, content.shape[0])
    _check_memory(store, content, size=FILE_COPIES * int(np.diff(offsets).max(initial=0)))
    return offsets


def _read_all(store: Path, opened: OpenDataset) -> NDArray[Any]:
    """Read all rows, if the file has as many bytes."""
    _check_memory(store, opened)
    return _read_part(store, opened, 0, opened.shape[0])


def _read_part(store: Path, opened: OpenDataset, start: int, count: int) -> NDArray[Any]:
    """Read consecutive rows."""
    rows = make_array(store, (count, *opened.shape[1:]), opened.dtype)
    _fill(store, opened, start, rows)
    return rows


def _lend(store: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Lend memory to this thread until its next call; what is too much to keep is new, and clearing its pages slow."""
    if math.prod(shape) * dtype.itemsize > KEPT:
        return make_array(store, shape, dtype)
    if not hasattr(_here, "memory"):
        _here.memory = make_array(store, (KEPT,))
    return np.ndarray(shape, dtype, _here.memory)


def _fill(store: Path, opened: OpenDataset, start: int, rows: NDArray[Any]) -> None:
    """Read consecutive rows into an array."""
    if opened.offset is not None:
        size = math.prod(opened.shape[1:]) * opened.dtype.itemsize
        read_result(store, opened.descriptor, opened.offset + start * size, rows)
    elif rows.size:
        size = opened.chunk[0] * (rows.nbytes // len(rows))  # bytes of the rows that share chunks
        step = max(1, min(MAX_CHUNKS // opened.chunks_per_row, PIECE // size)) * opened.chunk[0]
        for first in range(0, len(rows), step):
            piece = rows[first : first + step]
            _read_rows(opened, start + first, piece)
            report_filled(piece)


def _find_ranges(opened: OpenDataset) -> list[range]:
    if opened.offset is None:
        return _find_chunks(opened)
    return [range(opened.offset, opened.offset + math.prod(opened.shape) * opened.dtype.itemsize)]


def _find_chunks(opened: OpenDataset) -> list[range]:
    """Find the chunks' bytes, in order; none if chunks are filtered, split images, or aren't all there."""
    chunk, found = opened.chunk, dict[int, range]()
    size = math.prod(chunk) * opened.dtype.itemsize

    def note(entry: h5d.StoreInfo) -> None:
        found[entry.chunk_offset[0] // chunk[0]] = range(entry.byte_offset, entry.byte_offset + size)

    if not opened.filtered and chunk[1:] == opened.shape[1:]:
        with suppress(RuntimeError, ValueError):  # it isn't in chunks
            opened.dataset.chunk_iter(note)
    numbers = range(-(-opened.shape[0] // chunk[0]))
    return [found[number] for number in numbers] if len(found) == len(numbers) else []


def _read_rows(opened: OpenDataset, start: int, rows: NDArray[Any]) -> None:
    space, target = h5s.ALL, h5s.ALL
    if rows.shape != opened.shape:
        space, target = opened.dataset.get_space(), h5s.create_simple(rows.shape)
        space.select_hyperslab((start, *(0 for _ in rows.shape[1:])), rows.shape)
    opened.dataset.read(target, space, rows, TYPES[opened.dtype])


def _view(store: Path, opened: OpenDataset, content: mmap.mmap) -> NDArray[Any] | ChunkedRows:
    count = math.prod(opened.shape)
    if not count:
        return np.frombuffer(b"", opened.dtype).reshape(opened.shape)
    if opened.offset is None:
        return ChunkedRows(store, opened, content)
    return np.frombuffer(content, opened.dtype, count, opened.offset).reshape(opened.shape)


def _take(values: NDArray[Any] | ChunkedRows, positions: NDArray[np.intp], result: NDArray[Any]) -> None:
    if isinstance(values, np.ndarray):
        take_rows(values, positions, result)
    else:
        values.take(positions, result)
