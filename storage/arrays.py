"""Image sets as arrays: checked before they are written, made before they are read."""

import math
import operator
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
from numpy.ma import MaskedArray
from numpy.typing import DTypeLike, NDArray

from .encoded import Content, Encoded, gather, measure_offsets
from .errors import FOREIGN, CorruptStoreError, InvalidInputError, RecordNotFoundError, StorageError
from .filling import report_filled
from .inputs import take_array
from .limits import check_store

Image: TypeAlias = NDArray[Any]
Images: TypeAlias = NDArray[Any]
Labels: TypeAlias = NDArray[np.int64]
Dtypes: TypeAlias = Mapping[str, tuple[int, ...] | None]
"""Dtypes of pixels, each with the numbers of channels that go with it: 0 is (N, H, W), None is any and (N, H, W)."""

BATCH_BYTES = 8 << 20  # of pixels, where memory must stay bounded
PIECE = 1 << 20  # bytes that are read before they are reported: the processor's cache still has them
CHANNELS = 3
LABEL = np.iinfo(np.int64)
TRANSPOSE = "images.transpose(0, 2, 3, 1), or permute of a tensor"
MIN_SIDE = 8  # of images that are recognized by it where their channels come first
DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("uint8", "uint16", "int16", "float16", "float32")}
NAMES = {  # in both byte orders; `dtype.name` takes three microseconds
    either: name for name, dtype in DTYPES.items() for either in (dtype, dtype.newbyteorder(">"))
}
BYTE = DTYPES["uint8"]
RGB: Dtypes = {"uint8": (CHANNELS,)}
ANY_PIXELS: Dtypes = dict.fromkeys(DTYPES)


def check_images(images: Images, labels: Labels, dtypes: Dtypes = RGB) -> tuple[Images, Labels]:
    """Refuse what isn't an image set of these pixels; return the arrays, C-contiguous and little-endian."""
    images, labels = check_pixels(images, dtypes), check_labels(labels)
    _check_lengths(images, labels)
    return images, labels


def check_encoded(images: Encoded, labels: Labels) -> Labels:
    """Refuse labels that don't belong to these files; return them, copied only if they weren't C-contiguous."""
    labels = check_labels(labels)
    _check_lengths(images, labels)
    return labels


def check_files(images: object, labels: Labels) -> tuple[Encoded, Labels]:
    """Do what `check_encoded` does for a backend that stores nothing but image files."""
    if not isinstance(images, Encoded):
        hint = "give storage.Encoded, or choose a backend whose INFO.kinds has 'pixels'"
        raise InvalidInputError("this backend stores image files, not pixels", hint=hint)
    return images, check_encoded(images, labels)


def _check_lengths(images: Images | Encoded, labels: Labels) -> None:
    if len(images) != len(labels):
        raise InvalidInputError(f"{len(images)} images and {len(labels)} labels", hint="give each image one label")


def check_pixels(images: Images, dtypes: Dtypes = ANY_PIXELS) -> Images:
    """Do what `check_images` does for the images alone."""
    if isinstance(images, Encoded):
        hint = "decode them, or choose a backend whose INFO.kinds has 'encoded'"
        raise InvalidInputError("this backend stores pixels, not image files", hint=hint)
    check_form(images, dtypes)
    return _make_contiguous("images", images)


def check_form(images: object, dtypes: Dtypes) -> None:
    """Refuse what isn't an array of these pixels."""
    hint = f"give an array, or a list of images, of {' or '.join(dtypes)}, shape (N, H, W) or (N, H, W, C)"
    images = _check_type("images", images, hint)
    name = NAMES.get(images.dtype)
    if name is None:
        if images.dtype == np.bool_:
            hint = "give masks as 0 and 1: images.astype(numpy.uint8)"
        raise InvalidInputError(f"images has dtype {images.dtype}", hint=hint)
    if images.ndim not in {3, 4}:
        raise InvalidInputError(f"images has shape {images.shape}", hint=hint)
    _notice_channels_first(images.shape)
    if not all(images.shape[1:]):
        raise InvalidInputError(f"images of shape {images.shape} have no pixels", hint="sizes must be at least 1")
    channels = dtypes.get(name, ())
    if channels is not None and (images.shape[3] if images.ndim > 3 else 0) not in channels:  # noqa: PLR2004 - (N, H, W)
        accepted = [f"{dtype} {_describe_channels(numbers)}" for dtype, numbers in dtypes.items()]
        raise InvalidInputError(
            f"this backend can't store images of {images.dtype}, shape {images.shape}",
            hint=f"give {'; '.join(accepted)}; or choose a backend whose INFO.dtypes has them",
        )


def _describe_channels(numbers: tuple[int, ...] | None) -> str:
    if numbers is None:
        return "of any shape (N, H, W) or (N, H, W, C)"
    return "of shape " + " or ".join(f"(N, H, W, {number})" if number else "(N, H, W)" for number in numbers)


