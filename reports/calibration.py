"""`python -m reports calibrate`: how often the gate and saved baselines err, in real runs and in replays."""

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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

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

NONE, ALL = "none", "all cells 1.3x"
CHANGES = {NONE: 1.0, "one cell 1.2x": 1.2, "one cell 1.5x": 1.5, ALL: 1.3}  # how many times as long
LEAST_SECONDS = 100e-6  # of a call that is slowed
KINDS = ("cpu", "memory", "allocation")
DRIFT_PERIOD = 3_600  # seconds in which the machine becomes twice as slow, and recovers
BASE_PROCESSES = 10  # as --save-baseline measures
FEWEST = 2  # processes of a replay
PROGRAMS = {
    "idle": "import signal\nsignal.pause()",
    "cpu": "while True: pass",
    "disk": "import os, sys\nfile = open(sys.argv[1] + '/written', 'wb', buffering=0)\n"
    "while True: file.seek(0); file.write(bytes(16 << 20)); os.fsync(file.fileno())",
}

Verdicts = Mapping[str, Verdict]  # by cell


@dataclass(frozen=True)
class Line:
    """A line of the record: a real run, or processes that nothing slowed: one, or the two of a pair."""

    tool: str
    condition: str
    backends: str
    seconds: float = 0.0  # that the run took, or a process
    change: str = ""  # of a run
    slowed: Sequence[str] = ()
    verdicts: Verdicts = field(default_factory=dict)
    processes: Sequence[Seconds] = ()
    fixed: Sequence[str] = ()  # cells that no change can affect


