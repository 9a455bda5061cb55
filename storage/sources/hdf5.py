"""HDF5 files with one dataset of images and at most one of labels, whatever their names, in any groups.

Strings are the names of images or of classes, whichever fits; see `pixels`.

Nothing outside the file is read: no links to other files, no values kept in them, no virtual datasets.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arrays
from ..errors import HDF5_UNLOCKABLE, InvalidInputError
from ..limits import check_memory
from .hdf5_texts import Texts
from .pixels import PixelSource, check_unpacked, choose_arrays, describing, importing, make_source

KIND = "an HDF5 file"
MAX_OBJECTS = 1_000
MAX_DEPTH = 32  # groups that are one in another: the library finds each by its whole path
FILTERS = {1, 2, 3}  # deflate, shuffle and Fletcher's checksum: none of them unpacks to any size, or is a plug-in
ADDRESS = 8  # bytes
ERRORS = (TypeError,)


@dataclass(frozen=True)
class Dataset:
    """A dataset of a file that is opened to read it."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int  # in a chunk

    def read(self, start: int) -> Iterator[NDArray[Any]]:
        """Read batches of whole chunks, of 8 MiB at least if there are as many, so that each is unpacked once."""
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = self.rows * max(1, arrays.BATCH_BYTES // (size * self.rows))
        with _open_file(self.path) as file:
            values = file[self.name]
            while start < self.shape[0]:
                end = min(self.shape[0], (start // step + 1) * step)
                yield values[start:end].view(self.dtype)
                start = end


def read_hdf5(path: Path) -> PixelSource:
    """Find the images and labels of an HDF5 file."""
    with describing(path, KIND, *ERRORS), _open_file(path) as file:
        datasets = {name: _inspect(path, name, file[name]) for name in _list_datasets(path, file)}
    return make_source(path, KIND, choose_arrays(path, KIND, datasets))


def _list_datasets(path: Path, file: Any) -> list[str]:  # noqa: ANN401 - of h5py
    """List the datasets in a file and its groups; each group is seen once, though links may lead in a circle."""
    from h5py import Dataset as Values  # noqa: PLC0415 - optional
    from h5py import h5l  # noqa: PLC0415 - likewise

    links: list[bytes] = []

    def visit(name: bytes, link: Any) -> bytes | None:  # noqa: ANN401 - of h5py
        links.append(name)
        is_wrong = link.type != h5l.TYPE_HARD or len(links) > MAX_OBJECTS or name.count(b"/") > MAX_DEPTH
        return name if is_wrong else None  # to stop

    last = file.id.links.visit(visit, info=True)
    if len(links) > MAX_OBJECTS:
        raise InvalidInputError(f"it is {KIND} of more than {MAX_OBJECTS:,} groups and datasets", store=path)
    if last is not None and last.count(b"/") > MAX_DEPTH:
        raise InvalidInputError(f"it is {KIND}, and its groups are nested more than {MAX_DEPTH} deep", store=path)
    if last is not None:
        problem = f"it is {KIND}, and {last.decode(errors='replace')} is a link, maybe to another file"
        raise InvalidInputError(problem, store=path, hint="copy the images into one file, with h5copy")
    return [name.decode() for name in links if file.get(name, getclass=True) is Values]


def _inspect(path: Path, name: str, values: Any) -> Dataset | Texts:  # noqa: ANN401 - of h5py
    """Find out how the values of a dataset are laid out; refuse those outside the file, or packed in other ways."""
    from h5py import check_string_dtype, h5d  # noqa: PLC0415 - optional

    layout = values.id.get_create_plist()
    kind = layout.get_layout()
    filters = {layout.get_filter(number)[0] for number in range(layout.get_nfilters())}
    if kind == h5d.VIRTUAL or layout.get_external_count():
        problem = f"it is {KIND}, and keeps the values of {name} in other files"
        raise InvalidInputError(problem, store=path, hint="copy them into one file")
    if not filters <= FILTERS:
        problem = f"it is {KIND}, and {name} is compressed by filter {max(filters - FILTERS)}"
        raise InvalidInputError(problem, store=path, hint="compress it with gzip: h5repack -f GZIP=4")
    chunk = layout.get_chunk() if kind == h5d.CHUNKED else (1,)
    size = path.stat().st_size
    check_memory(path, math.prod(chunk) * values.dtype.itemsize, size, f"a chunk of {name}")
    shape = tuple(values.shape or ())
    text = check_string_dtype(values.dtype)
    if text is not None and text.length is None and shape:
        return _find_texts(path, name, values, shape)
    check_unpacked(path, math.prod(shape) * values.dtype.itemsize, min(size, values.id.get_storage_size()))
    dtype = np.dtype(values.dtype.str) if values.dtype.metadata else values.dtype  # of an enumeration, the numbers
    return Dataset(path, name, shape, dtype, chunk[0])


def _find_texts(path: Path, name: str, values: Any, shape: tuple[int, ...]) -> Texts:  # noqa: ANN401 - of h5py
    """Find where strings of variable length are; refuse those in chunks."""
    place = values.id.get_offset()
    if place is None or values.file.id.get_create_plist().get_sizes() != (ADDRESS, ADDRESS):
        problem = f"it is {KIND}, and the strings {name} are in chunks, or nowhere"
        raise InvalidInputError(problem, store=path, hint="save them at once, as a list, or leave them out")
    return Texts(path, name, shape, place)


@contextmanager
def _open_file(path: Path) -> Iterator[Any]:
    with importing(path, KIND, "h5py"):
        import h5py  # noqa: PLC0415 - optional
    with describing(path, KIND, *ERRORS):
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            if not HDF5_UNLOCKABLE.search(str(error)):
                raise
            file = h5py.File(path, "r", locking=False)
        with file:
            yield file
