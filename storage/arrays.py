"""Image sets as arrays: checked before they are written, made before they are read."""

import operator
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.ma import MaskedArray
from numpy.typing import DTypeLike, NDArray

from .contract import Image, Images, Labels
from .errors import CorruptStoreError, InvalidInputError, RecordNotFoundError, StorageError

CHANNELS = 3
LABEL = np.iinfo(np.int64)


def check_images(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """Refuse what is not an image set.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB pixels; N may be 0, H and W are at least 1.
    labels : ndarray of int64, shape (N,)

    Returns
    -------
    images, labels
        The same arrays, copied only if they were not C-contiguous.

    Raises
    ------
    InvalidInputError
        Wrong type, dtype, rank or channels, or lengths that differ.
    """
    images, labels = check_pixels(images), check_labels(labels)
    if len(images) != len(labels):
        raise InvalidInputError(f"{len(images)} images and {len(labels)} labels: give one label an image")
    return images, labels


def check_pixels(images: Images) -> Images:
    """Do what `check_images` does for the images alone."""
    _check_array("images", images, np.dtype(np.uint8), ("N", "H", "W", "3"))
    if images.shape[3] != CHANNELS:
        raise InvalidInputError(f"images have {images.shape[3]} channels, not 3: convert them to RGB")
    if not images.shape[1] or not images.shape[2]:
        raise InvalidInputError(f"images of shape {images.shape} have no pixels: height and width must be at least 1")
    return np.ascontiguousarray(images)


def check_labels(labels: Labels) -> Labels:
    """Do what `check_images` does for the labels alone."""
    _check_array("labels", labels, np.dtype(np.int64), ("N",))
    return np.ascontiguousarray(labels)


def check_image(image: Image, label: int) -> tuple[Images, Labels]:
    """Refuse what is not one image with its label, and make it an image set of one.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
    label : int
        Any 64-bit integer.

    Returns
    -------
    images : ndarray of uint8, shape (1, H, W, 3)
    labels : ndarray of int64, shape (1,)

    Raises
    ------
    InvalidInputError
        Wrong type, dtype, rank or channels, or a label that is no 64-bit integer.
    """
    _check_array("image", image, np.dtype(np.uint8), ("H", "W", "3"))
    try:
        number = operator.index(label)
    except TypeError:
        raise InvalidInputError(f"label is {label!r}: give an integer") from None
    if not LABEL.min <= number <= LABEL.max:
        raise InvalidInputError("label does not fit in 64 bits: give one from -2**63 to 2**63 - 1")
    return check_images(image[np.newaxis], np.array([number], np.int64))


def _check_array(name: str, array: object, dtype: np.dtype[np.generic], axes: tuple[str, ...]) -> None:
    wanted = f"give a NumPy array of {dtype}, shape ({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    if not isinstance(array, np.ndarray) or isinstance(array, MaskedArray):
        raise InvalidInputError(f"{name} is a {type(array).__name__}: {wanted}")
    if array.dtype != dtype:
        raise InvalidInputError(f"{name} has dtype {array.dtype}: {wanted}")
    if array.ndim != len(axes):
        raise InvalidInputError(f"{name} has shape {array.shape}: {wanted}")


def check_shape(store: Path, count: object, height: object, width: object) -> tuple[int, int, int]:
    """Refuse numbers that cannot be the shape of an image set.

    Parameters
    ----------
    store : Path
        The store that says so, for the message.
    count, height, width : object
        What it says.

    Returns
    -------
    tuple of int
        The three numbers.

    Raises
    ------
    CorruptStoreError
        They are no integers, or too small.
    """
    if type(count) is int and type(height) is int and type(width) is int and count >= 0 and min(height, width) > 0:
        return count, height, width
    raise CorruptStoreError(
        f"{store} says that it holds {str(count)[:20]} images of {str(height)[:20]} x {str(width)[:20]} pixels: "
        "it is damaged, or another program wrote it"
    )


def check_index(store: Path, index: int, count: int) -> int:
    """Count a negative index from the end, and refuse one that is out of range.

    Parameters
    ----------
    store : Path
        The store, for the message.
    index : int
        From ``-count`` to ``count - 1``.
    count : int
        How many images the store holds.

    Returns
    -------
    int
        The index from the start, 0 to ``count - 1``.

    Raises
    ------
    RecordNotFoundError
        The index is out of range.
    """
    position = operator.index(index)
    if not -count <= position < count:
        index_said = str(position) if abs(position) < LABEL.max else "of more than 64 bits"
        raise RecordNotFoundError(f"{store} holds {count} images: there is none at index {index_said}")
    return position % count


def check_indices(store: Path, indices: object, count: int) -> NDArray[np.intp]:
    """Do what `check_index` does for many indices at once.

    Parameters
    ----------
    store : Path
        The store, for the message.
    indices : sequence or array of int, shape (M,)
        Any order, repeats allowed, each from ``-count`` to ``count - 1``.
    count : int
        How many images the store holds.

    Returns
    -------
    ndarray of intp, shape (M,)
        The indices from the start.

    Raises
    ------
    RecordNotFoundError
        One of the indices is out of range; the message names the first such one.
    TypeError
        `indices` is no one-dimensional sequence of integers.
    """
    try:
        array = np.asarray(indices)
    except ValueError as error:
        raise TypeError(f"indices are no array ({error}): give a sequence of integers") from None
    if (
        isinstance(indices, list | tuple)
        and array.dtype.kind in {"f", "O"}
        and all(type(index) is int for index in indices)
    ):
        for index in indices:  # one of them has more than 64 bits
            check_index(store, index, count)
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, np.intp)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"indices have shape {array.shape} and dtype {array.dtype}: give a sequence of integers")
    if array.dtype == np.intp and array.view(np.uintp).max() < count:  # a negative one would be huge
        return array
    outside = (array < -count) | (array >= count)
    if outside.any():
        check_index(store, int(array[outside.argmax()]), count)
    positions = array.astype(np.intp)
    return np.where(positions < 0, positions + count, positions)


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
