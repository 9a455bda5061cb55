"""What is wrong with a dataset, and what of it can be saved."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import CorruptStoreError, StorageError
from .files import CHECKSUMS, read_checksums
from .manifest import name_part
from .opening import Dataset, pin_dataset
from .proof import find_damage
from .salvage import find_damage_apart
from .structure import check_file

UNPROVED = "it can be read, but nothing proves it: the checksums are damaged"


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes
    ----------
    path : Path
    backend : str
    count : int
        How many images were saved.
    files : mapping of str to str
        What is wrong with a file, by its path below the dataset.
    records : mapping of int to str
        What is wrong with a record, by its index: all others can be read, and are what was saved.
    """

    path: Path
    backend: str
    count: int
    files: Mapping[str, str]
    records: Mapping[int, str]

    @property
    def is_whole(self) -> bool:
        """Whether everything is what was saved."""
        return not self.files and not self.records


def check(path: Path | str) -> Report:
    """Read all of a dataset, and list what is not what was saved.

    Parameters
    ----------
    path : Path or str
        What `storage.save` wrote.

    Returns
    -------
    Report

    Raises
    ------
    StoreNotFoundError
        There is no dataset at `path`.
    CorruptStoreError
        Its manifest is damaged: nothing can be said of the rest.
    StorageError
        Its backend is not here, or the operating system refused.
    """
    with pin_dataset(path) as pinned:
        files, dataset = _check_files(pinned), pinned
        try:
            with pinned.name_errors():
                dataset = replace(pinned, checksums=read_checksums(pinned.folder, pinned.manifest))
        except CorruptStoreError as error:
            files[CHECKSUMS] = str(error)
        records: dict[int, str] = {}
        for number in range(len(dataset.manifest.parts)):
            records.update(_check_part(dataset, number, files))
    return Report(dataset.path, dataset.manifest.backend, dataset.manifest.count, files, records)


def _check_files(dataset: Dataset) -> dict[str, str]:
    files = {}
    for name in dataset.manifest.sizes:
        try:
            with dataset.name_errors():
                check_file(dataset.folder, dataset.manifest, name)
        except StorageError as error:
            files[name] = str(error)
    return files


def _check_part(dataset: Dataset, number: int, files: Mapping[str, str]) -> dict[int, str]:
    """List the damaged records of a part. Where it has a damaged structure, a process of its own reads it."""
    starts = dataset.manifest.starts
    records = range(starts[number], starts[number + 1])
    damaged = [
        name for name in files if name in dataset.manifest.structure and name.startswith(f"{name_part(number)}/")
    ]
    if damaged and not dataset.checksums:
        return dict.fromkeys(records, f"{damaged[0]} is damaged")
    if damaged:
        return find_damage_apart(dataset, number)
    try:
        found = {index: str(error) for index, error in find_damage(dataset, number)}
    except StorageError as error:
        return dict.fromkeys(records, str(error))
    return found if dataset.checksums else {**dict.fromkeys(records, UNPROVED), **found}
