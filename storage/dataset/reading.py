"""Reading a dataset: all at once, or in any order. Each record is verified when it is first read."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..arrays import DTYPES, make_array, make_result
from ..contract import Encoded, Image, Images, Labels
from ..decoding import MAX_PIXELS, is_positive
from ..encoded import measure_offsets
from ..epoch_order import EpochOrder
from ..errors import (
    CorruptStoreError,
    InvalidInputError,
    RecordNotFoundError,
    StorageError,
    StoreNotFoundError,
)
from ..filling import watching
from ..lazy import LazyProperty
from ..reader import Description, Reader
from ..urls import Location, Url, find_location
from .annotations import Problem
from .checksums import Checksums, PixelHashing, format_sum
from .columns import Column, NameColumn
from .files import NAMES
from .manifest import Manifest
from .metadata import ARROW, LINES
from .name_index import Hashes
from .names import Names
from .opening import KEPT, Dataset, hold_dataset, open_dataset
from .pool import Piece, Pool, find_changed
from .verification import find_damage, measure_images, name_record, verify_part


def load(path: Location | str, *, verify: bool = True) -> tuple[Images | Any, Labels]:
    """Read all images of a dataset, in the order in which they were saved.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote, or its URL, such as s3://bucket/photos.
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


def open(path: Location | str, *, verify: bool = True, max_pixels: int = MAX_PIXELS) -> "DatasetReader":  # noqa: A001 - used as storage.open
    """Open a dataset for reading in any order, as training does.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote, or its URL, such as s3://bucket/photos; see `storage.cache`.
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
        The manifest is damaged, or a part is missing. What else is damaged is found when a part is first read.
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
        self,
        path: Location | str,
        *,
        verify: bool = True,
        checksum: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if not is_positive(max_pixels):
            raise InvalidInputError(f"max_pixels is {max_pixels!r}", hint="give a number above 0")
        self._verifies, self._expected, self._max_pixels = verify, checksum, max_pixels
        super().__init__(find_location(path))

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
    def names(self) -> NameColumn:
        """The names of all images, which are read part by part; empty if they have none."""
        self._be_ready()
        starts = self._starts if self._has(NAMES) else [0]
        return NameColumn(
            starts, lru_cache(KEPT)(self._read_names), self._may_hold, partial(self._bring_ahead, {NAMES})
        )

    def _read_names(self, number: int) -> Names:
        self._be_ready()
        with self._dataset.reading():
            names: Names | None = self._dataset.read_any(number, NAMES)
            if names is None:
                raise self._miss(NAMES)
        return names

    def _bring_ahead(self, suffixes: set[str], numbers: Iterable[int]) -> Iterator[int]:
        self._be_ready()
        return self._dataset.bring_ahead(numbers, suffixes)

    def _may_hold(self, number: int, wanted: Hashes) -> bool:
        self._be_ready()
        with self._dataset.reading():
            return self._dataset.may_hold(number, wanted)

    @LazyProperty
    def metadata(self) -> dict[str, Sequence[Any]]:
        """The table of metadata: a column for each name, which is read part by part; empty if there is none."""
        self._be_ready()
        if not self._has(ARROW, LINES):
            return {}
        read_table = lru_cache(KEPT)(self._read_table)
        return {
            name: Column(
                self._starts, partial(self._read_column, read_table, name), partial(self._bring_ahead, {ARROW, LINES})
            )
            for name in read_table(self._find_part(0))
        }

    def _has(self, *suffixes: str) -> bool:
        """Whether the first and the last part that have images have such a file; refuse that one has."""
        ends = {self._find_part(0), self._find_part(self._count - 1)}
        with self._dataset.reading():
            found = {bool(self._dataset.details[number].beside.keys() & {*suffixes}) for number in ends}
        if len(found) > 1:
            raise self._miss(suffixes[0])
        return found.pop()

    def _miss(self, suffix: str) -> CorruptStoreError:
        what = "names" if suffix == NAMES else "metadata"
        return CorruptStoreError(f"some of its images have {what}, and some don't", store=self.store)

    def _find_part(self, position: int) -> int:
        """Find the part of an image; of an empty dataset, the first one."""
        return max(0, bisect_right(self._starts, position) - 1) if self._count else 0

    def _read_table(self, number: int) -> dict[str, list[Any]]:
        self._be_ready()
        with self._dataset.reading():
            return self._dataset.read_any(number, ARROW, LINES) or {}

    def _read_column(self, read_table: Callable[[int], dict[str, list[Any]]], name: str, number: int) -> list[Any]:
        table = read_table(number)
        if name not in table:
            raise CorruptStoreError("its parts have different columns of metadata", store=self.store)
        return table[name]

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
        with hold_dataset(self.store) as held:
            return held.manifest == self._dataset.manifest

    def measure(self) -> int:
        """Measure the bytes of all images, as far as the first part of them tells."""
        with self._dataset.reading():
            return measure_images(self._dataset, self._find_part(0)) * self._count

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
            self._dataset = replace(dataset, manifest=manifest)
            self._starts, self._bounds, self._losses = manifest.starts, np.array(manifest.starts), manifest.losses
            self._pool = Pool(self._dataset)
            stack.callback(self._pool.close)
            self._resources = stack.pop_all()
        return Description(manifest.count, manifest.shape or (), DTYPES[manifest.dtype])

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        if len(self._starts) == 2:  # noqa: PLR2004 - there is one part
            return self._read_part(0, positions, out)
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        labels = make_array(self.store, (len(positions),), np.int64)

        def keep(places: NDArray[np.intp], some: Images, some_labels: Labels) -> None:
            images[places], labels[places] = some, some_labels

        return self._read_parts(positions, keep, lambda: (images, labels))

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        if len(self._starts) == 2:  # noqa: PLR2004 - likewise
            files: Any
            files, labels = self._read_part(0, positions)
            return files, labels
        views = [memoryview(b"")] * len(positions)
        labels = make_array(self.store, (len(positions),), np.int64)

        def keep(places: NDArray[np.intp], some: Encoded, some_labels: Labels) -> None:
            labels[places] = some_labels
            for place, file in zip(places.tolist(), some, strict=True):
                views[place] = file

        return self._read_parts(positions, keep, lambda: (Encoded.join(views), labels))

    def _read_parts(
        self, positions: NDArray[np.intp], keep: Callable[..., None], join: Callable[[], tuple[Any, Labels]]
    ) -> tuple[Any, Labels]:
        """Read what is in several parts; verify it when all is there, which takes less time than part by part."""
        parts, pieces = self._fetch_parts(positions), []
        for number, places in parts:
            part, within = self._pool.take(number), positions[places] - self._starts[number]
            try:
                keep(places, *part.read(within, verify=False))
            finally:
                self._pool.give_back(part)
            if part.has_new(within):
                pieces.append(Piece(part, places, within))
        images, labels = join()
        changed = {*find_changed(pieces, positions, images, labels)} if pieces else set[int]()
        if not changed:
            return images, labels
        for number, places in parts:
            if not changed.isdisjoint(places.tolist()):
                keep(places, *self._read_part(number, positions[places]))  # an error, unless it can be fetched again
        return join()

    def _fetch_parts(self, positions: NDArray[np.intp]) -> list[tuple[int, NDArray[np.intp]]]:
        """Divide positions among the parts; have what several of them lack fetched at once."""
        parts = self._divide(positions)
        if isinstance(self.store, Url):
            missing = [
                (number, positions[places] - self._starts[number])
                for number, places in parts
                if self._pool.lacks(number)
            ]
            if len(missing) > 1:
                from ..remote.prefetch import fetch_at_once  # noqa: PLC0415 - not needed on this machine

                fetch_at_once(partial(self._fetch, whole_requests=False), missing)
        return parts

    def _divide(self, positions: NDArray[np.intp]) -> list[tuple[int, NDArray[np.intp]]]:
        """Divide positions among the parts: the number of each part, and where its positions are among all."""
        numbers = np.searchsorted(self._bounds, positions, side="right") - 1
        return [(number, np.flatnonzero(numbers == number)) for number in np.unique(numbers).tolist()]

    def _read_one(self, position: int) -> tuple[Image, int]:
        number = bisect_right(self._starts, position) - 1  # a call of `_find_part` takes longer
        part = self._pool.take(number)
        try:
            return part.read_one(position - self._starts[number])
        finally:
            self._pool.give_back(part)

    def _read_part(
        self, number: int, positions: NDArray[np.intp], out: Images | None = None
    ) -> tuple[Images | Any, Labels]:
        part = self._pool.take(number)
        try:
            return part.read(positions - self._starts[number], out)
        finally:
            self._pool.give_back(part)

    def _expect(self, batches: Iterator[NDArray[np.intp]], order: EpochOrder) -> Iterator[NDArray[np.intp]]:
        parts = enumerate(self._dataset.manifest.parts) if isinstance(self.store, Url) else ()
        if not any(part.count and self._pool.lacks(number) for number, part in parts):
            return batches
        from ..remote.prefetch import Prefetch  # noqa: PLC0415 - not needed on this machine

        size, fits = max(1, self.measure() // max(1, self._count)), self._dataset.origin.fits(self.measure())
        fetch = partial(self._fetch, whole_requests=fits)
        windows, whole = order.find_windows(), self._pool.whole
        whole.clear()
        return Prefetch(batches, self._bounds, fetch, size=size, windows=windows, whole=whole)

    def _fetch(self, number: int, positions: NDArray[np.intp] | None, *, whole_requests: bool) -> None:
        """Have some images of a part fetched, or all."""
        self._be_ready()
        part = self._pool.take(number)
        try:
            part.fetch(positions, whole_requests=whole_requests)
        finally:
            self._pool.give_back(part)

    def _find_starts(self) -> NDArray[np.integer]:
        return self._bounds

    def _find_name(self, position: int) -> str | None:
        return self._dataset.find_name(position)

    def _read_labels(self) -> Labels:
        if not self._dataset.manifest.former:
            with self._dataset.reading():
                return self._dataset.read_labels(verify=self._verifies)
        if self._verifies:
            return super()._read_labels()  # a record's checksum covers both
        return np.concatenate([self._read_store_labels(number) for number in range(len(self._starts) - 1)])

    def _read_store_labels(self, number: int) -> Labels:
        part = self._pool.take(number)
        try:
            with self._dataset.reading():
                return part.reader.read_labels()
        finally:
            self._pool.give_back(part)

    def _close(self) -> None:
        with suppress(StorageError) if self._dataset.is_deleted() else nullcontext():  # Badger can't sync its folder
            self._resources.close()

    def _reopen(self) -> None:
        """Stay with the held directory, even if it was replaced; the readers of the parts reopen their files in it."""
        self._pool.inherit()
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Callable[[Path], Self], tuple[Path]]:
        """Pickle the path and the checksum: the copy opens the same dataset, and no other."""
        arguments: dict[str, Any] = {
            "verify": self._verifies,
            "checksum": self.checksum,
            "max_pixels": self._max_pixels,
        }
        return self._dataset.origin.pass_on(partial(type(self), **arguments)), (self.store,)


def find_earlier(manifest: Manifest, checksum: str) -> Manifest | None:
    """Find the dataset with a checksum: that of a manifest, or one to which its last parts were appended."""
    if manifest.checksum == checksum:
        return manifest
    sums = accumulate(int(part.records, 16) for part in manifest.parts) if not manifest.former else ()
    counts = [count for count, total in enumerate(sums, 1) if format_sum(total) == checksum]
    return replace(manifest, parts=manifest.parts[: counts[-1]]) if counts else None


def _load_files(dataset: Dataset) -> tuple[Encoded, Labels]:
    files: Any
    files, labels = _read_part(dataset, 0)
    count = len(dataset.manifest.parts)
    if count == 1:
        return files, labels
    content, all_labels, lengths = np.array(files.content), [labels], [files.lengths]
    del files
    for number in range(1, count):
        files, labels = _read_part(dataset, number)
        start = len(content)
        content.resize(start + len(files.content), refcheck=False)  # in place, where the kernel can move pages
        content[start:] = files.content
        all_labels.append(labels)
        lengths.append(files.lengths)
    return Encoded(content, measure_offsets(np.concatenate(lengths))), np.concatenate(all_labels)


def _read_part(dataset: Dataset, number: int, out: Images | None = None) -> tuple[Images | Any, Labels]:
    return dataset.try_again(dataset.manifest.parts[number].name, partial(_read_part_once, dataset, number, out))


def _read_part_once(dataset: Dataset, number: int, out: Images | None) -> tuple[Images | Any, Labels]:
    with dataset.hold_part(number) as part, _checking_structure(dataset, number):
        try:
            with dataset.reading():
                images, labels, pixels = _read_images(dataset, part, out)
        except InvalidInputError as error:
            raise dataset.show_path(
                CorruptStoreError(f"it does not hold what was saved ({error.problem})", store=part)
            ) from error
        except StorageError as error:
            for index, damage in find_damage(dataset, number):
                raise name_record(dataset, index, damage) from error
            raise
    if dataset.checksums:
        verify_part(dataset, number, images, labels, pixels)
    return images, labels


@contextmanager
def _checking_structure(dataset: Dataset, number: int) -> Iterator[None]:
    """Check the structure of a part before it is read, or meanwhile; its damage explains any other that is found."""
    if not (dataset.checksums and dataset.module.INFO.survives_damage):
        dataset.check_structure(number)
        yield
        return
    dataset.check_sizes(number)
    with ThreadPoolExecutor(1) as thread:
        checked = thread.submit(dataset.check_structure, number)
        try:
            yield
        except Exception:
            checked.result()
            raise
        checked.result()


def _read_images(dataset: Dataset, part: Path, out: Images | None) -> tuple[Images | Encoded, Labels, Checksums | None]:
    """Read a part; if it is pixels that are verified, hash them meanwhile."""
    if out is None or not dataset.checksums:
        return *dataset.module.read_many(part, out), None
    hashing = PixelHashing(out)
    with watching(hashing.notice):
        images, labels = dataset.module.read_many(part, out)
    return images, labels, hashing.finish()
