"""The plugin of the gate's sessions. Whole sessions are run in tests/reports/gate/test_session.py."""

import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import gate_session
from reports.gate.pairs import NO_BACKEND

CELL = "benchmarks/test_many.py::test_read_many[hdf5-100]"


def test_backends_that_only_the_other_side_has_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = SimpleNamespace(backends="npy,not_here", images=None)
    given = {"measured": gate_session.IMPORTED, "journal": tmp_path / "journal"}
    config = SimpleNamespace(getoption=given.__getitem__, option=options)
    monkeypatch.setattr(gate_session, "UNAVAILABLE", {"no_library": "not installed"})
    options.backends += ",no_library"
    gate_session.pytest_configure(cast("pytest.Config", config))
    assert options.backends == "npy"
    reasons = {"not_here": NO_BACKEND, "no_library": "not installed"}
    lines = (tmp_path / "journal").read_text().splitlines()
    assert {line["backend"]: line["reason"] for line in map(json.loads, lines)} == reasons
    options.backends = "not_here"
    with pytest.raises(pytest.exit.Exception) as caught:
        gate_session.pytest_configure(cast("pytest.Config", config))
    assert caught.value.returncode == gate_session.NO_CELLS
    elsewhere = Path(json.__file__)
    monkeypatch.setattr(gate_session, "find_backends", lambda _: [("reel.bench", elsewhere)])
    config.getoption = (given | {"measured": gate_session.IMPORTED.parent / "reel"}).__getitem__
    with pytest.raises(pytest.UsageError, match=f"reel.bench comes from {elsewhere}, this session measures .*/reel$"):
        gate_session.pytest_configure(cast("pytest.Config", config))


def test_an_older_storage_has_no_cells_of_image_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = SimpleNamespace(backends="", images="standin")
    given = {"measured": gate_session.IMPORTED, "journal": tmp_path / "journal"}
    config = SimpleNamespace(getoption=given.__getitem__, option=options)
    monkeypatch.setattr(gate_session, "UNAVAILABLE", {"tiledb": "not installed"})
    gate_session.pytest_configure(cast("pytest.Config", config))
    assert json.loads((tmp_path / "journal").read_text()) == {"backend": "tiledb", "reason": "not installed"}
    monkeypatch.delattr("storage.Encoded")
    with pytest.raises(pytest.exit.Exception) as caught:
        gate_session.pytest_configure(cast("pytest.Config", config))
    assert caught.value.returncode == gate_session.NO_CELLS


def test_the_journal_names_the_cells_that_started(tmp_path: Path) -> None:
    config = SimpleNamespace(getoption={"journal": tmp_path / "journal"}.__getitem__)
    for nodeid in (CELL, f"{CELL}0"):
        gate_session.pytest_runtest_setup(cast("pytest.Item", SimpleNamespace(nodeid=nodeid, config=config)))
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"started": CELL}, {"started": f"{CELL}0"}]


def test_reference_cells_and_those_of_several_threads_are_left_out() -> None:
    items = [SimpleNamespace(fixturenames=names) for names in (["cell"], ["reference", "benchmark"])]
    for threads in (1, 2):
        items.insert(threads, SimpleNamespace(fixturenames=[], callspec=SimpleNamespace(params={"threads": threads})))
    kept = items[:2]
    selecting = gate_session.pytest_collection_modifyitems(cast("list[pytest.Item]", items))
    next(selecting)
    assert next(selecting, None) is None
    assert items == kept


def test_a_session_pauses_once_its_turn_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, gate_session.TURN / 2, gate_session.TURN * 2, 5.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"\n\n")
        turns = gate_session.Turns(theirs.fileno())
        turns.wait(gate_session.CELL)
        turns.pause()
        assert ours.recv(9) == b"c"
        turns.pause()
        assert ours.recv(9) == b"r"


@pytest.mark.parametrize("names", [["cell"], ["cell", "workers"]])
def test_a_cell_stays_on_one_processor_unless_it_has_workers(names: list[str]) -> None:
    everywhere = os.sched_getaffinity(0)
    try:
        gate_session.choose_processors(cast("pytest.Item", SimpleNamespace(fixturenames=names)), min(everywhere))
        assert os.sched_getaffinity(0) == (gate_session.PROCESSORS if "workers" in names else {min(everywhere)})
    finally:
        os.sched_setaffinity(0, everywhere)
