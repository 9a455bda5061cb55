"""Threads that read ahead: which cores they run on, which error counts, and how they end."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage import Images, Labels, ReaderClosedError
from storage.read_ahead import ReadAhead, choose_cores

Make = Callable[..., ReadAhead]
CORES = {2, 3, 5, 7, 11, 13}


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Let the process have some cores, and no launcher."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: CORES)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return CORES


def read(indices: NDArray[np.intp], images: Images) -> tuple[Images, Labels]:
    images[:] = indices
    return images, indices.astype(np.int64)


@pytest.fixture
def make() -> Iterator[Make]:
    """Make what reads 12 numbers in batches of 4."""
    made: list[ReadAhead] = []

    def make_one(function: Any = read, *, cores: Sequence[int] = (0,), queue: int = 3) -> ReadAhead:  # noqa: ANN401 - as read
        batches = iter(np.arange(12).reshape(3, 4))
        lend = partial(np.empty, 4)
        made.append(ReadAhead(make_one, Path("store"), function, batches, lend, queue=queue, cores=cores))
        return made[-1]

    yield make_one
    for ahead in made:
        ahead.stop()


def take_all(ahead: ReadAhead) -> Iterator[list[int]]:
    while (batch := ahead.take()) is not None:
        assert batch[0].tolist() == batch[1].tolist()
        yield batch[0].tolist()


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6])
def test_ranks_have_different_cores_and_use_all(world_size: int) -> None:
    chosen = [core for rank in range(world_size) for core in choose_cores(rank, world_size, None)]
    assert sorted(chosen) == sorted(CORES)


@pytest.mark.usefixtures("cores")
def test_more_ranks_than_cores_are_spread_over_them() -> None:
    chosen = [choose_cores(rank, 12, None) for rank in range(12)]
    assert sorted(core for (core,) in chosen) == sorted([*CORES, *CORES])


@pytest.mark.usefixtures("cores")
def test_threads_begin_with_the_cores_of_their_rank() -> None:
    assert choose_cores(1, 2, 2) == [7, 11]
    assert choose_cores(1, 2, 6) == [7, 11, 13, 2, 3, 5]
    assert choose_cores(0, 1, 8) == [2, 3, 5, 7, 11, 13, 2, 3]


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize(
    ("local", "expected"), [(("1", "2"), [7, 11, 13]), (("1", ""), [2]), (("2", "2"), [2]), (("x", "2"), [2])]
)
def test_ranks_on_other_machines_have_cores_of_their_own(
    local: tuple[str, str], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(("LOCAL_RANK", "LOCAL_WORLD_SIZE"), local, strict=True):
        monkeypatch.setenv(name, value)
    assert choose_cores(0, 6, None) == expected


def test_each_thread_is_pinned_to_a_core_and_the_caller_is_not(make: Make) -> None:
    before = os.sched_getaffinity(0)
    asked, meet = sorted(before)[:2] * 2, threading.Barrier(2)
    found: dict[int, set[int]] = {}

    def read_and_look(indices: NDArray[np.intp], images: Images) -> tuple[Images, Labels]:
        meet.wait(20)  # both threads have a piece
        found[threading.get_ident()] = os.sched_getaffinity(0)
        return read(indices, images)

    ahead = make(read_and_look, cores=asked[:2])
    assert len(list(take_all(ahead))) == 3
    ahead.stop()  # and waits until both are pinned
    assert sorted(map(sorted, found.values())) == sorted([core] for core in asked[:2])
    assert os.sched_getaffinity(0) == before


def test_a_thread_moves_to_its_core_before_it_reads_and_is_confined_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, confine = os.sched_getaffinity(0), os.sched_setaffinity
    core, steps = min(before), list[Any]()

    def note(thread: int, cores: set[int]) -> None:
        steps.append(cores)
        confine(thread, cores)

    def read_and_note(indices: NDArray[np.intp], images: Images) -> tuple[Images, Labels]:
        steps.append("read")
        return read(indices, images)

    monkeypatch.setattr(os, "sched_setaffinity", note)
    ahead = make(read_and_note, cores=[core], queue=1)
    assert ahead.take() is not None
    ahead.stop()
    assert steps == [{core}, before, "read", {core}]


def test_ctrl_c_does_not_wait_for_a_thread_that_hangs(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.read_ahead.LINGER", 0.1)
    released, ended, late = threading.Event(), threading.Event(), list[bool]()

    def hang(indices: NDArray[np.intp], images: Images) -> tuple[Images, Labels]:
        time.sleep(0.1)  # until the other thread waits
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        late.append(not released.wait(20))
        ended.set()
        return read(indices, images)

    def take_and_stop() -> None:
        try:
            ahead.take()
        finally:
            ahead.stop()

    ahead = make(hang, queue=1)
    with pytest.raises(KeyboardInterrupt):
        take_and_stop()
    ahead.stop()
    released.set()
    assert ended.wait(20)
    assert late == [False], "it waited for the thread"


def test_a_core_that_the_process_lost_is_done_without(make: Make) -> None:
    ahead = make(cores=[100_000])
    assert list(take_all(ahead)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize(("queue", "expected"), [(1, [4, 8, 12]), (2, [8, 12, 12]), (5, [12, 12, 12])])
def test_no_more_batches_are_read_than_the_queue_holds(make: Make, queue: int, expected: list[int]) -> None:
    asked: list[int] = []
    read_all = threading.Semaphore(0)

    def note(indices: NDArray[np.intp], images: Images) -> tuple[Images, Labels]:
        asked.extend(indices.tolist())
        read_all.release()
        return read(indices, images)

    ahead = make(note, queue=queue)
    ahead._start()  # noqa: SLF001 - as the first call of take would
    found = []
    for number in range(3):
        ahead._fill(queue)  # noqa: SLF001 - as the next call of take would
        while len(asked) < expected[number]:
            read_all.acquire(timeout=20)
        found.append(len(asked))
        assert ahead.take() is not None
    assert found == expected


def test_of_several_errors_in_a_batch_the_first_one_counts(make: Make) -> None:
    meet = threading.Barrier(4)

    def fail(indices: NDArray[np.intp], _: Images) -> tuple[Images, Labels]:
        meet.wait(20)
        raise ValueError(f"number {indices[0]}")

    ahead = make(fail, cores=[0] * 4, queue=1)
    with pytest.raises(ValueError, match="number 0"):
        ahead.take()


def test_one_of_its_own_threads_may_stop_it(make: Make) -> None:
    def read_and_stop(indices: NDArray[np.intp], images: Images) -> tuple[Images, Labels]:
        ahead.stop()  # as garbage collection may do in any thread
        return read(indices, images)

    ahead = make(read_and_stop, queue=1)
    assert ahead.take() is not None
    assert not ahead.is_running()
    with pytest.raises(ReaderClosedError, match="store: it was closed while batches were read"):
        ahead.take()


def test_another_process_leaves_the_threads_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = make()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        assert not ahead.is_running()
        ahead.stop()
    assert len(list(take_all(ahead))) == 3


def test_what_waits_to_be_read_when_it_is_stopped_is_not_read(make: Make) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def read_late(indices: NDArray[np.intp], images: Images) -> tuple[Images, Labels]:
        begun.set()
        stopped.wait(20)
        return read(indices, images)

    def stop() -> None:
        begun.wait(20)
        ahead._is_stopped = True  # noqa: SLF001 - the first thing that stop does
        stopped.set()

    ahead = make(read_late)
    thread = threading.Thread(target=stop)
    thread.start()
    assert ahead.take() is not None
    with pytest.raises(ReaderClosedError, match="it was closed while"):
        ahead.take()
    thread.join()
