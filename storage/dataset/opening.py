"""An opened dataset: its directory is held, and each part is verified before it is first used."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import chain, filterfalse, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..contract import Backend, Labels, Records
from ..errors import CorruptStoreError, InvalidInputError, StorageError, StoreNotFoundError, reading
from ..registry import find_backend
from ..urls import Location, Url, find_location
from .annotations import Annotations, Problem, parse_problems
from .details import Details
from .files import (
    CHECKSUMS,
    DETAILS,
    LABELS,
    NAMES,
    SKIPPED,
    PartChecksums,
    check_beside,
    check_file,
    check_size,
    find_group,
    name_checksums,
    read_beside,
    read_checksums,
    read_details,
)
from .manifest import Manifest, read_manifest
from .metadata import ARROW, LINES, parse_columns
from .name_index import INDEX, Hashes, may_hold
from .names import Names
from .replacement import hold_directory

LABEL = np.dtype("<i8")
AT_ONCE = 64  # parts whose files are brought before the first is read
KEPT = 8  # parts whose details and checksums are kept when they were read
T = TypeVar("T")


class Lazy(Mapping[int, T]):
    """What there is about each part, by its number: read when it is asked for. That of the last few parts is kept."""

    def __init__(self, count: int, read: Callable[[int], T]) -> None:
        self._numbers, self._read = range(count), lru_cache(KEPT)(read)

    def __getitem__(self, number: int) -> T:
        """Return what there is about a part."""
        if number not in self._numbers:
            raise KeyError(number)
        return self._read(number)

    def __iter__(self) -> Iterator[int]:
        """Return the numbers of all parts."""
        return iter(self._numbers)

    def __len__(self) -> int:
        """Return how many parts there are."""
        return len(self._numbers)


class Filling(Protocol):
    """A store that is filled as it is read; see `storage.remote.ranges`."""

    @property
    def is_complete(self) -> bool:
        """Whether all of it is there."""
        ...

    def fetch_structure(self) -> None:
        """Fetch what no image has, as far as it is known before the store can be opened."""

    def fetch_edges(self, records: Sequence[Records]) -> None:
        """Fetch what else a backend needs to open the store; these are its images."""

    def fetch_images(self, positions: NDArray[np.intp], *, whole_requests: bool = False) -> None:
        """Fetch some images, and with `whole_requests` what is beside them."""

    def fetch_all(self) -> None:
        """Fetch all that isn't there."""

    def forget(self, positions: NDArray[np.intp] | None = None) -> None:
        """Have the bytes of some images, or all, fetched once more when they are needed."""


class Origin:
    """Where the files of a dataset come from: those of a local one are in its folder already."""

    @property
    def most_open(self) -> int:
        """How many parts may be held at once."""
        return 1 << 30

    def bring(self, name: str) -> None:
        """Have a file beside the parts in the folder."""

    def bring_all(self, names: Iterable[str]) -> None:
        """Have several there, which takes less time than one after the other."""

    def hold(self, number: int, dataset: "Dataset") -> AbstractContextManager[Filling | None]:  # noqa: ARG002 - of another one
        """Keep the store of a part in the folder; if it isn't whole, it must be filled before it is read."""
        return nullcontext()

    def renew(self, name: str) -> bool:  # noqa: ARG002 - likewise
        """Bring a file, or the store of a part, once more, as it was found to be damaged; False if that can't help."""
        return False

    def fits(self, size: int) -> bool:  # noqa: ARG002 - of another one
        """Whether all bytes of a dataset of this size can be kept."""
        return True

    def pass_on(self, open_store: Callable[[Path], T]) -> Callable[[Path], T]:
        """Have a function that opens a dataset find its files in the same way, in another process, too."""
        return open_store


LOCAL = Origin()


