"""Open parts: each is opened when it is first used, and only so many are open at once.

With more parts than may be open, the one that was used least recently is closed, but none that a thread is using. A
part that is opened again isn't verified again unless a file of it was changed meanwhile.
"""

import os
import resource
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from threading import Condition
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..contract import Encoded, Image, Images, Labels
from ..errors import CorruptStoreError, InvalidInputError, ReaderClosedError, StorageError
from ..reader import Reader
from .checksums import DTYPE, hash_record, hash_records
from .opening import Dataset, Filling
from .verification import CHANGED, check_part, name_record

MAX_OPEN = 128  # parts, unless the process may open fewer files than
FILES = 8  # for each of them
T = TypeVar("T")
Verified = NDArray[np.bool_]  # which records of a part are verified


class PartReader:
    """Reads an open part, and verifies each record when it is first read; without `is_verified`, none."""

    resources: ExitStack  # that are freed when it is closed
    is_whole: Callable[[], bool]  # whether all of it is fetched if anything is

    def __init__(
        self, dataset: Dataset, number: int, reader: Reader, is_verified: Verified | None, filling: Filling | None
    ) -> None:
        self.reader, self.is_verified, self.filling = reader, is_verified, filling
        self.users = 0  # threads that read it; counted only if it may have to be closed
        self._dataset, self._start = dataset, dataset.manifest.starts[number]
        self.checksums = None if is_verified is None else dataset.checksums[number].records

    def read_one(self, position: int) -> tuple[Image, int]:
        """Read a record of pixels."""
        if self.filling is not None:
            return self._fill(np.array([position]), lambda: self._read_one(position))
        return self._read_one(position)

    def read(
        self, positions: NDArray[np.intp], out: Images | None = None, *, verify: bool = True
    ) -> tuple[Images | Any, Labels]:
        """Read records as they are stored; unless `verify`, the caller verifies them with those of other parts."""
        if self.filling is not None:
            return self._fill(positions, lambda: self._read(positions, out, verify=verify))
        return self._read(positions, out, verify=verify)

    def fetch(self, positions: NDArray[np.intp] | None, *, whole_requests: bool) -> None:
        """Have some records fetched that will be read, or all of the part."""
        if self.filling is None or self.filling.is_complete:
            return
        with self._dataset.reading():
            if positions is None or self.is_whole():
                self.filling.fetch_all()
            else:
                self.filling.fetch_images(positions, whole_requests=whole_requests)

    def _fill(self, positions: NDArray[np.intp], read: Callable[[], T]) -> T:
        """Have records fetched before they are read; if one is damaged here, fetch them once more."""
        filling: Any = self.filling
        self.fetch(positions, whole_requests=False)
        try:
            return read()
        except CorruptStoreError:
            filling.forget(positions)
            self.fetch(positions, whole_requests=False)
        return read()

    def _read_one(self, position: int) -> tuple[Image, int]:
        try:
            image, label = self.reader[position]
        except StorageError as error:
            raise self._name(position, self._dataset.show_path(error)) from error
        if self.is_verified is not None and not self.is_verified[position]:
            if hash_record(image, label, self._start + position) != self.checksums[position]:  # type: ignore[index]
                raise self._name(position, CHANGED)
            self.is_verified[position] = True
        return image, label

    def _read(self, positions: NDArray[np.intp], out: Images | None, *, verify: bool) -> tuple[Images | Any, Labels]:
        try:
            images, labels = self.reader._read_stored(positions, out)  # noqa: SLF001 - in range
        except StorageError as error:
            if self._dataset.is_deleted():
                raise self._dataset.make_deletion() from error
            with suppress(ReaderClosedError):  # it couldn't be opened again in a forked process: `error` says why
                for position in positions.tolist() if not isinstance(error, InvalidInputError) else ():
                    self._read_alone(position)  # raises an error that names the record
            self._dataset.show_path(error)
            raise
        if verify and self.has_new(positions):
            for place in find_changed([Piece(self, slice(None), positions)], self._start + positions, images, labels):
                raise self._name(int(positions[place]), CHANGED)
        return images, labels

    def has_new(self, positions: NDArray[np.intp]) -> bool:
        """Whether some records must be verified."""
        return self.is_verified is not None and not self.is_verified[positions].all()

    def _read_alone(self, position: int) -> None:
        if self.reader.kind == "pixels":
            self._read_one(position)
            return
        try:
            self.reader.read_encoded([position])
        except StorageError as error:
            raise self._name(position, self._dataset.show_path(error)) from error

    def _name(self, position: int, error: StorageError) -> StorageError:
        return name_record(self._dataset, self._start + position, error)

    def close(self) -> None:
        """Close the part, and stop keeping it in the folder."""
        self.resources.close()


class Piece(NamedTuple):
    """The records of one part in a batch: where they are in the batch, and in the part."""

    part: PartReader
    places: NDArray[np.intp] | slice
    positions: NDArray[np.intp]


