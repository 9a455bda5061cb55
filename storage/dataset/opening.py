"""An opened dataset: pinned, and proved as far as can be done before its images are read."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..contract import Backend
from ..errors import InvalidInputError, StorageError, reading
from ..registry import find_backend
from .files import PartChecksums, check_size, read_checksums
from .manifest import Manifest, name_part, read_manifest
from .replacement import pin
from .structure import check_file


@dataclass(frozen=True)
class Dataset:
    """A dataset, and the directory where it is.

    Attributes
    ----------
    path : Path
        Where it was found.
    folder : Path
        Where its files are as long as it is pinned, whatever comes to `path`.
    manifest : Manifest
    module : Backend
        Which wrote its parts.
    checksums : list of PartChecksums
        One a part; empty if nothing is to be proved.
    """

    path: Path
    folder: Path
    manifest: Manifest
    module: Backend
    checksums: list[PartChecksums]

    @property
    def parts(self) -> list[Path]:
        """The stores of the backend."""
        return [self.folder / name_part(number) for number in range(len(self.manifest.parts))]

    def name_path(self, error: StorageError) -> StorageError:
        """Make an error that names the path which the caller knows."""
        return name_path(error, self.folder, self.path)

    def name_errors(self) -> AbstractContextManager[None]:
        """Turn what is raised into errors of ours that name the path which the caller knows."""
        return name_errors(self.folder, self.path)


@contextmanager
def name_errors(folder: Path, path: Path) -> Iterator[None]:
    """Do what `Dataset.name_errors` does, before there is one."""
    try:
        with reading(folder):
            yield
    except StorageError as error:
        raise name_path(error, folder, path) from error.__cause__


def name_path(error: StorageError, folder: Path, path: Path) -> StorageError:
    """Make an error that names `path` where it named `folder`."""
    return type(error)(str(error).replace(str(folder), str(path)))


@contextmanager
def pin_dataset(path: Path | str) -> Iterator[Dataset]:
    """Find a dataset, hold on to its directory, and read its manifest; its files are not looked at.

    Parameters
    ----------
    path : Path or str

    Yields
    ------
    Dataset
        Without checksums.

    Raises
    ------
    StoreNotFoundError
        There is no dataset at `path`.
    CorruptStoreError
        Its manifest is damaged.
    StorageError
        Its backend is not here, or the operating system refused.
    """
    path = Path(path).absolute()
    with pin(path) as folder:
        with name_errors(folder, path):
            manifest = read_manifest(folder)
            module = find_module(manifest)
        yield Dataset(path, folder, manifest, module, [])


@contextmanager
def open_dataset(path: Path | str, *, verify: bool) -> Iterator[Dataset]:
    """Open a dataset: prove what can be proved before its images are read.

    Files without a structure are not looked at, since there may be one an image: its record will prove each.

    Parameters
    ----------
    path : Path or str
    verify : bool
        Check the files' structure, and read the checksums.

    Yields
    ------
    Dataset

    Raises
    ------
    StoreNotFoundError, StorageError
        As `pin_dataset`.
    CorruptStoreError
        A file is missing, of another size, or damaged where it says where the images are.
    """
    with pin_dataset(path) as pinned:
        folder, manifest = pinned.folder, pinned.manifest
        with pinned.name_errors():
            for name in manifest.structure:
                if verify:
                    check_file(folder, manifest, name)
                else:
                    check_size(folder, name, manifest.sizes[name])
            checksums = read_checksums(folder, manifest) if verify else []
        yield replace(pinned, checksums=checksums)


def find_module(manifest: Manifest) -> Backend:
    """Find the backend that wrote the parts of a dataset.

    Raises
    ------
    StorageError
        It is not here.
    """
    try:
        return find_backend(manifest.backend)
    except InvalidInputError as error:
        raise StorageError(f"the backend that wrote this dataset is not here: {error}") from None
