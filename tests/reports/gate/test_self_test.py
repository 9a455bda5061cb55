"""The gate's test of itself, on runs that are made up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.__main__ import main
from reports.gate import self_test
from reports.gate.decision import Pair
from reports.gate.pairs import Plan
from reports.gate.replay import Recording, write_pair
from reports.gate.self_test import Trial, find_eligible, run_trials, take_account
from reports.gate.self_test_command import make_trial_table
from reports.gate.session import Block, Selection
from reports.gate.worktrees import Version
from reports.noise import Thresholds

MANY = "benchmarks/test_many.py::test_read_many"
CELLS = {f"{MANY}[lmdb-10]": 1e-3, f"{MANY}[lmdb-100]": 1e-3, f"{MANY}[png-1000]": 1e-2, f"{MANY}[hdf5-100]": 5e-5}
PLAN = Plan(Path(), Version("HEAD", "0"), Version("HEAD", "0"), ("python", "python"), Selection((10,)), None)


def make_recording(noise: float = 0.01) -> Recording:
    chance = np.random.default_rng(0)
    factors = np.exp(noise * chance.standard_normal((60, len(CELLS)))).tolist()
    blocks = [{cell: CELLS[cell] * each for cell, each in zip(CELLS, row, strict=True)} for row in factors]
    return Recording("idle", tuple(zip(blocks[::2], blocks[1::2], strict=True)))


class MadeUpArms:
    """Arms of which the new one is as much slower as the plan says, and no block takes time."""

    def __init__(self, plan: Plan) -> None:
        self._slowdown = plan.slowdown or {"cells": [], "factor": 1.0}
        self._chance = np.random.default_rng(0)

    def measure(self, cells: list[str]) -> Pair:
        """Make up a pair."""

        def draw(factor: float) -> Block:
            noise = self._chance.normal(0, 0.01, len(CELLS)).tolist()
            times = {cell: CELLS[cell] * (1 + each) for cell, each in zip(CELLS, noise, strict=True)}
            slow = {cell: factor if cell in self._slowdown["cells"] else 1.0 for cell in CELLS}
            return Block({cell: times[cell] * slow[cell] for cell in cells or CELLS})

        return Pair(draw(1.0), draw(float(self._slowdown["factor"])))


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Have made-up arms measured, and note what they should have been."""
    prepared: list[Plan] = []

    @contextmanager
    def prepare(plan: Plan) -> Iterator[MadeUpArms]:
        prepared.append(plan)
        yield MadeUpArms(plan)

    monkeypatch.setattr(self_test, "prepare_arms", prepare)
    return prepared


def test_each_condition_is_tried_without_a_change_and_with_one_slower_cell(plans: list[Plan]) -> None:
    trials = list(run_trials(PLAN, Thresholds(), 60, ("idle", "one-core"), 2, lambda _: None))
    assert [trial.condition for trial in trials] == ["idle"] * 4 + ["one-core"] * 4
    assert [bool(trial.slowed) for trial in trials] == [False, True] * 4
    assert [trial.found for trial in trials] == [False, True] * 4
    assert [trial.false_alarms for trial in trials] == [()] * 8
    assert [plan.condition for plan in plans] == ["idle"] * 4 + ["one-core"] * 4


def test_slowed_runs_are_not_recorded_and_take_the_kinds_in_turn(plans: list[Plan]) -> None:
    list(run_trials(replace(PLAN, record=Path("blocks")), Thresholds(), 60, ("idle",), 3, lambda _: None))
    assert [plan.record for plan in plans] == [Path("blocks"), None] * 3
    slowdowns = [plan.slowdown for plan in plans if plan.slowdown]
    assert [each["factor"] for each in slowdowns] == [1.2] * 3
    long = slowdowns[2]["cells"] == [f"{MANY}[png-1000]"]
    assert [each["kind"] for each in slowdowns] == ["spin", "repeat", "sleep" if long else "spin"]