@dataclass(frozen=True)
class Dataset:
    """A dataset whose directory is held."""

    path: Location  # where the caller found it
    folder: Path  # the same directory for as long as it is held, even if another one comes to `path`
    manifest: Manifest
    module: Backend  # that wrote its parts
    details: Mapping[int, Details] = field(default_factory=dict)  # by part, as far as they can be read
    checksums: Mapping[int, PartChecksums] = field(default_factory=dict)  # likewise; empty if nothing is verified
    origin: Origin = LOCAL

    def find_part(self, number: int) -> Path:
        """Find the store of a part."""
        return self.folder / self.manifest.parts[number].name

    def make_lazy(self, *, verify: bool) -> "Dataset":
        """Read details and checksums when they are asked for."""
        count = len(self.manifest.parts)
        dataset = replace(self, details=Lazy(count, self.read_details))
        if not verify:
            return dataset
        read_group = lru_cache(KEPT)(dataset.read_checksums)
        return replace(
            dataset, checksums=Lazy(count, lambda number: read_group(find_group(self.manifest, number))[number])
        )

    def read_details(self, number: int) -> Details:
        """Read the details of a part."""
        if self.manifest.former:
            return self.manifest.former[1][number]
        name = f"{self.manifest.parts[number].name}.{DETAILS}"
        return self._bring(name, lambda: read_details(self.folder, self.manifest, number))

    def read_checksums(self, group: range) -> dict[int, PartChecksums]:
        """Read the checksums of parts, which are in one file."""
        details = self.details[group.start]
        name = name_checksums(self.manifest, group.start)
        return self._bring(name, lambda: read_checksums(self.folder, self.manifest, group, details))

    def _bring(self, name: str, read: Callable[[], T]) -> T:
        """Have a file in the folder and read it; if it is damaged there, once more."""

        def bring() -> T:
            self.origin.bring(name)
            return read()

        with self.reading():
            return self.try_again(name, bring)

    def try_again(self, name: str, read: Callable[[], T]) -> T:
        """Read a file, or the store of a part; if it is damaged here and can come once more, read it again."""
        try:
            return read()
        except CorruptStoreError:
            if not self.origin.renew(name):
                raise
            return read()

    @contextmanager
    def hold_part(self, number: int) -> Iterator[Path]:
        """Have all of a part in the folder; yield its store."""
        with self.reading(), self.origin.hold(number, self) as filling:
            if filling is not None:
                filling.fetch_all()
            yield self.find_part(number)

    def check_structure(self, number: int) -> None:
        """Refuse a part if the structure of its files isn't what was saved, or unless all is verified, their sizes.

        Files without structure aren't looked at: there may be one per image, and the checksum of its record verifies
        it.
        """
        if not self.checksums:
            self.check_sizes(number)
            return
        details, part = self.details[number], self.manifest.parts[number].name
        with self.reading():
            for name in details.structure:
                check_file(self.folder, part, details, name)

    def check_sizes(self, number: int) -> None:
        """Refuse a part if its files with structure haven't the sizes that were saved."""
        details, part = self.details[number], self.manifest.parts[number].name
        with self.reading():
            for name in details.structure:
                check_size(self.folder, f"{part}/{name}", details.sizes[name])

    def read_labels(self, *, verify: bool) -> Labels:
        """Read the labels of all images, from the files beside the parts; of format 1, from the parts, unverified."""
        read = self._read_store_labels if self.manifest.former else partial(self._read_labels, verify=verify)
        suffixes = [DETAILS, LABELS] if verify else [LABELS]
        numbers = self._bring_ahead(range(len(self.manifest.parts)), lambda _: suffixes)
        return np.concatenate(list(map(read, numbers))).astype(np.int64, copy=False)

    def _read_store_labels(self, number: int) -> Labels:
        with self.hold_part(number) as part, self.module.open_reader(part) as reader:
            return reader.read_labels()

    def _read_labels(self, number: int, *, verify: bool) -> Labels:
        part = self.manifest.parts[number]
        checksum = self.details[number].beside[LABELS].checksum if verify else None
        name, size = f"{part.name}.{LABELS}", part.count * LABEL.itemsize
        return np.frombuffer(self._bring(name, lambda: read_beside(self.folder, name, size, checksum)), LABEL)

    def bring_ahead(self, numbers: Iterable[int], suffixes: set[str]) -> Iterator[int]:
        """Yield parts when what they have of some files is there, for many at once."""
        known = self._bring_ahead(numbers, lambda _: [DETAILS])
        return self._bring_ahead(known, lambda number: self.details[number].beside.keys() & suffixes)

    def _bring_ahead(self, numbers: Iterable[int], choose: Callable[[int], Iterable[str]]) -> Iterator[int]:
        numbers, parts = iter(numbers), self.manifest.parts
        while some := list(islice(numbers, AT_ONCE)):
            if not self.manifest.former:
                with self.reading():
                    self.origin.bring_all(f"{parts[number].name}.{each}" for number in some for each in choose(number))
            yield from some

    def read_names(self) -> Names | None:
        """Read the names of all images; None if they have none."""
        contents = [names.content for names in self._read_parts(NAMES)]
        if not contents:
            return None
        with reading(self.folder):
            found = Names.parse(b"".join(contents))
        if len(found) != self.manifest.count:
            raise CorruptStoreError(f"it has {len(found)} names and {self.manifest.count} images", store=self.folder)
        return found

    def read_annotations(self) -> Annotations:
        """Read what is known about all images."""
        labels = self.read_labels(verify=True)
        known = self.read_names(), self.manifest.classes, self.read_metadata(), self.read_skipped()
        return Annotations(labels, *known, self.manifest.losses)

    def read_metadata(self) -> dict[str, list[Any]] | None:
        """Read the table of metadata; None if there is none."""
        found: dict[str, list[Any]] | None = None
        for columns in self._read_parts(ARROW, LINES):
            if found is not None and columns.keys() != found.keys():
                raise CorruptStoreError("its parts have different columns of metadata", store=self.folder)
            found = columns if found is None else {name: found[name] + columns[name] for name in found}
        if any(len(values) != self.manifest.count for values in (found or {}).values()):
            raise CorruptStoreError(f"its metadata hasn't {self.manifest.count} rows", store=self.folder)
        return found

    def read_skipped(self) -> tuple[Problem, ...]:
        """Read which files of the source are not among the images, and why."""
        return tuple(problem for problems in self._read_parts(SKIPPED) for problem in problems)

    def _read_parts(self, *suffixes: str) -> Iterator[Any]:
        numbers = sorted(self.details.keys() & range(len(self.manifest.parts)))  # more may be appended by now
        if self.manifest.count:  # the others needn't have what a part without images has
            numbers = [number for number in numbers if self.manifest.parts[number].count]
        for number in self.bring_ahead(numbers, {*suffixes}):
            found = self.read_any(number, *suffixes)
            if found is not None:
                yield found

    def read_any(self, number: int, *suffixes: str) -> Any:  # noqa: ANN401 - what is in the file
        """Read the file beside a part that has one of these suffixes; None if there is none."""
        details = self.details[number]
        return next((self.read_beside(number, details, each) for each in suffixes if each in details.beside), None)

    def read_beside(self, number: int, details: Details, suffix: str) -> Any:  # noqa: ANN401 - what is in the file
        """Read a file beside a part, and parse it; refuse one that isn't what was written, or that we never write."""
        part = self.manifest.parts[number]
        content = self._bring(f"{part.name}.{suffix}", lambda: check_beside(self.folder, part.name, details, suffix))
        if suffix in {ARROW, LINES}:
            return parse_columns(self.folder, suffix, content, part.count)
        if suffix == SKIPPED:
            with reading(self.folder, TypeError):
                return parse_problems(content)
        if suffix != NAMES:
            return content
        with reading(self.folder):
            names = Names.parse(content)
        if len(names) != part.count:
            raise CorruptStoreError(f"it has {len(names)} names and {part.count} images", store=self.folder)
        return names

    def may_hold(self, number: int, wanted: Hashes) -> bool:
        """Whether a part may have a name with any of these hashes; see `name_index`."""
        part = self.manifest.parts[number]
        name = f"{part.name}.{INDEX}"
        self.origin.bring(name)
        return may_hold(self.folder / name, part.records, wanted)

    def find_name(self, index: int) -> str | None:
        """Find the name of an image for a message; None if it has none, or its part's names can't be read."""
        number = bisect_right(self.manifest.starts, index) - 1
        with suppress(StorageError, LookupError):
            details, part = self.details[number], self.manifest.parts[number]
            content = self._bring(f"{part.name}.{NAMES}", lambda: check_beside(self.folder, part.name, details, NAMES))
            return Names(content)[index - self.manifest.starts[number]]
        return None

    def show_path(self, error: StorageError) -> StorageError:
        """Have an error name the caller's path in place of the held directory."""
        return show_path(error, self.folder, self.path)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Do what `storage.errors.reading` does; errors name the caller's path."""
        try:
            with reading_held(self.folder, self.path):
                yield
        except StorageError as error:
            if self.is_deleted():
                raise self.make_deletion() from error
            raise

    def is_deleted(self) -> bool:
        """Find out whether the directory was deleted while it was held."""
        with suppress(OSError):
            return self.folder.stat().st_nlink == 0
        return False

    def make_deletion(self) -> StorageError:
        """Make the error for what can't be read because the directory was deleted: nothing is damaged."""
        hint = "restore it from a copy, then open it again"
        return StoreNotFoundError("it was deleted while it was open", store=self.path, hint=hint)


