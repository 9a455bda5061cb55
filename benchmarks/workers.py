"""Worker processes that read one store together. They share nothing but the store: each has a reader of its own.

A worker answers through its pipe: once when its reader has read, then once for each command. An answer is a pair:
whether it went well, and the result, or the traceback as text.
"""

import faulthandler
import gc
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.comparison import compute_digest
from benchmarks.run_info import count_processors
from storage import Images, Labels, Reader

STARTS = ("fork", "spawn")
LONGEST_SILENCE = 600  # seconds without an answer of any worker: they hang

Batches = Sequence[NDArray[np.intp]]


def choose_counts() -> tuple[int, ...]:
    """Choose how many workers are measured: 1, 2 and as many as there are processors."""
    return tuple(dict.fromkeys((1, 2, count_processors())))


def share_processors(count: int) -> list[list[int]]:
    """Deal the processors that this process may run on to so many workers, so that no two are kept on the same one.

    Schedulers do that: two workers that the parent wakes at once may stay on one processor for seconds, the other idle.
    """
    processors = sorted(os.sched_getaffinity(0))
    return [processors[place::count] or [processors[place % len(processors)]] for place in range(count)]


def read_batches(reader: Reader, batches: Batches) -> None:
    """Read one batch after another, keeping none."""
    for batch in batches:
        reader.read(batch)


def digest_batches(reader: Reader, batches: Batches) -> list[str]:
    """Read one batch after another, and compute the digest of each."""
    return [compute_digest(*reader.read(batch)) for batch in batches]


COMMANDS: Mapping[str, Callable[[Reader, Batches], Any]] = {"read": read_batches, "check": digest_batches}


class Task(NamedTuple):
    """How a worker opens its store, the store, whether that is ``cold``, its batches, the processors it may use."""

    open_reader: Callable[[Path], Reader]
    store: Path
    cache: str
    batches: Batches
    processors: Sequence[int]


class Member(NamedTuple):
    """One worker: its number from 1, its task, its process, the parent's end of its pipe, the stack if it crashed."""

    number: int
    task: Task
    process: Any
    connection: "Connection[Any, Any]"
    stack: Any


