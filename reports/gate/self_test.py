"""The gate's test of itself: how often it cries wolf on this machine, what it finds, what that costs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from random import Random

from reports.errors import NotMeasurableError
from reports.gate.background_load import CONDITIONS
from reports.gate.decision import Outcome, Tell, run_gate
from reports.gate.pairs import Plan, prepare_arms
from reports.gate.replay import Recording, Seconds, replay_gate
from reports.noise import Thresholds
from reports.text import name_cell

FACTOR = 1.2  # of the slower cell in real runs
SIZES = (1.1, 1.15, 1.2, 1.3)  # of slower cells in replays
LARGE_SIZES = (1.5, 2.0)  # when it is asked what a cell can show at all
LEAST_CUTOFF = 100  # smaller cells are mostly the cost of opening a store
MARGIN = 1.25  # times the least difference that counts: a cell at the limit itself is found every other time
KINDS = ("spin", "repeat", "sleep")
LONG = 5e-3  # seconds; shorter cells do not sleep: kernels sleep some 60 microseconds too long
FOUND = 0.95  # the share of replays in which a cell must be found to count as one that shows a slowdown
REPLAYS_A_CELL = 40


@dataclass(frozen=True)
class Trial:
    """One real run of the gate.

    Attributes
    ----------
    condition : str
        What else the machine did.
    slowed : str
        The cell that took 1.2 times as long in the new arm; empty where nothing differed.
    outcome : Outcome
        What the gate found.
    """

    condition: str
    slowed: str
    outcome: Outcome

    @property
    def false_alarms(self) -> tuple[str, ...]:
        """The cells that were called regressions, and were none."""
        return tuple(each.cell for each in self.outcome.select("regression") if each.cell != self.slowed)

    @property
    def found(self) -> bool:
        """Whether the slower cell was called a regression."""
        return self.slowed in {each.cell for each in self.outcome.select("regression")}

    def describe(self) -> str:
        """Say in one line how it went."""
        change = f"{name_cell(self.slowed)} slower" if self.slowed else "no change"
        result = "found" if self.found else "MISSED" if self.slowed else "none found"
        alarms = "".join(f", FALSE ALARM {name_cell(cell)}" for cell in self.false_alarms)
        return f"{self.condition}: {change}: {result}{alarms}; {self.outcome.seconds:.0f} s"


def run_trials(
    plan: Plan, rules: Thresholds, budget: float, conditions: Sequence[str], runs: int, tell: Tell
) -> Iterator[Trial]:
    """Run the gate for real under each condition: `runs` times without a change, as often with one slower cell.

    Parameters
    ----------
    plan : Plan
        Both arms have the same `storage`.
    rules : Thresholds
        Of the gate.
    budget : float
        Seconds, of each run.
    conditions : sequence of str
        Names in `CONDITIONS`.
    runs : int
        At least 1.
    tell : callable
        Called before each pair.

    Raises
    ------
    NotMeasurableError
        No cell is long enough for a slowdown that counts.
    """
    random, kinds = Random(0), cycle(KINDS)  # noqa: S311 - no secret
    for condition in conditions:
        with CONDITIONS[condition]():
            for _ in range(runs):
                unchanged = replace(plan, condition=condition)
                trial = Trial(condition, "", _run(unchanged, rules, budget, tell))
                yield trial
                seconds = {each.cell: each.base_seconds for each in trial.outcome.verdicts}
                eligible = find_eligible(seconds, FACTOR, rules)
                if not eligible:
                    raise NotMeasurableError(f"no cell of {LEAST_CUTOFF} images or more is long enough to be slowed")
                cell, kind = random.choice(eligible), next(kinds)
                kind = "spin" if kind == "sleep" and seconds[cell] < LONG else kind
                changed = replace(unchanged, record=None, slowdown={"cells": [cell], "factor": FACTOR, "kind": kind})
                yield Trial(condition, cell, _run(changed, rules, budget, tell))


def find_eligible(seconds: Seconds, factor: float, rules: Thresholds) -> list[str]:
    """Find the cells of at least 100 images in which such a slowdown is long enough to count."""
    return [cell for cell in find_long(seconds, factor, rules) if _read_cutoff(cell) >= LEAST_CUTOFF]


def find_long(seconds: Seconds, factor: float, rules: Thresholds) -> list[str]:
    """Find the cells in which such a slowdown is long enough to count, with a margin."""
    return [cell for cell, each in seconds.items() if each * (factor - 1) >= MARGIN * rules.least_seconds]


@dataclass(frozen=True)
class Account:
    """What replays of one recording show, as shares of runs or of cells.

    Attributes
    ----------
    false_runs : int
        Runs without a change that named a regression.
    replays : int
        Of how many; and of how many for each size.
    found : dict of float to float
        How many times as long one cell took -> the share of runs that named it.
    named : float
        The share of long cells that is named when all cells take 1.2 times as long.
    long : int
        How many cells are long enough for that to count.
    smallest : dict of str to float or None
        Id of a cell -> the smallest slowdown that 95 % of replays of it alone find; None is more than 2.0.
    """

    false_runs: int
    replays: int
    found: dict[float, float]
    named: float
    long: int
    smallest: dict[str, float | None]


def take_account(recording: Recording, rules: Thresholds, replays: int) -> Account:
    """Replay a recording: without a change, with one slower cell of each size, with all cells slower.

    Parameters
    ----------
    recording : Recording
        At least one pair.
    rules : Thresholds
        Of the gate.
    replays : int
        How many runs without a change, and for each size.
    """
    medians = recording.medians
    random = Random(1)  # noqa: S311 - no secret
    alarms = sum(bool(_name(recording, {}, rules, seed)) for seed in range(replays))
    found = {}
    for size in SIZES:
        if cells := find_eligible(medians, size, rules):
            chosen = [random.choice(cells) for _ in range(replays)]
            hits = [cell in _name(recording, {cell: size}, rules, seed) for seed, cell in enumerate(chosen)]
            found[size] = sum(hits) / replays
    long = set(find_long(medians, FACTOR, rules))
    rounds = max(1, replays // 50)  # nearly all cells are suspects then, which takes long
    named = [len(_name(recording, dict.fromkeys(medians, FACTOR), rules, seed) & long) for seed in range(rounds)]
    share = sum(named) / (rounds * len(long)) if long else 0.0
    smallest = {cell: _find_smallest(recording, cell, rules) for cell in medians}
    return Account(alarms, replays, found, share, len(long), smallest)


def _find_smallest(recording: Recording, cell: str, rules: Thresholds) -> float | None:
    alone = Recording(
        recording.condition, tuple(({cell: base[cell]}, {cell: new[cell]}) for base, new in recording.pairs)
    )
    for size in (*SIZES, *LARGE_SIZES):
        hits = sum(bool(_name(alone, {cell: size}, rules, seed)) for seed in range(REPLAYS_A_CELL))
        if hits >= FOUND * REPLAYS_A_CELL:
            return size
    return None


def _name(recording: Recording, slowdown: Seconds, rules: Thresholds, seed: int) -> set[str]:
    return {each.cell for each in replay_gate(recording, slowdown, rules, seed).select("regression")}


def _run(plan: Plan, rules: Thresholds, budget: float, tell: Tell) -> Outcome:
    with prepare_arms(plan) as arms:
        return run_gate(arms.measure, rules, budget, tell)


def _read_cutoff(cell: str) -> int:
    """Read the number of images from an id such as ``test_read_many[lmdb-100]``; 0 where there is none."""
    found = re.search(r"-([0-9]+)[-\]]", cell)
    return int(found[1]) if found else 0