@contextmanager
def reading_held(folder: Path, path: Location) -> Iterator[None]:
    """Do what `Dataset.reading` does before there is a dataset."""
    try:
        with reading(folder):
            yield
    except StorageError as error:
        show_path(error, folder, path)
        raise


def show_path(error: StorageError, folder: Path, path: Location) -> StorageError:
    """Have an error name `path` in place of the held `folder`."""
    if error.store is not None and error.store.is_relative_to(folder):
        error.store = path / error.store.relative_to(folder)
    return error


@contextmanager
def hold_dataset(
    path: Location | str, *, needed: Callable[[Manifest], Iterable[str]] = lambda _: (), fresh: bool = False
) -> Iterator[Dataset]:
    """Hold the directory of a dataset and read its manifest; refuse it if a file is missing that is needed.

    If it is in a bucket, and `fresh`, nothing that was in the cache before is used.
    """
    path = find_location(path)
    if isinstance(path, Url):
        from ..remote.cache import hold_remote  # noqa: PLC0415 - needs obstore

        with hold_remote(path, fresh=fresh) as dataset:
            yield dataset
        return
    path = path.absolute()
    with hold_directory(path) as folder:
        with reading_held(folder, path):
            manifest = read_manifest(folder)
            _check_names(folder, manifest, needed(manifest))
            module = find_module(folder, manifest)
        yield Dataset(path, folder, manifest, module)


