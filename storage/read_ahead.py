"""Threads that read the next batches of an epoch, each on its own core.

The caller's thread meets the others in `SimpleQueue` only, which Ctrl-C can't leave locked, as it can the executors of
`concurrent.futures`. When nothing refers to an object any more, no Python code runs in the caller's thread: a Ctrl-C
that met it there would only be printed.
"""

import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet, ref

import numpy as np
from numpy.typing import NDArray

from .arrays import Images, Labels, make_array
from .errors import ReaderClosedError, hold_interrupts, reading
from .inputs import take_out

Read = Callable[[NDArray[np.intp], Images], tuple[Any, Labels]]  # some images, into an array
Task = tuple[Callable[[], BaseException | None], int, "Outcomes"]
Tasks = SimpleQueue[Task | ref[Any] | None]  # all threads end with None, and with the owner, to which a reference comes
Batch = tuple[Any, Labels, "Outcomes"]  # images, labels

LINGER = 5.0  # seconds for threads that still read after Ctrl-C
_here = threading.local()  # in a thread that reads ahead: its core, None once it is pinned


class ReadAhead:
    """Has threads read batches in order; each thread reads a piece of a batch, so that a few batches occupy all.

    `lend` returns the memory of the next batch: an array, or a tensor. At most `queue` batches are being read or are
    ready; the one that was taken last makes room for another only when the next one is taken. Threads start with the
    first batch, and end when nothing refers to the owner any more.
    """

    def __init__(
        self,
        owner: object,
        store: Path,
        read: Read,
        batches: Iterator[NDArray[np.intp]],
        lend: Callable[[], Any],
        *,
        queue: int,
        cores: Sequence[int],
    ) -> None:
        self._store, self._read, self._batches, self._lend = store, read, batches, lend
        self._queue, self._cores = queue, cores
        self._process, self._is_stopped, self._is_given_up = os.getpid(), False, False
        self._threads: list[threading.Thread] = []
        self._tasks: Tasks = SimpleQueue()
        self._waiting: deque[Batch] = deque()
        self._owner = ref(owner, self._tasks.put)
        _started.add(self)

    def _start(self) -> None:
        with reading(self._store), hold_interrupts():
            for core in self._cores:
                # a thread that is no daemon would be waited for before anything could stop it
                thread = threading.Thread(target=self._work, args=(core,), name="batches", daemon=True)
                thread.start()
                self._threads.append(thread)

    def is_running(self) -> bool:
        """Check that it wasn't stopped, that its owner is there, and that this process has its threads."""
        return not self._is_stopped and self._owner() is not None and self._process == os.getpid()

    def is_reading(self) -> bool:
        """Whether a thread still reads that isn't waited for any more."""
        return self._is_given_up and any(thread.is_alive() for thread in self._threads)

    def take(self) -> tuple[Any, Labels] | None:
        """Wait for the next batch; None if there is none. Raise the error of the first piece that has one."""
        self._fill(self._queue)
        self._refuse_if_stopped()  # now, as the threads would end before they read what was added after `stop`
        if not self._waiting:
            return None
        if not self._threads:
            self._start()  # now that there is something to read
        images, labels, outcomes = self._waiting[0]
        outcomes.wait()
        self._waiting.popleft()
        return images, labels

    def stop(self, error: BaseException | None = None) -> None:
        """End the threads after the piece that each is reading; in another process, which has none of them, do nothing.

        A thread of any of these that happens to close a reader waits for none, as that one may wait for it. After
        Ctrl-C, they are waited for a few seconds only, as they may wait for a server; and if it comes meanwhile, once.
        """
        if self._process == os.getpid():
            self._is_stopped = True
            self._tasks.put(None)
            if hasattr(_here, "core"):
                return
            is_interrupted = isinstance(error or sys.exception(), KeyboardInterrupt)
            end = time.monotonic() + LINGER
            for thread in [] if self._is_given_up else self._threads:
                thread.join(max(0.0, end - time.monotonic()) if is_interrupted else None)
            self._is_given_up = self._is_given_up or is_interrupted

    def _fill(self, queue: int) -> None:
        while len(self._waiting) < queue and (indices := next(self._batches, None)) is not None:
            self._waiting.append(self._begin(indices))

    def _begin(self, indices: NDArray[np.intp]) -> Batch:
        images = self._lend()
        if len(indices) < len(images):
            images = images[: len(indices)]
        array: Any = take_out(images)
        labels = np.empty(len(indices), np.int64)
        starts = range(0, len(indices), -(-len(indices) // len(self._cores)))
        outcomes = Outcomes(len(starts))
        for start in starts:
            part = slice(start, start + starts.step)
            read = partial(self._read_piece, indices[part], array[part], labels[part])
            self._tasks.put((read, start, outcomes))
        return images, labels, outcomes

    def _work(self, core: int) -> None:
        _here.core, cores = core, os.sched_getaffinity(0)
        with suppress(OSError):  # move there, or the scheduler may leave it where another one is reading already
            os.sched_setaffinity(0, {core})
            os.sched_setaffinity(0, cores)
        while isinstance(task := self._tasks.get(), tuple):
            read, start, outcomes = task
            error = read()
            del task, read  # now nothing here refers to the memory of the batch
            outcomes.add(start, error)
        self._tasks.put(None)  # for the others

    def _read_piece(self, indices: NDArray[np.intp], images: Images, labels: Labels) -> BaseException | None:
        try:
            self._refuse_if_stopped()
            _, labels[:] = self._read(indices, images)
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            return error
        if _here.core is not None:  # threads that a library started meanwhile may run anywhere
            with suppress(OSError):  # the process was confined to others in the meantime
                os.sched_setaffinity(0, {_here.core})
            _here.core = None
        return None

    def _refuse_if_stopped(self) -> None:
        if not self.is_running():
            raise ReaderClosedError("it was closed while batches were read", store=self._store, hint="open it again")


class Outcomes:
    """The errors of the pieces of a batch. The caller's thread, which waits for them, is woken up once."""

    def __init__(self, pieces: int) -> None:
        self._pieces, self._errors = pieces, dict[int, BaseException | None]()  # by where a piece starts
        self._all: SimpleQueue[None] = SimpleQueue()

    def add(self, start: int, error: BaseException | None) -> None:
        """Say how a piece has ended; two threads may each find that theirs was the last one."""
        self._errors[start] = error
        if len(self._errors) == self._pieces:
            self._all.put(None)

    def wait(self) -> None:
        """Wait for all pieces; raise the error of the first one that has any."""
        self._all.get()
        errors = {start: error for start, error in self._errors.items() if error is not None}
        self._errors.clear()  # an error that refers to what holds it would live on
        if errors:
            raise errors.pop(min(errors))


def stop_abandoned(started: Iterable[ReadAhead]) -> None:
    """Wait for threads whose owner has ended: they may still read a piece into memory of the caller."""
    for ahead in list(started):
        if not ahead.is_running():
            ahead.stop()


_started: WeakSet[ReadAhead] = WeakSet()


@atexit.register
def _stop_all() -> None:  # pragma: no cover - runs when coverage has ended
    for ahead in list(_started):
        ahead.stop(getattr(sys, "last_value", None))  # that ended the program


class Memory:
    """Lends arrays of one shape, and takes their memory back when nothing refers to it, which is faster than new one.

    A new array of megabytes costs more than copying images to it, because the kernel clears its pages. `most` is how
    many are kept.
    """

    def __init__(self, store: Path, shape: tuple[int, ...], dtype: np.dtype[Any], most: int) -> None:
        self.shape, self._free = shape, deque[_Loan](maxlen=most)
        self._make = partial(make_array, store, shape, dtype)

    def lend(self) -> Images:
        """Lend an array; it and its views may be kept."""
        try:
            memory = self._free.pop().memory
        except IndexError:
            memory = self._make()
        base = _Base()
        base.__array_interface__ = memory.__array_interface__
        base.loan = _Loan(base, self._free.append)
        base.loan.memory = memory
        return np.asarray(base)


class _Base:
    """Is the base of an array, so the array and all its views keep it alive."""

    __array_interface__: dict[str, Any]
    loan: "_Loan"


class _Loan(ref[_Base]):
    """Holds the memory of an array that is lent, and comes back with it when the array has ended."""

    memory: Images


def choose_cores(rank: int, world_size: int, threads: int | None) -> list[int]:
    """Choose the core of each thread among those of the process, so that ranks on this machine have different ones.

    These ranks are those that torchrun has started here, or else all. By default, a rank has as many threads as cores.
    """
    local, ranks = os.environ.get("LOCAL_RANK", ""), os.environ.get("LOCAL_WORLD_SIZE", "")
    if local.isdecimal() and ranks.isdecimal() and int(local) < int(ranks):
        rank, world_size = int(local), int(ranks)
    cores = sorted(os.sched_getaffinity(0))
    start, end = (len(cores) * number // world_size for number in (rank, rank + 1))
    nearest = cores[start:] + cores[:start]
    return [nearest[number % len(cores)] for number in range(threads or max(1, end - start))]
