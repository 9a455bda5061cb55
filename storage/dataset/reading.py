"""Reading a dataset: all at once, or in any order. Each record is verified when it is first read."""

import os
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..arrays import DTYPES, make_array, make_result
from ..contract import Encoded, Image, Images, Labels
from ..decoding import MAX_PIXELS, is_positive
from ..encoded import measure_offsets
from ..errors import (
    CorruptStoreError,
    InvalidInputError,
    ReaderClosedError,
    RecordNotFoundError,
    StorageError,
    StoreNotFoundError,
)
from ..lazy import LazyProperty
from ..reader import Description, Reader, read_stored
from .annotations import Problem
from .checksums import hash_record, hash_records
from .manifest import Manifest, read_manifest
from .names import Names
from .opening import Dataset, open_dataset
from .verification import CHANGED, check_part, find_damage, name_record, verify_part


def load(path: Path | str, *, verify: bool = True) -> tuple[Images | Any, Labels]:
    """Read all images of a dataset, in the order in which they were saved.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote.
    verify : bool
        Verify that each image and label is what was saved.

    Returns
    -------
    images : ndarray, shape (N, H, W) or (N, H, W, C), or Encoded
        What was saved, in fresh memory.
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
        if manifest.shape is None:
            return _load_files(dataset)
        images = make_array(dataset.path, (manifest.count, *manifest.shape), DTYPES[manifest.dtype])
        labels = make_array(dataset.path, (manifest.count,), np.int64)
        for number, (start, end) in enumerate(pairwise(manifest.starts)):
            _, labels[start:end] = _read_part(dataset, number, images[start:end])
        return images, labels


def open(path: Path | str, *, verify: bool = True, max_pixels: int = MAX_PIXELS) -> "DatasetReader":  # noqa: A001 - used as storage.open
    """Open a dataset for reading in any order, as training does.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote.
    verify : bool
        Verify each image and label when it is first read.
    max_pixels : int
        Refuse to decode an image file with more pixels, as `decode` does.

    Returns
    -------
    DatasetReader
        To be closed, or used in a ``with`` statement. If the dataset is replaced, it keeps reading the one it opened.

    Raises
    ------
    StoreNotFoundError
        There is no dataset at `path`.
    CorruptStoreError
        A file is missing, of another size, or damaged outside its images.
    InvalidInputError
        `max_pixels` is no number above 0.
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
    return DatasetReader(path, verify=verify, max_pixels=max_pixels)


