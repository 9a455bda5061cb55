"""`python -m reports calibrate`: how often the gate and saved baselines err, in real runs and in replays of them."""

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from reports.cli import print_text, read_count, show_progress
from reports.compare.comparison import Row, choose_cells, compare_runs, judge_cells
from reports.errors import NotMeasurableError, WrongInputError
from reports.files import append_file, hold_folder, read_file
from reports.gate import command
from reports.gate.affected import Affected
from reports.gate.decision import run_gate
from reports.gate.pairs import Pair, Seconds, Session
from reports.gate.session import SLOWDOWN, Plan, Selection, Slowdown, prepare_sides
from reports.gate.worktrees import Code, find_version
from reports.noise import Thresholds, Verdict
from reports.reading import read_run
from reports.run import Run
from reports.text import shorten_text, write_table

NONE, DRIFT, ALL = "none", "none, drifting", "all cells 1.3x"
NOTHING = (NONE, DRIFT)  # is slower
CHANGES = {NONE: 1.0, "one cell 1.2x": 1.2, "one cell 1.5x": 1.5, ALL: 1.3}  # how many times as long
LEAST_SECONDS = 100e-6  # of a call that is slowed
KINDS = ("cpu", "memory", "allocation")
DRIFT_PERIOD = 3_600  # seconds in which the machine becomes twice as slow, and recovers
BASE_PROCESSES = 10  # as --save-baseline measures

Verdicts = Mapping[str, Verdict]  # by cell
# processes, cells that no change affects, verdicts, cells that need several processors
Measured = tuple[Sequence[Seconds], Sequence[str], Verdicts, Sequence[str]]
Measure = Callable[[Slowdown], Measured]