class Tool(NamedTuple):
    """What is calibrated: it measures processes, with the cells that no change affects, and judges a slowdown."""

    measure: Callable[[], tuple[Sequence[Seconds], Sequence[str]]]
    judge: Callable[[Slowdown], Verdicts]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the calibration to its parser."""
    add = parser.add_argument
    add("tool", choices=PREPARE, help="what is calibrated: the gate, or comparing with a saved baseline")
    add("record", type=Path, metavar="RECORD", help="a file: what is measured is appended, all is shown and replayed")
    add("--processes", type=read_count, default=0, help="processes to record, which replays draw from")
    add("--runs", type=read_count, default=0, help="real runs to make of each change, with HEAD on both sides")
    add("--changes", nargs="+", choices=CHANGES, default=list(CHANGES), help="what is slower (default: each in turn)")
    add("--condition", choices=PROGRAMS, default="idle", help="what else the machine does (default: idle)")
    add("--backends", type=lambda text: tuple(text.split(",")), default=(), metavar="NAME,...", help="default: all")
    add("--replays", type=read_count, default=1_000, help="of each condition and change (default: %(default)s)")


def show_calibration(options: argparse.Namespace) -> int:
    """Record what is asked for; if nothing is, show the record, and replays of it."""
    command.need_scipy()
    if options.processes or options.runs:
        with command.end_on_signals(), run_beside(PROGRAMS[options.condition]):
            extend_record(options)
        show_progress("")
    else:
        lines = [each for each in read_lines(options.record) if each.tool == options.tool]
        print_text(f"{make_run_table(lines)}\n\n{make_replay_table(lines, options.replays)}\n")
    return 0


@contextmanager
def run_beside(program: str) -> Iterator[None]:
    """Run another process meanwhile."""
    with hold_folder("calibration-load-") as folder:
        process = subprocess.Popen([sys.executable, "-c", program, folder])  # noqa: S603 - one of those above
        try:
            yield
        finally:
            process.kill()
            process.wait()


def extend_record(options: argparse.Namespace) -> None:
    """Measure processes, at least enough to choose cells that can be slowed; then make the runs."""
    empty = Line(options.tool, options.condition, ",".join(options.backends) or "all")
    with PREPARE[options.tool](options.backends) as tool:
        lines: list[Line] = []
        while sum(len(line.processes) for line in lines) < max(options.processes, 1):
            start = time.monotonic()
            processes, fixed = tool.measure()
            seconds = (time.monotonic() - start) / len(processes)
            lines.append(replace(empty, seconds=seconds, processes=processes, fixed=fixed))
            append_file(options.record, json.dumps(asdict(lines[-1])) + "\n")
        for number, change in itertools.product(range(options.runs), options.changes):
            random = Random(f"{options.backends} {change} {number}")  # noqa: S311 - not a secret
            slowed = choose_slowed(change, find_long(lines), random)
            start = time.monotonic()
            verdicts = tool.judge(Slowdown(tuple(slowed), CHANGES[change], random.choice(KINDS)))
            line = replace(empty, seconds=time.monotonic() - start, change=change, slowed=slowed, verdicts=verdicts)
            append_file(options.record, json.dumps(asdict(line)) + "\n")


@contextmanager
def prepare_gate(backends: tuple[str, ...]) -> Iterator[Tool]:
    """Prepare the gate, with HEAD on both sides."""
    code = Code(command.PROJECT)
    head, pythons = find_version(code, "HEAD"), (sys.executable, sys.executable)
    scope = Affected(backends) if backends else Affected(everything="calibration")
    selection = Selection(command.CUTOFFS, command.CELLS, backends=backends)
    with prepare_sides(Plan(command.PROJECT, code, head, head, pythons, selection, None, lambda *_: scope)) as sides:

        def judge(slowdown: Slowdown) -> Verdicts:
            sides.slow_down(slowdown)
            outcome = run_gate(sides.measure, Thresholds(), command.BUDGET, show_progress, sides.controls)
            return {each.cell: each.verdict for each in outcome.decisions}

        yield Tool(lambda: ([side.seconds for side in sides.measure(())], sides.controls), judge)


@contextmanager
def prepare_baseline(backends: tuple[str, ...]) -> Iterator[Tool]:
    """Prepare sessions as users start them; all runs share a baseline, which the first one saves."""
    with hold_folder("calibration-runs-") as folder:
        base = folder / "base.json"

        def run(*words: str, path: Path = folder / "run.json", slowdown: Slowdown = Slowdown()) -> Run:  # noqa: B008
            chosen = ("--cutoffs=10,1000", *[f"--backends={','.join(backends)}"] * bool(backends))
            files = (f"--benchmark-json={path}", f"--benchmark-storage=file://{folder}")
            options = ("benchmarks", "--benchmark-only", "-pbenchmarks.slowdown", *chosen, *files, *words)
            environment = os.environ | {SLOWDOWN: json.dumps(slowdown)}
            path.unlink(missing_ok=True)
            program = [sys.executable, "-m", "pytest", *options]
            done = subprocess.run(program, cwd=command.PROJECT, env=environment, capture_output=True, check=False)  # noqa: S603
            if done.returncode not in {0, 1} or not path.exists():
                ending = shorten_text((done.stderr or done.stdout[-500:]).decode(errors="replace"), 500)
                raise NotMeasurableError(f"a session ended with exit code {done.returncode}: {ending}")
            return read_run(path)

        def measure() -> tuple[Sequence[Seconds], Sequence[str]]:
            measured = run()
            return measured.processes, [each.cell for each in measured.references]

        def judge(slowdown: Slowdown) -> Verdicts:
            before = read_run(base) if base.exists() else run(f"--replicates={BASE_PROCESSES}", path=base)
            comparison = compare_runs(before, run(f"--compare-with={base}", slowdown=slowdown), Thresholds.threshold)
            return {row.cell: row.verdict for row in comparison.rows}

        yield Tool(measure, judge)


def find_long(lines: Sequence[Line]) -> list[str]:
    """Find the cells that a change can slow and that are long enough for it to count."""
    processes = [process for line in lines for process in line.processes]
    cells = set(processes[0]).difference(lines[0].fixed)
    return sorted(cell for cell in cells if min(each[cell] for each in processes) >= LEAST_SECONDS)


def choose_slowed(change: str, cells: Sequence[str], random: Random) -> Sequence[str]:
    """Choose the cells that a change slows."""
    if not cells and change != NONE:
        raise NotMeasurableError("no cell takes 100 microseconds, so none can be slowed; choose other backends")
    return cells if change == ALL else random.sample(cells, int(change != NONE))


def read_lines(path: Path) -> list[Line]:
    """Read a record."""
    try:
        return [Line(**json.loads(line)) for line in read_file(path).decode().splitlines()]
    except (OSError, ValueError, TypeError) as problem:
        raise WrongInputError(f"{path} isn't a record of calibrate; make one with --processes=40") from problem


def group(lines: Sequence[Line], *names: str) -> Iterator[tuple[tuple[str, ...], list[Line]]]:
    """Group lines by the values of some fields."""
    for key in dict.fromkeys(tuple(getattr(line, name) for name in names) for line in lines):
        yield key, [line for line in lines if tuple(getattr(line, name) for name in names) == key]


def make_run_table(lines: Sequence[Line]) -> str:
    """Show how many real runs were right, and how long they took."""
    heading = "condition", "backends", "slower", "runs", "slowed", "found", "called ok", "false alarms", "median"
    rows: list[tuple[str, ...]] = [(*heading, "longest")]
    for key, runs in group([line for line in lines if line.change], "condition", "backends", "change"):
        found = Counter(run.verdicts.get(cell) for run in runs for cell in run.slowed)
        alarms = [{cell for cell, word in run.verdicts.items() if word == "regression"} - {*run.slowed} for run in runs]
        counts = len(runs), found.total(), found["regression"], found["ok"], sum(map(bool, alarms))
        seconds = [run.seconds for run in runs]
        rows.append((*key, *map(str, counts), f"{statistics.median(seconds):.0f} s", f"{max(seconds):.0f} s"))
    return write_table(rows)


def make_replay_table(lines: Sequence[Line], replays: int) -> str:
    """Replay recorded processes: show how often a tool was wrong without a change, and what it said of slowdowns."""
    sizes = [name for name in CHANGES if name != NONE]
    rows: list[tuple[str, ...]] = [("condition", "backends", "processes", "false runs", "with drift", *sizes)]
    for key, chosen in group([line for line in lines if line.processes], "condition", "backends"):
        processes = sum(len(line.processes) for line in chosen)
        if processes < FEWEST:
            continue
        replay, cells = REPLAY[chosen[0].tool], find_long(chosen)
        row = [*key, str(processes)]
        for step in (0.0, statistics.median(line.seconds for line in chosen)):
            false = sum("regression" in replay(chosen, {}, seed, step).values() for seed in range(replays))
            row.append(f"{false:,} of {replays:,}")
        for change in sizes:
            found: Counter[str] = Counter()
            for seed in range(replays):
                slowed = choose_slowed(change, cells, Random(seed))  # noqa: S311 - not a secret
                verdicts = replay(chosen, dict.fromkeys(slowed, CHANGES[change]), seed, 0.0)
                found.update(verdicts[cell] for cell in slowed)
            row.append(" / ".join(f"{found[word] / found.total():.1%}" for word in ("regression", "ok")))
        rows.append(tuple(row))
    return write_table(rows)


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

    def draw(cells: Sequence[str]) -> Pair:
        first, second = random.sample(random.choice(lines).processes, 2)
        sides = slow_down(first, {}, next(drift), cells), slow_down(second, factors, next(drift), cells)
        return Pair(*map(Session, sides))

    outcome = run_gate(draw, Thresholds(), math.inf, lambda _: None, lines[0].fixed)
    return {each.cell: each.verdict for each in outcome.decisions}


def replay_baseline(lines: Sequence[Line], factors: Seconds, seed: int, step: float) -> Verdicts:
    """Compare recorded processes with ten others, until each cell is decided; `step` as of `make_drift`."""
    random = Random(seed)  # noqa: S311 - not a secret
    processes = [process for line in lines for process in line.processes]
    random.shuffle(processes)
    count, references = min(BASE_PROCESSES, len(processes) // 2), lines[0].fixed
    base = list(map(slow_down, processes[:count], itertools.repeat({}), make_drift(random, step)))
    now, waiting = make_drift(random, step), iter(processes[count:])
    new = [slow_down(next(waiting), factors, next(now))]

    def judge() -> Sequence[Row]:
        return judge_cells(base, new, references, dict.fromkeys(base[0], Thresholds()))[0]

    for process, cells in zip(waiting, choose_cells(judge, 1, lambda _: True), strict=False):
        new.append(slow_down(process, factors, next(now), [*cells, *references]))
    return {row.cell: row.verdict for row in judge()}


PREPARE: Mapping[str, Callable[[tuple[str, ...]], AbstractContextManager[Tool]]] = {
    "gate": prepare_gate,
    "baseline": prepare_baseline,
}
REPLAY = {"gate": replay_gate, "baseline": replay_baseline}
