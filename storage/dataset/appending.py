"""Appending to a dataset: new parts beside the old ones, then a manifest that names all of them.

The parts have names that no manifest knows until the new one replaces the old one, in one step. What a killed writer
leaves is therefore no part of the dataset; the next `append` of the same user removes it. Readers keep the parts that
they opened: none is changed or removed. `compact` writes the whole dataset again, and replaces it as a save does.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import cut_batches
from ..contract import Encoded, Images, Labels
from ..errors import InvalidInputError, StorageError, StoreLockedError, writing
from ..paths import join_path
from ..reader import read_stored
from ..registry import PACKAGE
from ..urls import Location, Url, find_location
from .annotations import Annotations
from .checksums import hash_records
from .details import Summary
from .files import NAMES
from .manifest import put_manifest, read_manifest
from .metadata import Columns, merge_kinds
from .name_index import hash_wanted
from .names import Names, check_places
from .opening import Dataset, find_module, open_dataset, reading_held
from .replacement import hold_directory, lock_path, remove_unreferenced
from .saving import take_batches
from .verification import CHANGED, check_part, measure_images, name_record
from .writer import ImageWriter, describe_failure, make_writer

REPLACED = "another program replaced it meanwhile"


def append(
    path: Location | str,
    images: ArrayLike | Encoded | Iterable[ArrayLike] | Iterable[Encoded],
    labels: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    metadata: Columns | None = None,
    losses: Iterable[str] = (),
    durable: bool = True,
    lock: bool = True,
) -> None:
    """Append images to a dataset, atomically: who opens it finds all of them, or none.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote. A reader that is open keeps what it opened.
    images : ndarray, shape (N, H, W) or (N, H, W, C), or Encoded, or iterable of such arrays or of Encoded
        Images of the same kind and size as those that are there, in any of the forms that `save` takes.
    labels : sequence or array of int, shape (N,)
        Of the new images.
    names : sequence of str, optional
        A relative path for each new image, if those that are there have names. No two images have the same.
    classes : sequence of str, optional
        The names of the labels 0, 1, and so on of the new images. The dataset finds its classes by these names, adds
        those that it hasn't got after its own, and numbers the new labels accordingly; its own labels stay. Without
        `classes`, the new labels are numbers of the classes that the dataset has. Negative labels are of no class.
    metadata : mapping of str to sequence, optional
        The columns that those that are there have, with a value for each new image.
    losses : iterable of {"transparency", "frames", "depth"}
        What the dataset's reader may lose when it decodes any of its image files, besides what it may already.
    durable : bool
        Return when the disk holds everything.
    lock : bool
        As for `save`.

    Raises
    ------
    InvalidInputError
        `images`, `labels` or what describes them are something else, differ in number, or don't fit the dataset.
    StoreNotFoundError
        There is no dataset at `path`.
    StoreLockedError
        Another writer is writing to `path`.
    StoreFullError
        The file system has no room.
    StorageError
        The operating system refused otherwise. After any error, the dataset is as it was before.

    Examples
    --------
    >>> import numpy as np
    >>> import storage
    >>> storage.save("photos", storage.Encoded.join([b"a file"]), np.array([7]), "npy")
    >>> storage.append("photos", storage.Encoded.join([b"another", b"one more"]), np.array([0, 7]))
    >>> images, labels = storage.load("photos")
    >>> images, labels
    (<Encoded: 3 files, 21 bytes>, array([7, 0, 7]))
    """
    batches, labels = take_batches(images, labels)
    annotations = Annotations.check(labels, names, classes, metadata, losses)
    location = find_location(path)
    with _make_appender(location, annotations, durable=durable, lock=lock) as writer:
        for batch in batches:
            is_part = isinstance(batches, list) and len(batch) and isinstance(location, Path)
            (writer.write_part if is_part else writer.add)(batch)
        writer.commit()


def compact(path: Location | str, *, durable: bool = True, lock: bool = True) -> None:
    """Write a dataset of many small parts again, in parts of the usual size; the images stay the same.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote. It is replaced in one step; a reader that is open keeps what it opened.
    durable : bool
        Return when the disk holds everything.
    lock : bool
        As for `save`.

    Raises
    ------
    StoreNotFoundError
        There is no dataset at `path`.
    CorruptStoreError
        A record or a file is not what was saved.
    StoreLockedError
        Another writer is writing to `path`.
    StoreFullError
        The file system has no room for the dataset beside the old one.
    StorageError
        The operating system refused otherwise. After any error, the dataset is as it was before.

    Examples
    --------
    >>> import numpy as np
    >>> import storage
    >>> storage.save("photos", np.zeros((3, 8, 8, 3), np.uint8), np.array([7, 0, 7]), "npy")
    >>> storage.append("photos", np.ones((1, 8, 8, 3), np.uint8), np.array([1]))
    >>> storage.compact("photos")
    >>> len(list(Path("photos").glob("part-*.json")))
    1
    """
    with ExitStack() as held:
        dataset = held.enter_context(open_dataset(path, verify=True, fresh=True))
        with dataset.reading():
            annotations = dataset.read_annotations()
        backend = dataset.manifest.backend
        with make_writer(dataset.path, annotations, backend, durable=durable, overwrite=True, lock=lock) as writer:
            if not writer.replaces(dataset.manifest):
                hint = "compact it again"
                raise StorageError("another program changed it meanwhile", store=dataset.path, hint=hint)
            with closing(_read_batches(dataset, annotations.labels)) as batches:
                for batch in batches:
                    (writer.add if len(annotations) else writer.write_part)(batch)
            held.close()  # so that what is replaced can be deleted
            writer.commit()


def _read_batches(dataset: Dataset, labels: Labels) -> Generator[Images | Encoded]:
    """Read all images, each verified, with one part open at a time; without images, one empty batch."""
    for number in range(len(dataset.manifest.parts)):
        start, count = dataset.manifest.starts[number], dataset.manifest.parts[number].count
        with ExitStack() as stack:
            store = stack.enter_context(dataset.hold_part(number))
            dataset.check_structure(number)
            reader = stack.enter_context(dataset.module.open_reader(store))
            check_part(dataset, number, reader)
            if not dataset.manifest.count:
                yield read_stored(reader, [])[0]
                return
            for positions in cut_batches(0, count, measure_images(dataset, number)):
                images, _ = read_stored(reader, positions)
                indices = start + positions
                wrong = hash_records(images, labels[indices], indices) != dataset.checksums[number].records[positions]
                if wrong.any():
                    raise name_record(dataset, int(indices[wrong.argmax()]), CHANGED)
                yield images


def _make_appender(path: Location, annotations: Annotations, *, durable: bool, lock: bool) -> "Appender":
    if not isinstance(path, Url):
        return FolderAppender(path, annotations, durable=durable, lock=lock)
    from ..remote.writing import BucketAppender  # noqa: PLC0415 - needs obstore

    return BucketAppender(path, annotations, lock=lock)


class Appender(ImageWriter, ABC):
    """Appends to one dataset in a ``with`` statement, which changes nothing unless `commit` was reached."""

    _dataset: Dataset  # as it was
    _resources: ExitStack

    @abstractmethod
    def __enter__(self) -> Self:
        """Refuse what doesn't fit the dataset."""

    def __exit__(self, *exception: object) -> None:
        """Remove the new parts unless they were published."""
        if self._process == os.getpid():
            self._resources.close()

    @abstractmethod
    def commit(self) -> None:
        """Publish the new parts: replace the manifest."""

    def _check_fit(self, dataset: Dataset) -> None:
        """Refuse what doesn't fit a dataset."""
        self._dataset, self._manifest, self._module = dataset, dataset.manifest, dataset.module
        self._folder, self._before = dataset.folder, dataset.manifest.count
        self._read_summary()
        self._check_names()
        self._add_classes()
        self._check_metadata()

    def _read_summary(self) -> None:
        """Find out what is known of the images that are there: it's beside the last part, unless that is older."""
        if self._manifest.former:
            hint = f"{PACKAGE}.compact(PATH) brings it to the current format"
            raise StorageError("nothing can be appended to a dataset of format 1", store=self._path, hint=hint)
        self._last = self._dataset.read_details(len(self._manifest.parts) - 1)
        if not self._manifest.count:
            self._summary = Summary(None, {})
        elif self._last.summary is not None:
            self._summary = self._last.summary
        else:
            dataset = self._dataset.make_lazy(verify=False)
            known = Annotations(dataset.read_labels(verify=True), metadata=dataset.read_metadata())
            self._summary = known.summarize()

    def _check_names(self) -> None:
        """Refuse names if the images that are there have none, and the other way round; and those that they have."""
        has_names, names = NAMES in self._last.beside, self._annotations.names
        with describe_failure(self._path, self._manifest.count):
            self._module.check_names(names or ())
        if self._manifest.count and len(self._annotations) and has_names != (names is not None):
            hint = "give each new image a name, too" if has_names else "leave the names out, or save all images again"
            raise InvalidInputError(f"its images have {'' if has_names else 'no '}names", store=self._path, hint=hint)
        if not has_names or names is None:
            return
        wanted = hash_wanted(names)
        for number in range(len(self._manifest.parts)):
            if self._dataset.may_hold(number, wanted):
                self._check_clashes(number, names)

    def _check_clashes(self, number: int, names: Names) -> None:
        """Refuse names that a part has, or that would be those of its folders or files in its files."""
        details = self._dataset.read_details(number)
        known: Names = self._dataset.read_beside(number, details, NAMES) if NAMES in details.beside else Names()
        same = set(known) & set(names)
        if same:
            raise InvalidInputError(f"it has an image named {min(same)!r}", store=self._path, hint="choose other names")
        check_places(known, names)

    def _add_classes(self) -> None:
        """Add the classes that aren't there yet, and number the labels as they are; refuse labels of no class."""
        labels, given, known = self._annotations.labels, self._annotations.classes, self._manifest.classes
        self._check_classes(given)
        named = given or known
        if named and len(labels) and labels.max() >= len(named):
            problem = f"a label is {labels.max()}, and there are {len(named)} classes"
            hint = f"name those of the new images: {PACKAGE}.append(..., classes=[...])"
            raise InvalidInputError(problem, store=self._path, hint=hint)
        classes = tuple(dict.fromkeys((*known, *given)))
        if given:
            numbers = np.array([classes.index(name) for name in given])
            labels = np.where(labels < 0, labels, numbers[np.maximum(labels, 0)])
        losses = tuple(sorted({*self._manifest.losses, *self._annotations.losses}))
        self._manifest = replace(self._manifest, classes=classes, losses=losses)
        self._annotations = replace(self._annotations, labels=labels, classes=classes)

    def _check_classes(self, given: Sequence[str]) -> None:
        """Refuse new classes if they would name labels that are there without a name."""
        if not set(given) - set(self._manifest.classes):
            return
        label, count = self._summary.max_label, len(self._manifest.classes)
        if label is not None and label >= count:
            hint = "leave the classes out, or save all images again, with the names of all classes"
            problem = f"it has the label {label}, and names of {count} classes"
            raise InvalidInputError(problem, store=self._path, hint=hint)

    def _check_metadata(self) -> None:
        """Refuse another table than that of the images that are there; add what is new to the summary."""
        old, new = self._summary, self._annotations.summarize()
        if old.max_label is None or new.max_label is None:
            self._summary = new
            return
        if new.columns.keys() != old.columns.keys():
            hint = f"give these columns: {', '.join(old.columns) or 'none'}"
            raise InvalidInputError("the columns of its metadata are others", store=self._path, hint=hint)
        self._summary = Summary(max(old.max_label, new.max_label), merge_kinds(old.columns, new.columns))


