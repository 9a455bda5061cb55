"""A store in the cache that is filled as it is read: sparse files, and a map of which blocks of them are there.

First come the bytes that belong to no image, which the backend needs to open the store and to say where the images are;
then, before it reads some images, theirs. The backend reads ordinary files. The map is a file beside the store, with a
byte for each block, which all processes share: what one has fetched, none fetches again. A block's byte is set after
its content was written. If the system fails in between, the checksums of records find zeros in place of the content,
and the block is fetched once more.
"""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Condition
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ..contract import Records
from ..dataset.details import Details
from ..errors import writing

BLOCK = 1 << 12  # bytes, the page of a file: so much is fetched, or isn't
REQUEST = 4 << 20  # bytes of one request: a larger one takes as long for each byte, and waits for its memory
GAP = 256 << 10  # bytes between two ranges that are fetched, too, as another request would take longer
CHUNK = 1 << 20  # bytes of which all are fetched if any is needed, and all will be

Piece = tuple[str, tuple[int, int], int, Callable[[memoryview], None]]  # name, range, size of the object, and for what
Fetch = Callable[[Iterable[Piece]], None]  # some pieces at once
Blocks = NDArray[np.int64]  # numbers of blocks


class SparseStore:
    """A store whose files, with these details, are fetched from the objects below `name`.

    `make` comes first, then `find_images`; any number of threads and processes may do that, and fetch at once.
    """

    def __init__(self, store: Path, name: str, details: Details, fetch: Fetch) -> None:
        self._store, self._name, self._details, self._fetch = store, name, details, fetch
        self._names = sorted(details.sizes)
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
        path = self._store.with_name(f"{self._store.name}.blocks")
        with writing(self._store), path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                file.truncate(int(self._firsts[-1]) + 1)
                os.posix_fallocate(file.fileno(), 0, int(self._firsts[-1]) + 1)  # else a full volume kills the process
                self._content = mmap.mmap(file.fileno(), 0)
                self._map = np.frombuffer(self._content, np.uint8)
                if not all(self._has_file(name) for name in self._names):
                    self._map[:] = 0
                    for name in self._names:
                        self._make_file(name)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # which closing doesn't do, as the map has a copy of the descriptor

    def _has_file(self, name: str) -> bool:
        path = self._store / name
        return path.is_file() and path.stat().st_size == self._details.sizes[name]

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
            self._find_blocks(self._names.index(name), *np.array(structure.ranges).reshape(-1, 2).T)
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
            file = self._names.index(some.file)
            self._images.append((file, some))
            inner = some.offsets[1:-1]
            if len(inner) > 1:
                first = self._firsts[file]
                wanted[first + -(-inner[0] // BLOCK) : first + inner[-1] // BLOCK] = False
        self._counts = np.append(0, np.cumsum([len(some.offsets) - 1 for _, some in self._images]))
        self._fetch_blocks(np.flatnonzero(wanted))

    def fetch_images(self, positions: NDArray[np.intp], *, whole_chunks: bool = False) -> None:
        """Fetch the bytes of the images at these positions, and with `whole_chunks` what will soon be needed, too."""
        if not self.is_complete:
            self._fetch_blocks(self.find_blocks(positions, CHUNK if whole_chunks else BLOCK))

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
        """Fetch those of some blocks that aren't there; wait for those that other threads are fetching."""
        wanted = np.unique(wanted)
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
                self._fetch(self._cut(new))
            finally:
                with self._changed:
                    self._coming[new] = False
                    self._changed.notify_all()

    def _note_end(self) -> None:
        """Note in the map if all blocks are there."""
        self._first_missing = self._content.find(b"\0", self._first_missing, len(self._content) - 1)
        if self._first_missing < 0:
            self._first_missing, self._map[-1] = 0, 1

    def _cut(self, blocks: Blocks) -> Iterator[Piece]:
        """Cut blocks into pieces, each the range of a request."""
        files = np.searchsorted(self._firsts, blocks, side="right") - 1
        is_cut = (np.diff(blocks) > GAP // BLOCK + 1) | (np.diff(files) > 0)
        starts = np.append(0, np.flatnonzero(is_cut) + 1)
        firsts, lasts = blocks[starts], blocks[np.append(starts[1:], len(blocks)) - 1]
        for file, first, last in zip(files[starts].tolist(), firsts.tolist(), lasts.tolist(), strict=True):
            for block in range(first, last + 1, REQUEST // BLOCK):
                start, size = (block - int(self._firsts[file])) * BLOCK, int(self._sizes[file])
                end = min(start + REQUEST, (last + 1 - int(self._firsts[file])) * BLOCK, size)
                name = f"{self._name}/{self._names[file]}"
                yield name, (start, end), size, partial(self._keep, file, start)

    def _keep(self, file: int, start: int, content: memoryview) -> None:
        path, first = self._store / self._names[file], int(self._firsts[file]) + start // BLOCK
        count = -(-len(content) // BLOCK)
        with writing(self._store), path.open("r+b", buffering=0) as out:
            place = start
            while content:
                written = os.pwrite(out.fileno(), content, place)
                place, content = place + written, content[written:]
        with self._changed:
            self._map[first : first + count] = 1
            self._changed.notify_all()


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