def _notice_channels_first(shape: tuple[int, ...]) -> None:
    """Refuse 1, 3 or 4 channels before height and width, as PyTorch's models take them, and warn of other numbers."""
    if len(shape) < 4 or min(shape[2:]) < MIN_SIDE or shape[1] >= min(shape[2:]):  # noqa: PLR2004 - N, C, H, W
        return
    if shape[1] in {1, 3, 4}:
        raise InvalidInputError(
            f"images of shape {shape} seem to be (N, C, H, W): their channels come before height and width",
            hint=f"give (N, H, W, C): {TRANSPOSE}",
        )
    height, width, channels = shape[1:]
    message = (
        f"images are taken as {height} pixels high and {width} wide, with {channels} channels; if they have {height} "
        f"channels, which come first, give {TRANSPOSE}"
    )
    warnings.warn(message, stacklevel=2)


def check_labels(labels: Labels) -> Labels:
    """Do what `check_images` does for the labels alone."""
    hint = "give a list or an array of integers, one for each image"
    labels = _check_type("labels", labels, hint)
    if labels.dtype != np.int64:
        raise InvalidInputError(f"labels has dtype {labels.dtype}", hint=hint)
    if labels.ndim != 1:
        raise InvalidInputError(f"labels has shape {labels.shape}", hint=hint)
    return _make_contiguous("labels", labels)


def _make_contiguous(name: str, array: NDArray[Any]) -> NDArray[Any]:
    try:
        return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    except FOREIGN as error:
        raise StorageError(
            f"{name} aren't C-contiguous, and can't be copied ({error})", hint="free some memory, or give them so"
        ) from error


def check_image(image: Image | Content, label: int) -> tuple[Images | Encoded, Labels]:
    """Refuse what isn't one image with a label of 64 bits; make it an image set of one."""
    if not isinstance(image, Content):
        image = take_array("image", image)
        _check_type("image", image, "give a NumPy array, shape (H, W) or (H, W, C)")
    try:
        number = operator.index(label)
    except TypeError:
        raise InvalidInputError(f"label is {label!r}", hint="give an integer") from None
    if not LABEL.min <= number <= LABEL.max:
        raise InvalidInputError("label does not fit in 64 bits", hint="give one from -2**63 to 2**63 - 1")
    images = Encoded.join([image]) if isinstance(image, Content) else check_pixels(image[np.newaxis])
    return images, np.array([number], np.int64)


def _check_type(name: str, array: object, hint: str) -> NDArray[Any]:
    if not isinstance(array, np.ndarray) or isinstance(array, MaskedArray):
        raise InvalidInputError(f"{name} is a {type(array).__name__}", hint=hint)
    return array


def check_limit(
    what: str, size: int, limit: int, whose: str, *, record: int | None = None, unit: str = "bytes"
) -> None:
    """Refuse what is larger than a format or a library can hold."""
    if size > limit:
        raise InvalidInputError(
            f"{what} has {size:,} {unit}, and {whose} takes at most {limit:,}",
            record=record,
            hint="choose another backend",
        )


def check_shape(store: Path, count: object, *size: Any) -> tuple[int, ...]:  # noqa: ANN401 - whatever a file says
    """Refuse numbers that can't be the shape of an image set: how many images, then height, width, maybe channels."""
    if type(count) is int and count >= 0 and all(type(number) is int for number in size) and min(size) > 0:
        return count, *size
    pixels = " x ".join(str(number)[:20] for number in size)
    raise CorruptStoreError(f"it claims to hold {str(count)[:20]} images of {pixels} pixels", store=store)


def check_dtype(store: Path, name: object) -> np.dtype[Any]:
    """Refuse what isn't the name of a dtype of pixels."""
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise CorruptStoreError(f"it claims to hold pixels of dtype {str(name)[:20]!r}", store=store)
    return dtype


def check_index(store: Path, index: int, count: int) -> int:
    """Count a negative index from the end, and refuse one that is out of range."""
    position = operator.index(index)
    if not -count <= position < count:
        record = position if abs(position) <= LABEL.max else None
        raise RecordNotFoundError(f"no such index: the store holds {count} images", store=store, record=record)
    return position % count


def check_indices(store: Path, indices: object, count: int) -> NDArray[np.intp]:
    """Do what `check_index` does for many indices, or a slice; an error names the first that is out of range."""
    if isinstance(indices, slice):
        return np.arange(*indices.indices(count))
    try:
        array = np.asarray(indices)
    except ValueError as error:
        raise TypeError(f"indices are not an array ({error}): give a sequence of integers") from None
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


def make_array(store: PurePath, shape: tuple[int, ...], dtype: DTypeLike = BYTE) -> NDArray[Any]:
    """Make the array that a read fills; its values are not set."""
    try:
        return np.empty(shape, dtype)
    except FOREIGN:
        raise StorageError(
            f"an array of shape {shape} does not fit in memory",
            store=store,
            hint="read fewer images at a time, through open_reader; if the store should be smaller, it is damaged",
        ) from None


