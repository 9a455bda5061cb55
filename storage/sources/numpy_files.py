"""NumPy's files: ``.npy``, which holds one array, and ``.npz``, a zip of such files. Nothing is unpickled.

The labels of ``images.npy`` are in ``labels.npy`` beside it, those of ``x.npy`` in ``y.npy``, and so on; without such a
file, all are 0. A ``.npz`` holds an array of images and at most one of labels, whatever their names.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, cast

from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic

from ..errors import CorruptStoreError, InvalidInputError
from .files import open_input
from .pixels import Chosen, OpenStream, PixelSource, Stream, check_unpacked, choose_arrays, describing, make_source
from .zips import ERRORS, explain_member, open_zip

NPY, NPZ = "a .npy file", "a .npz file"
AGAIN = "restore a copy, or save it again"
HEADER = 1 << 14  # bytes that a header takes at most, of which NumPy reads 10,000
HEADERS = {  # by version; 3.0 differs from 2.0 only in how names of fields are encoded, and images have none
    (1, 0): read_array_header_1_0,
    (2, 0): read_array_header_2_0,
    (3, 0): read_array_header_2_0,
}
LABELS = (  # in names of files
    ("image", "label"),
    (r"(?<![a-z])x(?![a-z])", "y"),
    (r"(?<![A-Z])X(?![A-Z])", "y"),
    (r"(?<![A-Z])X(?![A-Z])", "Y"),
)
MAX_MEMBERS = 100


def read_npy(path: Path) -> PixelSource:
    """Find the images of a .npy file, and the labels beside it."""
    images = _read_file(path)
    sibling = _find_labels(path)
    if sibling is None:
        return make_source(path, NPY, Chosen(images, None))
    return make_source(path, NPY, Chosen(images, _read_file(sibling)), sibling)


def _find_labels(path: Path) -> Path | None:
    for pattern, word in LABELS:
        name = re.sub(pattern, word, path.name)
        if name != path.name and (sibling := path.with_name(name)).exists():
            return sibling
    return None


def is_npz(path: Path) -> bool:
    """Whether a zip file is as NumPy writes it: all of its members are arrays."""
    with describing(path, "a zip file", *ERRORS), open_zip(path) as archive:
        return all(name.endswith(".npy") for name in archive.namelist()) and bool(archive.namelist())


def read_npz(path: Path) -> PixelSource:
    """Find the images and labels of a .npz file."""
    arrays = {}
    with describing(path, NPZ, *ERRORS), open_zip(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise InvalidInputError(f"it is {NPZ} of more than {MAX_MEMBERS} arrays", store=path)
        check_unpacked(path, sum(member.file_size for member in members), path.stat().st_size)
        for member in members:
            name = member.filename.removesuffix(".npy")
            refusal = "it is there twice" if name in arrays else explain_member(member)
            if refusal is not None:
                raise InvalidInputError(f"it is {NPZ}, and of {name}, {refusal}", store=path, hint=AGAIN)
            with archive.open(member) as file:
                open_stream = partial(_open_member, path, member.filename)
                arrays[name] = _read_header(
                    path, NPZ, name, cast("BufferedIOBase", file), member.file_size, open_stream
                )
    return make_source(path, NPZ, choose_arrays(path, NPZ, arrays))


def _read_file(path: Path) -> Stream:
    with describing(path, NPY), open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        return _read_header(path, NPY, "it", file, size, partial(open_input, path))


def _read_header(path: Path, kind: str, name: str, file: BufferedIOBase, size: int, open_stream: OpenStream) -> Stream:
    """Read the header of an array; refuse one that doesn't have the bytes that it claims."""
    subject = f"it is {kind}, and {name}"
    head = BytesIO(file.read(HEADER))
    with describing(path, kind, Exception), warnings.catch_warnings():  # a header can raise anything
        warnings.simplefilter("ignore")  # about headers of Python 2
        shape, fortran_order, dtype = _find_reader(head)(head)
        if any(type(length) is not int for length in shape):  # NumPy takes True for one
            raise ValueError(f"its shape is {shape}")
    if dtype.hasobject:
        hint = "unpickling them could run any program; save an array of numbers"
        raise InvalidInputError(f"{subject} holds Python objects", store=path, hint=hint)
    if fortran_order and len(shape) > 1:
        hint = "save numpy.ascontiguousarray(images)"
        raise InvalidInputError(f"{subject} has its values in Fortran order, not image by image", store=path, hint=hint)
    stream = Stream(path, open_stream, head.tell(), shape, dtype)
    if min(shape, default=0) < 0 or stream.start + stream.nbytes != size:
        problem = f"{subject} has {size:,} bytes, which don't fit an array of shape {shape}"
        raise CorruptStoreError(problem, store=path, hint=AGAIN)
    return stream


def _find_reader(head: BytesIO) -> Callable[[BytesIO], Any]:
    version = read_magic(head)
    if version not in HEADERS:
        raise InvalidInputError("its format is of version {}.{}".format(*version), hint="save it again")
    return HEADERS[version]


@contextmanager
def _open_member(path: Path, name: str) -> Iterator[BufferedIOBase]:
    with describing(path, NPZ, *ERRORS), open_zip(path) as archive, archive.open(name) as file:
        yield cast("BufferedIOBase", file)
