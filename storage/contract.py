"""The contract of a backend, and the types of what it stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import ANY_PIXELS, RGB, Dtypes, Image, Images, Labels
from .encoded import Content, Encoded
from .reader import Reader

__all__ = ["ANY_PIXELS", "Backend", "BackendInfo", "Dtypes", "Encoded", "Image", "Images", "Kind", "Labels", "Records"]

Kind = Literal["pixels", "encoded"]


@dataclass(frozen=True)
class BackendInfo:
    """Facts about a backend. A run records them, and the report shows them.

    Attributes
    ----------
    versions : mapping of str to str
        Libraries that it stores with, by name; the main one first.
    maintainer : str
        Who maintains the main library.
    licence : str
        Of the main library, an SPDX expression.
    compresses : bool
        Whether a store may be far smaller than its pixels. If so, `storage.save` doesn't check for free space first.
    kinds : tuple of str
        The kinds of image sets that it accepts.
    dtypes : mapping of str to tuple of int, or to None
        The pixels that it accepts: names of dtypes, each with the numbers of channels that go with it. 0 stands for
        (N, H, W), None for any number and (N, H, W). By default 8-bit RGB; `ANY_PIXELS` has all five dtypes.
    survives_damage : bool
        Whether a damaged store can do no more than have a read raise an error or return wrong images. Then
        `storage.load` verifies its files while they are read, instead of before.
    """

    versions: Mapping[str, str]
    maintainer: str
    licence: str
    compresses: bool = False
    kinds: tuple[Kind, ...] = ("pixels",)
    dtypes: Dtypes = field(default_factory=lambda: RGB)
    survives_damage: bool = False


class Records(NamedTuple):
    """Where consecutive images lie in a file of a store, one beside the other.

    Attributes
    ----------
    file : str
        Its path, relative to the store.
    offsets : range, or ndarray of int64, shape (M + 1,)
        Where the bytes of each image begin in the file, then where those of the last one end; a range if all have the
        same size.
    """

    file: str
    offsets: range | NDArray[np.int64]


class Backend(Protocol):
    """The contract of a backend: plain functions in a plain module.

    A store is a directory that one backend fills with one image set; deleting the directory deletes the store. At least
    one file is in it, outside its folders. The set is of one of two kinds: pixels, an array, or encoded, image files
    kept byte for byte. What was stored comes back exactly: pixels or bytes, dtype and shape, order, labels, also of
    sets with one image or none. Pixels are uint8, uint16, int16, float16 or float32, of shape (N, H, W) or (N, H, W,
    C), as far as ``INFO.dtypes`` has them; those in another byte order come back in this machine's.
    Options beyond these arguments are keyword-only, have defaults, and don't change what a read returns.

    All errors are `StorageError` and its subclasses: they say what happened, where, and what to do.
    A backend never asks for a sync: `storage.durability.make_durable` does it for all of them in the same way.
    It keeps no images in module globals, and closes what it opened when the function returns.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import storage
    >>> backend = storage.BACKENDS["npy"]
    >>> backend.store_many(Path("store"), np.zeros((3, 32, 32, 3), np.uint8), np.array([7, 0, 7]))
    >>> sorted(path.name for path in Path("store").iterdir())
    ['images.npy', 'labels.npy']
    >>> image, label = backend.read_single(Path("store"), -1)
    >>> image.shape, label
    ((32, 32, 3), 7)
    """

    __name__: str
    INFO: BackendInfo

    def store_single(self, store: Path, image: ArrayLike | Content, label: int) -> None:
        """Store one image, alone in its store; the same as `store_many` with one image.

        Parameters
        ----------
        store : Path
            An empty directory, or a free path.
        image : ndarray, shape (H, W) or (H, W, C), or bytes-like
            Pixels, also as a PyTorch tensor or a picture of Pillow; or the content of an image file.
        label : int
            Any 64-bit integer.
        """

    def read_single(self, store: Path, index: int) -> tuple[Image | Any, int]:
        """Read one image out of a store of any size.

        Parameters
        ----------
        store : Path
            A store of this backend.
        index : int
            From ``-N`` to ``N - 1``; negative ones count from the end.

        Returns
        -------
        image : ndarray, shape (H, W) or (H, W, C), or bytes
            What was stored, in fresh memory.
        label : int

        Raises
        ------
        StoreNotFoundError, CorruptStoreError
            As `read_many`.
        RecordNotFoundError
            The index is out of range.
        """

    def store_many(
        self,
        store: Path,
        images: ArrayLike | Encoded,
        labels: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Store an image set.

        Parameters
        ----------
        store : Path
            An empty directory, or a free path.
        images : ndarray, shape (N, H, W) or (N, H, W, C), or Encoded
            Pixels, or N image files; N may be 0, the other sizes are at least 1. ``INFO.kinds`` and ``INFO.dtypes`` say
            what the backend accepts.
            The registry makes them of a PyTorch tensor, of a list of equal images (arrays, tensors or pictures of
            Pillow), or of a list of bytes, before a module sees them.
        labels : ndarray of int64, shape (N,)
            The registry makes them of a list or of other integers that fit.
        names : sequence of str, optional
            A relative path for each image. A backend whose files have names uses them; the others need none.
        classes : sequence of str, optional
            The names of the labels 0, 1, ...; used likewise.

        Raises
        ------
        InvalidInputError
            `images` or `labels` are something else, or what the backend can't store, or differ in length; nothing was
            written.
        StoreExistsError
            `store` is not empty, or is a file; nothing was written.
        StoreFullError
            The file system has no room.
        """

    def read_many(self, store: Path, out: Images | None = None) -> tuple[Images | Any, Labels]:
        """Read everything, in the order in which it was stored.

        Parameters
        ----------
        store : Path
            A store of this backend.
        out : ndarray or PyTorch tensor, shape (N, H, W) or (N, H, W, C), optional
            An array to fill with pixels, of their dtype and shape, C-contiguous and writeable. After an error its
            content is undefined.

        Returns
        -------
        images : ndarray, shape (N, H, W) or (N, H, W, C), or Encoded
            `out`, or fresh and C-contiguous.
        labels : ndarray of int64, shape (N,)
            Fresh and C-contiguous.

        Raises
        ------
        InvalidInputError
            `out` is of another type, dtype or shape; it was not touched.
        StoreNotFoundError
            There is no store at this path.
        CorruptStoreError
            The store is cut short, damaged, or of another backend.
        """

    def open_reader(self, store: Path) -> Reader:
        """Open a store for reading in any order, as training does.

        Parameters
        ----------
        store : Path
            A store of this backend.

        Returns
        -------
        Reader
            To be closed, or used in a ``with`` statement.

        Raises
        ------
        StoreNotFoundError, CorruptStoreError
            As `read_many`.
        """

    def find_pixels(self, store: Path) -> Mapping[str, Sequence[range]]:
        """Find the bytes where corruption can only change pixels or labels. Optional.

        `storage.save` records a checksum of all other bytes and verifies it before the backend opens the store. A
        backend without this function has its files verified whole.

        Parameters
        ----------
        store : Path
            A store of this backend.

        Returns
        -------
        mapping of str to sequence of range
            Byte ranges by file name, relative to the store; empty if the backend can't tell.
        """

    def find_records(self, store: Path) -> Sequence[Records]:
        """Find the bytes of each image. Optional.

        A reader of a dataset in a bucket fetches those of the images that it reads, instead of whole stores. They
        are among the bytes of `find_pixels`, and this function relies only on others. To open a store, a reader needs
        all bytes that belong to no image, and at most the first and the last image of each file; then to read an
        image, only those of the image.

        Parameters
        ----------
        store : Path
            A store of this backend.

        Returns
        -------
        sequence of Records
            All images in order, those of one file after those of another; empty if the backend can't tell.
        """

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse names that `store_many` would refuse, before there are images to store. Optional.

        Parameters
        ----------
        names : sequence of str
            Relative paths of images, or of some of them.

        Raises
        ------
        InvalidInputError
            A name can't be that of a file in a store.
        """
