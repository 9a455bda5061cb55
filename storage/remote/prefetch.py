"""What the next batches of an epoch need is fetched while the current ones are read."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from ..read_ahead import Outcomes

Fetch = Callable[[int, NDArray[np.intp] | None], None]  # of a part, by its number, some images, or all of it
Task = tuple[Fetch, int, NDArray[np.intp] | None]

THREADS = 16  # parts from which something is fetched at once
AHEAD = 64 << 20  # bytes of images that are fetched before they are read, unless a batch has more
MAX_AHEAD = 64  # batches


class Prefetch(Iterator[NDArray[np.intp]]):
    """Yields the images of each batch, and has threads fetch those of the next ones, of `AHEAD` bytes, all at once.

    `starts` are those of the parts, and `size` is that of an image on average. In windows, they fetch the parts of this
    window and the next one, whose numbers are noted in `whole` before. The threads end when nothing refers to this any
    more. An error of theirs is left to who reads the images.
    """

    def __init__(
        self,
        batches: Iterator[NDArray[np.intp]],
        starts: NDArray[np.integer],
        fetch: Fetch,
        *,
        size: int,
        windows: Sequence[NDArray[np.intp]] = (),
        whole: set[int] | None = None,
    ) -> None:
        self._batches, self._starts, self._fetch, self._size = batches, starts, fetch, size
        self._windows, self._whole = windows, set() if whole is None else whole
        self._window_of = np.zeros(len(starts) - 1, np.intp)
        for number, parts in enumerate(windows):
            self._window_of[parts] = number
        self._next = 0  # the first window that wasn't asked for
        self._waiting: deque[NDArray[np.intp]] = deque()
        self._tasks: SimpleQueue[Task | ref[Any]] = SimpleQueue()
        ended = Event()
        self._end = ref(self, partial(_end, self._tasks, ended))
        for _ in range(THREADS):
            Thread(target=work, args=(self._tasks, ended), name="prefetch", daemon=True).start()

    def __next__(self) -> NDArray[np.intp]:
        """Return the images of the next batch."""
        if not self._waiting:
            self._take(1)  # alone, as it is waited for
        if not self._waiting:
            raise StopIteration
        if not self._windows:
            ahead = 1 + min(max(AHEAD // (len(self._waiting[0]) * self._size), 1), MAX_AHEAD)
            if len(self._waiting) <= ahead // 2:  # not each time, so that more are merged
                self._take(ahead - len(self._waiting))
        return self._waiting.popleft()

    def _take(self, count: int) -> None:
        """Take so many batches, and have what they need fetched."""
        new = list(islice(self._batches, count))
        self._waiting += new
        if new:
            self._expect(np.concatenate(new))

    def _expect(self, images: NDArray[np.intp]) -> None:
        numbers = np.searchsorted(self._starts, images, side="right") - 1
        if not self._windows:
            for number in np.unique(numbers).tolist():
                self._tasks.put((self._fetch, number, images[numbers == number] - self._starts[number]))
            return
        last = int(self._window_of[numbers].max()) + 2
        for parts in self._windows[self._next : last]:
            self._whole.update(parts.tolist())
            for number in parts.tolist():
                self._tasks.put((self._fetch, number, None))
        self._next = max(self._next, last)


def fetch_at_once(fetch: Fetch, wanted: Sequence[tuple[int, NDArray[np.intp]]]) -> None:
    """Fetch images of several parts at once; raise the error of the first that has one. Ctrl-C waits for no thread.

    After an error, parts that haven't begun are left out.
    """
    tasks, outcomes, failed = deque(enumerate(wanted)), Outcomes(len(wanted)), Event()

    def try_to_fetch(number: int, positions: NDArray[np.intp]) -> BaseException | None:
        try:
            if not failed.is_set():
                fetch(number, positions)
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            failed.set()
            return error
        return None

    def fetch_all() -> None:
        with suppress(IndexError):  # there are no more
            while True:
                place, task = tasks.popleft()
                outcomes.add(place, try_to_fetch(*task))

    try:
        for _ in range(min(THREADS, len(wanted))):
            Thread(target=fetch_all, name="fetch", daemon=True).start()
        outcomes.wait()
    finally:
        failed.set()


def _end(tasks: "SimpleQueue[Task | ref[Any]]", ended: Event, gone: ref[Any]) -> None:
    """End all threads; one that waits for a task gets the reference."""
    ended.set()
    tasks.put(gone)


def work(tasks: "SimpleQueue[Task | ref[Any]]", ended: Event) -> None:
    """Do tasks until a reference comes, or the end, after which nobody needs what the other tasks would fetch."""
    while isinstance(task := tasks.get(), tuple) and not ended.is_set():
        fetch, number, positions = task
        with suppress(StorageError):
            fetch(number, positions)
        del task, fetch, positions
    tasks.put(task)
