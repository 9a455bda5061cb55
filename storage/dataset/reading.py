"""Reading a dataset: all at once, or in any order. Each record is verified when it is first read."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..arrays import CHANNELS, make_array, make_result
from ..contract import Image, Images, Labels
from ..errors import CorruptStoreError, InvalidInputError, StorageError, StoreNotFoundError
from ..reader import Description, Reader
from .checksums import hash_record, hash_records
from .opening import Dataset, open_dataset
from .verification import CHANGED, check_part, find_damage, name_record, verify_part


def load(path: Path | str, *, verify: bool = True) -> tuple[Images, Labels]:
    """Read all images of a dataset, in the order in which they were saved.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote.
    verify : bool
        Verify that each image and label is what was saved.

    Returns
    -------
    images : ndarray of uint8, shape (N, H, W, 3)
        Fresh and C-contiguous.
    labels : ndarray of int64, shape (N,)

    Raises
    ------
    StoreNotFoundError
        There is no dataset at `path`.
    CorruptStoreError
        A file or a record is not what was saved; the error names it.
    StorageError
        The operating system refused, the images don't fit in memory, or another program holds a lock on the folder.

    Examples
    --------
    >>> import numpy as np
    >>> import storage
    >>> storage.save("photos", np.zeros((3, 32, 32, 3), np.uint8), np.array([7, 0, 7]), "npy")
    >>> images, labels = storage.load("photos")
    >>> images.shape, labels
    ((3, 32, 32, 3), array([7, 0, 7]))
    """
    with open_dataset(path, verify=verify) as dataset:
        manifest = dataset.manifest
        images = make_array(dataset.path, (manifest.count, manifest.height, manifest.width, CHANNELS))
        labels = make_array(dataset.path, (manifest.count,), np.int64)
        for number, (start, end) in enumerate(pairwise(manifest.starts)):
            labels[start:end] = _read_part(dataset, number, images[start:end])
        return images, labels


def open(path: Path | str, *, verify: bool = True) -> "DatasetReader":  # noqa: A001 - used as storage.open
    """Open a dataset for reading in any order, as training does.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote.
    verify : bool
        Verify each image and label when it is first read.

    Returns
    -------
    DatasetReader
        To be closed, or used in a ``with`` statement. If the dataset is replaced, it keeps reading the one it opened.

    Raises
    ------
    StoreNotFoundError
        There is no dataset at `path`.
    CorruptStoreError
        A file is missing, of another size, or damaged outside its pixels.
    StorageError
        The operating system refused.

    Examples
    --------
    >>> import numpy as np
    >>> import storage
    >>> storage.save("photos", np.zeros((3, 32, 32, 3), np.uint8), np.array([7, 0, 7]), "npy")
    >>> with storage.open("photos") as reader:
    ...     image, label = reader[0]
    ...     images, labels = reader.read([2, 1])
    >>> image.shape, label, images.shape, labels
    ((32, 32, 3), 7, (2, 32, 32, 3), array([7, 0]))
    """
    return DatasetReader(path, verify=verify)


class DatasetReader(Reader):
    """Reads a dataset in any order, and verifies each record when it is first read; only the one with `checksum`."""

    def __init__(self, path: Path | str, *, verify: bool = True, checksum: str | None = None) -> None:
        self._verify, self._expected = verify, checksum
        super().__init__(Path(path))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, ...; empty if they are not known."""
        return self._dataset.manifest.classes

    @property
    def checksum(self) -> str:
        """The checksum of all records' checksums: two datasets with the same one have the same images and labels."""
        return self._dataset.manifest.checksum

    def _open(self) -> Description:
        with ExitStack() as stack:
            dataset = stack.enter_context(open_dataset(self.store, verify=self._verify))
            if self._expected not in {None, dataset.manifest.checksum}:
                raise StoreNotFoundError(
                    "it was replaced since the reader was pickled", store=self.store, hint="open the new dataset"
                )
            with dataset.reading():
                self._readers = [stack.enter_context(dataset.module.open_reader(part)) for part in dataset.parts]
                for number, reader in enumerate(self._readers):
                    check_part(dataset, number, reader)
            self._dataset, self._starts = dataset, np.array(dataset.manifest.starts)
            if self._verify:
                self._checksums = np.concatenate([checksums.records for checksums in dataset.checksums])
                self._is_verified = np.zeros(len(self._checksums), np.bool_)
            self._resources = stack.pop_all()
        return Description(dataset.manifest.count, (dataset.manifest.height, dataset.manifest.width, CHANNELS))

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        if len(self._readers) == 1:
            images, labels = self._read_part(0, positions, out)
        else:
            images = make_result(self.store, (len(positions), *self._shape), out)
            labels = make_array(self.store, (len(positions),), np.int64)
            numbers = np.searchsorted(self._starts, positions, side="right") - 1
            for number in np.unique(numbers).tolist():
                places = np.flatnonzero(numbers == number)
                images[places], labels[places] = self._read_part(number, positions[places] - self._starts[number], None)
        if self._verify:
            self._verify_records(positions, images, labels)
        return images, labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        number = 0 if len(self._readers) == 1 else int(np.searchsorted(self._starts, position, side="right")) - 1
        try:
            image, label = self._readers[number][position - int(self._starts[number])]
        except StorageError as error:
            raise name_record(self.store, position, self._dataset.show_path(error)) from error
        if self._verify and not self._is_verified[position]:
            if hash_record(image, label, position) != self._checksums[position]:
                raise name_record(self.store, position, CHANGED)
            self._is_verified[position] = True
        return image, label

    def _read_part(self, number: int, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        try:
            return self._readers[number].read(positions, out)
        except StorageError as error:
            if not isinstance(error, InvalidInputError):
                for position in positions.tolist():
                    self._read_one(position + int(self._starts[number]))  # raises an error that names the record
            self._dataset.show_path(error)
            raise

    def _verify_records(self, positions: NDArray[np.intp], images: Images, labels: Labels) -> None:
        new = ~self._is_verified[positions]
        if not new.any():
            return
        if not new.all():
            positions, images, labels = positions[new], images[new], labels[new]
        wrong = hash_records(images, labels, positions) != self._checksums[positions]
        if wrong.any():
            raise name_record(self.store, int(positions[wrong.argmax()]), CHANGED)
        self._is_verified[positions] = True

    def _read_labels(self) -> Labels:
        if self._verify:
            return super()._read_labels()  # a record's checksum covers both
        with self._dataset.reading():
            return np.concatenate([reader.read_labels() for reader in self._readers])

    def _close(self) -> None:
        self._resources.close()

    def _reopen(self) -> None:
        """Stay with the held directory, even if it was replaced; the readers of the parts reopen their files in it."""
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Callable[[Path], Self], tuple[Path]]:
        """Pickle the path and the checksum: the copy opens the same dataset, and no other."""
        return partial(type(self), verify=self._verify, checksum=self.checksum), (self.store,)


def _read_part(dataset: Dataset, number: int, out: Images) -> Labels:
    part = dataset.parts[number]
    try:
        with dataset.reading():
            images, labels = dataset.module.read_many(part, out)
    except InvalidInputError as error:
        raise dataset.show_path(
            CorruptStoreError(f"it does not hold what was saved ({error.problem})", store=part)
        ) from error
    except StorageError as error:
        for index, damage in find_damage(dataset, number):
            raise name_record(dataset.path, index, damage) from error
        raise
    if dataset.checksums:
        verify_part(dataset, number, images, labels)
    return labels