class Workers:
    """Processes that wait for commands, from the beginning of a ``with`` block to its end.

    Parameters
    ----------
    open_reader : callable
        Opens the store in each process; one that is spawned gets it pickled.
    store : Path
        A store.
    batches : sequence of ndarray of intp
        What all read together; they are dealt in turns.
    count : int
        How many workers, at least 1.
    start : str
        ``fork`` or ``spawn``.
    cache : str
        ``warm``: readers stay open. ``cold``: each command opens one and closes it, because an open one keeps the store
        in memory.

    Attributes
    ----------
    startup_seconds : float
        From starting the processes until all of them had a reader open.
    first_batch_seconds : float
        From starting the processes until one of them had read a batch.
    """

    def __init__(
        self,
        open_reader: Callable[[Path], Reader],
        store: Path,
        batches: Batches,
        *,
        count: int,
        start: str,
        cache: str,
    ) -> None:
        shares = share_processors(count)
        self._tasks = [Task(open_reader, store, cache, batches[place::count], shares[place]) for place in range(count)]
        self._context: Any = multiprocessing.get_context(start)
        self._members: list[Member] = []

    def __enter__(self) -> Self:
        """Start the processes, and wait until each has opened a reader and read a batch."""
        started = tell_time()
        try:
            for number, task in enumerate(self._tasks, start=1):
                self._start(number, task)
            opened, read = zip(*self._gather(), strict=True)
        except BaseException:
            self._end()
            raise
        self.startup_seconds = max(opened) - started
        self.first_batch_seconds = min(seconds for seconds in read if seconds is not None) - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, whatever they do."""
        self._end()

    def read_epoch(self) -> None:
        """Have every worker read its batches; return when all have."""
        self._command("read")

    def check(self, images: Images, labels: Labels) -> None:
        """Have every worker read its batches again; fail unless each is what `images` and `labels` hold there."""
        for member, digests in zip(self._members, self._command("check"), strict=True):
            batches = member.task.batches
            for place, (batch, digest) in enumerate(zip(batches, digests, strict=True), start=1):
                if digest != compute_digest(images[batch], labels[batch]):
                    pytest.fail(
                        f"worker {member.number} of {len(self._members)}: batch {place} of its {len(batches)} "
                        "was not read as it was stored"
                    )

    def _start(self, number: int, task: Task) -> None:
        ours, theirs = self._context.Pipe()
        stack = open(os.memfd_create("stack"))  # noqa: SIM115, PTH123 - a descriptor, closed with the worker
        place = Path(f"/proc/{os.getpid()}/fd/{stack.fileno()}")
        process = self._context.Process(target=work, args=(theirs, ours, task, place), daemon=True)
        self._members.append(Member(number, task, process, ours, stack))
        process.start()
        theirs.close()  # so that a worker's death ends the pipe

    def _command(self, name: str) -> list[Any]:
        for member in self._members:
            with suppress(OSError):  # a dead worker: waiting for its answer finds out
                member.connection.send(name)
        return self._gather()

    def _gather(self) -> list[Any]:
        """Wait for an answer of each worker; fail as soon as one of them failed or died, or when all keep silent."""
        answers: dict[int, Any] = {}
        while waiting := [member for member in self._members if member.number not in answers]:
            awaited = [each for member in waiting for each in (member.connection, member.process.sentinel)]
            if not wait(awaited, LONGEST_SILENCE):
                number, count = waiting[0].number, len(self._members)
                pytest.fail(f"worker {number} of {count}: no answer for {LONGEST_SILENCE} seconds: it hangs")
            for member in waiting:
                if member.connection.poll() or not member.process.is_alive():
                    answers[member.number] = self._receive(member)
        return [answers[member.number] for member in self._members]

    def _receive(self, member: Member) -> Any:  # noqa: ANN401 - whatever the command returns
        try:
            fine, answer = member.connection.recv() if member.connection.poll() else (False, "")
        except (EOFError, OSError):
            fine, answer = False, ""
        if fine:
            return answer
        if not answer:
            member.process.join()
            answer = f"ended without an answer, exit code {member.process.exitcode}\n{member.stack.read()}".rstrip()
        pytest.fail(f"worker {member.number} of {len(self._members)}: {answer}")

    def _end(self) -> None:
        for member in self._members:
            if member.process.pid is not None:  # started
                member.process.kill()  # it only reads: nothing is lost
                member.process.join()
            member.connection.close()
            member.stack.close()


def tell_time() -> float:
    """Tell the seconds of a clock that all processes share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def work(connection: "Connection[Any, Any]", other_end: "Connection[Any, Any]", task: Task, stack: Path) -> None:
    """Do what a worker does, until the parent is gone; if it crashes, its stack of calls goes into the file `stack`."""
    faulthandler.enable(stack.open("w"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    os.sched_setaffinity(0, task.processors)
    gc.disable()  # as in the process that measures
    other_end.close()  # so that the parent's end ends the pipe
    try:
        _serve(connection, task)
    except Exception as error:  # noqa: BLE001 - the parent tells
        summary = "".join(traceback.format_exception_only(error)).strip()
        with suppress(OSError):
            connection.send((False, f"{summary}\n{traceback.format_exc()}"))


def _serve(connection: "Connection[Any, Any]", task: Task) -> None:
    def open_reader() -> Reader:
        return task.open_reader(task.store)

    with ExitStack() as stack:
        reader = stack.enter_context(open_reader())
        opened = tell_time()
        read_batches(reader, task.batches[:1])
        read = tell_time() if task.batches else None
        if task.cache == "cold":
            stack.close()
        connection.send((True, (opened, read)))
        for command in _take_commands(connection):
            with open_reader() if task.cache == "cold" else nullcontext(reader) as current:
                answer = COMMANDS[command](current, task.batches)
            connection.send((True, answer))  # no reader of a cold store is open any more


def _take_commands(connection: "Connection[Any, Any]") -> Iterator[str]:
    with suppress(EOFError, OSError):  # the parent is gone
        while True:
            yield connection.recv()
