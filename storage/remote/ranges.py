"""A store in the cache that is filled as it is read: sparse files, and a map of which blocks of them are there.

First come the bytes that belong to no image, which the backend needs to open the store and to say where the images are;
then, before it reads some images, theirs. The backend reads ordinary files. The map is a file beside the store, with a
byte for each block, which all processes share: what one has fetched, none fetches again. A block's byte is set after
its content was written. If the system fails in between, the checksums of records find zeros in place of the content,
and the block is fetched once more.

A process locks the bytes of the blocks that it is fetching, and another one waits until they are there. The system
gives these locks up when a process ends.
"""

import errno
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from threading import Condition
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ..contract import Records
from ..dataset.details import Details
from ..errors import StorageError, writing
from ..registry import PACKAGE

BLOCK = 1 << 12  # bytes, the page of a file: so much is fetched, or isn't
REQUEST = 4 << 20  # bytes of one request: a larger one takes as long for each byte, and waits for its memory
GAP = 256 << 10  # bytes between two ranges that are fetched, too, as another request would take longer
BELIEVED = 1 << 30  # bytes of a part for which memory is taken before anything confirms that it has so many
PAUSE, PATIENCE = (
    0.005,
    60.0,
)  # seconds between looks at what another process is fetching, and until it is fetched anyway
CHOOSE = f"choose another folder with {PACKAGE}.cache(FOLDER), or --cache"
BUSY = {errno.EAGAIN, errno.EACCES}

Piece = tuple[str, tuple[int, int], int, Callable[[memoryview], None]]  # name, range, size of the object, and for what
Fetch = Callable[[Iterable[Piece]], None]  # some pieces at once
Blocks = NDArray[np.int64]  # numbers of blocks


class caching(writing):  # noqa: N801 - reads as a function in a with statement
    """Turn what fails in the folder of the cache into an error that names it: nothing is wrong with the dataset."""

    __slots__ = ()
    full = "no room left for the cache"
    full_hint = f"free some space, have it keep less with {PACKAGE}.cache(max_bytes=...), or {CHOOSE}"
    failed_hint = CHOOSE

    def _translate(self, error: BaseException) -> StorageError:
        if isinstance(error, FileExistsError):
            return StorageError(f"a file is where a folder should be ({error})", store=self._store, hint=CHOOSE)
        found = super()._translate(error)
        return found if found.hint else found.replace(hint=CHOOSE)


