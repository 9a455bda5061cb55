"""Worker processes: what they read, and how the parent learns what went wrong in one of them."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from benchmarks import workers
from benchmarks.page_cache import Cache
from benchmarks.workers import START_METHODS, StartMethod, Worker, Workers, assign_processors, choose_counts
from storage import BACKENDS, Reader
from tests.support.backends import EXAMPLE
from tests.support.disk import need_disk
from tests.support.encoded_sets import make_files
from tests.support.image_sets import make_set

OPEN = BACKENDS[EXAMPLE].open_reader
BATCHES = [np.arange(start, 10, 4) for start in range(4)]
FAILED = pytest.fail.Exception


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Make a store of ten images: workers are the same whatever they read."""
    BACKENDS[EXAMPLE].store_many(tmp_path / "store", *make_set(10))
    return tmp_path / "store"


def gather(
    store: Path,
    open_reader: Callable[[Path], Reader] = OPEN,
    count: int = 2,
    start: StartMethod = "fork",
    cache: Cache = "warm",
) -> Workers:
    """Gather workers that read the ten images of a store in four batches."""
    return Workers(open_reader, store, BATCHES, count=count, start=start, cache=cache)


@pytest.mark.parametrize(("method", "condition"), [("fork", "cold"), ("spawn", "warm")])
def test_workers_read_again_and_again_what_was_stored(example: Path, method: StartMethod, condition: Cache) -> None:
    if condition == "cold":
        need_disk(example)
    check_workers(gather(example, start=method, cache=condition))


def test_workers_read_what_any_backend_stored(backend: str, store: Path) -> None:
    check_workers(gather(store, BACKENDS[backend].open_reader))


def check_workers(workers: Workers) -> None:
    """Have workers read the ten images of a store twice."""
    with workers as crew:
        assert crew.startup_seconds > 0
        assert crew.first_batch_seconds > 0
        for _ in range(2):
            crew.read_epoch()
            crew.check(*make_set(10))
    assert not multiprocessing.active_children()


@pytest.mark.kinds("encoded")
def test_workers_read_image_files_as_they_were_stored(backend: str, tmp_path: Path) -> None:
    files, labels = make_files(10)
    BACKENDS[backend].store_many(tmp_path / "store", files, labels)
    with gather(tmp_path / "store", BACKENDS[backend].open_reader) as crew:
        crew.read_epoch()
        crew.check(files, labels)
        with pytest.raises(FAILED, match=r"worker 1 of 2: batch 1 of its 2 was not read as it was stored"):
            crew.check(files, labels + 1)


def test_spawned_workers_know_image_storage_as_the_storage_under_test(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tape.py").write_text(f"from image_storage.backends.{EXAMPLE} import open_reader\n")
    monkeypatch.syspath_prepend(tmp_path)
    import tape  # type: ignore[import-not-found] # noqa: PLC0415 - made by this test

    with gather(example, partial(tape.open_reader), start="spawn") as crew:
        crew.check(*make_set(10))


def test_no_two_workers_share_a_processor_if_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 2, 3})
    assert assign_processors(1) == [[2, 3, 5]], "a library's threads can use the others"
    assert assign_processors(2) == [[2, 5], [3]]
    assert assign_processors(4) == [[2], [3], [5], [2]]
    assert choose_counts()[:2] == (1, 2)


def test_workers_stay_on_their_processors_even_if_there_are_more_than_batches(example: Path) -> None:
    with gather(example, count=6) as crew:
        found = sorted(sorted(os.sched_getaffinity(worker.pid or 0)) for worker in multiprocessing.active_children())
        crew.read_epoch()
        crew.check(*make_set(10))
    assert found == sorted(assign_processors(6))


def test_batches_are_dealt_in_turns_and_a_wrong_one_is_named(example: Path) -> None:
    images, labels = make_set(10)
    labels[BATCHES[3][0]] += 1
    with gather(example) as crew, pytest.raises(FAILED, match=r"worker 2 of 2: batch 2 of its 2 was not read"):
        crew.check(images, labels)


