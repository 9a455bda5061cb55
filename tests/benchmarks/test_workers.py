"""Worker processes: what they read, and how the parent learns what went wrong in one of them."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import workers
from benchmarks.workers import STARTS, Workers, choose_counts, read_batches, share_processors
from storage import BACKENDS, Reader
from tests.support.backends import EXAMPLE
from tests.support.image_sets import make_set

BATCHES = [np.arange(start, 10, 4) for start in range(4)]


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Make a store of ten images: workers are the same whatever they read."""
    BACKENDS[EXAMPLE].store_many(tmp_path / "store", *make_set(10))
    return tmp_path / "store"


def gather(
    backend: str,
    store: Path,
    count: int = 2,
    start: str = "fork",
    cache: str = "warm",
    open_reader: Callable[[Path], Reader] | None = None,
) -> Workers:
    """Gather workers that read the ten images of a store, in four batches."""
    return Workers(open_reader or BACKENDS[backend].open_reader, store, BATCHES, count=count, start=start, cache=cache)


def test_one_and_two_workers_are_measured_anywhere_and_no_number_twice() -> None:
    counts = choose_counts()
    assert counts[:2] == (1, 2)
    assert len(set(counts)) == len(counts)


@pytest.mark.parametrize(("method", "condition"), [("fork", "warm"), ("fork", "cold"), ("spawn", "warm")])
def test_workers_read_again_and_again_what_was_stored(backend: str, store: Path, method: str, condition: str) -> None:
    with gather(backend, store, start=method, cache=condition) as crew:
        assert crew.startup_seconds > 0
        assert crew.first_batch_seconds > 0
        for _ in range(2):
            crew.read_epoch()
            crew.check(*make_set(10))
    assert not multiprocessing.active_children()


def test_more_workers_than_batches_read_all_the_same(example: Path) -> None:
    with gather(EXAMPLE, example, count=6) as crew:
        crew.read_epoch()
        crew.check(*make_set(10))


def test_no_two_workers_share_a_processor_while_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 2, 3})
    assert share_processors(1) == [[2, 3, 5]], "threads of its own may run"
    assert share_processors(2) == [[2, 5], [3]]
    assert share_processors(4) == [[2], [3], [5], [2]]


def test_workers_stay_on_their_processors(example: Path) -> None:
    with gather(EXAMPLE, example):
        found = sorted(sorted(os.sched_getaffinity(worker.pid or 0)) for worker in multiprocessing.active_children())
    assert found == sorted(share_processors(2))


def test_batches_are_dealt_in_turns_and_a_wrong_one_is_named(example: Path) -> None:
    images, labels = make_set(10)
    labels[BATCHES[3][0]] += 1
    with (
        gather(EXAMPLE, example) as crew,
        pytest.raises(pytest.fail.Exception, match=r"worker 2 of 2: batch 2 of its 2 was not read as it was stored"),
    ):
        crew.check(images, labels)


