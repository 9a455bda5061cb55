"""Sessions of the gate: cells that are slowed on purpose. Sessions are run in tests/reports/gate/test_session.py."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import gate_session
from benchmarks.cell import WRAP
from benchmarks.gate_session import slow_down

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

    slow = slow_down(take, 1.5)
    assert slow(4.0) == 4.0
    assert clock.now == pytest.approx(106, abs=0.25)


def test_a_function_that_fails_is_not_slowed(clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        slow_down(divmod, 1.5)(1, 0)
    assert clock.now == 100.0


def test_only_the_named_cell_is_slowed_and_the_journal_names_those_that_started(tmp_path: Path, clock: Clock) -> None:
    options = {"journal": tmp_path / "journal", "slow_cell": CELL, "slow_factor": 1.2}
    config = SimpleNamespace(getoption=options.__getitem__)
    items = [SimpleNamespace(nodeid=nodeid, stash=pytest.Stash(), config=config) for nodeid in (CELL, f"{CELL}0")]
    for item in items:
        gate_session.pytest_runtest_setup(cast("pytest.Item", item))
    assert [WRAP in item.stash for item in items] == [True, False]
    calls: list[int] = []
    wrap: Callable[..., Callable[[int], None]] = items[0].stash[WRAP]
    wrap(calls.append)(7)
    assert (calls, clock.now) == ([7], 100.0)
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"started": CELL}, {"started": f"{CELL}0"}]


def test_reference_cells_are_left_out() -> None:
    items = [SimpleNamespace(fixturenames=names) for names in (["cell"], ["reference", "benchmark"])]
    kept = items[:1]
    selecting = gate_session.pytest_collection_modifyitems(cast("list[pytest.Item]", items))
    next(selecting)
    assert next(selecting, None) is None
    assert items == kept
