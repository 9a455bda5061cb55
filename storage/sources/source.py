"""Where the images of a conversion come from: a dataset, a plain store, arrays; folders have a module of theirs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from xxhash import xxh3_64_intdigest

from ..arrays import cut_indices
from ..contract import Backend, Images, Labels
from ..dataset.manifest import FILE, name_part
from ..dataset.reading import open  # noqa: A004 - a dataset's
from ..errors import CorruptStoreError, InvalidInputError, StorageError, StoreNotFoundError, reading
from ..paths import walk_files
from ..reader import Reader
from ..registry import BACKENDS
from .folder import read_folder


class Source(Protocol):
    """An image set that is read in order, from any image on."""

    @property
    def labels(self) -> Labels:
        """Labels of all images, ndarray of int64, shape (N,)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What the labels 0, 1, ... stand for; empty where nobody said."""

    @property
    def identity(self) -> str:
        """Tell whether images and labels are those of before: by checksums, or by names, sizes and times of files."""

    def identify(self) -> str:
        """Find the identity anew: another one if what was read since the beginning may be a mixture.

        Raises
        ------
        StorageError
            The source is gone, or is no source any more.
        """

    def read(self, start: int) -> Iterator[Images]:
        """Read batches of images.

        Parameters
        ----------
        start : int
            Index of the first one.

        Yields
        ------
        ndarray of uint8, shape (n, H, W, 3)
            In order. A set without images yields one batch without images.

        Raises
        ------
        StorageError
            An image cannot be read; the message names it.
        """


@dataclass(frozen=True)
class ArraySource:
    """Images that are in memory."""

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    identity: str

    def identify(self) -> str:
        """Say the same as before: nobody else changes them; see `Source`."""
        return self.identity

    def read(self, start: int) -> Iterator[Images]:
        """Read all at once; see `Source`."""
        yield self.images[start:]


@dataclass(frozen=True)
class ReaderSource:
    """Images of a dataset; reading them to the end closes its reader, so that it may be replaced."""

    reader: Reader
    labels: Labels
    classes: tuple[str, ...]
    identity: str

    def identify(self) -> str:
        """Say the same as before: each record was proved; see `Source`."""
        return self.identity

    def read(self, start: int) -> Iterator[Images]:
        """Read batches of 8 MiB; see `Source`."""
        with self.reader as reader:
            count = len(reader)
            if not count:
                yield reader.read([])[0]
                return
            for indices in cut_indices(start, count, *reader.read([])[0].shape[1:3]):
                images, labels = reader.read(indices)
                if not np.array_equal(labels, self.labels[indices]):
                    raise CorruptStoreError(
                        f"{reader.store}: labels of the images {indices[0]} to {indices[-1]} are not those that were "
                        "read before: another program changes the store"
                    )
                yield images


@dataclass(frozen=True)
class StoreSource(ReaderSource):
    """Images of a plain store, which nothing proves."""

    def identify(self) -> str:
        """Look at its files again; see `Source`."""
        return _identify_files(self.reader.store)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open what can be converted: a dataset, a plain store of any backend, or a folder tree of images.

    Parameters
    ----------
    path : Path

    Yields
    ------
    Source

    Raises
    ------
    StoreNotFoundError
        There is nothing at `path`.
    InvalidInputError
        It is something else.
    CorruptStoreError
        It is a dataset, and damaged.
    StorageError
        The operating system refused.
    """
    path = Path(path).absolute()
    with reading(path, ValueError):
        if not path.exists():
            raise StoreNotFoundError(f"{path} does not exist: correct the path")
        is_dataset = any((path / name).exists() for name in (FILE, name_part(0)))
    if is_dataset:
        with open(path, verify=False) as unproved:
            labels = unproved.read_labels()  # each is proved when its image is read
        with open(path) as proved:
            yield ReaderSource(proved, labels, proved.classes, f"dataset {proved.checksum}")
        return
    module, reasons = _find_module(path)
    if module is not None:
        identity = _identify_files(path)  # before anything is read: what changes later is noticed
        with module.open_reader(path) as reader:
            yield StoreSource(reader, reader.read_labels(), (), identity)
        return
    source = read_folder(path)
    if source is None:
        said = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
        raise InvalidInputError(
            f"{path} is no dataset, no CIFAR-10, no folder of class folders with images, and no plain store:{said}"
        )
    yield source


def _find_module(path: Path) -> tuple[Backend | None, dict[str, str]]:
    """Find the first backend that accepts a plain store; tell why the others did not."""
    reasons: dict[str, str] = {}
    for name, module in BACKENDS.items():
        try:
            module.open_reader(path).close()
        except StorageError as error:
            reasons[name] = str(error)
        else:
            return module, reasons
    return None, reasons


def _identify_files(folder: Path) -> str:
    """Hash the names, sizes and times of all files below a folder, in whatever order they come."""
    identity = 0
    with reading(folder):
        for place, names in walk_files(folder):
            for name in names:
                status = (place / name).stat()
                file = f"{place.relative_to(folder)}/{name}\0{status.st_size} {status.st_mtime_ns}"
                identity ^= xxh3_64_intdigest(os.fsencode(file))
    return f"store {identity:016x}"
