"""Pixels that a file holds as one array, read in batches from its first image to its last, and their labels."""

import math
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64

from ..arrays import CHANNELS, LABEL, check_form, cut_batches, make_array
from ..contract import ANY_PIXELS, Images, Kind, Labels
from ..dataset.annotations import Problem, check_classes
from ..dataset.names import Names
from ..errors import FOREIGN, BackendUnavailableError, CorruptStoreError, InvalidInputError, StorageError, explain
from ..limits import MAX_EXPANSION, MAX_MEMORY, check_amount, check_memory
from .base import Source
from .files import IN_PIECES, naming

SKIPPED = 1 << 20  # bytes that are unpacked at a time on the way to an image
MAX_CHANNELS = CHANNELS + 1  # of a single image with three axes
TEXTS = "SU"  # kinds of dtypes of strings
TEXT, COPIES = 100, 4  # bytes of memory that a string takes besides its letters, and how often these are copied
NUMBERS = "biuf"  # kinds of dtypes that images may have, though not all are stored
OpenStream = Callable[[], AbstractContextManager[BufferedIOBase]]


class StoredArray(Protocol):
    """An array in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its values, in any byte order."""

    def read(self, start: int) -> Iterator[NDArray[Any]]:
        """Read batches along the first axis, from `start` on."""


@dataclass(frozen=True)
class Stream:
    """An array in C order in a stream of bytes, after the first `start` ones; nothing follows it."""

    path: Path
    open: OpenStream
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """The bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, start: int) -> Iterator[NDArray[Any]]:
        """Read batches of 8 MiB."""
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        with self.open() as stream:
            _skip(stream, self.start + start * size)
            for indices in cut_batches(start, self.shape[0], size):
                rows = make_array(self.path, (len(indices), *self.shape[1:]), self.dtype)
                _fill(self.path, stream, rows)
                yield rows
            if stream.read(1):  # this is also where a checksum is verified
                raise CorruptStoreError(f"more follows after {self.start + self.nbytes:,} bytes", store=self.path)


@dataclass(frozen=True)
class PixelSource(Source):
    """Images of a file that holds them as one array."""

    path: Path
    what: str  # kind of file it is
    images: StoredArray
    labels: Labels
    files: tuple[Path, ...]
    identity: str
    classes: tuple[str, ...] = ()
    names: Names | None = None
    metadata: None = None
    kind: Kind = "pixels"
    skipped: tuple[Problem, ...] = ()
    losses: tuple[str, ...] = ()

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each image."""
        return np.full(len(self.labels), math.prod(self.images.shape[1:]) * self.images.dtype.itemsize)

    def identify(self) -> str:
        """Look at the files again."""
        return identify_files(self.files)

    def read(self, start: int) -> Generator[Images]:
        """Read batches, in the byte order of this machine."""
        with describing(self.path, self.what):
            if not len(self.labels):
                yield np.empty(self.images.shape, _make_native(self.images.dtype))
                return
            for batch in self.images.read(start):
                yield batch.astype(_make_native(batch.dtype), copy=False)


class Chosen(NamedTuple):
    """The arrays of a file by their use; `texts` are strings that name images or classes, by their names."""

    images: StoredArray
    labels: StoredArray | None
    texts: Mapping[str, StoredArray] = {}


def make_source(path: Path, kind: str, chosen: Chosen, *others: Path) -> PixelSource:
    """Check what can be known before any image is read. Without labels, all are 0; `others` are further files."""
    images, labels, texts = chosen
    files = (path, *others)
    identity = identify_files(files)
    with describing(path, kind):
        _check_images(path, images)
    count = images.shape[0]
    size = sum(file.stat().st_size for file in files)
    needed = math.prod(images.shape) * images.dtype.itemsize
    check_unpacked(path, needed, size)
    check_amount("the list of its labels", count * 8, store=path, limit=MAX_MEMORY + MAX_EXPANSION * size)
    values = (
        np.zeros(count, np.int64) if labels is None else _read_labels(others[-1] if others else path, labels, count)
    )
    with describing(path, kind):
        named = _assign_texts(path, kind, texts, count, values if labels is not None else None, size)
    names = Names.join(named["images"]) if "images" in named else None
    return PixelSource(path, kind, images, values, files, identity, tuple(named.get("classes", ())), names)


