"""The gate's test of itself: false alarms and missed slowdowns on this machine, in real runs and in replays of them."""

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from reports.cli import print_text, read_count, show_progress
from reports.errors import NotMeasurableError
from reports.files import hold_folder
from reports.gate.decision import Outcome, run_gate
from reports.gate.pairs import Pair, Recording, Seconds, Session, read_recordings
from reports.gate.session import Plan, Slowdown, prepare_sides
from reports.gate.statistics import estimate_shift
from reports.noise import Thresholds
from reports.text import escape_text, name_cell, write_table

FACTOR = 1.2  # of the slower cell in real runs
SIZES = (1.1, 1.15, 1.2, 1.3)  # of the slower cell in replays
MIN_CUTOFF = 100  # smaller cells mostly measure how long a store takes to open
MARGIN = 1.25  # times the smallest difference that counts: a cell at the limit itself is found every other time

_SPIN = "while True: pass"
_WRITE = """
import os, sys
content = bytes(16 << 20)
with open(os.path.join(sys.argv[1], "written"), "wb", buffering=0) as file:
    while True:
        file.seek(0)
        file.write(content)
        os.fsync(file.fileno())
"""


@contextmanager
def _run_beside(program: str) -> Iterator[None]:
    with hold_folder("gate-load-") as folder:
        process = subprocess.Popen([sys.executable, "-c", program, folder])  # noqa: S603 - one of the two above
        try:
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def _keep_to_one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


BACKGROUND_LOADS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "idle": nullcontext,
    "cpu": lambda: _run_beside(_SPIN),
    "disk": lambda: _run_beside(_WRITE),
    "one-core": _keep_to_one_processor,
}


class Trial(NamedTuple):
    """One real run of the gate: the cell that was slowed (or none), and the cells that the gate named."""

    load: str
    slowed: str
    named: frozenset[str]
    seconds: float

    @property
    def found(self) -> bool:
        """Whether the gate named the slower cell."""
        return self.slowed in self.named

    @property
    def false_alarms(self) -> list[str]:
        """The cells that the gate named, although they weren't slowed."""
        return sorted(self.named - {self.slowed})

    def describe(self) -> str:
        """Describe the run in one line."""
        change = f"{name_cell(self.slowed)} slower" if self.slowed else "no change"
        result = "found" if self.found else "MISSED" if self.slowed else "none found"
        alarms = "".join(f", FALSE ALARM {name_cell(cell)}" for cell in self.false_alarms)
        return f"{self.load}: {change}: {result}{alarms}; {self.seconds:.0f} s"


def add_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the self-test to a group of the gate's parser."""
    add = group.add_argument
    self_test = "run the gate on BASE against itself, unchanged and with one slower cell; then replay that"
    add("--self-test", action="store_true", help=self_test)
    runs = "real runs of either kind, in each condition (default: %(default)s)"
    add("--runs", type=read_count, default=1, help=runs)
    conditions = f"what else the machine does: {', '.join(BACKGROUND_LOADS)} (default: idle)"
    add("--conditions", type=_read_loads, default=("idle",), metavar="NAME,...", help=conditions)
    add("--replay", type=Path, metavar="RECORD", help="run the gate on what --record wrote, repeatedly")
    replays = "how often, for each kind and size (default: %(default)s)"
    add("--replays", type=read_count, default=1_000, help=replays)


