"""Threads that read the next batches of an epoch, each on its own core."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Images, Labels
from .errors import ReaderClosedError
from .inputs import take_out

Read = Callable[[NDArray[np.intp], Images], tuple[Any, Labels]]  # some images, into an array
Batch = tuple[Any, Labels, list["Future[None]"]]  # the futures are of its pieces

_here = threading.local()  # in a thread that reads ahead: its core, None once it is pinned


class ReadAhead:
    """Has threads read batches in order; each thread reads a piece of a batch, so that a few batches occupy all.

    `lend` returns the memory of the next batch: an array, or a tensor. At most `queue` batches are being read or are
    ready; the one that was taken last makes room for another only when the next one is taken.
    """

    def __init__(
        self,
        store: Path,
        read: Read,
        batches: Iterator[NDArray[np.intp]],
        lend: Callable[[], Any],
        *,
        queue: int,
        cores: Sequence[int],
    ) -> None:
        self._store, self._read, self._batches, self._lend = store, read, batches, lend
        self._queue, self._threads = queue, len(cores)
        self._pool = ThreadPoolExecutor(len(cores), "batches", _assign_core, (cycle(cores),))
        self._waiting: deque[Batch] = deque()
        self._process: int | None = os.getpid()

    def is_running(self) -> bool:
        """Check that it wasn't stopped, and that this process has its threads."""
        return self._process == os.getpid()

    def take(self) -> tuple[Any, Labels] | None:
        """Wait for the next batch; None if there is none. Raise the error of the first piece that has one."""
        self._fill(self._queue)
        if not self._waiting:
            return None
        images, labels, pieces = self._waiting[0]
        for piece in pieces:
            piece.result()
        self._waiting.popleft()
        self._fill(self._queue - 1)
        return images, labels

    def stop(self) -> None:
        """End the threads after the piece that each is reading; in another process, which has none of them, do nothing.

        A thread of a pool that happens to collect this as garbage waits for none, as that one may wait for it.
        """
        if self.is_running():
            self._process = None
            self._pool.shutdown(wait=not hasattr(_here, "core"))

    def _fill(self, queue: int) -> None:
        while len(self._waiting) < queue and (indices := next(self._batches, None)) is not None:
            images = self._lend()
            if len(indices) < len(images):
                images = images[: len(indices)]
            array: Any = take_out(images)
            labels, pieces = np.empty(len(indices), np.int64), list["Future[None]"]()
            self._waiting.append((images, labels, pieces))
            length = -(-len(indices) // self._threads)
            for start in range(0, len(indices), length):
                part = slice(start, start + length)
                pieces.append(self._submit(indices[part], array[part], labels[part]))

    def _submit(self, indices: NDArray[np.intp], images: Images, labels: Labels) -> "Future[None]":
        try:
            return self._pool.submit(self._read_piece, indices, images, labels)
        except RuntimeError:  # no thread can be started, or another thread has stopped this one
            self._refuse_if_stopped()
            raise

    def _read_piece(self, indices: NDArray[np.intp], images: Images, labels: Labels) -> None:
        self._refuse_if_stopped()
        _, labels[:] = self._read(indices, images)
        if _here.core is not None:  # threads that a library started meanwhile may run anywhere
            with suppress(OSError):  # the process was confined to others in the meantime
                os.sched_setaffinity(0, {_here.core})
            _here.core = None

    def _refuse_if_stopped(self) -> None:
        if not self.is_running():
            raise ReaderClosedError("it was closed while batches were read", store=self._store, hint="open it again")


class Memory:
    """Lends arrays of one shape, and takes their memory back when nothing refers to it, which is faster than new one.

    A new array of megabytes costs more than copying images to it, because the kernel clears its pages.
    """

    def __init__(self, make: Callable[[], Images], most: int) -> None:
        self._make, self._free = make, deque[Images](maxlen=most)

    def lend(self) -> Images:
        """Lend an array; it and its views may be kept."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = self._make()
        return np.asarray(_Loan(memory, self._free))


class _Loan:
    """Is the base of an array, so the array and all its views keep it alive; then its memory goes back."""

    def __init__(self, memory: Images, free: deque[Images]) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._memory, self._free = memory, free

    def __del__(self) -> None:
        """Give the memory back."""
        self._free.append(self._memory)


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


def _assign_core(cores: Iterator[int]) -> None:
    _here.core = next(cores)
