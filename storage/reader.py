"""The base class of readers: indices, batches, forks, pickling and closing."""

import ctypes
import gc
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from typing import Any, Literal, Self, TypeAlias, cast, overload
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from .arrays import BYTE, CHANNELS, Image, Images, Labels, check_index, check_indices, make_result
from .augmentation import Augmentation, check_area
from .batches import QUEUE, Batches, check_number
from .decoding import MAX_PIXELS, check_size, check_threads, decode, decode_batch
from .encoded import Encoded
from .epoch_order import EpochOrder
from .errors import FOREIGN, InvalidInputError, ReaderClosedError, StorageError, explain, reading
from .inputs import take_out
from .pictures import Size
from .read_ahead import Memory, ReadAhead
from .urls import Location, Url

Indices: TypeAlias = Sequence[int] | NDArray[np.integer] | slice

fork_lock = RLock()
"""Held across calls of libraries that a child can't use if a thread of its parent was inside one at the fork."""

os.register_at_fork(before=fork_lock.acquire, after_in_parent=fork_lock.release, after_in_child=fork_lock.release)

_reopening: dict[int, Lock] = {}  # by process: a child that is forked meanwhile takes its own
_readers: "WeakSet[Reader]" = WeakSet()


def leak(resource: object) -> None:
    """Keep an object for good, because its finalizer might hang in this process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(resource))


def _leak_inherited() -> None:  # pragma: no cover - runs in children only
    for reader in _readers:
        leak(vars(reader).copy())  # the reader itself soon opens the store for this process
    gc.freeze()  # inherited garbage, such as a context of TileDB, isn't finalized here either


os.register_at_fork(after_in_child=_leak_inherited)


@dataclass(frozen=True)
class Description:
    """The image set in a store: how many images; shape, empty if they are encoded, and dtype of each."""

    count: int
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = BYTE


class Reader(ABC):
    """An open store, read image by image or batch by batch in any order.

    It is a map-style dataset as PyTorch expects one, and a context manager. After pickling or a fork, the copy opens
    the store itself. Threads may share a reader, as long as none closes it while another reads.

    A backend adds `_open` and `_close`; `_read` if it stores pixels, `_read_encoded` if it stores image files;
    `_read_one`, `_read_labels` and `view` if it can do these with less work; and `names` and `classes` if it has them.

    Parameters
    ----------
    store : Path
        A store written by the backend.

    Raises
    ------
    StoreNotFoundError
        There is no store at this path.
    CorruptStoreError
        The store is cut short, damaged, or of another backend.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import storage
    >>> backend = storage.BACKENDS["npy"]
    >>> backend.store_many(Path("store"), np.zeros((3, 32, 32, 3), np.uint8), np.array([7, 0, 5]))
    >>> with backend.open_reader(Path("store")) as reader:
    ...     images, labels = reader.read([2, 0, -1])
    ...     image, label = reader[1]
    >>> images.shape, labels, label
    ((3, 32, 32, 3), array([5, 7, 5]), 0)
    """

    _closed = True
    _verifies = False  # each record by its checksum
    _process = 0
    _losses: Collection[str] = ()  # that decoding may cause
    _max_pixels = MAX_PIXELS  # of an image that is decoded

    def __init__(self, store: Location) -> None:
        with reading(store):  # where the current folder was deleted
            self.store: Any = store if isinstance(store, Url) else Path(store).absolute()
        self._ahead: WeakSet[ReadAhead] = WeakSet()
        self._memory: Memory | None = None  # of batches, for the next epoch
        self._start()

    @abstractmethod
    def _open(self) -> Description:
        """Open the store; describe what it holds."""

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        """Return what the store holds at `positions`, which are in range; `make_result` makes the images of `out`."""
        raise NotImplementedError  # pragma: no cover - it holds no pixels

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        """Return the files that the store holds at `positions`, which are in range."""
        raise NotImplementedError  # pragma: no cover - it holds no files

    def _read_one(self, position: int) -> tuple[Image, int]:
        """Return what the store holds at `position`, which is in range."""
        images, labels = self._read(np.array([position]), None)
        return images[0], int(labels[0])

    def _read_labels(self) -> Labels:
        """Return all labels."""
        return np.fromiter((self._read_one(position)[1] for position in range(self._count)), np.int64, self._count)

    @abstractmethod
    def _close(self) -> None:
        """Close what `_open` opened."""

    @property
    def kind(self) -> Literal["pixels", "encoded"]:
        """The kind of the image set: arrays of pixels, or image files."""
        return "pixels" if self._shape else "encoded"

    @property
    def names(self) -> Sequence[str]:
        """The names of all images; empty if the store knows none."""
        return ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, ...; empty if the store knows none."""
        return ()

    def __len__(self) -> int:
        """Return how many images the store holds."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> tuple[Image, int]: ...

    @overload
    def __getitem__(self, index: Indices) -> tuple[Images | Any, Labels]: ...

    def __getitem__(self, index: int | Indices) -> tuple[Image, int] | tuple[Images | Any, Labels]:
        """Read one image, or some; image files are decoded.

        Parameters
        ----------
        index : int, or slice, or sequence or array of int, shape (M,)
            From ``-len(reader)`` to ``len(reader) - 1``. A sampler of batches may give a list.

        Returns
        -------
        image : ndarray, shape (H, W) or (H, W, C)
            Fresh memory; of an image file, uint8 and RGB. For some images, what `read` returns; if they are image
            files, a list of M images, each of its own size.
        label : int
            For some images, ndarray of int64, shape (M,).

        Raises
        ------
        RecordNotFoundError
            The index is out of range.
        DecodingError
            The image file can't be decoded.

        Examples
        --------
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import storage
        >>> backend = storage.BACKENDS["npy"]
        >>> backend.store_many(Path("store"), np.zeros((5, 8, 8, 3), np.uint8), [4, 3, 2, 1, 0])
        >>> with backend.open_reader(Path("store")) as reader:
        ...     image, label = reader[-1]
        ...     images, labels = reader[1:3]
        >>> image.shape, label, images.shape, labels
        ((8, 8, 3), 0, (2, 8, 8, 3), array([3, 2]))
        """
        if type(index) is not int and _is_many(index):
            return self._read_some(cast("Indices", index))
        self._be_ready()
        position = check_index(self.store, cast("int", index), self._count)
        try:
            if self._shape:
                return self._read_one(position)
            files, labels = self._read_encoded(np.array([position]))
            return self._decode_file(files[0], position), int(labels[0])
        except StorageError:
            raise
        except FOREIGN as error:  # faster than `reading`
            raise explain(self.store, error) from error

    def _read_some(self, indices: Indices) -> tuple[Images | Any, Labels]:
        if self._shape:
            return self.read(indices)
        self._be_ready()
        with reading(self.store):
            positions = check_indices(self.store, indices, self._count)
            files, labels = self._read_encoded(positions)
            return list(map(self._decode_file, files, positions.tolist())), labels

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Image, int]]:
        """Read a batch the way PyTorch's fetcher asks for it: a list of ``(image, label)``."""
        if not self._shape:
            return [self[index] for index in indices]
        images, labels = self.read(indices)
        return list(zip(images, labels.tolist(), strict=True))

    def __iter__(self) -> Iterator[tuple[Image, int]]:
        """Read one image after another."""
        return (self[index] for index in range(len(self)))

    def read(
        self,
        indices: Indices,
        out: Images | None = None,
        *,
        size: tuple[int, int] | None = None,
        threads: int | None = None,
    ) -> tuple[Images, Labels]:
        """Read a batch; image files are decoded, and scaled and cropped to one size.

        Parameters
        ----------
        indices : slice, or sequence or array of int, shape (M,)
            Any order, repeats allowed; negative ones count from the end.
        out : ndarray or PyTorch tensor, shape (M, H, W, ...), optional
            An array to fill, C-contiguous, of the dtype of the images: a loop that reads into the same one allocates
            no memory for them.
        size : tuple of int, optional
            Height and width of the images that are decoded: each is scaled, antialiased, until it covers them, and its
            centre is cropped. For image files only, which need it.
        threads : int, optional
            How many files are decoded at once; by default as many as there are processors.

        Returns
        -------
        images : ndarray, shape (M, H, W) or (M, H, W, C)
            `out`, or fresh and C-contiguous, with the dtype that was stored; uint8 RGB if they are decoded.
        labels : ndarray of int64, shape (M,)

        Raises
        ------
        InvalidInputError
            `out` is of another type, dtype or shape, `size` is missing or impossible, or `threads` is
            no number above 0; nothing was read.
        RecordNotFoundError
            An index is out of range.
        DecodingError
            An image file can't be decoded; of several, the error names the one that comes first in `indices`.
        ReaderClosedError
            The reader is closed.
        """
        self._be_ready()
        with reading(self.store):
            if threads is not None:
                self._check_threads(threads)
            positions = check_indices(self.store, indices, self._count)
            array: Any = out
            if out is not None:
                positions = positions.copy()  # they may lie in the memory that is filled
                array = take_out(out)
            images, labels = self._read_images(positions, array, self._choose_shape(size), threads)
            return images if out is None else out, labels

    def _read_images(
        self,
        positions: NDArray[np.intp],
        out: Images | None,
        shape: tuple[int, ...],
        threads: int | None,
        augmentation: Augmentation | None = None,
    ) -> tuple[Images, Labels]:
        """Do what `read` does for positions that are in range, and for an array of the shape that images will have."""
        self._be_ready()
        with reading(self.store):
            if self._shape:
                return self._read(positions, out)
            return self._decode_batch(positions, out, shape, threads, augmentation)

    def _read_stored(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images | Encoded, Labels]:
        """Do what `read_stored` does for positions that are in range, and for an array."""
        self._be_ready()
        with reading(self.store):
            return self._read(positions, out) if self._shape else self._read_encoded(positions)

    def read_encoded(self, indices: Indices) -> tuple[Encoded, Labels]:
        """Read a batch of image files as they were stored.

        Parameters
        ----------
        indices : slice, or sequence or array of int, shape (M,)
            Any order, repeats allowed; negative ones count from the end.

        Returns
        -------
        images : Encoded
            M files, in fresh memory.
        labels : ndarray of int64, shape (M,)

        Raises
        ------
        InvalidInputError
            The store holds pixels, not image files.
        RecordNotFoundError
            An index is out of range.
        ReaderClosedError
            The reader is closed.

        Examples
        --------
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import storage
        >>> backend = storage.BACKENDS["npy"]
        >>> files = storage.Encoded.join([b"one file", b"another"])
        >>> backend.store_many(Path("store"), files, np.array([7, 0]))
        >>> with backend.open_reader(Path("store")) as reader:
        ...     images, labels = reader.read_encoded([1, 0])
        >>> bytes(images[0]), labels
        (b'another', array([0, 7]))
        """
        self._be_ready()
        if self._shape:
            raise InvalidInputError("it holds pixels, not image files", store=self.store, hint="use read")
        with reading(self.store):
            return self._read_encoded(check_indices(self.store, indices, self._count))

    def batches(
        self,
        size: int,
        *,
        seed: int,
        epoch: int = 0,
        window: int | None = None,
        image_size: tuple[int, int] | None = None,
        augment: tuple[float, float] | None = None,
        threads: int | None = None,
        out: Any = None,  # noqa: ANN401 - an array, a tensor, or several
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> Batches:
        """Iterate over the batches of an epoch: every image once, in a shuffled order, read and decoded ahead.

        Seed and epoch choose the order, which is the same everywhere: with every size, number of ranks, backend,
        machine, and version of Python and NumPy. In training on several ranks, each one takes batches in turn. At the
        end, some ranks may have one batch more than others, and the last batch may be smaller; not with `drop_last`.

        Memory holds three batches: one that the caller has, and two that are being read or are ready; of 256 images of
        224 x 224 RGB pixels, they take 116 MB, which the reader keeps for the next epoch. Of image files, it also holds
        those of one batch, of a dataset of several parts twice, and one decoded image per thread.

        Parameters
        ----------
        size : int
            How many images a batch has.
        seed, epoch : int
            Any numbers from 0 on.
        window : int, optional
            Shuffle within a window: the parts of a dataset are shuffled, and the images of so many parts at a time are
            shuffled among each other, so each still comes once. Only those parts are read at that time, by all ranks.
            The order depends on the parts. A store, or a dataset without more parts, is shuffled as a whole, as all are
            by default: then each batch has images from everywhere.
        image_size : tuple of int, optional
            Height and width, as `size` of `read`; for image files only, which need it. Pixels are as they were stored.
        augment : tuple of float, optional
            For training on image files: the least and the most of an image's area that is left, such as (0.08, 1).
            Instead of its centre, a random part with sides of 3:4 to 4:3 is scaled to `image_size`, and half of the
            images are mirrored. Seed, epoch and image choose both. A dataset, which verifies each file by its checksum,
            decodes little more of a JPEG file than the part, and the rows above it.
        threads : int, optional
            How many read and decode, each on its own core; the caller's thread runs where it did. By default as many
            as the process may use cores, divided by the ranks on this machine: ``LOCAL_WORLD_SIZE``, as torchrun sets
            it, or else `world_size`. Give a number if each rank is confined to cores of its own.
        out : ndarray or PyTorch tensor, shape (size, H, W, ...), or list of these, optional
            Arrays that are filled in turn: each batch is one of them, or the first part of one, and stays as it is
            until the next batch is asked for. With one array nothing is read ahead. If the loop is left early, threads
            may still fill the others until `close` of the iterator returns. By default, a batch belongs to the caller;
            its memory is used again when nothing refers to it any more.
        drop_last : bool
            Leave out the images at the end that don't make a whole batch for every rank.
        rank, world_size : int
            Which of how many processes this is that share the epoch.

        Returns
        -------
        Batches
            An iterator over ``(images, labels)``, as `read` returns them. Its `state_dict` and `load_state_dict` let
            training go on in the middle of an epoch.

        Raises
        ------
        InvalidInputError
            An argument is out of range, `image_size` is missing or impossible, `augment` is given for pixels, or `out`
            has another dtype or shape.
        StorageError
            While iterating: what `read` raises, after the batches before it; an error names the image.
        ReaderClosedError
            The reader is closed.

        Examples
        --------
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import storage
        >>> backend = storage.BACKENDS["npy"]
        >>> backend.store_many(Path("store"), np.zeros((5, 8, 8, 3), np.uint8), np.arange(5))
        >>> with backend.open_reader(Path("store")) as reader:
        ...     for images, labels in reader.batches(2, seed=0):
        ...         print(images.shape, labels)
        (2, 8, 8, 3) [1 3]
        (2, 8, 8, 3) [4 0]
        (1, 8, 8, 3) [2]
        """
        self._be_ready()
        shape = (min(check_number("size", size, 1), max(1, self._count)), *self._choose_shape(image_size))
        augment = None if augment is None else self._check_area(augment)
        if self._memory is None or self._memory.shape != shape:
            self._memory = Memory(self.store, shape, self._dtype, QUEUE + 1)
        return Batches(
            self,
            self._read_images,
            self._expect,
            self._ahead,
            self._memory,
            self._dtype,
            self._find_starts(),
            size=size,
            augment=augment,
            seed=seed,
            epoch=epoch,
            window=window,
            threads=threads,
            out=out,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )

    def _expect(self, batches: Iterator[NDArray[np.intp]], order: EpochOrder) -> Iterator[NDArray[np.intp]]:  # noqa: ARG002 - of a reader whose images are elsewhere
        """Return the batches of an epoch; have what they need fetched ahead if it isn't on this machine."""
        return batches

    def _find_starts(self) -> NDArray[np.integer]:
        """Find the first image of each part, then the number of images; a store is one part."""
        return np.array([0, self._count])

    def _check_threads(self, threads: object) -> None:
        try:
            check_threads(threads)
        except InvalidInputError as error:
            raise error.replace(store=self.store) from error

    def _check_area(self, augment: object) -> tuple[float, float]:
        if self._shape:
            problem = "images that are stored as pixels can't be augmented"
            raise InvalidInputError(problem, store=self.store, hint="leave augment out")
        return check_area(augment)

    def _decode_file(self, file: memoryview, position: int) -> Image:
        try:
            return decode(file, max_pixels=self._max_pixels, losses=self._losses)
        except StorageError as error:
            raise self._name_record(error, position) from error

    def _choose_shape(self, size: tuple[int, int] | None) -> tuple[int, ...]:
        """Choose the shape of each image that is read: the one that was stored, or a size that files need."""
        if not self._shape:
            try:
                return (*check_size(size), CHANNELS)
            except InvalidInputError as error:
                raise error.replace(store=self.store) from error
        if size is not None:
            problem = f"images that are stored as pixels aren't scaled to {size}"
            raise InvalidInputError(problem, store=self.store, hint="leave size (in batches: image_size) out")
        return self._shape

    def _decode_batch(
        self,
        positions: NDArray[np.intp],
        out: Images | None,
        shape: tuple[int, ...],
        threads: int | None,
        augmentation: Augmentation | None,
    ) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *shape), out)
        files, labels = self._read_encoded(positions)
        try:
            options: dict[str, Any] = {"max_pixels": self._max_pixels, "losses": self._losses}
            if augmentation is not None:
                numbers = positions.tolist()
                options["views"] = [augmentation.view(number, is_verified=self._verifies) for number in numbers]
            decode_batch(files, Size(*shape[:2]), images, threads=threads, **options)
        except StorageError as error:
            raise self._name_record(error, None if error.record is None else int(positions[error.record])) from error
        return images, labels

    def _name_record(self, error: StorageError, position: int | None) -> StorageError:
        """Make the same error about a record of this store."""
        name = None if position is None else self._find_name(position)
        return error.replace(store=self.store, record=position, name=name)

    def _find_name(self, position: int) -> str | None:  # noqa: ARG002 - of a reader whose images have names
        """Find the name of an image for a message; None if it has none."""
        return None

    def read_labels(self) -> Labels:
        """Read all labels, without the images if the store can.

        Returns
        -------
        ndarray of int64, shape (N,)
            Fresh memory.

        Raises
        ------
        ReaderClosedError
            The reader is closed.
        """
        self._be_ready()
        with reading(self.store):
            return self._read_labels()

    @property
    def labels(self) -> Labels:
        """The labels of all images: what `read_labels` returns."""
        return self.read_labels()

    def view(self) -> Images | Sequence[Image] | Sequence[memoryview]:
        """View all images where they lie in the store, without a copy, if the backend can.

        Returns
        -------
        ndarray, shape (N, H, W) or (N, H, W, C), or sequence of ndarray
            Read-only, of the dtype that was stored. It stays valid after the reader is closed.
        sequence of memoryview
            The image files, likewise. `lmdb_packed` copies a file that two of its records share.

        Raises
        ------
        StorageError
            The store doesn't hold its images as they are in memory.
        ReaderClosedError
            The reader is closed.
        """
        self._be_ready()
        raise StorageError("its images can't be viewed", store=self.store, hint="use read")

    def close(self) -> None:
        """Close the store; closing twice does no harm."""
        if not self._closed:
            self._closed = True
            self._memory = None
            started = list(self._ahead)
            for ahead in started:
                ahead.stop()
            if self._process != os.getpid():  # a child leaves its parent's files and environments alone
                return
            if any(ahead.is_reading() for ahead in started):
                leak(vars(self).copy())  # a map that is closed while a thread reads it kills the process
            else:
                self._close()

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the store."""
        self.close()

    def __reduce__(self) -> tuple[Callable[[Path], Self], tuple[Path]]:
        """Pickle only the path: the copy opens the store itself."""
        return type(self), (self.store,)

    def _be_ready(self) -> None:
        """Refuse to read when closed; after a fork, open the store for the new process."""
        if self._process != os.getpid():
            with _reopening.setdefault(os.getpid(), Lock()):  # threads of the new process may come at once
                if not self._closed and self._process != os.getpid():
                    self._reopen()
        if self._closed:
            raise ReaderClosedError("the reader is closed", store=self.store, hint="open another one")

    def _reopen(self) -> None:
        try:
            self._start()
        except BaseException:
            self._closed = True
            raise

    def _start(self) -> None:
        with reading(self.store):
            description = self._open()
        self._count, self._shape, self._dtype = description.count, description.shape, description.dtype
        self._process = os.getpid()
        self._closed = False
        _readers.add(self)


def _is_many(index: object) -> bool:
    return isinstance(index, slice | Sequence) or getattr(index, "ndim", 0) > 0


def read_stored(reader: Reader, indices: Indices, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read a batch as it is stored: pixels, into `out` if there is one, or image files."""
    return reader.read(indices, out) if reader.kind == "pixels" else reader.read_encoded(indices)