class DatasetReader(Reader):
    """Reads a dataset in any order, and verifies each record when it is first read.

    Of a dataset to which something was appended, `checksum` selects what was there before.
    """

    def __init__(
        self, path: Path | str, *, verify: bool = True, checksum: str | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        if not is_positive(max_pixels):
            raise InvalidInputError(f"max_pixels is {max_pixels!r}", hint="give a number above 0")
        self._verifies, self._expected, self._max_pixels = verify, checksum, max_pixels
        super().__init__(Path(path))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, ...; empty if they are not known."""
        return self._dataset.manifest.classes

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class, by its name, as torchvision's datasets have it."""
        return {name: label for label, name in enumerate(self.classes)}

    @property
    def targets(self) -> list[int]:
        """The labels of all images, as torchvision's datasets have them."""
        return list(self.read_labels().tolist())

    @LazyProperty
    def names(self) -> Names:
        """The names of all images; empty if they have none."""
        self._be_ready()
        with self._dataset.reading():
            return self._dataset.read_names() or Names()

    @LazyProperty
    def metadata(self) -> dict[str, list[Any]]:
        """The table of metadata: the values of all images, by the name of the column; empty if there is none."""
        self._be_ready()
        with self._dataset.reading():
            return self._dataset.read_metadata() or {}

    @LazyProperty
    def skipped(self) -> tuple[Problem, ...]:
        """The files that were found besides, when images were converted: the name of each, and why it isn't there."""
        self._be_ready()
        with self._dataset.reading():
            return self._dataset.read_skipped()

    @property
    def losses(self) -> tuple[str, ...]:
        """What decoding may lose, or has lost before the images were saved; see `storage.decode`."""
        return self._dataset.manifest.losses

    @property
    def checksum(self) -> str:
        """A checksum of all records: two datasets with the same one have the same images and labels."""
        return self._dataset.manifest.checksum

    def is_current(self) -> bool:
        """Whether its path still has the dataset that was opened, and nothing was appended to it."""
        return read_manifest(self.store) == self._dataset.manifest

    def index(self, name: str) -> int:
        """Find the image with a name.

        Parameters
        ----------
        name : str
            One of `names`.

        Returns
        -------
        int

        Raises
        ------
        RecordNotFoundError
            No image has this name.
        """
        found = self.names.find(name)
        if found is None:
            raise RecordNotFoundError(f"no image is named {name!r}", store=self.store, hint="see reader.names")
        return found

    def _open(self) -> Description:
        with ExitStack() as stack:
            dataset = stack.enter_context(open_dataset(self.store, verify=self._verifies))
            manifest = dataset.manifest if self._expected is None else find_earlier(dataset.manifest, self._expected)
            if manifest is None:
                raise StoreNotFoundError(
                    "it was replaced since the reader was pickled", store=self.store, hint="open the new dataset"
                )
            dataset = replace(dataset, manifest=manifest)
            with dataset.reading():
                self._readers = [stack.enter_context(dataset.module.open_reader(part)) for part in dataset.parts]
                for number, reader in enumerate(self._readers):
                    check_part(dataset, number, reader)
            self._dataset, self._starts, self._losses = dataset, np.array(manifest.starts), manifest.losses
            if self._verifies:
                records = [dataset.checksums[number].records for number in range(len(manifest.parts))]
                self._checksums = np.concatenate(records)
                self._is_verified = np.zeros(len(self._checksums), np.bool_)
            self._resources = stack.pop_all()
        return Description(manifest.count, manifest.shape or (), DTYPES[manifest.dtype])

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images: Images
        if len(self._readers) == 1:
            images, labels = self._read_part(0, positions, out)
        else:
            images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
            labels = make_array(self.store, (len(positions),), np.int64)
            for number, places in self._divide(positions):
                images[places], labels[places] = self._read_part(number, positions[places] - self._starts[number])
        if self._verifies:
            self._verify_records(positions, images, labels)
        return images, labels

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        some: Any
        files: Any
        if len(self._readers) == 1:
            files, labels = self._read_part(0, positions)
        else:
            labels, lengths = (make_array(self.store, (len(positions),), np.int64) for _ in range(2))
            found: list[tuple[int, memoryview]] = []
            for number, places in self._divide(positions):
                some, labels[places] = self._read_part(number, positions[places] - self._starts[number])
                lengths[places] = some.lengths
                found += zip(places.tolist(), some, strict=True)
            offsets = measure_offsets(lengths)
            content = make_array(self.store, (int(offsets[-1]),))
            for place, file in found:
                content[offsets[place] : offsets[place + 1]] = file
            files = Encoded(content, offsets)
        if self._verifies:
            self._verify_records(positions, files, labels)
        return files, labels

    def _divide(self, positions: NDArray[np.intp]) -> list[tuple[int, NDArray[np.intp]]]:
        """Divide positions among the parts: the number of each part, and where its positions are among all."""
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        return [(number, np.flatnonzero(numbers == number)) for number in np.unique(numbers).tolist()]

    def _read_one(self, position: int) -> tuple[Image, int]:
        number = 0 if len(self._readers) == 1 else int(np.searchsorted(self._starts, position, side="right")) - 1
        try:
            image, label = self._readers[number][position - int(self._starts[number])]
        except StorageError as error:
            raise name_record(self._dataset, position, self._dataset.show_path(error)) from error
        if self._verifies and not self._is_verified[position]:
            if hash_record(image, label, position) != self._checksums[position]:
                raise name_record(self._dataset, position, CHANGED)
            self._is_verified[position] = True
        return image, label

    def _read_part(
        self, number: int, positions: NDArray[np.intp], out: Images | None = None
    ) -> tuple[Images | Any, Labels]:
        try:
            return read_stored(self._readers[number], positions, out)
        except StorageError as error:
            if self._dataset.is_deleted():
                raise self._dataset.make_deletion() from error
            with suppress(ReaderClosedError):  # it couldn't be opened again in a forked process: `error` says why
                for position in positions.tolist() if not isinstance(error, InvalidInputError) else ():
                    self._read_alone(position + int(self._starts[number]))  # raises an error that names the record
            self._dataset.show_path(error)
            raise

    def _read_alone(self, position: int) -> None:
        if self._shape:
            self._read_one(position)
            return
        ((number, _),) = self._divide(np.array([position]))
        try:
            self._readers[number].read_encoded([position - int(self._starts[number])])
        except StorageError as error:
            raise name_record(self._dataset, position, self._dataset.show_path(error)) from error

    def _verify_records(self, positions: NDArray[np.intp], images: Images | Encoded, labels: Labels) -> None:
        new = ~self._is_verified[positions]
        if not new.any():
            return
        if not new.all() and not isinstance(images, Encoded):
            positions, images, labels = positions[new], images[new], labels[new]
        wrong = hash_records(images, labels, positions) != self._checksums[positions]
        if wrong.any():
            raise name_record(self._dataset, int(positions[wrong.argmax()]), CHANGED)
        self._is_verified[positions] = True

    def _find_starts(self) -> NDArray[np.integer]:
        return self._starts

    def _find_name(self, position: int) -> str | None:
        return self._dataset.find_name(position)

    def _read_labels(self) -> Labels:
        if not self._dataset.manifest.former:
            with self._dataset.reading():
                return self._dataset.read_labels(verify=self._verifies)
        if self._verifies:
            return super()._read_labels()  # a record's checksum covers both
        with self._dataset.reading():
            return np.concatenate([reader.read_labels() for reader in self._readers])

    def _close(self) -> None:
        with suppress(StorageError) if self._dataset.is_deleted() else nullcontext():  # Badger can't sync its folder
            self._resources.close()

    def _reopen(self) -> None:
        """Stay with the held directory, even if it was replaced; the readers of the parts reopen their files in it."""
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Callable[[Path], Self], tuple[Path]]:
        """Pickle the path and the checksum: the copy opens the same dataset, and no other."""
        arguments: dict[str, Any] = {
            "verify": self._verifies,
            "checksum": self.checksum,
            "max_pixels": self._max_pixels,
        }
        return partial(type(self), **arguments), (self.store,)


