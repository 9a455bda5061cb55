"""An opened dataset: its directory is held, and verified as far as it can be before its images are read."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..contract import Backend
from ..errors import CorruptStoreError, InvalidInputError, StorageError, reading
from ..registry import find_backend
from .files import PartChecksums, check_file, check_size, read_checksums
from .manifest import Manifest, name_part, read_manifest
from .replacement import hold_directory


@dataclass(frozen=True)
class Dataset:
    """A dataset whose directory is held."""

    path: Path  # where the caller found it
    folder: Path  # the same directory for as long as it is held, even if another one comes to `path`
    manifest: Manifest
    module: Backend  # that wrote its parts
    checksums: list[PartChecksums]  # by part; empty if records are not verified

    @property
    def parts(self) -> list[Path]:
        """The stores of the backend."""
        return [self.folder / name_part(number) for number in range(len(self.manifest.parts))]

    def show_path(self, error: StorageError) -> StorageError:
        """Have an error name the caller's path in place of the held directory."""
        return show_path(error, self.folder, self.path)

    def reading(self) -> AbstractContextManager[None]:
        """Do what `storage.errors.reading` does; errors name the caller's path."""
        return reading_held(self.folder, self.path)


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
    """Hold the directory of a dataset and read its manifest; neither files nor checksums are read."""
    path = Path(path).absolute()
    with hold_directory(path) as folder:
        with reading_held(folder, path):
            manifest = read_manifest(folder)
            _refuse_links(folder, manifest)
            module = find_module(folder, manifest)
        yield Dataset(path, folder, manifest, module, [])


def _refuse_links(folder: Path, manifest: Manifest) -> None:
    """Refuse a part that is a link: it leads to files that `save` didn't write."""
    for number in range(len(manifest.parts)):
        if (folder / name_part(number)).is_symlink():
            raise CorruptStoreError("it is a link: another program made it", store=folder / name_part(number))


@contextmanager
def open_dataset(path: Path | str, *, verify: bool) -> Iterator[Dataset]:
    """Hold a dataset and verify what can be verified before its images are read.

    Files without structure aren't looked at: there may be one per image, and the checksum of its record verifies it.
    """
    with hold_dataset(path) as held:
        folder, manifest = held.folder, held.manifest
        with held.reading():
            for name in manifest.structure:
                if verify:
                    check_file(folder, manifest, name)
                else:
                    check_size(folder, name, manifest.sizes[name])
            checksums = read_checksums(folder, manifest) if verify else []
        yield replace(held, checksums=checksums)


def find_module(folder: Path, manifest: Manifest) -> Backend:
    """Find the backend that wrote the parts of a dataset; it may not be installed here."""
    try:
        return find_backend(manifest.backend)
    except InvalidInputError as error:
        raise StorageError(f"the backend that wrote this dataset is missing: {error.problem}", store=folder) from None