def find_changed(
    pieces: Sequence[Piece], indices: NDArray[np.intp], images: Images | Encoded, labels: Labels
) -> list[int]:
    """Verify what is new of some parts in a batch, all at once; return where it has records that were changed."""
    part: Any
    new, expected = np.zeros(len(indices), np.bool_), np.empty(len(indices), DTYPE)
    for part, places, positions in pieces:
        new[places], expected[places] = ~part.is_verified[positions], part.checksums[positions]
    if isinstance(images, Encoded) or new.all():
        changed = np.flatnonzero(new & (hash_records(images, labels, indices) != expected))
    else:
        some = np.flatnonzero(new)
        changed = some[hash_records(images[some], labels[some], indices[some]) != expected[some]]
    if not changed.size:
        for part, _, positions in pieces:
            part.is_verified[positions] = True
    return list(changed.tolist())


class Pool:
    """The open parts of a dataset. A thread takes a part, reads it, and gives it back."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(MAX_OPEN, dataset.origin.most_open)
        self._most = most if files == resource.RLIM_INFINITY else max(1, min(most, files // FILES))
        self._is_bounded = len(dataset.manifest.parts) > self._most
        self._known: dict[int, tuple[int | None, Verified | None]] = {}  # what was verified, and of which files
        self._open: OrderedDict[int, PartReader] = OrderedDict()  # the least recently used first
        self.whole = set[int]()  # parts of which all is fetched if anything is
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        self._opening: set[int] = set()
        self._changed = Condition()

    def inherit(self) -> None:  # pragma: no cover - runs in children only
        """Be the pool of a forked child, in which no other thread uses a part."""
        self._begin()
        for part in self._open.values():
            part.users = 0

    def take(self, number: int) -> PartReader:
        """Take a part, which stays open until it is given back; open it if it isn't."""
        part = self._open.get(number)
        if part is None or self._is_bounded:
            part = self._take(number)
        return part

    def give_back(self, part: PartReader) -> None:
        """Let a part be closed if it is the one that was used least recently."""
        if self._is_bounded:
            with self._changed:
                part.users -= 1

    def lacks(self, number: int) -> bool:
        """Whether something of a part may have to be fetched."""
        part = self._open.get(number)
        return part is None or not (part.filling is None or part.filling.is_complete)

    def _take(self, number: int) -> PartReader:
        with self._changed:
            while number in self._opening:
                self._changed.wait()
            part = self._open.get(number)
            if part is not None:
                part.users += 1
                self._open.move_to_end(number)
                return part
            self._opening.add(number)
        try:
            part = self._open_part(number)
            part.users = 1
            with self._changed:  # another thread may be looking for one to close
                if not self._is_closed:
                    self._open[number] = part
            if self._is_closed:  # while a thread for which Ctrl-C didn't wait was opening it
                part.close()
                raise ReaderClosedError("it was closed while a part was opened", store=self._dataset.path)
        finally:
            with self._changed:
                self._opening.discard(number)
                self._changed.notify_all()
        self._close_surplus()
        return part

    def _open_part(self, number: int) -> PartReader:
        """Open a part; verify its structure, unless that was done and its files are the same."""
        dataset = self._dataset
        with ExitStack() as stack:
            stack.enter_context(dataset.reading())
            filling = stack.enter_context(dataset.origin.hold(number, dataset))
            files = _identify(dataset, number) if self._is_bounded else None
            known, is_verified = self._known.get(number, (None, None))
            is_new = files is None or files != known
            if is_new:
                _check_structure(dataset, number, filling)
            store = dataset.find_part(number)
            if filling is not None:
                filling.fetch_edges(dataset.module.find_records(store))
            reader = stack.enter_context(dataset.module.open_reader(store))
            check_part(dataset, number, reader)
            if is_new:
                is_verified = np.zeros(len(reader), np.bool_) if dataset.checksums else None
            part = PartReader(dataset, number, reader, is_verified, filling)
            self._known[number] = files, is_verified
            part.is_whole, part.resources = partial(self.whole.__contains__, number), stack.pop_all()
        return part

    def _close_surplus(self) -> None:
        with self._changed:
            surplus = len(self._open) - self._most
            unused = [number for number, part in self._open.items() if not part.users] if surplus > 0 else []
            closed = [self._open.pop(number) for number in unused[:surplus]]
        for part in closed:
            with suppress(StorageError):  # it was only read
                part.close()

    def close(self) -> None:
        """Close all parts."""
        with ExitStack() as stack, self._changed:
            self._is_closed = True
            for part in self._open.values():
                stack.callback(part.close)
            self._open.clear()


def _check_structure(dataset: Dataset, number: int, filling: Filling | None) -> None:
    """Check the structure of a part; if it is damaged here, fetch it once more."""
    try:
        dataset.check_structure(number)
    except CorruptStoreError:
        if filling is None:
            raise
        filling.forget()
        filling.fetch_structure()
        dataset.check_structure(number)


def _identify(dataset: Dataset, number: int) -> int | None:
    """Identify the files of a part that have structure: hash what the system says about them; None if it refuses."""
    store, facts = dataset.find_part(number), []
    with suppress(OSError):
        for name in ("", *dataset.details[number].structure):
            status = os.lstat(f"{store}/{name}")
            facts.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return hash(tuple(facts))
    return None
