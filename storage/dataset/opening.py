"""An opened dataset: its directory is held, and verified as far as it can be before its images are read."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Backend, Labels
from ..errors import CorruptStoreError, InvalidInputError, StorageError, StoreNotFoundError, reading
from ..registry import find_backend
from .annotations import Annotations, Problem, parse_problems
from .details import Details
from .files import (
    LABELS,
    NAMES,
    SKIPPED,
    PartChecksums,
    check_beside,
    check_file,
    check_size,
    group_parts,
    read_beside,
    read_checksums,
    read_details,
)
from .manifest import Manifest, read_manifest
from .metadata import ARROW, LINES, parse_columns
from .names import Names
from .replacement import hold_directory

LABEL = np.dtype("<i8")


@dataclass(frozen=True)
class Dataset:
    """A dataset whose directory is held."""

    path: Path  # where the caller found it
    folder: Path  # the same directory for as long as it is held, even if another one comes to `path`
    manifest: Manifest
    module: Backend  # that wrote its parts
    details: Mapping[int, Details] = field(default_factory=dict)  # by part, as far as they were read
    checksums: Mapping[int, PartChecksums] = field(default_factory=dict)  # likewise; empty if nothing is verified

    @property
    def parts(self) -> list[Path]:
        """The stores of the backend."""
        return [self.folder / part.name for part in self.manifest.parts]

    def read_labels(self, *, verify: bool) -> Labels:
        """Read the labels of all images, from the files beside the parts; of format 1, from the parts, unverified."""
        if self.manifest.former:
            return np.concatenate([_read_labels(self.module, part) for part in self.parts])
        found = []
        for part, details in zip(self.manifest.parts, self.details.values(), strict=False):
            checksum = details.beside[LABELS].checksum if verify else None
            size = part.count * LABEL.itemsize
            found.append(np.frombuffer(read_beside(self.folder, f"{part.name}.{LABELS}", size, checksum), LABEL))
        return np.concatenate(found).astype(np.int64, copy=False)

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
        for number in sorted(self.details.keys() & range(len(self.manifest.parts))):  # more may be appended by now
            if self.manifest.count and not self.manifest.parts[number].count:
                continue  # the others needn't have what a part without images has
            for suffix in self.details[number].beside.keys() & {*suffixes}:
                yield self.read_beside(number, self.details[number], suffix)

    def read_beside(self, number: int, details: Details, suffix: str) -> Any:  # noqa: ANN401 - what is in the file
        """Read a file beside a part, and parse it; refuse one that isn't what was written, or that we never write."""
        part = self.manifest.parts[number]
        content = check_beside(self.folder, part.name, details, suffix)
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

    def find_name(self, index: int) -> str | None:
        """Find the name of an image for a message; None if it has none, or its part's names can't be read."""
        number = bisect_right(self.manifest.starts, index) - 1
        details = self.details.get(number)
        if details is None or NAMES not in details.beside:
            return None
        with suppress(StorageError, LookupError):
            content = check_beside(self.folder, self.manifest.parts[number].name, details, NAMES)
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
def reading_held(folder: Path, path: Path) -> Iterator[None]:
    """Do what `Dataset.reading` does before there is a dataset."""
    try:
        with reading(folder):
            yield
    except StorageError as error:
        show_path(error, folder, path)
        raise


def show_path(error: StorageError, folder: Path, path: Path) -> StorageError:
    """Have an error name `path` in place of the held `folder`."""
    if error.store is not None and error.store.is_relative_to(folder):
        error.store = path / error.store.relative_to(folder)
    return error


@contextmanager
def hold_dataset(path: Path | str) -> Iterator[Dataset]:
    """Hold the directory of a dataset and read its manifest; nothing else is read."""
    path = Path(path).absolute()
    with hold_directory(path) as folder:
        with reading_held(folder, path):
            manifest = read_manifest(folder)
            _refuse_links(folder, manifest)
            module = find_module(folder, manifest)
        yield Dataset(path, folder, manifest, module)


def _read_labels(module: Backend, part: Path) -> Labels:
    with module.open_reader(part) as reader:
        return reader.read_labels()


def _refuse_links(folder: Path, manifest: Manifest) -> None:
    """Refuse a part that is a link: it leads to files that `save` didn't write."""
    for part in manifest.parts:
        if os.path.islink(f"{folder}/{part.name}"):  # noqa: PTH114 - a Path takes longer
            raise CorruptStoreError("it is a link: another program made it", store=folder / part.name)


@contextmanager
def open_dataset(path: Path | str, *, verify: bool) -> Iterator[Dataset]:
    """Hold a dataset and verify what can be verified before its images are read.

    Files without structure aren't looked at: there may be one per image, and the checksum of its record verifies it.
    """
    with hold_dataset(path) as held:
        with held.reading():
            dataset = read_dataset(held, verify=verify)
        yield dataset


def read_all_details(held: Dataset) -> Dataset:
    """Read the details of all parts of a held dataset."""
    numbers = range(len(held.manifest.parts))
    return replace(held, details={number: read_details(held.folder, held.manifest, number) for number in numbers})


def read_dataset(held: Dataset, *, verify: bool) -> Dataset:
    """Read the details and the checksums of a held dataset, and verify the structure of its files."""
    folder, manifest = held.folder, held.manifest
    details = read_all_details(held).details
    for number, part in enumerate(manifest.parts):
        for name in details[number].structure:
            if verify:
                check_file(folder, part.name, details[number], name)
            else:
                check_size(folder, f"{part.name}/{name}", details[number].sizes[name])
    checksums: dict[int, PartChecksums] = {}
    for group in group_parts(manifest) if verify else ():
        checksums |= read_checksums(folder, manifest, group, details[group.start])
    return replace(held, details=details, checksums=checksums)


def find_module(folder: Path, manifest: Manifest) -> Backend:
    """Find the backend that wrote the parts of a dataset; it may not be installed here."""
    try:
        return find_backend(manifest.backend)
    except InvalidInputError as error:
        raise StorageError(f"the backend that wrote this dataset is missing: {error.problem}", store=folder) from None
