"""Forks and concurrent writers: a fork in the middle of a library call does no harm, and one writer wins at most."""

import gc
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import Backend
from tests.faults.children import Ending, run_cases, run_child
from tests.support.image_sets import assert_same, make_set

FORKS = 4
TIMEOUT = 20.0  # seconds


def test_a_child_works_even_if_a_thread_of_its_parent_was_storing_at_the_fork(module: Backend, tmp_path: Path) -> None:
    images, labels = make_set(10)

    def work(store: Path) -> str:
        module.store_many(store, images, labels)
        with module.open_reader(store) as reader:
            assert_same(reader.read([3, 1]), (images[[3, 1]], labels[[3, 1]]))
        assert_same(module.read_single(store, 1), (images[1], labels[1]))
        return ""

    def work_on() -> None:
        while not ended.is_set():
            work(Path(tempfile.mkdtemp(dir=tmp_path)))

    work(tmp_path / "before")  # what a library imports late is imported now
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work_on)
        endings = {run_child(partial(work, tmp_path / f"child-{number}"), TIMEOUT) for number in range(FORKS)}
        ended.set()
    assert endings == {Ending(0, "")}


def test_a_child_forked_while_a_reader_reopens_opens_it_itself(
    module: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = make_set(10)
    module.store_many(tmp_path / "store", images, labels)
    reader, begun = module.open_reader(tmp_path / "store"), threading.Event()
    opening = reader._open  # noqa: SLF001 - opens the store again

    def open_late() -> object:
        begun.set()
        time.sleep(0.05)  # the other thread begins to fork
        return opening()

    def read() -> str:
        assert_same(reader.read([3, 1]), (images[[3, 1]], labels[[3, 1]]))
        return ""

    def fork_meanwhile() -> str:
        thread = threading.Thread(target=read)
        thread.start()
        begun.wait()
        ending = run_child(read, TIMEOUT / 2)
        thread.join()
        return ending.describe() or read()

    monkeypatch.setattr(reader, "_open", open_late)
    with reader:
        assert run_child(fork_meanwhile, TIMEOUT) == Ending(0, "")


def test_a_child_reads_with_a_reader_that_threads_of_its_parent_are_using(module: Backend, tmp_path: Path) -> None:
    images, labels = make_set(200)
    module.store_many(tmp_path / "store", images, labels)
    ended = threading.Event()

    def read_on() -> None:
        while not ended.is_set():
            reader.read(range(200))

    def read() -> str:
        assert_same(reader.read([3, 1]), (images[[3, 1]], labels[[3, 1]]))
        reader.close()
        return ""

    with module.open_reader(tmp_path / "store") as reader:
        with ThreadPoolExecutor(4) as pool:
            threads = [pool.submit(read_on) for _ in range(4)]
            endings = {run_child(read, TIMEOUT) for _ in range(FORKS)}
            ended.set()
        assert [thread.result() for thread in threads] == [None] * 4
        assert_same(reader.read(range(200)), (images, labels))
    assert endings == {Ending(0, "")}


def test_garbage_of_a_parent_is_not_finalized_in_its_child() -> None:
    finalized = []

    class Cycle:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            finalized.append(os.getpid())

    def collect() -> str:
        gc.collect()
        return str(len(finalized))

    gc.disable()
    try:
        Cycle()
        assert run_child(collect, TIMEOUT) == Ending(0, "0")
    finally:
        gc.enable()
    gc.collect()
    assert finalized == [os.getpid()]


def test_a_hung_child_says_where_it_is() -> None:
    def hang() -> str:
        time.sleep(TIMEOUT)
        return ""

    assert "in hang" in run_child(hang, 0.5).told


def test_the_case_that_is_wrong_or_ends_its_child_is_named() -> None:
    def run(case: str) -> str:
        if case == "crash":
            os.abort()
        return "no luck" if case == "wrong" else ""

    assert run_cases(["right", "wrong", "crash"], run) == "wrong: no luck"
    assert run_cases(["right", "crash", "wrong"], run) == "crash: killed by SIGABRT"
    assert run_cases(["right"], run) == ""


def test_the_children_of_a_hung_child_end_with_it(tmp_path: Path) -> None:
    def hang() -> str:
        time.sleep(5)
        (tmp_path / "ended by itself").touch()
        return ""

    def wait() -> str:
        return run_child(hang).told

    assert "in wait" in run_child(wait, 0.5).told
    assert not list(tmp_path.iterdir()), "it was waited for, because it holds the pipe of its parent"


def test_two_concurrent_writers_never_both_succeed(module: Backend, tmp_path: Path) -> None:
    images, labels = make_set(40)
    sets = [(images, labels), (images[::-1].copy(), labels)]
    start, wrote = threading.Barrier(2), []

    def write(number: int) -> None:
        start.wait()
        try:
            module.store_many(tmp_path / "store", *sets[number])
            wrote.append(number)
        except storage.StorageError as error:
            assert str(tmp_path / "store") in str(error)  # noqa: PT017 - either is right

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(write, range(2))) == [None, None]
    assert len(wrote) < 2
    for number in wrote:
        np.testing.assert_array_equal(module.read_many(tmp_path / "store")[0], sets[number][0])


def test_a_store_that_another_writer_filled_meanwhile_is_refused(
    module: Backend, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda _: iter(()))  # it was empty when this writer looked
        with pytest.raises(storage.StorageError, match=str(store)):
            module.store_many(store, *make_set(3))
    assert_same(module.read_many(store), make_set(10))


def test_a_relative_path_in_a_deleted_folder_is_refused(
    module: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for read in (module.open_reader, module.read_many, lambda path: module.read_single(path, 0)):
        with pytest.raises(storage.StorageError, match="store"):
            read(Path("store"))
    os.chdir(tmp_path)
