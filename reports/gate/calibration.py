"""`python -m reports calibrate`: the gate's test of itself, in real runs of known outcome and in replays of those."""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any

from reports.cli import print_text, read_count, show_progress
from reports.errors import NotMeasurableError, WrongInputError
from reports.files import append_file, hold_folder, read_file
from reports.gate import command
from reports.gate.affected import Affected
from reports.gate.decision import run_gate
from reports.gate.pairs import Pair, Seconds, Session
from reports.gate.session import Plan, Selection, Slowdown, prepare_sides
from reports.gate.worktrees import Code, find_version
from reports.noise import Thresholds
from reports.text import write_table

NONE, ALL = "none", "all cells 1.3x"
CHANGES = {NONE: 1.0, "one cell 1.2x": 1.2, "one cell 1.5x": 1.5, ALL: 1.3}  # how many times as long
FIELDS = {"condition", "backends", "change", "slowed", "named", "inconclusive", "seconds", "sessions", "pairs"}
LEAST_SECONDS = 100e-6  # of a call that is slowed
KINDS = ("cpu", "memory", "allocation")
DRIFT_PERIOD = 3_600  # seconds in which the machine becomes twice as slow, and recovers
PROGRAMS = {
    "cpu": "while True: pass",
    "disk": "import os, sys\nfile = open(sys.argv[1] + '/written', 'wb', buffering=0)\n"
    "while True: file.seek(0); file.write(bytes(16 << 20)); os.fsync(file.fileno())",
}


Run = dict[str, Any]  # a line of the record


