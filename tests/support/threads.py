"""Which threads a test has started."""

import threading

import pytest

TIMEOUT = 20.0  # seconds


class NewThreads:
    """The running threads that didn't run before: one that an earlier test left counts for no later test."""

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def find(self) -> set[threading.Thread]:
        """Find those that run now."""
        return {*threading.enumerate()} - self._before

    def wait_for_end(self) -> None:
        """Wait for threads that nothing refers to."""
        for thread in self.find():
            thread.join(TIMEOUT)
        assert not self.find(), f"after {TIMEOUT:.0f} s"


@pytest.fixture
def new_threads() -> NewThreads:
    return NewThreads()
