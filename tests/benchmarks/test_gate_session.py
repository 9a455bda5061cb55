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
from benchmarks.gate_session import WORK, slow_down

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


@pytest.mark.parametrize(("cells", "factor", "slowed"), [([], 1.0, False), ([], 1.3, True), (["other"], 1.3, False)])
def test_all_cells_are_slowed_if_none_is_named(
    cells: list[str], factor: float, tmp_path: Path, *, slowed: bool
) -> None:
    options = {"journal": tmp_path / "journal", "slow_cell": cells, "slow_factor": factor, "slow_kind": "allocation"}
    item = SimpleNamespace(nodeid=CELL, stash=pytest.Stash(), config=SimpleNamespace(getoption=options.__getitem__))
    gate_session.pytest_runtest_setup(cast("pytest.Item", item))
    assert (WRAP in item.stash) == slowed


def test_backends_that_only_the_other_side_has_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    options = SimpleNamespace(backends="npy,not_here", images=None)
    config = SimpleNamespace(getoption={"measured": gate_session.IMPORTED}.__getitem__, option=options)
    gate_session.pytest_configure(cast("pytest.Config", config))
    assert options.backends == "npy"
    options.backends = "not_here"
    with pytest.raises(pytest.exit.Exception) as caught:
        gate_session.pytest_configure(cast("pytest.Config", config))
    assert caught.value.returncode == gate_session.NO_CELLS
    elsewhere = Path(json.__file__)
    monkeypatch.setattr(gate_session, "find_backends", lambda _: [("reel.bench", elsewhere)])
    config.getoption = {"measured": gate_session.IMPORTED.parent / "reel"}.__getitem__
    with pytest.raises(pytest.UsageError, match=f"reel.bench comes from {elsewhere}, this session measures .*/reel$"):
        gate_session.pytest_configure(cast("pytest.Config", config))


def test_an_older_storage_has_no_cells_of_image_files(monkeypatch: pytest.MonkeyPatch) -> None:
    options = SimpleNamespace(backends="", images="standin")
    config = SimpleNamespace(getoption={"measured": gate_session.IMPORTED}.__getitem__, option=options)
    gate_session.pytest_configure(cast("pytest.Config", config))
    monkeypatch.delattr("storage.Encoded")
    with pytest.raises(pytest.exit.Exception) as caught:
        gate_session.pytest_configure(cast("pytest.Config", config))
    assert caught.value.returncode == gate_session.NO_CELLS


def test_only_the_named_cell_is_slowed_and_the_journal_names_those_that_started(tmp_path: Path, clock: Clock) -> None:
    options = {"journal": tmp_path / "journal", "slow_cell": [CELL], "slow_factor": 1.2, "slow_kind": "cpu"}
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