@dataclass(frozen=True)
class Line:
    """A run. If nothing was slowed, it has what processes measured of all cells; those of the gate are in pairs."""

    tool: str
    condition: str
    backends: str
    seconds: float = 0.0
    change: str = NONE
    slowed: Sequence[str] = ()
    verdicts: Verdicts = field(default_factory=dict)
    processes: Sequence[Seconds] = ()
    fixed: Sequence[str] = ()  # cells that no change can affect
    parallel: Sequence[str] = ()  # cells that need several processors


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the calibration to its parser."""
    add = parser.add_argument
    add("tool", choices=PREPARE, help="what is calibrated: the gate, or comparing with a saved baseline")
    add("record", type=Path, metavar="RECORD", help="a file: runs are appended; without --runs, all are replayed")
    add("--runs", type=read_count, default=0, help="real runs to make of each change, with HEAD on both sides")
    add("--changes", nargs="+", choices=CHANGES, default=list(CHANGES), help="what is slower (default: each in turn)")
    add("--condition", default="idle", help="what else the machine does, for the table (default: idle)")
    add("--backends", type=command.read_names, default=(), metavar="NAME,...", help="default: all")
    add("--replays", type=read_count, default=1_000, help="of each condition and change (default: %(default)s)")


def show_calibration(options: argparse.Namespace) -> int:
    """Make the runs that are asked for; if none are, show those of the record, and replay them."""
    command.need_scipy()
    if options.runs:
        with command.end_on_signals():
            extend_record(options)
        show_progress("")
    else:
        lines = [each for each in read_lines(options.record) if each.tool == options.tool]
        runs = [line for line in lines if line.verdicts]
        print_text(f"{make_table([*runs, *replay_lines(lines, options.replays)])}\n")
    return 0


def extend_record(options: argparse.Namespace) -> None:
    """Make runs of each change; those without one show which cells can be slowed."""
    names = ",".join(options.backends) or "all"
    with PREPARE[options.tool](options.backends) as measure:
        for number, change in itertools.product(range(options.runs), options.changes):
            random = Random(f"{options.backends} {change} {number}")  # noqa: S311 - not a secret
            known = [] if change == NONE else read_lines(options.record)
            known = [each for each in known if (each.tool, each.backends) == (options.tool, names)]
            slowed = choose_slowed(change, known, random)
            start = time.monotonic()
            processes, fixed, verdicts, parallel = measure(
                Slowdown(tuple(slowed), CHANGES[change], random.choice(KINDS))
            )
            run = (time.monotonic() - start, change, slowed, verdicts, [] if slowed else processes, fixed, parallel)
            line = Line(options.tool, options.condition, names, *run)
            append_file(options.record, json.dumps(asdict(line)) + "\n")


@contextmanager
def prepare_gate(backends: tuple[str, ...]) -> Iterator[Measure]:
    """Prepare runs of the gate, with HEAD on both sides."""
    code = Code(command.PROJECT)
    head, pythons = find_version(code, "HEAD"), (sys.executable, sys.executable)
    scope = Affected(backends) if backends else Affected(everything="calibration")
    selection = Selection(command.CUTOFFS, command.CELLS, backends=backends)
    with prepare_sides(Plan(command.PROJECT, code, head, head, pythons, selection, None, lambda *_: scope)) as sides:

        def measure(slowdown: Slowdown) -> Measured:
            screened: list[Seconds] = []

            def note(cells: Sequence[str], most: int) -> Sequence[Pair]:
                pairs = sides.measure(cells, most)
                screened.extend(side.seconds for pair in pairs for side in pair if not cells)
                return pairs

            sides.slow_down(slowdown)
            outcome = run_gate(note, Thresholds(), command.BUDGET, show_progress, sides.controls)
            return screened, sides.controls, {each.cell: each.verdict for each in outcome.decisions}, ()

        yield measure


@contextmanager
def prepare_baseline(backends: tuple[str, ...]) -> Iterator[Measure]:
    """Prepare sessions as users start them, and save the baseline that all are compared with."""
    chosen = ("--cutoffs=10,1000", *[f"--backends={','.join(backends)}"] * bool(backends))
    with hold_folder("calibration-runs-") as folder:

        def run(path: Path, option: str, slowdown: Slowdown) -> Run:
            files = (f"--benchmark-json={path}", f"--benchmark-storage=file://{folder}")
            words = ("pytest", "benchmarks", "--benchmark-only", "-pbenchmarks.slowdown", *chosen, *files, option)
            environment = os.environ | {SLOWDOWN: json.dumps(slowdown)}
            path.unlink(missing_ok=True)
            program = [sys.executable, "-m", *words]
            done = subprocess.run(program, cwd=command.PROJECT, env=environment, capture_output=True, check=False)  # noqa: S603
            if done.returncode not in {0, 1} or not path.exists():
                ending = shorten_text((done.stderr or done.stdout[-500:]).decode(errors="replace"), 500)
                raise NotMeasurableError(f"a session ended with exit code {done.returncode}: {ending}")
            return read_run(path)

        base = run(folder / "base.json", f"--replicates={BASE_PROCESSES}", Slowdown())
        waiting = list(base.processes)  # until a run records them

        def measure(slowdown: Slowdown) -> Measured:
            new = run(folder / "run.json", f"--compare-with={folder / 'base.json'}", slowdown)
            processes = [*waiting, new.processes[0]]
            waiting.clear()
            rows = compare_runs(base, new, Thresholds.threshold).rows
            verdicts = {row.cell: row.verdict for row in rows}
            return processes, [each.cell for each in new.references], verdicts, [*new.parallel]

        yield measure


def choose_slowed(change: str, lines: Sequence[Line], random: Random) -> Sequence[str]:
    """Choose the cells that a change slows, of those that are long enough in all processes for it to count."""
    processes = [process for line in lines for process in line.processes]
    cells = set(processes[0] if processes else ()).difference(*(line.fixed for line in lines))
    long = sorted(cell for cell in cells if min(each[cell] for each in processes) >= LEAST_SECONDS)
    if change in NOTHING:
        return []
    if not long:
        raise NotMeasurableError("no run without a change has a cell of 100 microseconds, so none can be slowed")
    return long if change == ALL else random.sample(long, 1)


def read_lines(path: Path) -> list[Line]:
    """Read a record."""
    try:
        return [Line(**json.loads(line)) for line in read_file(path).decode().splitlines()]
    except (OSError, ValueError, TypeError) as problem:
        raise WrongInputError(f"{path} isn't a record of calibrate; make one with --runs=4") from problem


def make_table(lines: Sequence[Line]) -> str:
    """Show how many runs of each kind were right, and how long they took."""
    heading = "runs", "slowed", "found", "called ok", "false alarms", "median", "longest"
    rows: list[tuple[str, ...]] = [("condition", "backends", "slower", *heading)]
    for key in dict.fromkeys((line.condition, line.backends, line.change) for line in lines):
        runs = [line for line in lines if (line.condition, line.backends, line.change) == key]
        found = Counter(run.verdicts.get(cell) for run in runs for cell in run.slowed)
        alarms = [{cell for cell, word in run.verdicts.items() if word == "regression"} - {*run.slowed} for run in runs]
        counts = len(runs), found.total(), found["regression"], found["ok"], sum(map(bool, alarms))
        seconds = [statistics.median(run.seconds for run in runs), max(run.seconds for run in runs)]
        rows.append((*key, *(f"{each:,}" for each in counts), *(f"{each:.0f} s" if each else "" for each in seconds)))
    return write_table(rows)


def replay_lines(lines: Sequence[Line], replays: int) -> Iterator[Line]:
    """Replay what was measured in each condition: each change, and a machine that drifts."""
    for condition, backends in dict.fromkeys((line.condition, line.backends) for line in lines if line.processes):
        chosen = [line for line in lines if line.processes and (line.condition, line.backends) == (condition, backends)]
        step = statistics.median(line.seconds / (len(line.processes) if line.verdicts else 1) for line in chosen)
        for change, seed in itertools.product((*CHANGES, DRIFT), range(replays)):
            slowed = choose_slowed(change, chosen, Random(seed))  # noqa: S311 - not a secret
            factors = dict.fromkeys(slowed, CHANGES.get(change, 1.0))
            verdicts = REPLAY[lines[0].tool](chosen, factors, seed, step if change == DRIFT else 0.0)
            yield Line(lines[0].tool, f"{condition}, replayed", backends, 0.0, change, slowed, verdicts)


def make_drift(random: Random, step: float) -> Iterator[float]:
    """Yield how many times as long each process takes, if one takes `step` seconds; always 1 if that is zero."""
    start = random.random() if step else 0.0
    return (2 ** math.sin(math.pi * (start + number * step / DRIFT_PERIOD)) ** 2 for number in itertools.count())


def slow_down(process: Seconds, factors: Seconds, drift: float, cells: Sequence[str] = ()) -> Seconds:
    """Return what a process would have measured of some cells, or of all, if they had taken so many times as long."""
    return {cell: drift * process[cell] * factors.get(cell, 1.0) for cell in cells or process}


def replay_gate(lines: Sequence[Line], factors: Seconds, seed: int, step: float) -> Verdicts:
    """Run the gate on recorded pairs, with their sides exchanged at random; `step` as of `make_drift`."""
    random = Random(seed)  # noqa: S311 - not a secret
    drift = make_drift(random, step)
    pairs = [line.processes[first : first + 2] for line in lines for first in range(0, len(line.processes), 2)]

    def draw(cells: Sequence[str], _: int) -> Sequence[Pair]:
        first, second = random.sample(random.choice(pairs), 2)
        sides = slow_down(first, {}, next(drift), cells), slow_down(second, factors, next(drift), cells)
        return [Pair(*map(Session, sides))]

    outcome = run_gate(draw, Thresholds(), math.inf, lambda _: None, lines[0].fixed)
    return {each.cell: each.verdict for each in outcome.decisions}


def replay_baseline(lines: Sequence[Line], factors: Seconds, seed: int, step: float) -> Verdicts:
    """Compare recorded processes with ten others, until all that look slower are decided; `step` as of `make_drift`."""
    random = Random(seed)  # noqa: S311 - not a secret
    processes = [process for line in lines for process in line.processes]
    random.shuffle(processes)
    count, references = min(BASE_PROCESSES, len(processes) // 2), lines[0].fixed
    base = list(map(slow_down, processes[:count], itertools.repeat({}), make_drift(random, step)))
    now, waiting = make_drift(random, step), iter(processes[count:])
    new = [slow_down(next(waiting), factors, next(now))]

    def judge() -> Sequence[Row]:
        return judge_cells(base, new, references, dict.fromkeys(base[0], Thresholds()), lines[0].parallel)[0]

    def select(rows: Sequence[Row]) -> list[str]:
        return [row.cell for row in rows if row.suspect]

    for process, cells in zip(waiting, choose_cells(judge, 1, select), strict=False):
        new.append(slow_down(process, factors, next(now), [*cells, *references]))
    return {row.cell: row.verdict for row in judge()}


PREPARE: Mapping[str, Callable[[tuple[str, ...]], AbstractContextManager[Measure]]] = {
    "gate": prepare_gate,
    "baseline": prepare_baseline,
}
REPLAY = {"gate": replay_gate, "baseline": replay_baseline}