def choose_arrays(path: Path, kind: str, arrays: Mapping[str, StoredArray]) -> Chosen:
    """Choose the array of images of a file, and those of labels and strings if there are any, by shapes and dtypes."""
    images = {name: array for name, array in arrays.items() if len(array.shape) in {3, 4} and _holds_numbers(array)}
    texts = {name: array for name, array in arrays.items() if len(array.shape) == 1 and array.dtype.kind in TEXTS}
    rest = {name: array for name, array in arrays.items() if name not in {*images, *texts}}
    if len(images) == 1 and len(rest) <= 1:
        (image,) = images.values()
        label = next(iter(rest.values()), None)
        if label is None or _are_labels(label, image.shape[0]):
            return Chosen(image, label, texts)
    kinds = {name: "strings" if array.dtype.kind in TEXTS else array.dtype for name, array in arrays.items()}
    held = ", ".join(f"{name} {array.shape} {kinds[name]}" for name, array in sorted(arrays.items())) or "none"
    raise InvalidInputError(
        f"it is {kind}, and its arrays aren't one of images and at most one of labels: {held:.500}",
        store=path,
        hint="save an array (N, H, W, 3) and, if there are labels, an array (N,) of integers in a file of their own",
    )


def check_unpacked(path: Path, needed: int, size: int) -> None:
    """Refuse a file of `size` bytes that would unpack to far more."""
    limit = IN_PIECES.measure(size)
    if needed > limit:
        problem = f"its images have {needed:,} bytes, and a file of {size:,} may unpack to {limit:,}"
        raise InvalidInputError(problem, store=path, hint="if that is right, store it without compression")


def identify_files(files: Sequence[Path]) -> str:
    """Hash names, sizes and times of files."""
    digest = xxh3_64()
    for file in files:
        status = file.stat()
        digest.update(os.fsencode(f"{file.name}\0{status.st_size} {status.st_mtime_ns}\0"))
    return f"files {digest.hexdigest()}"


@contextmanager
def describing(path: Path, kind: str, *library_errors: type[Exception]) -> Iterator[None]:
    """Turn what a library raises while it reads a source into an error that says what kind of file it is."""
    expected: tuple[type[Exception], ...] = FOREIGN + library_errors
    with naming(path):
        try:
            yield
        except StorageError:
            raise
        except expected as error:
            explained = explain(path, error)
            if isinstance(explained, CorruptStoreError):
                problem = f"it is {kind}, and can't be read ({str(error)[:200] or type(error).__name__}): it is damaged"
                explained = CorruptStoreError(problem, hint="restore a copy")
            raise explained from error


