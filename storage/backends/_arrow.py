"""The Arrow backends share a reader of row groups, which Feather calls record batches.

A row group is always decoded as a whole. All hold the same number of images, except that the last may hold fewer; only
Parquet's row groups of image files may hold any number.

Library: pyarrow (https://arrow.apache.org/docs/python/).
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from ..arrays import (
    BYTE,
    check_limit,
    check_shape,
    cut_rows,
    make_all,
    make_array,
    make_result,
    refuse_out,
    take_rows,
)
from ..contract import ANY_PIXELS, BackendInfo, Image, Images, Labels
from ..encoded import Encoded
from ..errors import CorruptStoreError
from ..filling import report_filled
from ..reader import Reader, fork_lock

VERSIONS = {"pyarrow": pa.__version__, "Arrow C++": pa.cpp_version}
INFO = BackendInfo(VERSIONS, "the Apache Arrow project", "Apache-2.0", kinds=("pixels", "encoded"), dtypes=ANY_PIXELS)
IMAGE, LABEL = "image", "label"  # the two columns
APPEND = "ab"  # mode for a new file: "wb" would truncate it, and ext4 writes a truncated file to disk on close
ERRORS = (pa.ArrowException, TypeError)


class RowGroupReader(Reader):
    """Decodes one row group after another, and keeps the last one for images that are read in order."""

    _source: Any  # pyarrow.NativeFile
    _ratio = 1  # bytes that one byte of the file may become
    _together = 1  # row groups that are decoded with one call
    _last: tuple[int, Any, Labels] | None

    @abstractmethod
    def _decode(self, groups: Sequence[int]) -> tuple[Any, Labels]:
        """Decode row groups, in ascending order, to pixels or to `Encoded`, which may be views of the file."""

    def read_all(self, out: Images | None) -> tuple[Images | Encoded, Labels]:
        """Read everything, for `read_many`."""
        if self.kind == "encoded":
            refuse_out(self.store, out)
            return self._read_all_files()
        images = make_all(self.store, (self._count, *self._shape), out, self._dtype, ratio=self._ratio)
        labels = make_array(self.store, (self._count,), np.int64)
        for first in range(0, self._groups, self._together):
            groups = range(first, min(first + self._together, self._groups))
            pixels, values = self._decode(groups) if len(groups) > 1 else self._decode_one(first)
            part = slice(first * self._rows, first * self._rows + len(values))
            rows = images[part]
            # NumPy's large arrays begin 16 bytes after a page boundary, Arrow's on one. Between those, the memcpy of an
            # assignment takes four times as long on AMD's Zen processors; a loop doesn't.
            for piece in cut_rows(rows):
                np.positive(pixels[piece].view(np.uint8), out=rows[piece].view(np.uint8))
                report_filled(rows[piece])
            labels[part] = values
        return images, labels

    def _read_all_files(self) -> tuple[Encoded, Labels]:
        """Read all image files."""
        return self._read_encoded(np.arange(self._count))

    def _set_groups(
        self, sizes: Sequence[int], number: int, shape: tuple[int, ...] = (), dtype: np.dtype[Any] = BYTE
    ) -> None:
        """Take the images per row group: of all, or of the first and the last of `number` that are alike.

        `shape` and `dtype` are those of an image; without a shape, the images are encoded.
        """
        first, last = (sizes[0], sizes[-1]) if sizes else (0, 0)
        self._count = first * max(number - 1, 0) + last
        if shape:
            check_shape(self.store, self._count, *shape)
        self._shape, self._dtype = shape, dtype
        self._last = None
        self._rows = max(first, 1)
        self._groups = -(-self._count // self._rows)
        if any(size != first for size in sizes[:-1]) or self._groups not in {number, 0}:
            raise CorruptStoreError(
                f"its {number} row groups hold different numbers of images: another program wrote it", store=self.store
            )

    def _count_rows(self, groups: Sequence[int]) -> int:
        return sum(min(self._rows, self._count - group * self._rows) for group in groups)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        if self._groups == 1:
            pixels, labels = self._decode_one(0)
            take_rows(pixels, positions, images)
            return images, labels[positions]
        labels = make_array(self.store, (len(positions),), np.int64)
        rows, together = self._rows, self._together
        order = np.argsort(positions, kind="stable")
        groups, starts, ranks = np.unique(positions[order] // rows, return_index=True, return_inverse=True)
        places = positions[order] % rows + ranks % together * rows
        cuts = [*starts[::together].tolist(), len(order)]
        for number, (start, end) in enumerate(pairwise(cuts)):
            pixels, values = self._decode(groups[number * together : (number + 1) * together].tolist())
            chosen, taken = order[start:end], places[start:end]
            images[chosen], labels[chosen] = pixels[taken], values[taken]
        return images, labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        group, place = divmod(position, self._rows)
        images, labels = self._decode_one(group)
        return images[place].copy(), int(labels[place])

    def _decode_one(self, group: int) -> tuple[Any, Labels]:
        last = self._last  # threads may share this reader
        if last is None or last[0] != group:
            self._last = last = (group, *self._decode([group]))
        return last[1:]

    def _close(self) -> None:
        self._last = None
        with fork_lock:
            self._source.close()


def count_bytes(images: Images, limit: int, whose: str) -> int:
    """Count the bytes of one image, and refuse more than a column takes."""
    size = math.prod(images.shape[1:]) * images.itemsize
    check_limit("an image", size, limit, whose)
    return size


def make_files(files: Encoded) -> Any:  # noqa: ANN401 - pyarrow.LargeBinaryArray
    """Make a column of image files without copying them."""
    buffers = [None, pa.py_buffer(files.offsets), pa.py_buffer(files.content)]
    return pa.Array.from_buffers(pa.large_binary(), len(files), buffers)


def view_column(array: Any, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:  # noqa: ANN401 - of pyarrow
    """View the values of a column; a ValueError if its length isn't `shape[0]`, or a value is missing."""
    array.validate()  # the buffers are as long as the file claims
    _, *within, values = array.buffers()
    if len(array) != shape[0] or array.null_count or any(within):  # the numbers in a tensor may be missing, too
        raise ValueError(f"a column has {len(array)} values, or lacks some: not {shape[0]}")
    start = array.offset * math.prod(shape[1:]) * np.dtype(dtype).itemsize
    return np.frombuffer(values or b"", dtype, math.prod(shape), start).reshape(shape)
