"""Worker processes that read one store together, each with its own reader, batches and processors."""

import ctypes
import faulthandler
import gc
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.cell import Content, compute_digest, select
from benchmarks.page_cache import Cache
from benchmarks.run_info import count_processors
from storage import Labels, Reader

StartMethod = Literal["fork", "spawn", "forkserver"]
START_METHODS: tuple[StartMethod, ...] = ("fork", "spawn")  # those that are measured
TIMEOUT = 600  # seconds until a worker must have answered
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

Batches = Sequence[NDArray[np.intp]]


@pytest.fixture
def torch() -> ModuleType:
    """Import PyTorch; a benchmark that takes this has no cells without it."""
    return import_module("torch")


def read_clock() -> float:
    """Read a clock that all processes share, in seconds."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def choose_counts() -> tuple[int, ...]:
    """Choose how many workers are measured: 1, 2, and one per processor."""
    return tuple(dict.fromkeys((1, 2, count_processors())))


def assign_processors(count: int) -> list[list[int]]:
    """Deal this process's processors to `count` workers, so that no two workers compete while another one is idle.

    Schedulers may keep two workers that are woken at the same time on one processor for seconds.
    """
    processors = sorted(os.sched_getaffinity(0))
    return [processors[index::count] or [processors[index % len(processors)]] for index in range(count)]


def shuffle(count: int, size: int) -> Batches:
    """Shuffle the indices of so many images, and cut them into batches."""
    order = np.random.default_rng(0).permutation(count)
    return [order[start : start + size] for start in range(0, count, size)]


def read_batches(reader: Reader, batches: Batches) -> None:
    """Read one batch after another, keeping none."""
    read = find_read(reader)
    for batch in batches:
        read(batch)


def find_read(reader: Reader) -> Callable[[NDArray[np.intp]], tuple[Content, Labels]]:
    """Find the method that reads a batch as it was stored; readers of an older `storage` have pixels."""
    return reader.read_encoded if getattr(reader, "kind", "pixels") == "encoded" else reader.read


@dataclass
class Worker:
    """The batches of one worker, how it opens a reader, and a file for its stack. Its methods run in its process."""

    open_reader: Callable[[Path], Reader]
    store: Path
    cache: Cache
    batches: Batches
    processors: Sequence[int]
    stack: Path
    reader: Reader | None = None

    def open(self) -> tuple[float, float | None]:
        """Open a reader and read a batch; return when each was done, None if there is no batch. Keep a warm reader."""
        reader = self.open_reader(self.store)
        opened = read_clock()
        read_batches(reader, self.batches[:1])
        read = read_clock() if self.batches else None
        if self.cache == "cold":
            reader.close()
        else:
            self.reader = reader
        return opened, read

    def read(self) -> None:
        """Read all batches."""
        with self._use_reader() as reader:
            read_batches(reader, self.batches)

    def digest(self) -> list[str]:
        """Read all batches, and compute the digest of each."""
        with self._use_reader() as reader:
            return [compute_digest(*find_read(reader)(batch)) for batch in self.batches]

    def _use_reader(self) -> AbstractContextManager[Reader]:
        return nullcontext(self.reader) if self.reader is not None else self.open_reader(self.store)


_here: list[Worker] = []  # in the process of a worker: itself


def _start_worker(worker: Worker) -> None:
    _here.append(worker)
    faulthandler.enable(os.open(worker.stack, os.O_CREAT | os.O_WRONLY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a forked worker wouldn't notice its parent's death
    os.sched_setaffinity(0, worker.processors)
    gc.disable()  # as in the process that measures


def _run_command(name: str) -> Any:  # noqa: ANN401 - whatever the command returns
    return getattr(_here[0], name)()


class Workers:
    """Processes that read one store on command, within a ``with`` block. Batches are dealt to them in turns.

    Each is a pool of one process, so that it keeps its batches, its reader and its processors. A reader of a cold store
    is open only while it reads, because it may keep pages of the store in memory. `open_reader` is pickled for spawned
    processes.
    """

    def __init__(
        self,
        open_reader: Callable[[Path], Reader],
        store: Path,
        batches: Batches,
        *,
        count: int,
        start: StartMethod,
        cache: Cache,
    ) -> None:
        self._folder = TemporaryDirectory()
        self._workers = [
            Worker(open_reader, store, cache, batches[index::count], processors, Path(self._folder.name, str(index)))
            for index, processors in enumerate(assign_processors(count))
        ]
        context = multiprocessing.get_context(start)
        self._pools = [ProcessPoolExecutor(1, context, _start_worker, (worker,)) for worker in self._workers]
        self._processes: list[Any] = []

    def __enter__(self) -> Self:
        """Start the processes, and wait until each has opened a reader and read a batch."""
        started = read_clock()
        try:
            opened, read = zip(*self._gather([self._start(pool) for pool in self._pools]), strict=True)
        except BaseException:
            self._end()
            raise
        self.startup_seconds = max(opened) - started
        self.first_batch_seconds = min(seconds for seconds in read if seconds is not None) - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the processes."""
        self._end()

    def read_epoch(self) -> None:
        """Have every worker read its batches; return when all have."""
        self._gather([pool.submit(_run_command, "read") for pool in self._pools])

    def check(self, images: Content, labels: Labels) -> None:
        """Have every worker read its batches again; fail unless `images` and `labels` are the same at these indices."""
        answers = self._gather([pool.submit(_run_command, "digest") for pool in self._pools])
        for index, (worker, digests) in enumerate(zip(self._workers, answers, strict=True)):
            for number, (batch, digest) in enumerate(zip(worker.batches, digests, strict=True), start=1):
                if digest != compute_digest(select(images, batch), labels[batch]):
                    self._fail(index, f"batch {number} of its {len(worker.batches)} was not read as it was stored")

    def _start(self, pool: ProcessPoolExecutor) -> "Future[Any]":
        others = multiprocessing.active_children()
        future = pool.submit(_run_command, "open")
        self._processes += [child for child in multiprocessing.active_children() if child not in others]
        return future

    def _gather(self, futures: Sequence["Future[Any]"]) -> list[Any]:
        """Wait for the answers of all workers; fail as soon as one of them fails or dies, or if one is too late."""
        wait(futures, TIMEOUT, FIRST_EXCEPTION)
        for index, future in enumerate(futures):
            if future.done() and (error := future.exception()) is not None:
                self._fail(index, self._explain(index, error))
        for index, future in enumerate(futures):
            if not future.done():
                self._fail(index, f"no answer for {TIMEOUT} seconds: it hangs")
        return [future.result() for future in futures]

    def _explain(self, index: int, error: BaseException) -> str:
        if not isinstance(error, BrokenProcessPool):
            summary = "".join(traceback.format_exception_only(error)).strip()
            return f"{summary}\n{error.__cause__}"  # the worker's traceback
        self._pools[index].shutdown()  # waits for the process, which has an exit code then
        stack = self._workers[index].stack
        words = stack.read_text(encoding="utf-8", errors="replace") if stack.exists() else ""
        return f"ended without an answer, exit code {self._processes[index].exitcode}\n{words}".rstrip()

    def _fail(self, index: int, reason: str) -> None:
        pytest.fail(f"worker {index + 1} of {len(self._workers)}: {reason}")

    def _end(self) -> None:
        for process in self._processes:
            process.kill()  # it only reads: nothing is lost
        for pool in self._pools:
            pool.shutdown()
        self._folder.cleanup()
