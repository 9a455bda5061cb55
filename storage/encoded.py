"""The encoded kind of image set: image files kept byte for byte, each with its own size."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Self, overload

import numpy as np
from numpy.ma import MaskedArray
from numpy.typing import NDArray

from .errors import InvalidInputError

Content = bytes | bytearray | memoryview
FORMATS = re.compile(  # by the usual extension of their files
    rb"(?P<jpg>\xff\xd8\xff)|(?P<png>\x89PNG\r\n\x1a\n)|(?P<webp>RIFF.{4}WEBP)|(?P<gif>GIF8[79]a)|(?P<tif>II\*\0|MM\0\*)"
    rb"|(?P<bmp>BM)|(?P<avif>.{4}ftypavi[fs])|(?P<jp2>\0{3}\x0cjP {2})|(?P<pgm>P[25]\s)|(?P<ppm>P[36]\s)",
    re.DOTALL,
)
UNKNOWN = "bin"
EXTENSIONS = (*FORMATS.groupindex, UNKNOWN)


class Encoded(Sequence[memoryview]):
    """N image files in one buffer: a sequence of read-only memoryviews, laid out as Arrow lays out binary values.

    The files may hold any bytes, or none; they are looked at only when they are decoded.

    Parameters
    ----------
    content : ndarray of uint8, shape (total,)
        All files, one after the other. It isn't copied.
    offsets : ndarray of int64, shape (N + 1,)
        Where each file starts in `content`, then its length. It isn't copied.

    Raises
    ------
    InvalidInputError
        The arrays are something else, or the offsets don't go from 0 up to the length of the content.

    Examples
    --------
    >>> import storage
    >>> images = storage.Encoded.join([b"one file", b"", b"another"])
    >>> len(images), bytes(images[-1]), images.offsets
    (3, b'another', array([ 0,  8,  8, 15]))
    >>> [bytes(image) for image in images[:2]]
    [b'one file', b'']
    """

    __slots__ = ("_view", "content", "offsets")

    def __init__(self, content: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        _check_array("content", content, np.dtype(np.uint8))
        _check_array("offsets", offsets, np.dtype(np.int64))
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(content) or (offsets[1:] < offsets[:-1]).any():
            raise InvalidInputError(
                f"offsets don't go from 0 up to {len(content)}, the length of the content",
                hint="give the start of each file, then the end of the last one",
            )
        self.content, self.offsets = content, offsets
        self._view = content.data.toreadonly()

    @classmethod
    def join(cls, files: Iterable[Content]) -> Self:
        """Copy files into one buffer.

        Parameters
        ----------
        files : iterable of bytes-like
            The content of each file.

        Returns
        -------
        Encoded

        Raises
        ------
        InvalidInputError
            A file isn't bytes.
        """
        views = [view_file(file, number) for number, file in enumerate(files)]
        lengths = np.fromiter(map(len, views), np.int64, len(views))
        return cls(np.frombuffer(b"".join(views), np.uint8), measure_offsets(lengths))

    @property
    def nbytes(self) -> int:
        """The bytes of all files and their offsets."""
        return self.content.nbytes + self.offsets.nbytes

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The bytes of each file, ndarray of int64, shape (N,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> memoryview: ...

    @overload
    def __getitem__(self, index: slice) -> "Encoded": ...

    def __getitem__(self, index: int | slice) -> "memoryview | Encoded":
        """Return a view of one file, or of some that follow each other.

        Parameters
        ----------
        index : int or slice
            A slice has step 1.

        Returns
        -------
        memoryview or Encoded
            Nothing of the content is copied.

        Raises
        ------
        IndexError
            The index is out of range.
        InvalidInputError
            The step isn't 1.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise InvalidInputError(f"a slice with step {step}", hint="select files with `take`")
            offsets = self.offsets[start : max(start, stop) + 1]
            return Encoded(self.content[offsets[0] : offsets[-1]], offsets - offsets[0])
        position = range(len(self))[index]
        return self._view[self.offsets[position] : self.offsets[position + 1]]

    def __iter__(self) -> Iterator[memoryview]:
        """Yield a view of each file, which takes less time than asking for one after the other."""
        places = self.offsets.tolist()
        return map(self._view.__getitem__, map(slice, places, places[1:]))

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> "Encoded":
        """Copy some files, in any order.

        Parameters
        ----------
        indices : sequence or array of int, shape (M,)
            Repeats are allowed; negative ones count from the end.

        Returns
        -------
        Encoded
            M files.

        Raises
        ------
        IndexError
            An index is out of range.
        """
        array = np.asarray(indices)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise TypeError(f"indices have shape {array.shape} and dtype {array.dtype}: give a sequence of integers")
        return Encoded.join(map(self.__getitem__, array.tolist()))

    def __reduce__(self) -> tuple[type["Encoded"], tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Pickle the two arrays, as a worker process does when it returns a batch."""
        return Encoded, (self.content, self.offsets)

    def __repr__(self) -> str:
        """Say how many files there are, and how long."""
        return f"<Encoded: {len(self):,} files, {self.content.nbytes:,} bytes>"


def view_file(file: object, record: int | None = None) -> memoryview:
    """View the content of a file as bytes; refuse what isn't one."""
    hint = "give the bytes of an image file"
    if not isinstance(file, Content):
        raise InvalidInputError(f"it is a {type(file).__name__}", record=record, hint=hint)
    view = memoryview(file)
    if not view.c_contiguous:
        raise InvalidInputError("it is a memoryview with gaps", record=record, hint=hint)
    return view.cast("B") if view.nbytes else memoryview(b"")


def measure_offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum up the lengths of files: where each starts, then where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def find_extension(content: Content) -> str:
    """Find the extension of a file by its first bytes."""
    found = FORMATS.match(content)
    return (found and found.lastgroup) or UNKNOWN


def gather(view: memoryview, starts: NDArray[np.int64], ends: NDArray[np.int64], content: NDArray[np.uint8]) -> None:
    """Copy the ranges of a buffer, such as a map of a file, one after the other into `content`."""
    gather_pieces(zip(repeat(view), starts.tolist(), ends.tolist()), content)


def gather_pieces(pieces: Iterable[tuple[memoryview, int, int]], content: NDArray[np.uint8]) -> None:
    """Do what `gather` does for ranges of several buffers."""
    out, place = content.data, 0
    for view, start, end in pieces:
        out[place : place + end - start] = view[start:end]
        place += end - start


def _check_array(name: str, array: object, dtype: np.dtype[np.generic]) -> None:
    if not isinstance(array, np.ndarray) or isinstance(array, MaskedArray):
        problem = f"is a {type(array).__name__}"
    elif array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
        problem = f"has dtype {array.dtype} and shape {array.shape}"
    else:
        return
    raise InvalidInputError(f"{name} {problem}", hint=f"give a C-contiguous NumPy array of {dtype} with one axis")
