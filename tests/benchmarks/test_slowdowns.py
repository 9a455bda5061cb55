"""Slowdowns on purpose: what they wait for by their own account, and which calls they slow. No clock is real here."""

import json
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest

from benchmarks import cell as cells
from benchmarks import gate_session as block
from benchmarks import slowdowns, workers
from benchmarks.slowdowns import KINDS, VARIABLE, SlowBackend, Slowdown, read_slowdown, slow_function
from reports.gate.session import SLOWDOWN
from storage import BACKENDS, Backend
from tests.support.backends import need_backend
from tests.support.image_sets import make_set

CELL = "benchmarks/test_many.py::test_read_many[hdf5-100]"


class Clock:
    """A clock that stands still, but for what a test does to it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.step = 0.0

    def look(self) -> float:
        """Return the time, and let `step` seconds pass."""
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock."""
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock.look)
    return clock


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace all waiting by notes of how long it should take."""
    noted: list[float] = []
    for kind in list(KINDS):
        monkeypatch.setitem(KINDS, kind, noted.append)
    return noted


def take(clock: Clock, *seconds: float) -> Callable[[], None]:
    """Make a function whose calls take so long."""
    left = iter(seconds)

    def run() -> None:
        clock.now += next(left)

    return run


def make_slow(operation: str, name: str = "hdf5", factor: float = 1.5) -> Backend:
    """Make a backend of which one operation is slower."""
    slow: object = SlowBackend(BACKENDS[name], operation, Slowdown((CELL,), factor, "sleep"))
    return slow  # type: ignore[return-value] # it hands on all that a backend has


# --- how long


def test_a_busy_wait_ends_when_its_time_is_over(clock: Clock) -> None:
    clock.step = 0.125
    slowdowns.spin(2.0)
    assert clock.now == 100.0 + 0.125 + 2.0


def test_sleep_is_the_clocks_own() -> None:
    assert KINDS["sleep"] is time.sleep


def test_work_is_as_many_checksums_as_take_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(zlib, "crc32", lambda content: done.append(len(content)))
    monkeypatch.setattr(slowdowns, "time_checksum", lambda: 0.25)
    slowdowns.work(1.6)
    assert done == [len(slowdowns.BUFFER)] * 6


def test_the_best_of_many_checksums_is_the_measure(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([3.0, 0.5, *[2.0] * 198])
    monkeypatch.setattr(zlib, "crc32", lambda _: setattr(clock, "now", clock.now + next(seconds)))
    slowdowns.time_checksum.cache_clear()
    assert slowdowns.time_checksum() == 0.5
    assert next(seconds, None) is None
    slowdowns.time_checksum.cache_clear()


@pytest.mark.parametrize("kind", ["spin", "sleep"])
def test_a_wait_is_in_proportion_to_each_call(kind: str, clock: Clock, waits: list[float]) -> None:
    slow = slow_function(take(clock, 2.0, 1.0, 4.0), Slowdown((CELL,), 1.5, kind))
    for _ in range(3):
        slow()
    assert waits == [1.0, 0.5, 2.0]


def test_repeated_work_is_in_proportion_to_the_quickest_call_so_far(clock: Clock, waits: list[float]) -> None:
    slow = slow_function(take(clock, 2.0, 1.0, 4.0), Slowdown((CELL,), 1.5, "repeat"))
    for _ in range(3):
        slow()
    assert waits == [1.0, 0.5, 0.5]


def test_a_slow_function_returns_what_the_function_does(waits: list[float]) -> None:
    slow = slow_function(divmod, Slowdown((), 1.5, "spin"))
    assert slow(7, 2) == (3, 1)
    assert len(waits) == 1


def test_a_call_that_fails_is_not_made_slower(waits: list[float]) -> None:
    with pytest.raises(ZeroDivisionError):
        slow_function(divmod, Slowdown((), 1.5, "spin"))(1, 0)
    assert waits == []


# --- which calls


@need_backend("hdf5")
@pytest.mark.parametrize("operation", ["store_single", "read_single", "store_many", "read_many"])
def test_the_operation_that_is_measured_is_slowed_and_no_other(
    operation: str, waits: list[float], tmp_path: Path
) -> None:
    slow = make_slow(operation)
    images, labels = make_set(3)
    calls: dict[str, Callable[[], object]] = {
        "store_single": lambda: slow.store_single(tmp_path / "one", images[0], 1),
        "store_many": lambda: slow.store_many(tmp_path / "many", images, labels),
        "read_single": lambda: slow.read_single(tmp_path / "many", 1),
        "read_many": lambda: slow.read_many(tmp_path / "many"),
    }
    for name, call in calls.items():
        call()
        assert len(waits) == (name == operation), name
        waits.clear()
    with slow.open_reader(tmp_path / "many") as reader:
        reader.read([0, 1])
    assert waits == []


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_an_epoch_slows_the_batches_of_its_reader_and_nothing_else(
    name: str, waits: list[float], tmp_path: Path
) -> None:
    slow = make_slow("read_epoch", name)
    images, labels = make_set(3)
    slow.store_many(tmp_path / "store", images, labels)
    slow.read_many(tmp_path / "store")
    with slow.open_reader(tmp_path / "store") as reader:
        assert waits == []
        assert np.array_equal(reader.read([2, 0])[0], images[[2, 0]])
        reader.read([1])
    assert len(waits) == 2


@need_backend("hdf5")
def test_a_slow_backend_has_all_else_that_the_backend_has() -> None:
    slow = make_slow("read_many")
    assert vars(BACKENDS["hdf5"])["VERSIONS"] is slow.VERSIONS  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="nothing_such"):
        slow.nothing_such  # type: ignore[attr-defined] # noqa: B018 - asking is the test


# --- which cells


def run_cell(nodeid: str) -> Iterator[object]:
    """Run what a block does around one cell: the first step stands before the cell, the second behind it."""
    item = create_autospec(pytest.Function, instance=True)
    item.nodeid, item.originalname = nodeid, "test_read_many"
    item.callspec = SimpleNamespace(params={"backend": "hdf5", "cutoff": 100})
    around: Callable[[pytest.Item], Iterator[object]] = block.pytest_runtest_protocol
    return around(item)


@need_backend("hdf5")
def test_a_block_slows_the_named_cell_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps({"cells": [CELL], "factor": 1.2, "kind": "spin"}))
    cell = run_cell(CELL)
    next(cell)
    for room in (cells, workers):
        assert isinstance(room.BACKENDS["hdf5"], SlowBackend)
    assert next(cell, None) is None
    for room in (cells, workers):
        assert room.BACKENDS is BACKENDS


def test_a_block_slows_no_cell_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps({"cells": [CELL], "factor": 1.2, "kind": "spin"}))
    cell = run_cell(CELL.replace("100", "1000"))
    next(cell)
    assert vars(cells)["BACKENDS"] is BACKENDS


def test_a_block_slows_nothing_unless_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    cell = run_cell(CELL)
    next(cell)
    assert vars(cells)["BACKENDS"] is BACKENDS


def test_a_slowdown_is_read_from_json() -> None:
    text = json.dumps({"cells": [CELL], "factor": 2, "kind": "sleep"})
    assert read_slowdown(text) == Slowdown((CELL,), 2.0, "sleep")


def test_both_sides_know_the_variable_by_the_same_name() -> None:
    assert VARIABLE == SLOWDOWN
