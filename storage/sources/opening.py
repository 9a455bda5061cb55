"""Opens whatever `convert` accepts, and reads datasets and plain stores as image sources."""

import math
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ..arrays import cut_batches
from ..contract import Backend, Encoded, Images, Kind, Labels
from ..dataset.annotations import Problem
from ..dataset.manifest import is_dataset
from ..dataset.reading import DatasetReader, open  # noqa: A004 - a dataset's
from ..encoded import Content
from ..errors import (
    CorruptStoreError,
    ForeignStoreError,
    InvalidInputError,
    StorageError,
    StoreNotFoundError,
    reading,
)
from ..lazy import LazyProperty
from ..limits import MAX_EXPANSION, MAX_MEMORY, check_amount
from ..paths import walk_files
from ..reader import Reader, read_stored
from ..registry import BACKENDS
from ..urls import Location, Url, find_location
from .base import Source
from .cifar10 import is_cifar, read_cifar
from .folder import FolderSource, read_folder
from .recognition import check_shards, read_file, read_shards

LABEL_BYTES = 8


@contextmanager
def open_source(path: Location | str, class_depth: int | None = None, *, may_be_plain: bool = True) -> Iterator[Any]:
    """Open a dataset, a plain store of any backend, a folder of image files or shards, CIFAR-10, CIFAR-100, or a file.

    Images that can be saved as they are come as an `ImageSource`; files that must be examined first, as a `FileSource`.
    `class_depth` is how deep the folders of the classes are in a folder or an archive; see `find_classes`. Unless it
    `may_be_plain`, no backend is imported to find out whether it is a plain store.
    """
    path = find_location(path)
    if isinstance(path, Url):
        with _open_dataset(path) as source:
            yield source
        return
    path = path.absolute()
    with reading(path, ValueError):
        if not _exists(path):
            raise StoreNotFoundError("it doesn't exist", store=path, hint="correct the path")
        has_manifest = is_dataset(path)
        known: Any = None
        depth = 1 if class_depth is None else class_depth
        if path.is_file():
            known = read_file(path, depth)
        elif not has_manifest and is_cifar(path):
            known = read_cifar(path)
    if known is not None:
        yield known
        return
    if has_manifest:
        with _open_dataset(path) as source:
            yield source
        return
    backend, reasons = _find_backend(path) if may_be_plain else (None, {})
    if backend is not None:
        identity, content = _identify_files(path)  # before anything is read, so that later changes are noticed
        with backend.open_reader(path) as reader:
            limit = MAX_MEMORY + MAX_EXPANSION * content
            check_amount("the list of its labels", len(reader) * LABEL_BYTES, store=path, limit=limit)
            yield StoreSource(reader, reader.read_labels(), reader.classes, identity, reader.names or None, content)
        return
    yield _find_files(path, depth, reasons)


@contextmanager
def _open_dataset(path: Location) -> Iterator[Any]:
    with open(path) as reader:
        with open(path, verify=False) as unverified:
            labels = unverified.read_labels()  # each is verified when its image is read
        identity, names = f"dataset {reader.checksum}", reader.names.join() or None
        known = _read_all(reader.metadata), reader.skipped, reader.losses
        yield DatasetSource(reader, labels, reader.classes, identity, names, reader.measure(), *known)


def _read_all(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]] | None:
    """Read a table of metadata; None if there is none."""
    return {name: list(values) for name, values in columns.items()} or None


def _find_files(path: Path, class_depth: int, reasons: Mapping[str, StorageError]) -> Any:  # noqa: ANN401 - a FileSource
    """Find image files in the shards of a folder, or in its tree."""
    with reading(path):
        shards = read_shards(path, class_depth)
    if shards is not None:
        return shards
    folder = read_folder(path, class_depth)
    if folder is None or not folder.has_pictures():
        with reading(path):
            check_shards(path)
        raise _explain(path, folder, reasons)
    return folder