class SparseStore:
    """A store whose files, with these details, are fetched from the objects below `name`.

    `make` comes first, then `find_images`; any number of threads and processes may do that, and fetch at once.
    """

    def __init__(self, store: Path, name: str, details: Details, fetch: Fetch) -> None:
        self._store, self._name, self._details, self._fetch = store, name, details, fetch
        self._cache = store.parents[1]  # of all datasets
        self._blocks = store.with_name(f"{store.name}.blocks")
        self._names = sorted(details.sizes)
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._sizes = np.array([details.sizes[name] for name in self._names], np.int64)
        self._firsts = np.append(0, np.cumsum(-(-self._sizes // BLOCK)))  # the first block of each file
        self._images: list[tuple[int, Records]] = []  # of each file that has some, and the first block of the file
        self._begin()
        _stores.add(self)

    def _begin(self) -> None:
        self._coming = np.zeros(self._firsts[-1], np.bool_)  # blocks that a thread of this process is fetching
        self._changed = Condition()
        self._first_missing = 0  # no block before it is missing

    def make(self) -> None:
        """Make the files, without content, and the map, unless they are there."""
        with caching(self._cache):
            while not self._try_to_make():
                pass

    def _try_to_make(self) -> bool:
        """Make what is missing; False if there was a map of other files, which is left to those who have it mapped."""
        size = int(self._firsts[-1]) + 1
        with self._blocks.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                status = os.fstat(file.fileno())
                if not status.st_nlink:  # another process has deleted it meanwhile
                    return False
                if status.st_size and not (status.st_size == size and _has_files(self._store, self._details)):
                    self._blocks.unlink()
                    return False
                for name in () if status.st_size else self._names:
                    self._make_file(name)
                os.posix_fallocate(file.fileno(), 0, size)  # else a full volume kills the process
                self._content = mmap.mmap(file.fileno(), 0)
                self._map = np.frombuffer(self._content, np.uint8)
                return True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # which closing doesn't do, as the map has a copy of the descriptor

    def _make_file(self, name: str) -> None:
        path = self._store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # not cut short: it may be mapped
        with path.open("xb") as file:
            file.truncate(self._details.sizes[name])

    @property
    def is_complete(self) -> bool:
        """Whether all blocks are there."""
        return bool(self._map[-1])

    def fetch_structure(self) -> None:
        """Fetch what no image has, as far as it is known before the store can be opened."""
        found = [
            self._find_blocks(self._numbers[name], *np.array(structure.ranges, np.int64).reshape(-1, 2).T)
            for name, structure in self._details.structure.items()
        ]
        self._fetch_blocks(np.concatenate([np.empty(0, np.int64), *found]))

    def fetch_edges(self, records: Sequence[Records]) -> None:
        """Take where the images are; fetch what else a backend needs to open the store: all of it if that isn't known.

        That is what belongs to no image, and the first and the last image of each file.
        """
        if not records:
            self.fetch_all()
            return
        wanted = np.ones(self._firsts[-1], np.bool_)
        for some in records:
            file = self._numbers[some.file]
            self._images.append((file, some))
            inner = some.offsets[1:-1]
            if len(inner) > 1:
                first = self._firsts[file]
                wanted[first + -(-inner[0] // BLOCK) : first + inner[-1] // BLOCK] = False
        self._counts = np.append(0, np.cumsum([len(some.offsets) - 1 for _, some in self._images]))
        self._fetch_blocks(np.flatnonzero(wanted))

    def fetch_images(self, positions: NDArray[np.intp], *, whole_requests: bool = False) -> None:
        """Fetch the bytes of the images at these positions, and with `whole_requests` what will soon be needed, too."""
        if not self.is_complete:
            self._fetch_blocks(self.find_blocks(positions, REQUEST if whole_requests else BLOCK))

    def fetch_all(self) -> None:
        """Fetch all that isn't there."""
        if not self.is_complete:
            self._fetch_blocks(np.arange(self._firsts[-1]))

    def forget(self, positions: NDArray[np.intp] | None = None) -> None:
        """Have the bytes of some images, or all, fetched once more when they are needed."""
        self._map[-1] = self._first_missing = 0
        self._map[slice(None) if positions is None else self.find_blocks(positions)] = 0

    def find_blocks(self, positions: NDArray[np.intp], unit: int = BLOCK) -> Blocks:
        """Find the blocks in which images lie, or all of each `unit` in which there is one."""
        if not self._images:
            return np.arange(self._firsts[-1])
        found, numbers = [], np.searchsorted(self._counts, positions, side="right") - 1
        for number, (file, some) in enumerate(self._images):
            places = positions[numbers == number] - self._counts[number]
            found.append(self._find_blocks(file, _take(some.offsets, places), _take(some.offsets, places + 1), unit))
        return np.concatenate(found)

    def _find_blocks(
        self, file: int, starts: NDArray[np.integer], ends: NDArray[np.integer], unit: int = BLOCK
    ) -> Blocks:
        """Find the blocks of each `unit` of a file in which one of these ranges has bytes."""
        firsts = starts // unit
        counts = np.where(ends > starts, -(-ends // unit) - firsts, 0)
        units = np.unique(np.repeat(firsts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum()))
        inside = units[:, np.newaxis] * (unit // BLOCK) + np.arange(unit // BLOCK)
        blocks: Blocks = self._firsts[file] + inside.ravel()
        found: Blocks = blocks[blocks < self._firsts[file + 1]]
        return found

    def _fetch_blocks(self, wanted: Blocks) -> None:
        """Fetch those of some blocks that aren't there; wait for those that others are fetching."""
        wanted, anyway = np.unique(wanted), False
        while True:
            with self._changed:
                missing = wanted[self._map[wanted] == 0]
                if not len(missing):
                    self._note_end()
                    return
                new = missing[~self._coming[missing]]
                if not len(new):
                    self._changed.wait()
                    continue
                self._coming[new] = True
            try:
                with self._open_map() as file, self._claim(new, file, anyway=anyway) as claimed:
                    if len(claimed):
                        self._fetch(self._cut(claimed, file))
            finally:
                with self._changed:
                    self._coming[new] = False
                    self._changed.notify_all()
            anyway = not len(claimed) and not self._wait_for(new)

    @contextmanager
    def _claim(self, blocks: Blocks, file: FileIO, *, anyway: bool) -> Iterator[Blocks]:
        """Lock blocks, but leave those that another process is fetching, unless `anyway`; find what is missing."""
        runs = [(first, last) for _, first, last in self._find_runs(blocks)]
        is_ours = [_lock(file, fcntl.F_WRLCK, first, last) or anyway for first, last in runs]
        claimed = blocks[np.array(is_ours)[np.searchsorted([last for _, last in runs], blocks)]]
        try:
            yield claimed[self._map[claimed] == 0]
        finally:
            _lock(file, fcntl.F_UNLCK, 0, len(self._map))  # which closing doesn't do if a forked process has a copy

    def _wait_for(self, blocks: Blocks) -> bool:
        """Wait until the first block is there, or can be locked with its run; False if that takes too long."""
        _, first, last = next(self._find_runs(blocks))
        end = time.monotonic() + PATIENCE
        with self._open_map() as file:
            while not self._map[first] and not _lock(file, fcntl.F_WRLCK, first, last):
                if time.monotonic() > end:
                    return False
                time.sleep(PAUSE)
        return True

    def _open_map(self) -> FileIO:
        with caching(self._cache):
            return self._blocks.open("a+b", buffering=0)  # another process may have deleted it, to make another one

    def _note_end(self) -> None:
        """Note in the map if all blocks are there."""
        self._first_missing = self._content.find(b"\0", self._first_missing, len(self._content) - 1)
        if self._first_missing < 0:
            self._first_missing, self._map[-1] = 0, 1

    def _cut(self, blocks: Blocks, locked: FileIO) -> Iterator[Piece]:
        """Cut blocks into pieces, each the range of a request, which is unlocked when it is there."""
        for file, first, last in self._find_runs(blocks):
            before, size = int(self._firsts[file]), int(self._sizes[file])
            start, end = (first - before) * BLOCK, min((last + 1 - before) * BLOCK, size)
            yield f"{self._name}/{self._names[file]}", (start, end), size, partial(self._keep, file, start, locked)

    def _find_runs(self, blocks: Blocks) -> Iterator[tuple[int, int, int]]:
        """Find what to ask for at once: the file, the first and the last block."""
        files = np.searchsorted(self._firsts, blocks, side="right") - 1
        is_cut = (np.diff(blocks) > GAP // BLOCK + 1) | (np.diff(files) > 0)
        starts = np.append(0, np.flatnonzero(is_cut) + 1)
        firsts, lasts = blocks[starts], blocks[np.append(starts[1:], len(blocks)) - 1]
        for file, first, last in zip(files[starts].tolist(), firsts.tolist(), lasts.tolist(), strict=True):
            for block in range(first, last + 1, REQUEST // BLOCK):
                yield file, block, min(block + REQUEST // BLOCK - 1, last)

    def _keep(self, file: int, start: int, locked: FileIO, content: memoryview) -> None:
        path, first = self._store / self._names[file], int(self._firsts[file]) + start // BLOCK
        count = -(-len(content) // BLOCK)
        with caching(self._cache), path.open("r+b", buffering=0) as out:
            place = start
            while content:
                written = os.pwrite(out.fileno(), content, place)
                place, content = place + written, content[written:]
        with self._changed:
            self._map[first : first + count] = 1
            self._changed.notify_all()
        _lock(locked, fcntl.F_UNLCK, first, first + count - 1)


def check_sizes(store: Path, name: str, details: Details, fetch: Fetch) -> None:
    """Have the objects of a large part confirm its sizes before memory is taken for it; once if it is kept."""
    sizes = details.sizes
    if sum(sizes.values()) > BELIEVED and not _has_files(store, details):
        large = [(file, size) for file, size in sizes.items() if size > BELIEVED // len(sizes)]
        fetch((f"{name}/{file}", (0, 1), size, lambda _: None) for file, size in large)


def _has_files(store: Path, details: Details) -> bool:
    paths = ((store / name, size) for name, size in details.sizes.items())
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _lock(file: FileIO, kind: int, first: int, last: int) -> bool:
    """Lock bytes of an open file, or unlock them; False if another one who opened it has a lock there."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", kind, os.SEEK_SET, first, last + 1 - first, 0))
    except OSError as error:
        return error.errno not in BUSY  # where there are no such locks, each process fetches for itself
    return True


def _take(offsets: range | NDArray[np.int64], places: NDArray[np.integer]) -> NDArray[np.integer]:
    found: NDArray[np.integer] = (
        offsets.start + offsets.step * places if isinstance(offsets, range) else offsets[places]
    )
    return found


_stores: WeakSet[SparseStore] = WeakSet()


def _begin_all() -> None:  # pragma: no cover - runs in children only
    for store in _stores:
        store._begin()  # noqa: SLF001 - another thread of the parent may have been fetching


os.register_at_fork(after_in_child=_begin_all)