def test_readers_of_a_cold_store_are_open_only_while_they_read(
    example: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    open_reader = BACKENDS[EXAMPLE].open_reader

    def open_logging(store: Path) -> Reader:
        reader = open_reader(store)
        close = reader.close

        def close_and_say() -> None:
            close()
            say("closed")

        monkeypatch.setattr(reader, "close", close_and_say)
        say("opened")
        return reader

    def say(word: str) -> None:
        with log.open("a") as file:
            file.write(f"{word} ")

    for cache, words in {"cold": "opened closed " * 2, "warm": "opened "}.items():
        log.write_text("")
        with gather(EXAMPLE, example, count=1, cache=cache, open_reader=open_logging) as crew:
            crew.read_epoch()
            assert log.read_text() == words


@pytest.mark.parametrize("method", STARTS)
def test_a_worker_that_fails_to_start_says_why(tmp_path: Path, method: str) -> None:
    with pytest.raises(pytest.fail.Exception) as caught, gather(EXAMPLE, tmp_path / "nowhere", start=method):
        pass
    assert caught.match(r"^worker [12] of 2: storage.errors.StoreNotFoundError: .*nowhere")
    assert "Traceback (most recent call last)" in str(caught.value)
    assert not multiprocessing.active_children()


def test_a_worker_that_raises_gives_its_traceback(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_badly(reader: Reader, batches: workers.Batches) -> None:
        read_batches(reader, [*batches, np.array([10])])

    monkeypatch.setattr(workers, "COMMANDS", {"read": read_badly})
    with gather(EXAMPLE, example) as crew, pytest.raises(pytest.fail.Exception) as caught:
        crew.read_epoch()
    assert caught.match(r"^worker [12] of 2: storage.errors.RecordNotFoundError: .*\nTraceback")
    assert "in read_badly" in str(caught.value)


@pytest.mark.parametrize("command", ["read", "check"])
def test_a_worker_that_dies_fails_the_cell_and_ends_the_others(
    example: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def die(*_: object) -> None:
        os._exit(7)

    def wait_for_ever(*_: object) -> None:
        multiprocessing.Event().wait()

    def choose(reader: Reader, batches: workers.Batches) -> None:
        (die if batches[0] is BATCHES[0] else wait_for_ever)(reader, batches)

    monkeypatch.setattr(workers, "COMMANDS", {command: choose})
    with (
        gather(EXAMPLE, example) as crew,
        pytest.raises(pytest.fail.Exception, match=r"worker 1 of 2: ended without an answer, exit code 7"),
    ):
        crew.read_epoch() if command == "read" else crew.check(*make_set(10))
    assert not multiprocessing.active_children()


def test_a_worker_that_crashes_fails_the_cell_and_says_where_it_was(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        signal.raise_signal(signal.SIGSEGV)

    monkeypatch.setattr(workers, "COMMANDS", {"read": crash})
    with gather(EXAMPLE, example) as crew, pytest.raises(pytest.fail.Exception) as caught:
        crew.read_epoch()
    assert caught.match(r"^worker [12] of 2: ended without an answer, exit code -11\nFatal Python error: Segmentation")
    assert "in crash\n" in str(caught.value)


def test_a_worker_that_hangs_fails_the_cell(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_: Reader, batches: workers.Batches) -> None:
        if batches[0] is BATCHES[0]:
            multiprocessing.Event().wait()

    monkeypatch.setattr(workers, "COMMANDS", {"read": hang})
    with gather(EXAMPLE, example) as crew:
        monkeypatch.setattr(workers, "LONGEST_SILENCE", 0.05)
        with pytest.raises(pytest.fail.Exception, match=r"^worker 1 of 2: no answer for 0.05 seconds: it hangs$"):
            crew.read_epoch()
    assert not multiprocessing.active_children()


def test_a_worker_that_hangs_while_it_starts_fails_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_: Path) -> Reader:
        multiprocessing.Event().wait()
        raise AssertionError

    monkeypatch.setattr(workers, "LONGEST_SILENCE", 0.05)
    with (
        pytest.raises(pytest.fail.Exception, match=r"^worker 1 of 2: no answer"),
        gather(EXAMPLE, tmp_path, open_reader=hang),
    ):
        pass
    assert not multiprocessing.active_children()


def test_a_worker_that_died_before_it_was_asked_fails_the_cell(example: Path) -> None:
    with gather(EXAMPLE, example) as crew:
        process = multiprocessing.active_children()[0]
        process.kill()
        process.join()
        with pytest.raises(pytest.fail.Exception, match=r"ended without an answer, exit code -9"):
            crew.read_epoch()


def test_workers_end_when_their_parent_is_killed(example: Path) -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        os.close(reading)
        crew = gather(EXAMPLE, example, count=3)
        crew.__enter__()
        os._exit(0)  # as if killed: its workers inherit the pipe, which ends with the last of them
    os.close(writing)
    os.waitpid(parent, 0)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""
