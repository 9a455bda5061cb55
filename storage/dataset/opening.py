"""An opened dataset: pinned, and proved as far as can be done before its images are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.backends import Backend, find_backend
from storage.dataset.files import PartChecksums, check_sizes, read_checksums
from storage.dataset.manifest import Manifest, name_part, read_manifest
from storage.dataset.replacement import pin
from storage.dataset.structure import check_structure
from storage.errors import InvalidInputError, StorageError, translate_errors


@dataclass(frozen=True)
class Pinned:
    """The directory of a dataset.

    Attributes
    ----------
    path : Path
        Where it was opened.
    folder : Path
        Where its files are as long as it is pinned, whatever comes to `path`.
    """

    path: Path
    folder: Path

    def name_path(self, error: StorageError) -> StorageError:
        """Make an error that names the path which the caller knows."""
        return type(error)(str(error).replace(str(self.folder), str(self.path)))

    @contextmanager
    def name_errors(self) -> Iterator[None]:
        """Turn what is raised into errors of ours that name the path which the caller knows."""
        try:
            with translate_errors(self.folder):
                yield
        except StorageError as error:
            raise self.name_path(error) from error.__cause__


@dataclass(frozen=True)
class Dataset(Pinned):
    """An opened dataset.

    Attributes
    ----------
    manifest : Manifest
    module : Backend
        Which wrote its parts.
    checksums : list of PartChecksums
        One a part; empty if nothing is to be proved.
    """

    manifest: Manifest
    module: Backend
    checksums: list[PartChecksums]

    @property
    def parts(self) -> list[Path]:
        """The stores of the backend."""
        return [self.folder / name_part(number) for number in range(len(self.manifest.parts))]


@contextmanager
def open_dataset(path: Path | str, *, verify: bool) -> Iterator[Dataset]:
    """Open a dataset.

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
    StoreNotFoundError
        There is no dataset at `path`.
    CorruptStoreError
        A file is missing, of another size, or damaged where it says where the images are.
    StorageError
        Its backend is not here, or the operating system refused.
    """
    path = Path(path).absolute()
    with pin(path) as folder:
        pinned = Pinned(path, folder)
        with pinned.name_errors():
            manifest = read_manifest(folder)
            module = find_module(manifest)
            check_sizes(folder, manifest)
            if verify:
                for name, structure in manifest.structure.items():
                    check_structure(folder, name, structure)
            checksums = read_checksums(folder, manifest) if verify else []
        yield Dataset(path, folder, manifest, module, checksums)


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