def _check_names(folder: Path, manifest: Manifest, needed: Iterable[str]) -> None:
    """Refuse a part that is a link, which leads to files that `save` didn't write; list the folder for all at once."""
    with os.scandir(folder) as entries:
        found = {entry.name for entry in entries if not entry.is_symlink()}
    for name in filterfalse(found.__contains__, (part.name for part in manifest.parts)):
        if (folder / name).is_symlink():
            raise CorruptStoreError("it is a link: another program made it", store=folder / name)
    for name in filterfalse(found.__contains__, needed):
        if not os.path.lexists(folder / name):  # another file that is a link is refused when it is read
            raise CorruptStoreError(f"{name} is missing", store=folder)


@contextmanager
def open_dataset(path: Location | str, *, verify: bool, fresh: bool = False) -> Iterator[Dataset]:
    """Hold a dataset that lacks no part, if it is on this machine; each is verified when it is first used."""
    with hold_dataset(path, needed=partial(_list_needed, verify=verify), fresh=fresh) as held:
        yield held.make_lazy(verify=verify)


def _list_needed(manifest: Manifest, *, verify: bool) -> Iterable[str]:
    names = (part.name for part in manifest.parts)
    if manifest.former:
        return chain(names, [CHECKSUMS] if verify else [])  # those of all parts
    suffixes = [DETAILS, CHECKSUMS] if verify else [DETAILS]
    return chain(names, (f"{part.name}.{suffix}" for suffix in suffixes for part in manifest.parts))


def find_module(store: Location, manifest: Manifest) -> Backend:
    """Find the backend that wrote the parts of a dataset; it may not be installed here."""
    try:
        return find_backend(manifest.backend)
    except InvalidInputError as error:
        raise StorageError(f"the backend that wrote this dataset is missing: {error.problem}", store=store) from None