def _read_loads(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not BACKGROUND_LOADS.keys() >= set(names):
        raise argparse.ArgumentTypeError(f"{text!r}: conditions are {', '.join(BACKGROUND_LOADS)}")
    return names


def show_self_test(options: argparse.Namespace, plan: Plan, thresholds: Thresholds) -> None:
    """Run the self-test and print one line a run, a table of the runs, and a table of replays of them."""
    trials = []
    with hold_folder("gate-record-") as folder:
        record = options.record or folder / "pairs.jsonl"
        for trial in run_trials(replace(plan, record=record), thresholds, options):
            trials.append(trial)
            show_progress("")
            print_text(f"{trial.describe()}\n")
        print_text(f"\n{make_trial_table(trials)}\n\n")
        show_replay(record, thresholds, options.replays)


def run_trials(plan: Plan, thresholds: Thresholds, options: argparse.Namespace) -> Iterator[Trial]:
    """Run the gate under each background load, as often without a change as with one slower cell."""
    random = Random(0)  # noqa: S311 - not a secret
    for load in options.conditions:
        with BACKGROUND_LOADS[load]():
            for _ in range(options.runs):
                outcome = _run(replace(plan, load=load), thresholds, options.budget)
                yield Trial(load, "", _name_regressions(outcome), outcome.seconds)
                seconds = {each.cell: each.base_seconds for each in outcome.decisions}
                cells = find_eligible(seconds, FACTOR, thresholds)
                if not cells:
                    raise NotMeasurableError(f"no cell of {MIN_CUTOFF} images or more is long enough to be slowed")
                cell = random.choice(cells)
                slowed = replace(plan, load=load, record=None, slowdown=Slowdown(cell, FACTOR))
                outcome = _run(slowed, thresholds, options.budget)
                yield Trial(load, cell, _name_regressions(outcome), outcome.seconds)


def _run(plan: Plan, thresholds: Thresholds, budget: float) -> Outcome:
    with prepare_sides(plan) as sides:
        return run_gate(sides.measure, thresholds, budget, show_progress)


def _name_regressions(outcome: Outcome) -> frozenset[str]:
    return frozenset(each.cell for each in outcome.select("regression"))


def find_eligible(seconds: Seconds, factor: float, thresholds: Thresholds) -> list[str]:
    """Find the cells of at least 100 images in which such a slowdown is long enough to count, with a margin."""
    difference = MARGIN * thresholds.least_seconds
    long = [cell for cell, each in seconds.items() if each * (factor - 1) >= difference]
    cutoffs = {cell: re.search(r"-([0-9]+)[-\]]", cell) for cell in long}  # of `test_read_many[lmdb-100]`
    return [cell for cell, found in cutoffs.items() if found and int(found[1]) >= MIN_CUTOFF]


def make_trial_table(trials: Sequence[Trial]) -> str:
    """Show for each background load how many real runs were right, and how long they took."""
    rows: list[tuple[str, ...]] = [("condition", "slower", "runs", "found", "false alarms", "median", "longest")]
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.load, f"one cell {FACTOR}x" if trial.slowed else "nothing"), []).append(trial)
    for names, chosen in groups.items():
        seconds = [trial.seconds for trial in chosen]
        counts = len(chosen), sum(trial.found for trial in chosen), sum(bool(trial.false_alarms) for trial in chosen)
        times = f"{statistics.median(seconds):.0f} s", f"{max(seconds):.0f} s"
        rows.append((*names, *map(str, counts), *times))
    return write_table(rows)


def show_replay(path: Path, thresholds: Thresholds, replays: int) -> None:
    """Replay a recording and print how often replays were wrong without a change, and found which slowdown."""
    heading = ("condition", "sessions", "new / base", "false runs", *(f"{size}x" for size in SIZES), f"all {FACTOR}x")
    rows = [_make_replay_row(recording, thresholds, replays) for recording in read_recordings(path)]
    print_text(f"{write_table([heading, *rows])}\n")


def _make_replay_row(recording: Recording, thresholds: Thresholds, replays: int) -> list[str]:
    load, pairs = recording
    logarithms = [[math.log(new[cell] / base[cell]) for cell in base] for base, new in pairs]
    bias = math.exp(float(estimate_shift(np.array(logarithms)).mean()))
    false_runs = sum(bool(replay_gate(recording, {}, thresholds, seed)) for seed in range(replays))
    row = [escape_text(load), str(2 * len(pairs)), f"{bias:.4f}", f"{false_runs:,} of {replays:,}"]
    medians = {cell: statistics.median(side[cell] for pair in pairs for side in pair) for cell in pairs[0][0]}
    random = Random(1)  # noqa: S311 - not a secret
    for size in SIZES:
        cells = find_eligible(medians, size, thresholds)
        slowed = [random.choice(cells) for _ in range(replays)] if cells else []
        hits = sum(cell in replay_gate(recording, {cell: size}, thresholds, seed) for seed, cell in enumerate(slowed))
        row.append(f"{hits / replays:.1%}" if cells else "")
    cells = find_eligible(medians, FACTOR, thresholds)
    rounds = max(1, replays // 50) if cells else 0  # nearly all cells are suspects then, which takes long
    all_slower = dict.fromkeys(medians, FACTOR)
    named = [len(replay_gate(recording, all_slower, thresholds, seed).intersection(cells)) for seed in range(rounds)]
    return [*row, f"{statistics.mean(named) / len(cells):.0%} of {len(cells)}" if cells else ""]


def replay_gate(recording: Recording, slowdown: Seconds, thresholds: Thresholds, seed: int) -> frozenset[str]:
    """Run the gate on pairs drawn from a recording, with its sides exchanged at random; return the regressions.

    `slowdown` is how many times as long each cell takes in the candidate.
    """
    random = Random(seed)  # noqa: S311 - not a secret

    def draw(cells: Sequence[str]) -> Pair:
        base, new = random.sample(random.choice(recording.pairs), 2)
        chosen = cells or base.keys()
        return Pair(
            Session({cell: base[cell] for cell in chosen}),
            Session({cell: new[cell] * slowdown.get(cell, 1.0) for cell in chosen}),
        )

    return _name_regressions(run_gate(draw, thresholds, math.inf, lambda _: None))
