"""The gate's test of itself, on sessions that nothing measured."""

import os
import subprocess
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.__main__ import main
from reports.gate import calibration
from reports.gate.calibration import BACKGROUND_LOADS, find_eligible, make_trial_table, replay_gate, run_trials
from reports.gate.decision import MeasurePair
from reports.gate.pairs import Pair, Recording, Session, write_pair
from reports.gate.session import Plan, Selection
from reports.gate.worktrees import WORKING_TREE
from reports.noise import Thresholds

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")

MANY = "benchmarks/test_many.py::test_read_many"
CELLS = {f"{MANY}[lmdb-10]": 1e-3, f"{MANY}[lmdb-100]": 1e-3, f"{MANY}[png-1000]": 1e-2, f"{MANY}[hdf5-100]": 5e-5}
PLAN = Plan(Path(), WORKING_TREE, WORKING_TREE, ("python", "python"), Selection((10,)), None)


def make_recording(noise: float = 0.01, load: str = "idle") -> Recording:
    chance = np.random.default_rng(0)
    factors = np.exp(noise * chance.standard_normal((60, len(CELLS)))).tolist()
    sessions = [{cell: CELLS[cell] * each for cell, each in zip(CELLS, row, strict=True)} for row in factors]
    return Recording(load, tuple(zip(sessions[::2], sessions[1::2], strict=True)))


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Draw the pairs of both sides, with the slowdown of the plan, and note the plans."""
    prepared: list[Plan] = []

    @contextmanager
    def prepare(plan: Plan) -> Iterator[Namespace]:
        chance = np.random.default_rng(0)

        def measure(cells: Sequence[str]) -> Pair:
            noise = 1 + chance.normal(0, 0.01, (2, len(CELLS)))
            base, new = (dict(zip(CELLS, row * list(CELLS.values()), strict=True)) for row in noise)
            if plan.slowdown:
                new[plan.slowdown.cell] *= plan.slowdown.factor
            return Pair(*(Session({cell: float(side[cell]) for cell in cells or CELLS}) for side in (base, new)))

        prepared.append(plan)
        yield Namespace(measure=measure)

    monkeypatch.setattr(calibration, "prepare_sides", prepare)
    return prepared


def make_options(*loads: str, runs: int = 1) -> Namespace:
    return Namespace(conditions=loads, runs=runs, budget=60)


def test_each_load_is_tried_without_a_change_and_with_one_slower_cell(plans: list[Plan]) -> None:
    recorded = replace(PLAN, record=Path("pairs"))
    trials = list(run_trials(recorded, Thresholds(), make_options("idle", "one-core", runs=2)))
    assert [trial.load for trial in trials] == [plan.load for plan in plans] == ["idle"] * 4 + ["one-core"] * 4
    assert [bool(trial.slowed) for trial in trials] == [trial.found for trial in trials] == [False, True] * 4
    assert [trial.false_alarms for trial in trials] == [[]] * 8
    assert [plan.record for plan in plans] == [Path("pairs"), None] * 4
    assert {plan.slowdown.factor for plan in plans if plan.slowdown} == {1.2}


def test_cells_of_few_images_and_short_ones_are_not_slowed() -> None:
    assert find_eligible(CELLS, 1.2, Thresholds()) == [f"{MANY}[lmdb-100]", f"{MANY}[png-1000]"]
    assert find_eligible(CELLS, 1.5, Thresholds()) == [*list(CELLS)[1:]]
    assert find_eligible({"test_store_single[png]": 1.0}, 1.2, Thresholds()) == []


@pytest.mark.usefixtures("plans")
def test_a_trial_names_slowdowns_found_and_missed_and_false_alarms() -> None:
    plain, slowed = run_trials(PLAN, Thresholds(), make_options("idle"))
    name = slowed.slowed.partition("::")[2]
    assert plain.describe().startswith("idle: no change: none found; ")
    assert slowed.describe().startswith(f"idle: {name} slower: found; ")
    assert plain._replace(slowed="other").describe().startswith("idle: other slower: MISSED; ")
    alarm = slowed._replace(slowed="")
    assert f"FALSE ALARM {name}; " in alarm.describe()
    table = make_trial_table([plain, slowed, alarm]).splitlines()
    assert [[part.strip() for part in line.split("|")[1:6]] for line in table[2:]] == [
        ["idle", "nothing", "2", "0", "1"],
        ["idle", "one cell 1.2x", "1", "1", "0"],
    ]


def test_a_pair_is_replayed_in_either_order(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Pair] = []

    def note(measure_pair: MeasurePair, *_: object) -> None:
        drawn.extend([measure_pair(()), measure_pair(["b"])])
        raise StopIteration

    monkeypatch.setattr(calibration, "run_gate", note)
    recording = Recording("idle", (({"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}),))
    for seed in range(20):
        with pytest.raises(StopIteration):
            replay_gate(recording, {"b": 1.5}, Thresholds(), seed)
    assert {pair.candidate.seconds["a"] - pair.baseline.seconds["a"] for pair in drawn[::2]} == {-2.0, 2.0}
    assert {str(pair) for pair in drawn[1::2]} == {str(Pair(Session({"b": 2.0}), Session({"b": 3.0})))}


def test_a_replay_names_the_slower_cell_only() -> None:
    slow = f"{MANY}[lmdb-100]"
    assert replay_gate(make_recording(), {slow: 1.3}, Thresholds(), seed=0) == {slow}
    assert replay_gate(make_recording(), {}, Thresholds(), seed=0) == set()


def test_replays_are_shown_by_background_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = Recording("short", (({"test_read_single[lmdb-100]": 1e-6},) * 2,) * 2)
    for recording in (make_recording(), make_recording(3.0, "cpu"), short):
        for base, new in recording.pairs:
            write_pair(tmp_path / "pairs.jsonl", recording.load, Pair(Session(base), Session(new)))
    assert main(["gate", "--replay", str(tmp_path / "pairs.jsonl"), "--replays", "2"]) == 0
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    heading = ["condition", "sessions", "new / base", "false runs", "1.1x", "1.15x", "1.2x", "1.3x", "all 1.2x"]
    assert rows[0] == heading
    assert [row[0] for row in rows[2:]] == ["idle", "cpu", "short"]
    assert (rows[2][1], rows[2][3], rows[2][6:]) == ("60", "0 of 2", ["100.0%", "100.0%", "100% of 2"])
    assert rows[4][4:] == [""] * 5


@pytest.mark.parametrize(("load", "count"), [("idle", 0), ("cpu", 1), ("disk", 1)])
def test_a_background_load_ends_with_its_block(
    load: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start = subprocess.Popen
    processes: list[subprocess.Popen[bytes]] = []

    def note(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - those of Popen
        processes.append(start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", note)
    with BACKGROUND_LOADS[load]():
        assert [process.poll() for process in processes] == [None] * count
    assert [process.returncode for process in processes] == [-9] * count
    assert list(tmp_path.iterdir()) == []


def test_one_core_is_the_only_one_until_the_block_ends() -> None:
    before = os.sched_getaffinity(0)
    with BACKGROUND_LOADS["one-core"]():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_an_unknown_condition_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["gate", "--self-test", "--conditions=idle,storm"])
    assert "conditions are idle, cpu, disk, one-core" in capsys.readouterr().err
