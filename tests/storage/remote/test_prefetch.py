"""What the next batches need is fetched before they are read, and not all that an epoch needs at once."""

import gc
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from storage import StorageError
from storage.epoch_order import EpochOrder, WindowedOrder
from storage.remote.prefetch import AHEAD, THREADS, Prefetch, fetch_at_once
from tests.support.threads import TIMEOUT, NewThreads

STARTS = np.arange(0, 101, 10)  # of ten parts


class Fetched:
    """Notes what was fetched: the part, and the images or None for all."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Any]] = []

    def fetch(self, number: int, positions: Any) -> None:  # noqa: ANN401 - an array, or None
        """Note it."""
        self.found.append((number, positions))

    def wait(self, is_enough: Callable[[], bool]) -> None:
        """Wait for the threads."""
        end = time.monotonic() + TIMEOUT
        while not is_enough():
            assert time.monotonic() < end, f"only {self.found} was fetched"
            time.sleep(0.001)

    def list_images(self) -> set[int]:
        """List the images that were fetched one by one."""
        return {10 * number + int(place) for number, positions in list(self.found) for place in positions}


@pytest.fixture
def fetched() -> Fetched:
    return Fetched()


def test_the_images_of_the_next_batches_are_fetched_and_no_others(fetched: Fetched) -> None:
    batches = list(EpochOrder(100, 0, 0).cut(range(0, 100, 5), 5))
    prefetch = Prefetch(iter(batches), STARTS, fetched.fetch, size=AHEAD // 15)
    assert next(prefetch).tolist() == batches[0].tolist()
    expected = {image for batch in batches[:4] for image in batch.tolist()}
    fetched.wait(lambda: len(fetched.list_images()) == len(expected))
    assert fetched.list_images() == expected
    assert [batch.tolist() for batch in prefetch] == [batch.tolist() for batch in batches[1:]]
    fetched.wait(lambda: fetched.list_images() == set(range(100)))


def test_images_of_one_part_are_fetched_together(fetched: Fetched) -> None:
    prefetch = Prefetch(iter([np.array([55]), np.array([3, 14]), np.array([5, 19])]), STARTS, fetched.fetch, size=1)
    assert [batch.tolist() for batch in prefetch] == [[55], [3, 14], [5, 19]]
    fetched.wait(lambda: len(fetched.found) == 3)
    found = sorted((number, positions.tolist()) for number, positions in fetched.found)
    assert found == [(0, [3, 5]), (1, [4, 9]), (5, [5])]


def test_the_parts_of_a_window_and_of_the_next_one_are_fetched_whole(fetched: Fetched) -> None:
    order = WindowedOrder(STARTS, 3, 0, 0)
    windows = order.find_windows()
    prefetch = Prefetch(order.cut(range(0, 100, 5), 5), STARTS, fetched.fetch, size=1, windows=windows)
    next(prefetch)
    fetched.wait(lambda: len(fetched.found) == 6)
    assert {number for number, _ in fetched.found} == {*windows[0].tolist(), *windows[1].tolist()}
    assert len(list(prefetch)) == 19
    fetched.wait(lambda: len(fetched.found) == 10)
    assert sorted(number for number, _ in fetched.found) == list(range(10))
    assert all(positions is None for _, positions in fetched.found)


def test_an_error_is_left_to_who_reads_the_images(fetched: Fetched) -> None:
    def fail(number: int, positions: Any) -> None:  # noqa: ANN401
        fetched.fetch(number, positions)
        raise StorageError("no answer")

    prefetch = Prefetch(iter([np.array([3]), np.array([5])]), STARTS, fail, size=AHEAD)
    assert [batch.tolist() for batch in prefetch] == [[3], [5]]
    fetched.wait(lambda: len(fetched.found) == 2)


def test_the_threads_end_when_nothing_refers_to_it_any_more(fetched: Fetched, new_threads: NewThreads) -> None:
    prefetch = Prefetch(iter([np.array([3])]), STARTS, fetched.fetch, size=1)
    next(prefetch)
    assert new_threads.find()
    del prefetch
    gc.collect()
    new_threads.wait_for_end()


def test_what_is_queued_is_not_fetched_when_nothing_refers_to_it_any_more(
    fetched: Fetched, new_threads: NewThreads
) -> None:
    released = threading.Event()

    def wait(number: int, positions: Any) -> None:  # noqa: ANN401 - an array, or None
        fetched.fetch(number, positions)
        assert released.wait(TIMEOUT)

    starts = np.arange(0, 3 * THREADS + 1)
    prefetch = Prefetch(iter([np.arange(3 * THREADS)]), starts, wait, size=1)
    next(prefetch)
    fetched.wait(lambda: len(fetched.found) == THREADS)
    del prefetch
    gc.collect()
    released.set()
    new_threads.wait_for_end()
    assert len(fetched.found) == THREADS


def test_several_parts_are_fetched_at_once(fetched: Fetched) -> None:
    together = threading.Barrier(THREADS)

    def fetch(number: int, positions: Any) -> None:  # noqa: ANN401 - an array, or None
        together.wait(20)
        fetched.fetch(number, positions)

    fetch_at_once(fetch, [(number, np.array([1])) for number in range(2 * THREADS)])
    assert fetched.list_images() == {10 * number + 1 for number in range(2 * THREADS)}


def test_after_an_error_no_other_part_is_begun(fetched: Fetched) -> None:
    def fetch(number: int, positions: Any) -> None:  # noqa: ANN401 - likewise
        fetched.fetch(number, positions)
        raise StorageError(f"part {number}")

    with pytest.raises(StorageError, match=r"^part \d+$"):
        fetch_at_once(fetch, [(number, np.array([1])) for number in range(10 * THREADS)])
    assert len(fetched.found) <= THREADS


def test_ctrl_c_waits_for_no_part_that_is_fetched(fetched: Fetched) -> None:
    released, late = threading.Event(), list[bool]()

    def fetch(number: int, positions: Any) -> None:  # noqa: ANN401 - likewise
        fetched.fetch(number, positions)
        if len(fetched.found) == THREADS:
            time.sleep(0.1)  # until the caller waits
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        late.append(not released.wait(20))

    with pytest.raises(KeyboardInterrupt):
        fetch_at_once(fetch, [(number, np.array([1])) for number in range(2 * THREADS)])
    released.set()
    fetched.wait(lambda: len(late) == THREADS)
    assert (any(late), len(fetched.found)) == (False, THREADS)
