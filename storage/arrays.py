"""The arrays that reads fill."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from storage.checks import Images
from storage.errors import CorruptStoreError, InvalidInputError, StorageError


def make_array(store: Path, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """Make the array that a read fills.

    Parameters
    ----------
    store : Path
        The store that is read, for the message.
    shape : tuple of int
    dtype : data type

    Returns
    -------
    ndarray
        Its values are not set.

    Raises
    ------
    StorageError
        There is not so much memory.
    """
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise StorageError(
            f"{store}: an array of shape {shape} does not fit in memory: read fewer images at a time, through "
            "open_reader; if the store should be smaller, it is damaged"
        ) from None


def make_result(store: Path, shape: tuple[int, ...], out: object) -> Images:
    """Take the array that the caller brings for the images of a read, or make one.

    Parameters
    ----------
    store : Path
        The store that is read, for the message.
    shape : tuple of int
        What the result needs.
    out : ndarray of uint8 or None
        C-contiguous and writeable.

    Returns
    -------
    ndarray of uint8
        `out` itself, or a fresh array whose values are not set.

    Raises
    ------
    InvalidInputError
        `out` is of another type, dtype or shape, or cannot be filled in order; it was not touched.
    StorageError
        There is not so much memory.
    """
    if out is None:
        return make_array(store, shape)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise InvalidInputError(f"out is a {type(out).__name__}: give a NumPy array of uint8, shape {shape}")
    if out.dtype != np.uint8 or out.shape != shape:
        raise InvalidInputError(f"out has dtype {out.dtype} and shape {out.shape}: {store} needs uint8, {shape}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise InvalidInputError("out is not C-contiguous, or cannot be written to: give an array of your own")
    return out


def read_range(store: Path, descriptor: int, offset: int, array: NDArray[Any]) -> None:
    """Fill an array with a range of bytes of a file.

    Parameters
    ----------
    store : Path
        The store that is read, for the message.
    descriptor : int
        Of an open file.
    offset : int
        Where in the file the range begins, bytes.
    array : ndarray
        C-contiguous.

    Raises
    ------
    CorruptStoreError
        The file ends early.
    """
    content = array.reshape(-1).view(np.uint8).data
    while content:
        count = os.preadv(descriptor, [content], offset)
        if not count:
            raise CorruptStoreError(f"{store} was cut short: {len(content)} bytes are missing: store the images again")
        content, offset = content[count:], offset + count


def write_range(descriptor: int, offset: int, array: NDArray[Any]) -> None:
    """Write an array to a range of bytes of a file.

    Parameters
    ----------
    descriptor : int
        Of an open file.
    offset : int
        Where in the file the range begins, bytes.
    array : ndarray
        C-contiguous.
    """
    content = array.reshape(-1).view(np.uint8).data
    while content:
        count = os.pwrite(descriptor, content, offset)
        content, offset = content[count:], offset + count