def test_cells_of_few_images_and_short_ones_are_not_slowed() -> None:
    assert find_eligible(CELLS, 1.2, Thresholds()) == [f"{MANY}[lmdb-100]", f"{MANY}[png-1000]"]
    assert find_eligible(CELLS, 1.5, Thresholds()) == [*list(CELLS)[1:]]
    assert find_eligible({"test_store_single[png]": 1.0}, 1.2, Thresholds()) == []


def test_a_trial_says_what_was_found_missed_and_named_for_nothing(plans: list[Plan]) -> None:
    plain, slowed = run_trials(PLAN, Thresholds(), 60, ("idle",), 1, lambda _: None)
    name = slowed.slowed.partition("::")[2]
    assert plain.describe().startswith("idle: no change: none found; ")
    assert slowed.describe().startswith(f"idle: {name} slower: found; ")
    assert Trial("cpu", "other", plain.outcome).describe().startswith("cpu: other slower: MISSED; ")
    assert f"FALSE ALARM {name}; " in Trial("cpu", "", slowed.outcome).describe()
    table = make_trial_table([plain, slowed, Trial("idle", "", slowed.outcome)]).splitlines()
    assert [line.split("|")[1:6] for line in table[2:]] == [
        [" idle      ", "       nothing ", "    2 ", "     0 ", "            1 "],
        [" idle      ", " one cell 1.2x ", "    1 ", "     1 ", "            0 "],
    ]
    assert len(plans) == 2


@pytest.mark.slow
def test_quiet_blocks_give_no_false_run_and_show_what_can_be_found() -> None:
    account = take_account(make_recording(), Thresholds(), replays=50)
    assert (account.false_runs, account.replays) == (0, 50)
    assert account.found[1.2] == account.found[1.3] == 1.0
    assert (account.named, account.long) == (1.0, 3)
    assert account.smallest[f"{MANY}[png-1000]"] == 1.2, "a tenth of the screens exclude 15 %, which is 1.15 itself"
    assert account.smallest[f"{MANY}[hdf5-100]"] == 1.5, "20 microseconds are 1.4 times 50"


@pytest.fixture
def _few_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "REPLAYS_A_CELL", 2)


@pytest.mark.usefixtures("_few_replays")
def test_a_cell_too_short_or_too_noisy_shows_nothing() -> None:
    noisy = make_recording(noise=3.0)
    assert set(take_account(noisy, Thresholds(), replays=1).smallest.values()) == {None}
    block = {"test_read_single[lmdb-100]": 1e-6}
    short = Recording("idle", ((block, block), (block, block)))
    account = take_account(short, Thresholds(), replays=1)
    assert (account.found, account.named, account.long) == ({}, 0.0, 0)


@pytest.mark.usefixtures("_few_replays")
def test_a_replay_is_shown_by_condition_and_by_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for condition, recording in (("idle", make_recording()), ("cpu", make_recording(noise=3.0))):
        for base, new in recording.pairs:
            write_pair(tmp_path / "blocks.jsonl", condition, Pair(Block(base), Block(new)))
    assert main(["gate", "--replay", str(tmp_path / "blocks.jsonl"), "--replays", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading = ["condition", "blocks", "new / base", "false runs", "1.1x", "1.15x", "1.2x", "1.3x", "all 1.2x"]
    assert [part.strip() for part in lines[0].split("|")[1:-1]] == heading
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["idle", "cpu"]
    assert "0 of 2" in lines[2]
    cell = next(line for line in lines if "png-1000" in line)
    assert [part.strip() for part in cell.split("|")[1:-1]][2:] == ["1.15x", "more"]


@pytest.mark.usefixtures("_few_replays")
def test_a_cell_that_a_condition_lacks_is_left_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for condition, cells in (("idle", ("a-100]", "b-100]")), ("cpu", ("a-100]",))):
        block = Block(dict.fromkeys(cells, 1e-3))
        write_pair(tmp_path / "blocks.jsonl", condition, Pair(block, block))
    assert main(["gate", "--replay", str(tmp_path / "blocks.jsonl"), "--replays", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split("|")[-2].strip() == ""


def test_an_unknown_condition_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["gate", "--self-test", "--conditions=idle,storm"])
    assert "conditions are idle, cpu, disk, one-core" in capsys.readouterr().err
