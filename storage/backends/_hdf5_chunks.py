"""Datasets of HDF5 that are no one run of bytes: written chunk by chunk, read in any order.

Library: h5py (https://docs.h5py.org/en/stable/high/dataset.html#chunked-storage); HDF5's own advice on chunks is
https://support.hdfgroup.org/documentation/hdf5/latest/hdf5_chunking.html.
"""

import math
import mmap
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from h5py import h5d, h5f, h5p, h5s, h5t
from numpy.typing import NDArray

from ..arrays import make_array
from ..contract import Images

INDEX = 4096, 256  # bytes of a dataset's index, and of it for a chunk: more than HDF5 takes
UNCACHED = h5p.create(h5p.DATASET_ACCESS)
UNCACHED.set_chunk_cache(0, 0, 0)  # a chunk is written at once, and read right into the result


def measure_chunks(images: Images, rows: int) -> int:
    """Measure what chunks of `rows` images may take, bytes: gzip makes some larger, by a thousandth at most."""
    size = rows * math.prod(images.shape[1:])
    return INDEX[0] + -(-len(images) // rows) * (size + size // 1000 + INDEX[1])


def write_chunks(file: h5f.FileID, name: bytes, images: Images, rows: int, compress_level: int) -> None:
    """Write images as a dataset in chunks, the last of a file.

    Parameters
    ----------
    file : h5f.FileID
        With space allocated for all, see `measure_chunks`; what is left of it is given back.
    name : bytes
        Of the dataset.
    images : ndarray of uint8, shape (N, H, W, 3)
    rows : int
        How many images a chunk holds.
    compress_level : int
        Of gzip; 0: not compressed.
    """
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_chunk((rows, *images.shape[1:]))
    if compress_level:
        layout.set_deflate(compress_level)
    layout.set_obj_track_times(False)
    space = h5s.create_simple(images.shape)
    dataset = h5d.create(file, name, h5t.NATIVE_UINT8, space, layout, None, UNCACHED)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C would be lost where h5py tidies up
    try:
        dataset.write(h5s.ALL, h5s.ALL, images)
        h5f.flush(file)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    os.ftruncate(file.get_vfd_handle(), file.get_filesize())  # HDF5 does not where it believes that it has written more


class Rows:
    """The rows of a dataset, images or labels, in any order.

    Chunks without filters are copied out of the map of the file, with no HDF5 call. Others are unpacked by HDF5, each
    that a batch needs once and one after the other: HDF5's own selection of many single rows takes longer.

    Parameters
    ----------
    store : Path
        For messages.
    dataset : h5d.DatasetID
        Chunked, compact or never written.
    dtype : dtype
        What it holds.
    content : mmap
        The file.
    """

    def __init__(self, store: Path, dataset: h5d.DatasetID, dtype: np.dtype[Any], content: mmap.mmap) -> None:
        self._store, self._dataset, self._dtype = store, dataset, dtype
        self._shape = dataset.shape[1:]
        self._per_chunk = _find_chunk(dataset)[0]
        row = make_array(store, self._shape, dtype)
        chunks = find_chunks(dataset)
        if any(chunk.stop > len(content) for chunk in chunks):
            chunks = []  # HDF5 says what it makes of them
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
        for start in range(0, len(positions), self._per_chunk):  # as many stay in the processor's cache
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
        """Read rows that stand one after another."""
        rows = make_array(self._store, (stop - start, *self._shape), self._dtype)
        read_rows(self._dataset, start, rows)
        return rows


def read_rows(dataset: h5d.DatasetID, start: int, rows: NDArray[Any]) -> None:
    """Fill an array with the rows of a dataset from `start` on."""
    space = dataset.get_space()
    space.select_hyperslab((start, *(0 for _ in rows.shape[1:])), rows.shape)
    dataset.read(h5s.create_simple(rows.shape), space, rows)


def find_chunks(dataset: h5d.DatasetID) -> list[range]:
    """Find the bytes of chunks that lie in the file as they lie in memory.

    Returns
    -------
    list of range
        In the order of the rows; empty if chunks are filtered, split rows, or are not all there.
    """
    chunk, found = _find_chunk(dataset), dict[int, range]()
    size = math.prod(chunk) * dataset.get_type().get_size()

    def note(entry: h5d.StoreInfo) -> None:
        found[entry.chunk_offset[0] // chunk[0]] = range(entry.byte_offset, entry.byte_offset + size)

    layout = dataset.get_create_plist()
    if layout.get_layout() == h5d.CHUNKED and not layout.get_nfilters() and chunk[1:] == dataset.shape[1:]:
        dataset.chunk_iter(note)
    numbers = range(-(-dataset.shape[0] // chunk[0]))
    return [found[number] for number in numbers] if len(found) == len(numbers) else []


def _find_chunk(dataset: h5d.DatasetID) -> tuple[int, ...]:
    """Find the shape of a chunk; what has none is read row by row."""
    layout = dataset.get_create_plist()
    chunk: tuple[int, ...] = layout.get_chunk() if layout.get_layout() == h5d.CHUNKED else (1, *dataset.shape[1:])
    return chunk