@contextmanager
def run_beside(program: str) -> Iterator[None]:
    """Run another process meanwhile."""
    with hold_folder("gate-load-") as folder:
        process = subprocess.Popen([sys.executable, "-c", program, folder])  # noqa: S603 - one of those above
        try:
            yield
        finally:
            process.kill()
            process.wait()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the calibration to its parser."""
    add = parser.add_argument
    add("record", type=Path, metavar="RECORD", help="the runs: new ones are appended, all are shown and replayed")
    add("--runs", type=int, default=0, help="real runs of each kind to make, with HEAD on both sides")
    add("--condition", choices=("idle", *PROGRAMS), default="idle", help="what else the machine does (default: idle)")
    add("--changes", nargs="+", choices=CHANGES, default=list(CHANGES), help="what is slower (default: each in turn)")
    add("--backends", type=lambda text: tuple(text.split(",")), default=(), metavar="NAME,...", help="default: all")
    add("--replays", type=read_count, default=1_000, help="of each condition and change (default: %(default)s)")


def show_calibration(options: argparse.Namespace) -> int:
    """Make the runs that are asked for, then show what is in the record, and replays of it."""
    command.need_scipy()
    beside: AbstractContextManager[None] = nullcontext()
    if options.condition in PROGRAMS:
        beside = run_beside(PROGRAMS[options.condition])
    with command.end_on_signals(), beside:
        for number in range(options.runs):
            for change in options.changes:
                append_file(options.record, json.dumps(measure_run(options, change, number)) + "\n")
    show_progress("")
    runs = read_runs(options.record)
    print_text(f"{make_run_table(runs)}\n\n{make_replay_table(runs, options.replays)}\n")
    return 0


def measure_run(options: argparse.Namespace, change: str, seed: int) -> Run:
    """Run the gate on HEAD against itself, with this change; return a line of the record."""
    random = Random(f"{options.backends} {change} {seed}")  # noqa: S311 - not a secret
    head = find_version(Code(command.PROJECT), "HEAD")
    scope = Affected(options.backends) if options.backends else Affected(everything="calibration")
    selection = Selection(command.CUTOFFS, command.CELLS, backends=options.backends)
    pythons = sys.executable, sys.executable
    plan = Plan(command.PROJECT, Code(command.PROJECT), head, head, pythons, selection, None, lambda *_: scope)
    pairs: list[Pair] = []
    with prepare_sides(plan) as sides:
        seconds = sides.measure(()).baseline.seconds
        eligible = [cell for cell in find_long(seconds) if cell not in sides.controls]
        slowed = choose_slowed(change, eligible, random)
        if slowed:
            sides.slow_down(Slowdown(tuple(slowed), CHANGES[change], random.choice(KINDS)))

        def measure(cells: Sequence[str]) -> Pair:
            pairs.append(sides.measure(cells))
            return pairs[-1]

        outcome = run_gate(measure, Thresholds(), command.BUDGET, show_progress, sides.controls)
    return {
        "condition": options.condition,
        "backends": ",".join(options.backends) or "all",
        "change": change,
        "slowed": slowed,
        "named": [each.cell for each in outcome.select("regression")],
        "inconclusive": [each.cell for each in outcome.select("inconclusive")],
        "seconds": outcome.seconds,
        "sessions": 2 * len(pairs),
        "pairs": [[side.seconds for side in pair] for pair in pairs[: outcome.screened]] if change == NONE else [],
    }


def find_long(seconds: Seconds) -> list[str]:
    """Find the cells that are long enough for a slowdown to count."""
    return sorted(cell for cell, each in seconds.items() if each >= LEAST_SECONDS)


def choose_slowed(change: str, cells: Sequence[str], random: Random) -> Sequence[str]:
    """Choose the cells that a change slows."""
    if not cells and change != NONE:
        raise NotMeasurableError("no cell takes 100 microseconds, so none can be slowed; choose other backends")
    return cells if change == ALL else random.sample(cells, int(change != NONE))


def read_runs(path: Path) -> list[Run]:
    """Read a record."""
    try:
        runs: list[Run] = [json.loads(line) for line in read_file(path).decode().splitlines()]
        if all(run.keys() >= FIELDS for run in runs) and runs:
            return runs
    except (OSError, ValueError, AttributeError):
        pass
    raise WrongInputError(f"{path} isn't a record of calibrate; make one with --runs=1")


def group(runs: Sequence[Run], *names: str) -> Iterator[tuple[tuple[str, ...], list[Run]]]:
    """Group runs by the values of some fields."""
    for key in dict.fromkeys(tuple(run[name] for name in names) for run in runs):
        yield key, [run for run in runs if tuple(run[name] for name in names) == key]


def make_run_table(runs: Sequence[Run]) -> str:
    """Show how many real runs were right, and how long they took."""
    heading = "condition", "backends", "slower", "runs", "slowed", "found", "inconclusive", "false alarms", "median"
    rows: list[tuple[str, ...]] = [(*heading, "longest")]
    for key, chosen in group(runs, "condition", "backends", "change"):
        found, unsure = (
            sum(len({*run["slowed"]} & {*run[name]}) for run in chosen) for name in ("named", "inconclusive")
        )
        alarms = sum(bool({*run["named"]} - {*run["slowed"]}) for run in chosen)
        counts = len(chosen), sum(len(run["slowed"]) for run in chosen), found, unsure, alarms
        seconds = [run["seconds"] for run in chosen]
        times = f"{statistics.median(seconds):.0f} s", f"{max(seconds):.0f} s"
        rows.append((*key, *map(str, counts), *times))
    return write_table(rows)


def make_replay_table(runs: Sequence[Run], replays: int) -> str:
    """Replay the gate on recorded pairs: show how often it was wrong without a change, and found which slowdown."""
    sizes = [name for name in CHANGES if name != NONE]
    rows: list[tuple[str, ...]] = [("condition", "backends", "processes", "false runs", "with drift", *sizes)]
    for key, chosen in group([run for run in runs if run["pairs"]], "condition", "backends"):
        pairs = [pair for run in chosen for pair in run["pairs"]]
        step = statistics.median(run["seconds"] / run["sessions"] for run in chosen)
        false = [sum(bool(replay(pairs, {}, seed, each)) for seed in range(replays)) for each in (0.0, step)]
        row = [*key, str(2 * len(pairs)), *(f"{each:,} of {replays:,}" for each in false)]
        cells = find_long({cell: min(side[cell] for pair in pairs for side in pair) for cell in pairs[0][0]})
        for change in sizes:
            found = 0.0
            for seed in range(replays):
                slowed = choose_slowed(change, cells, Random(seed))  # noqa: S311 - not a secret
                named = replay(pairs, dict.fromkeys(slowed, CHANGES[change]), seed)
                found += len(named.intersection(slowed)) / len(slowed)
            row.append(f"{found / replays:.1%}")
        rows.append(tuple(row))
    return write_table(rows)


def replay(pairs: Sequence[Sequence[Seconds]], slowdown: Seconds, seed: int, step: float = 0.0) -> frozenset[str]:
    """Run the gate on pairs drawn from a recording, with their sides exchanged at random; return the regressions.

    `slowdown` is how many times as long each cell takes in the candidate. With a `step`, which is the seconds that a
    session takes, the machine drifts.
    """
    random = Random(seed)  # noqa: S311 - not a secret
    now = random.random() * DRIFT_PERIOD

    def draw(cells: Sequence[str]) -> Pair:
        nonlocal now
        sides = []
        for times, factors in zip(random.sample(random.choice(pairs), 2), ({}, slowdown), strict=True):
            now += step
            drift = 2 ** math.sin(math.pi * now / DRIFT_PERIOD) ** 2 if step else 1.0
            sides.append(Session({cell: drift * times[cell] * factors.get(cell, 1.0) for cell in cells or times}))
        return Pair(*sides)

    outcome = run_gate(draw, Thresholds(), math.inf, lambda _: None)
    return frozenset(each.cell for each in outcome.select("regression"))
