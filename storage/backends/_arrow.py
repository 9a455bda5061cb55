"""Blocks: what a file of Arrow or Parquet cuts a set into, record batches or row groups.

A block is decoded as a whole; all have the same number of images, but the last, which may have fewer.

Library: pyarrow (https://arrow.apache.org/docs/python/).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from ..arrays import CHANNELS, check_index, check_shape, make_array, make_result
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import CorruptStoreError, InvalidInputError
from ..reader import Reader

INFO = BackendInfo({"pyarrow": pa.__version__, "Arrow C++": pa.cpp_version}, "the Apache Arrow project", "Apache-2.0")
IMAGE, LABEL = "image", "label"  # the two columns
FILL = "ab"  # how a new file is opened: "wb" would truncate it, and ext4 writes out a truncated one when it is closed
LARGEST = 2**31 - 1  # bytes of an image: Arrow counts those of a fixed size in 32 bits


class Blocks(ABC):
    """An open file.

    Parameters
    ----------
    store : Path
    sizes : sequence of int
        Images in each block; or in the first and in the last one, if the file is known to be cut evenly.
    number : int
        Blocks.
    picture : tuple of int
        Height and width.

    Raises
    ------
    CorruptStoreError
        The blocks are of different sizes, or these numbers are none of an image set.
    """

    together = 1  # blocks that are decoded with one call, where one call a block takes longer

    def __init__(self, store: Path, sizes: Sequence[int], number: int, picture: tuple[int, int]) -> None:
        first, last = (sizes[0], sizes[-1]) if sizes else (0, 0)
        self.store = store
        self.shape = check_shape(store, first * max(number - 1, 0) + last, *picture)
        self.rows = max(first, 1)
        self.number = -(-self.shape[0] // self.rows)
        if any(size != first for size in sizes[:-1]) or self.number not in {number, 0}:
            raise CorruptStoreError(f"{store}: its {number} blocks hold different numbers of images: it is not ours")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return (*self.shape[1:], CHANNELS)

    @abstractmethod
    def load(self, blocks: Sequence[int]) -> tuple[Images, Labels]:
        """Decode blocks, in ascending order: their images and labels, which may be views of the file."""

    @abstractmethod
    def load_labels(self) -> Labels:
        """Decode all labels, and no image; fresh memory."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; views of it stay valid."""

    def count_rows(self, blocks: Sequence[int]) -> int:
        """Count the images of blocks."""
        return sum(min(self.rows, self.shape[0] - block * self.rows) for block in blocks)


class BlockReader(Reader):
    """Decodes the blocks of a batch one after the other; the last one is kept, for images that are read in order."""

    _blocks: Blocks
    _last: tuple[int, Images, Labels] | None

    @abstractmethod
    def _open_blocks(self) -> Blocks:
        """Open the file."""

    def _open(self) -> tuple[int, int, int]:
        self._blocks = self._open_blocks()
        self._last = None
        return self._blocks.shape

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out)
        if self._blocks.number == 1:
            pixels, labels = self._load_one(0)
            np.take(pixels, positions, axis=0, out=images, mode="clip")  # "raise" would copy through a buffer
            return images, labels[positions]
        labels = make_array(self.store, (len(positions),), np.int64)
        rows, together = self._blocks.rows, self._blocks.together
        order = np.argsort(positions, kind="stable")
        blocks, starts, ranks = np.unique(positions[order] // rows, return_index=True, return_inverse=True)
        places = positions[order] % rows + ranks % together * rows
        cuts = [*starts[::together].tolist(), len(order)]
        for number, (start, end) in enumerate(pairwise(cuts)):
            pixels, values = self._blocks.load(blocks[number * together : (number + 1) * together].tolist())
            chosen, taken = order[start:end], places[start:end]
            images[chosen], labels[chosen] = pixels[taken], values[taken]
        return images, labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        block, place = divmod(position, self._blocks.rows)
        images, labels = self._load_one(block)
        return images[place].copy(), int(labels[place])

    def _read_labels(self) -> Labels:
        return self._blocks.load_labels()

    def _load_one(self, block: int) -> tuple[Images, Labels]:
        last = self._last  # threads may share this reader
        if last is None or last[0] != block:
            self._last = last = (block, *self._blocks.load([block]))
        return last[1:]

    def _close(self) -> None:
        self._blocks.close()
        del self._blocks, self._last


def count_bytes(images: Images) -> int:
    """Count the bytes of one image.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)

    Returns
    -------
    int

    Raises
    ------
    InvalidInputError
        They are more than a column of Arrow takes.
    """
    size = math.prod(images.shape[1:])
    if size > LARGEST:
        raise InvalidInputError(f"an image has {size} bytes: Arrow takes at most {LARGEST}")
    return size


def view_column(array: Any, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:  # noqa: ANN401 - of pyarrow
    """View the values of a column that has no missing ones.

    Parameters
    ----------
    array : pyarrow.Array
        Its last buffer holds the values.
    dtype : data type
    shape : tuple of int
        Of the view; its first number is the length that the column must have.

    Returns
    -------
    ndarray
        Read-only if the buffer is.

    Raises
    ------
    ValueError
        The column has another length, missing values, or a buffer too small.
    """
    array.validate()  # believes no length in the file before it has seen that the buffers are as long
    _, *within, values = array.buffers()
    if len(array) != shape[0] or array.null_count or any(within):  # a tensor's own numbers may be missing, too
        raise ValueError(f"a column has {len(array)} values, or lacks some: not {shape[0]}")
    start = array.offset * math.prod(shape[1:]) * np.dtype(dtype).itemsize
    return np.frombuffer(values or b"", dtype, math.prod(shape), start).reshape(shape)


def read_one(blocks: Blocks, index: int) -> tuple[Image, int]:
    """Read one image; see `storage.Backend.read_single`."""
    block, place = divmod(check_index(blocks.store, index, blocks.shape[0]), blocks.rows)
    images, labels = blocks.load([block])
    return images[place].copy(), int(labels[place])


def read_all(blocks: Blocks, out: Images | None) -> tuple[Images, Labels]:
    """Read everything; see `storage.Backend.read_many`."""
    images = make_result(blocks.store, (blocks.shape[0], *blocks.image_shape), out)
    labels = make_array(blocks.store, images.shape[:1], np.int64)
    for first in range(0, blocks.number, blocks.together):
        pixels, values = blocks.load(range(first, min(first + blocks.together, blocks.number)))
        part = slice(first * blocks.rows, first * blocks.rows + len(values))
        # NumPy's large arrays begin 16 bytes behind a page, Arrow's at one: between those the memcpy of an assignment
        # takes four times as long on AMD's Zen processors, and a loop does not.
        np.positive(pixels, out=images[part])
        labels[part] = values
    return images, labels