@contextmanager
def importing(path: Path, kind: str, library: str) -> Iterator[None]:
    """Say which library a source needs, if it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        hint = f"python -m pip install {library}"
        raise BackendUnavailableError(
            f"it is {kind}, and reading one needs {library}", store=path, hint=hint
        ) from error


def _check_images(path: Path, images: StoredArray) -> None:
    if not _holds_numbers(images) or len(images.shape) not in {3, 4}:
        problem = f"it holds an array of shape {images.shape} and dtype {images.dtype}, which isn't of images"
        raise InvalidInputError(problem, store=path, hint="save one of shape (N, H, W, 3)")
    if len(images.shape) == 3 and images.shape[2] <= MAX_CHANNELS:  # noqa: PLR2004 - (H, W, C), or (N, H, W)
        problem = f"it holds an array of shape {images.shape}, which is a single image"
        raise InvalidInputError(problem, store=path, hint="save many as one array of shape (N, H, W, 3)")
    check_form(np.broadcast_to(np.zeros((), _make_native(images.dtype)), images.shape), ANY_PIXELS)


def _read_labels(path: Path, labels: StoredArray, count: int) -> Labels:
    if not _are_labels(labels, count):
        problem = f"it holds labels of shape {labels.shape} and dtype {labels.dtype}, for {count:,} images"
        raise InvalidInputError(problem, store=path, hint="give each image one integer")
    values = np.empty(count, np.int64)
    place = 0
    for batch in labels.read(0):
        if len(batch) and batch.max() > LABEL.max:
            raise InvalidInputError("a label doesn't fit in 64 bits", store=path, hint="give at most 2**63 - 1")
        values[place : place + len(batch)] = batch.reshape(-1)
        place += len(batch)
    return values


def _assign_texts(
    path: Path, kind: str, texts: Mapping[str, StoredArray], count: int, labels: Labels | None, size: int
) -> dict[str, list[str]]:
    """Find out which strings name the images, and which the classes; refuse those that may be either, or neither."""
    named: dict[str, list[str]] = {}
    for name, array in texts.items():
        found = _read_texts(path, array, size)
        fits = {"images": _are_names(found, count), "classes": labels is not None and _are_classes(found, labels)}
        uses = [use for use, does_fit in fits.items() if does_fit and use not in named]
        if len(uses) != 1:
            reason = "may name both images and classes" if uses else "name neither the images nor the classes"
            problem = f"it is {kind}, and the strings {name} {array.shape} {reason}"
            raise InvalidInputError(problem, store=path, hint="save a file without them")
        named[uses[0]] = found
    return named


def _read_texts(path: Path, array: StoredArray, size: int) -> list[str]:
    """Read strings, as long as they don't take far more memory than the file."""
    check_memory(path, array.shape[0] * TEXT, size, "the list of its strings")
    texts, taken = list[str](), 0
    for batch in array.read(0):
        for text in batch.tolist():
            taken += TEXT + COPIES * len(text)
            check_memory(path, taken, size, "the list of its strings")
            texts.append(text if isinstance(text, str) else text.decode())
    return texts


def _are_names(texts: Sequence[str], count: int) -> bool:
    """Whether strings are names of images."""
    with suppress(InvalidInputError):
        return len(texts) == count == len(Names.join(texts))
    return False


def _are_classes(texts: Sequence[str], labels: Labels) -> bool:
    """Whether strings are names of the labels 0, 1, and so on; as many as there are images must all be used."""
    used = int(labels.max(initial=-1)) + 1
    with suppress(InvalidInputError):
        check_classes(texts)
        return labels.min(initial=0) >= 0 and (len(texts) == used or used < len(texts) != len(labels))
    return False


def _are_labels(array: StoredArray, count: int) -> bool:
    """Whether an array has an integer for each image, on its own or in a column, as Keras keeps those of CIFAR-10."""
    return array.shape in {(count,), (count, 1)} and array.dtype.kind in "iu"


def _holds_numbers(array: StoredArray) -> bool:
    return array.dtype.kind in NUMBERS


def _make_native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")


def _skip(stream: BufferedIOBase, size: int) -> None:
    """Go forward; what is packed is unpacked on the way, so that its checksum is verified at the end."""
    if isinstance(stream, BufferedReader):
        stream.seek(size)
        return
    while size and (skipped := len(stream.read(min(size, SKIPPED)))):
        size -= skipped


def _fill(path: Path, stream: BufferedIOBase, rows: NDArray[Any]) -> None:
    content = rows.reshape(-1).view(np.uint8).data
    while content:
        count = stream.readinto(content)
        if not count:
            raise CorruptStoreError(f"it was cut short: {len(content):,} bytes are missing", store=path)
        content = content[count:]
