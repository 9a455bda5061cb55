"""Cells that are slowed on purpose."""

import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import slowdown
from benchmarks.cell import WRAP
from benchmarks.slowdown import SLOWDOWN, WORK, slow_down

CELL = "benchmarks/test_many.py::test_read_many[hdf5-100]"


class Clock:
    """A clock that moves by `step` whenever it is read."""

    now, step = 100.0, 0.0

    def read(self) -> float:
        """Return the time."""
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock."""
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock.read)
    return clock


def test_a_slow_function_takes_so_many_times_as_long(clock: Clock) -> None:
    def take(seconds: float) -> float:
        clock.now += seconds
        clock.step = 0.125  # from here on: the function itself takes exactly `seconds`, and waiting takes time
        return seconds

    slow = slow_down(take, 1.5, lambda: None)
    assert slow(4.0) == 4.0
    assert clock.now == pytest.approx(106, abs=0.25)


@pytest.mark.parametrize("kind", WORK)
def test_a_slow_function_works_meanwhile(kind: str, clock: Clock) -> None:
    work, count = WORK[kind](), 0

    def note() -> object:
        nonlocal count
        count += 1
        return work()

    clock.step = 0.125
    slow_down(lambda: None, 9.0, note)()
    assert count > 3


def test_a_function_that_fails_is_not_slowed(clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        slow_down(divmod, 1.5, lambda: None)(1, 0)
    assert clock.now == 100.0


@pytest.mark.parametrize("kind", WORK)
def test_only_the_named_cells_are_slowed(kind: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [SimpleNamespace(nodeid=nodeid, stash=pytest.Stash()) for nodeid in (CELL, f"{CELL}0")]
    slowdown.pytest_runtest_setup(cast("pytest.Item", items[0]))
    assert WRAP not in items[0].stash
    monkeypatch.setenv(SLOWDOWN, json.dumps([[CELL], 1.2, kind]))
    for item in items:
        slowdown.pytest_runtest_setup(cast("pytest.Item", item))
    assert [WRAP in item.stash for item in items] == [True, False]
    calls: list[int] = []
    wrap: Callable[..., Callable[[int], None]] = items[0].stash[WRAP]
    wrap(calls.append)(7)
    assert (calls, clock.now) == ([7], 100.0)