def make_all(
    store: Path, shape: tuple[int, ...], out: object, dtype: np.dtype[Any] = BYTE, *, ratio: int = 1
) -> Images:
    """Do what `make_result` does for all images of a store, if its bytes justify that; see `check_store`."""
    pixels = math.prod(shape) * dtype.itemsize if out is None else 0
    check_store(store, pixels + LABEL.bits // 8 * shape[0], ratio)
    return make_result(store, shape, out, dtype)


def make_result(store: Path, shape: tuple[int, ...], out: object, dtype: np.dtype[Any] = BYTE) -> Images:
    """Return the caller's array for the images of a read if it fits, or make one if there is none."""
    if out is None:
        return make_array(store, shape, dtype)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        problem = f"out is a {type(out).__name__}"
    elif out.dtype != dtype or out.shape != shape:
        problem = f"out has dtype {out.dtype} and shape {out.shape}"
    elif not (out.flags.c_contiguous and out.flags.writeable):
        problem = "out is not C-contiguous, or is read-only"
    else:
        return out
    raise InvalidInputError(problem, store=store, hint=f"give a NumPy array of {dtype}, shape {shape}")


def refuse_out(store: Path, out: object) -> None:
    """Refuse an array to fill for image files, each of which has its own size."""
    if out is not None:
        raise InvalidInputError("it holds image files, which out can't", store=store, hint="leave out away")


def check_offsets(store: Path, offsets: NDArray[np.int64], size: int) -> None:
    """Refuse offsets of image files that don't go from 0 up to `size`, the bytes of all of them."""
    if not len(offsets) or offsets[0] or offsets[-1] != size or (offsets[1:] < offsets[:-1]).any():
        raise CorruptStoreError(f"the offsets of its files don't go from 0 up to {size}", store=store)


def check_range(store: Path, record: int, start: int, end: int, size: int) -> None:
    """Do what `check_offsets` does for one file."""
    if not 0 <= start <= end <= size:
        raise CorruptStoreError(f"it is said to be at bytes {start} to {end} of {size}", store=store, record=record)


def take_files(
    store: Path, content: NDArray[np.uint8], offsets: NDArray[np.int64], positions: NDArray[np.intp], ratio: int = 1
) -> Encoded:
    """Copy the files at `positions`, which are in range, out of the content of all, such as a map of a file.

    `ratio` as in `check_store`.
    """
    starts, ends = offsets[positions], offsets[positions + 1]
    check_store(store, int((ends - starts).max(initial=0)), ratio)
    places = measure_offsets(ends - starts)
    taken = make_array(store, (int(places[-1]),))
    gather(content.data, starts, ends, taken)
    return Encoded(taken, places)


def take_rows(rows: NDArray[Any], positions: NDArray[np.intp], result: NDArray[Any]) -> None:
    """Copy the rows at `positions`, which are in range, out of an array such as a map of a file."""
    if rows.flags.aligned:
        rows.take(positions, 0, result, "clip")  # "raise" would copy through a buffer
    else:
        result[...] = rows[positions]  # `take` would copy all rows to aligned memory first


def view_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """View the bytes of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8)


def cut_rows(images: Images) -> Iterator[slice]:
    """Cut images into pieces to be reported, of at least one image."""
    step = max(1, PIECE * len(images) // max(1, images.nbytes))
    return (slice(start, min(start + step, len(images))) for start in range(0, len(images), step))


def find_address(array: NDArray[Any]) -> int:
    """Find where an array begins in memory; faster than `array.ctypes.data`."""
    address: int = array.__array_interface__["data"][0]
    return address


def read_range(store: Path, descriptor: int, offset: int, array: NDArray[Any]) -> None:
    """Fill a C-contiguous array with the bytes of an open file from `offset` on."""
    content = view_bytes(array).data
    while content:
        count = os.preadv(descriptor, [content], offset)
        if not count:
            raise CorruptStoreError(f"it was cut short: {len(content)} bytes are missing", store=store)
        content, offset = content[count:], offset + count


def read_result(store: Path, descriptor: int, offset: int, array: NDArray[Any]) -> None:
    """Do what `read_range` does for the result of a read, and report it piece by piece."""
    content = view_bytes(array)
    for start in range(0, content.size, PIECE):
        piece = content[start : start + PIECE]
        read_range(store, descriptor, offset + start, piece)
        report_filled(piece)


def write_range(descriptor: int, offset: int, array: NDArray[Any]) -> None:
    """Write a C-contiguous array to an open file from `offset` on."""
    content = view_bytes(array).data
    while content:
        count = os.pwrite(descriptor, content, offset)
        content, offset = content[count:], offset + count


def cut_indices(start: int, count: int, height: int, width: int) -> Iterator[NDArray[np.intp]]:
    """Cut the indices from `start` to `count` - 1 into batches of at most 8 MiB of RGB pixels, or of one image."""
    return cut_batches(start, count, height * width * CHANNELS)


def cut_batches(start: int, count: int, size: int) -> Iterator[NDArray[np.intp]]:
    """Do what `cut_indices` does for images that have `size` bytes each."""
    per_batch = max(1, BATCH_BYTES // max(1, size))
    for first in range(start, count, per_batch):
        yield np.arange(first, min(first + per_batch, count))
