"""IDX, the format of MNIST: a file of images, such as ``train-images-idx3-ubyte``, and one of labels beside it.

Both may be compressed: with ``.gz``, as they are published. The format: https://yann.lecun.com/exdb/mnist/.
"""

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedIOBase, BufferedReader
from pathlib import Path

import numpy as np

from ..errors import CorruptStoreError, InvalidInputError, StoreNotFoundError
from .files import open_input
from .pixels import Chosen, PixelSource, Stream, describing, make_source

KIND = "an IDX file, as those of MNIST"
TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the third byte
WORDS = (("images", "labels"), ("idx3", "idx1"), ("idx4", "idx1"))  # in the names of both files
GZIP = b"\x1f\x8b"
ERRORS = (zlib.error, EOFError)


def read_idx(path: Path) -> PixelSource:
    """Find the images of an IDX file, and the labels beside it."""
    with describing(path, KIND, *ERRORS):
        images = _read_header(path)
        if len(images.shape) == 1:
            hint = "name the file of images; its labels are found beside it"
            raise InvalidInputError(f"it is {KIND}, and holds labels", store=path, hint=hint)
        labels = _find_labels(path)
        return make_source(path, KIND, Chosen(images, _read_header(labels)), labels)


def is_idx(head: bytes) -> bool:
    """Whether a file begins as an IDX file does."""
    return len(head) > 3 and head[:2] == b"\0\0" and head[2] in TYPES and 1 <= head[3] <= 4  # noqa: PLR2004 - axes


def _find_labels(path: Path) -> Path:
    own = path.name.removesuffix(".gz")
    name = own
    for images, labels in WORDS:
        name = name.replace(images, labels)
    for candidate in (path.with_name(name), path.with_name(f"{name}.gz")):
        if name != own and candidate.exists():
            return candidate
    hint = "name both as MNIST does: train-labels-idx1-ubyte belongs to train-images-idx3-ubyte"
    raise StoreNotFoundError(f"it is {KIND}, and there is no file of labels beside it", store=path, hint=hint)


def _read_header(path: Path) -> Stream:
    with describing(path, KIND, *ERRORS), _open_stream(path) as stream:
        head = stream.read(4)
        if not is_idx(head):
            raise CorruptStoreError(f"it isn't {KIND}", store=path, hint="restore a copy")
        shape = struct.unpack(f">{head[3]}I", stream.read(4 * head[3]))
        array = Stream(path, partial(_open_stream, path), 4 + 4 * len(shape), shape, np.dtype(TYPES[head[2]]))
        size = os.fstat(stream.fileno()).st_size
        if isinstance(stream, BufferedReader) and array.start + array.nbytes != size:
            problem = f"it is {KIND}, and has {size:,} bytes, which don't fit an array of shape {shape}"
            raise CorruptStoreError(problem, store=path, hint="restore a copy")
        return array


@contextmanager
def _open_stream(path: Path) -> Iterator[BufferedIOBase]:
    with describing(path, KIND, *ERRORS), open_input(path) as file:
        if file.peek(2)[:2] == GZIP:
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream
        else:
            yield file