def _exists(path: Path) -> bool:
    """Check whether there is anything at a path; raise `OSError` where that can't be seen."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _find_backend(path: Path) -> tuple[Backend | None, dict[str, StorageError]]:
    """Find the first backend that accepts a plain store, and the errors of those before it.

    Importing all backends takes half a second; a folder that has no file is no store of any.
    """
    reasons: dict[str, StorageError] = {}
    if not _has_file(path):
        return None, reasons
    for name, backend in BACKENDS.items():
        try:
            backend.open_reader(path).close()
        except StorageError as error:
            reasons[name] = error
        else:
            return backend, reasons
    return None, reasons


def _has_file(path: Path) -> bool:
    """Whether there may be a file in a folder, outside its folders."""
    try:
        with os.scandir(path) as entries:
            return any(not entry.is_dir(follow_symlinks=False) for entry in entries)
    except OSError:
        return True  # the backends say what is wrong


def _explain(path: Path, folder: FolderSource | None, reasons: Mapping[str, StorageError]) -> StorageError:
    """Make the error of a path that isn't a source, or can't be read here; its notes say why it is no plain store."""
    refused = {name: reason for name, reason in reasons.items() if _is_refusal(reason)}
    others = (StoreNotFoundError, ForeignStoreError)
    notes = refused or {name: reason for name, reason in reasons.items() if not isinstance(reason, others)}
    if refused:
        error = StorageError("the operating system refused to read it", store=path)
    elif folder is None:
        error = InvalidInputError("it is neither a file nor a folder", store=path, hint="name one of these")
    else:
        error = folder.explain()
    for name, reason in notes.items():
        error.add_note(f"as a store of {name}: {reason}")
    return error


def _is_refusal(reason: StorageError) -> bool:
    return isinstance(reason.__cause__, OSError) and type(reason) is StorageError


@dataclass(frozen=True)
class StoreSource(Source):
    """Images of a plain store."""

    reader: Reader
    labels: Labels
    classes: tuple[str, ...]
    identity: str
    names: Sequence[str] | None
    content: int  # bytes of all files
    metadata: Mapping[str, Sequence[Any]] | None = None
    skipped: tuple[Problem, ...] = ()
    losses: tuple[str, ...] = ()
    problems = ()

    @property
    def kind(self) -> Kind:
        """What the reader holds."""
        return self.reader.kind

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each image, on average if they are files."""
        return np.full(len(self.labels), self._size)

    def identify(self) -> str:
        """Look at the files again."""
        return _identify_files(self.reader.store)[0]

    def read(self, start: int) -> Generator[Images | Encoded]:
        """Read batches of 8 MiB, as far as the average tells."""
        if not len(self.reader):
            yield read_stored(self.reader, [])[0]
        for indices in cut_batches(start, len(self.reader), self._size):
            yield self._read_batch(indices)

    def read_files(self, indices: Iterable[int]) -> Iterator[Content | StorageError]:
        """Read image files one by one."""
        wanted = np.fromiter(indices, np.intp)
        for places in cut_batches(0, len(wanted), self._size):
            yield from self._read_batch(wanted[places])

    def close(self) -> None:
        """Close the reader."""
        self.reader.close()

    @LazyProperty
    def _size(self) -> int:
        """Bytes of an image: on average, if they are files."""
        if self.kind == "encoded":
            return self.content // max(1, len(self.labels))
        images = self.reader.read([])[0]
        return math.prod(images.shape[1:]) * images.itemsize

    def _read_batch(self, indices: NDArray[np.intp]) -> Any:  # noqa: ANN401 - images of either kind
        images, labels = read_stored(self.reader, indices)
        changed = labels != self.labels[indices]
        if changed.any():
            raise CorruptStoreError(
                "its label isn't the one that was read before",
                store=self.reader.store,
                record=int(indices[np.argmax(changed)]),
                hint="another program is changing the store; stop it and start again",
            )
        return images


@dataclass(frozen=True)
class DatasetSource(StoreSource):
    """Images of a dataset, each verified when it is read."""

    reader: DatasetReader

    def check_in_place(self, destination: PurePath) -> None:
        """Refuse to replace the dataset if something was appended to it after it was opened, before it was locked."""
        store = self.reader.store
        if isinstance(store, Path) and isinstance(destination, Path):
            is_same = destination.exists() and destination.samefile(store)
        else:
            is_same = destination == store
        if is_same and not self.reader.is_current():
            raise StorageError("another program changed it meanwhile", store=destination, hint="convert it again")

    def identify(self) -> str:
        """Return the same identity: each record is verified when it is read."""
        return self.identity


def _identify_files(folder: Path) -> tuple[str, int]:
    """Hash names, sizes and times of all files below a folder, whatever their order; count the bytes on the disk."""
    identity = content = 0
    with reading(folder):
        for place, names in walk_files(folder):
            for name in names:
                status = (place / name).lstat()
                content += min(status.st_size, status.st_blocks * 512)
                file = f"{place.relative_to(folder)}/{name}\0{status.st_size} {status.st_mtime_ns}"
                identity ^= xxh3_64_intdigest(os.fsencode(file))
    return f"store {identity:016x}", content