class FolderAppender(Appender):
    """Appends to a dataset on a file system."""

    _path: Path

    def __init__(self, path: Path, annotations: Annotations, *, durable: bool, lock: bool) -> None:
        join_path(path, "")  # refuses impossible names
        super().__init__(annotations, durable=durable, lock=lock)
        self._path = Path(os.path.realpath(path))

    def __enter__(self) -> Self:
        """Lock the dataset, and refuse what doesn't fit it; remove what a dead writer left."""
        with ExitStack() as stack:
            with writing(self._path):
                stack.enter_context(lock_path(self._path, lock=self._lock))
                folder = stack.enter_context(hold_directory(self._path))
            with reading_held(folder, self._path):
                manifest = read_manifest(folder)
                self._check_fit(Dataset(self._path, folder, manifest, find_module(folder, manifest)))
            stack.callback(self._leave)
            with describe_failure(self._path):
                remove_unreferenced(folder, manifest)
            self._resources = stack.pop_all()
        return self

    def _leave(self) -> None:
        with suppress(StorageError, OSError):  # else the next writer does it
            remove_unreferenced(self._folder, read_manifest(self._folder))

    def commit(self) -> None:
        """Publish the new parts: replace the manifest."""
        self._check_end()
        with describe_failure(self._path):
            if not self._path.samefile(self._folder) or read_manifest(self._folder) != self._dataset.manifest:
                raise StoreLockedError(REPLACED)
            if self._manifest == self._dataset.manifest:
                return
            try:
                put_manifest(self._folder, self._manifest, durable=self._durable)
            except BaseException:
                if read_manifest(self._folder) != self._dataset.manifest:
                    put_manifest(self._folder, self._dataset.manifest, durable=False)
                raise