def find_earlier(manifest: Manifest, checksum: str) -> Manifest | None:
    """Find the dataset with a checksum: that of a manifest, or one to which its last parts were appended."""
    earlier = (replace(manifest, parts=manifest.parts[:count]) for count in range(len(manifest.parts), 0, -1))
    return next((found for found in earlier if found.checksum == checksum), None)


def _load_files(dataset: Dataset) -> tuple[Encoded, Labels]:
    files: Any
    files, labels = _read_part(dataset, 0)
    if len(dataset.parts) == 1:
        return files, labels
    content, all_labels, lengths = np.array(files.content), [labels], [files.lengths]
    del files
    for number in range(1, len(dataset.parts)):
        files, labels = _read_part(dataset, number)
        start = len(content)
        content.resize(start + len(files.content), refcheck=False)  # in place, where the kernel can move pages
        content[start:] = files.content
        all_labels.append(labels)
        lengths.append(files.lengths)
    return Encoded(content, measure_offsets(np.concatenate(lengths))), np.concatenate(all_labels)


def _read_part(dataset: Dataset, number: int, out: Images | None = None) -> tuple[Images | Any, Labels]:
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
            raise name_record(dataset, index, damage) from error
        raise
    if dataset.checksums:
        verify_part(dataset, number, images, labels)
    return images, labels