@pytest.mark.parametrize(("condition", "log"), [("cold", ["open", "close"] * 2), ("warm", ["open"])])
def test_readers_of_a_cold_store_are_open_only_while_they_read(
    example: Path, tmp_path: Path, condition: Cache, log: list[str]
) -> None:
    def note(line: str) -> None:
        with (tmp_path / "log").open("a") as file:
            file.write(f"{line}\n")

    def open_and_note(store: Path) -> Reader:
        reader = OPEN(store)
        stack = ExitStack()
        stack.callback(note, "close")
        stack.callback(reader.close)
        vars(reader)["close"] = stack.close
        note("open")
        return reader

    with gather(example, open_and_note, count=1, cache=condition) as crew:
        crew.read_epoch()
        assert (tmp_path / "log").read_text().split() == log


@pytest.mark.parametrize("method", START_METHODS)
def test_worker_that_fails_to_start_gives_the_reason(tmp_path: Path, method: StartMethod) -> None:
    with pytest.raises(FAILED) as caught, gather(tmp_path / "nowhere", start=method):
        pass
    assert caught.match(r"^worker [12] of 2: storage.errors.StoreNotFoundError: .*nowhere")
    assert "Traceback (most recent call last)" in str(caught.value)
    assert not multiprocessing.active_children()


def test_worker_that_cannot_be_spawned_fails_the_cell(example: Path) -> None:
    open_reader = type("Unpicklable", (), {"__reduce__": lambda _: (os._exit, (7,))})()
    with pytest.raises(FAILED) as caught, gather(example, open_reader, start="spawn"):
        pass
    assert caught.match(r"^worker [12] of 2: ended without an answer, exit code 7$")


def replace_read(monkeypatch: pytest.MonkeyPatch, first: Callable[[], object], other: Callable[[], object]) -> None:
    """Replace how an epoch is read: by the worker that has the first batch, and by the others."""

    def read(worker: Worker) -> None:
        (first if worker.batches[0] is BATCHES[0] else other)()

    monkeypatch.setattr(Worker, "read", read)


def hang() -> NoReturn:
    """Wait until the process is killed."""
    while True:
        signal.pause()


def raise_error() -> None:
    """Fail as a library might."""
    raise ZeroDivisionError("of a library")


def crash() -> None:
    """End with a signal."""
    signal.raise_signal(signal.SIGSEGV)


@pytest.mark.parametrize(
    ("happens", "words", "stack"),
    [
        (raise_error, "ZeroDivisionError: of a library\n", "in raise_error\n"),
        (partial(os._exit, 7), "ended without an answer, exit code 7", ""),
        (crash, "ended without an answer, exit code -11\nFatal Python error: Segmentation", "in crash\n"),
    ],
    ids=["raises", "exits", "crashes"],
)
def test_worker_that_fails_fails_the_cell_although_another_hangs(
    example: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object], words: str, stack: str
) -> None:
    replace_read(monkeypatch, first=hang, other=happens)
    with gather(example) as crew, pytest.raises(FAILED) as caught:
        crew.read_epoch()
    assert str(caught.value).startswith(f"worker 2 of 2: {words}")
    assert stack in str(caught.value)
    assert not multiprocessing.active_children()


def test_worker_that_hangs_fails_the_cell(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_read(monkeypatch, first=hang, other=lambda: None)
    with gather(example) as crew:
        monkeypatch.setattr(workers, "TIMEOUT", 0.05)
        with pytest.raises(FAILED, match=r"^worker 1 of 2: no answer for 0.05 seconds: it hangs$"):
            crew.read_epoch()
    with pytest.raises(FAILED, match=r"^worker 1 of 2: no answer"), gather(example, lambda _: hang()):
        pass
    assert not multiprocessing.active_children()


def test_worker_that_died_before_it_was_asked_fails_the_cell(example: Path) -> None:
    with gather(example) as crew:
        process = multiprocessing.active_children()[0]
        process.kill()
        process.join()
        with pytest.raises((FAILED, BrokenProcessPool)):
            crew.read_epoch()
    assert not multiprocessing.active_children()


def test_workers_end_when_their_parent_is_killed(example: Path) -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        os.close(reading)
        gather(example, count=3).__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)  # the workers inherited it, so the pipe ends with the last of them
    os.waitpid(parent, 0)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""
