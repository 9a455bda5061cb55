"""Sessions of the gate: fresh pytest processes that measure the chosen cells of one side, a few rounds each.

The two sessions of a pair take turns on one processor: both measure the same cell, a few rounds at a time. Each
processor measures a pair of its own.
"""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from reports.errors import NotMeasurableError, WrongInputError
from reports.files import hold_folder, read_file
from reports.gate.affected import Affected
from reports.gate.backends import check_backends
from reports.gate.pairs import Pair, Session, SideName
from reports.gate.syncs import Counts, count_syncs, make_command
from reports.gate.worktrees import MEASURED, Code, Version, make_worktree
from reports.reading import read_run
from reports.run import BrokenRunError, ImageSet
from reports.text import count_noun, shorten_text

ROUNDS = ("--benchmark-max-time=0.04", "--benchmark-min-rounds=4")
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, if there is one
AT_ONCE = 4  # pairs: more would need much memory
MAX_STORES = 64  # large ones that a session may leave until it ends
BYTES_PER_IMAGE, BYTES_PER_PHOTO = 4_096, 1 << 18  # in a store
TIMEOUT = 600  # seconds for one cell
PHOTOS, ENCODED = "standin", "encoded"  # of benchmarks: generated photos, and what is stored of them
PHOTO_CUTOFFS = (10,)  # more take too long to decode, and to generate in each session
# of benchmarks: the gate alone chooses them, not the environment or an ini file; `cifar10` says what is on this disk
OPTIONS = ("images", "payloads", "size", "cutoffs", "backends", "durable", "cold", "remote", "latency")
PYTEST = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER")
REMOVED = (*map(str.upper, OPTIONS), *PYTEST, "PYTHONDONTWRITEBYTECODE")
SLOWDOWN = "IMAGE_STORAGE_SLOWDOWN"  # of benchmarks/slowdown.py
TURNS = "IMAGE_STORAGE_TURNS"  # of benchmarks/gate_session.py: the descriptor of a session's turns, and its processor
ROUND = b"r"  # of benchmarks/gate_session.py: a session is ready for more rounds, not for its next cell
NO_CELLS, WRONG_EXPRESSION = 5, 6  # exit codes: pytest's, and that of benchmarks/gate_session.py


@dataclass(frozen=True)
class Selection:
    """Which cells a session runs: those with these ids, or all that a pytest -k expression and cutoffs choose.

    `images` and `payloads` are as for benchmarks; without them, the images are CIFAR-10 or its stand-in.
    """

    cutoffs: tuple[int, ...]
    expression: str = ""
    cells: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()  # empty: all
    images: str = ""
    payloads: tuple[str, ...] = ()

    @property
    def store_bytes(self) -> int:
        """How many bytes the largest store may have."""
        return max(self.cutoffs) * (BYTES_PER_PHOTO if self.images else BYTES_PER_IMAGE)


class Slowdown(NamedTuple):
    """The cells that benchmarks/slowdown.py slows, how many times as long they take, and what takes this time."""

    cells: tuple[str, ...] = ()
    factor: float = 1.0
    kind: str = "cpu"


@dataclass(frozen=True)
class Side:
    """One side of the comparison: today's benchmarks with one version of some code, and an interpreter."""

    name: SideName
    worktree: Path
    python: str = sys.executable
    code: str = MEASURED  # in the worktree
    slowdown: Slowdown = Slowdown()  # noqa: RUF009 - it can't change


@dataclass(frozen=True)
class Plan:
    """The two sides that a run of the gate compares, and where it puts things."""

    project: Path  # its benchmarks measure both sides
    code: Code  # what differs
    baseline: Version
    candidate: Version
    pythons: tuple[str, str]  # of baseline and candidate
    selection: Selection
    stores: Path | None  # None: in memory, if there is a file system in it
    find_affected: Callable[[Path, Path], Affected]  # in the worktrees of both sides


class Sides:
    """Both sides, ready to be measured; `controls` are cells that the change can't affect.

    `images` describes the image sets that were measured, by their digests.
    """

    def __init__(self, baseline: Side, candidate: Side, plan: Plan, stores: Path) -> None:
        self.stores = stores
        self.images: dict[str, str] = {}
        self.affected = plan.find_affected(baseline.worktree, candidate.worktree)
        self._sides = (baseline, candidate)
        self._named = self.affected.find_backends() or plan.selection.backends
        chosen = choose_selections(plan.selection, self.affected)
        controls = [self.affected.choose_controls(each.cutoffs, "".join(each.payloads[-1:])) for each in chosen]
        self.controls = tuple(itertools.chain.from_iterable(controls))
        self._selections = list(map(self._restrict, chosen, controls))
        self._origins: dict[str, tuple[Selection, str]] = {}  # of cells: selection and backend
        self._pairs = 0

    def _restrict(self, selection: Selection, controls: Sequence[str]) -> Selection:
        backends = (*self._named, *self.affected.find_controls()) if self._named else ()
        return replace(selection, expression=self.affected.restrict(selection.expression, controls), backends=backends)

    def measure(self, cells: Sequence[str], most: int) -> list[Pair]:
        """Measure pairs for these cells, or all: as many as there are processors, but at most so many.

        Each image set has its own sessions. Of several cells, controls are measured next to others of their set only.
        A set of which no cell could be compared isn't measured again.
        """
        first = self._pairs
        self._pairs += min(most, len(list_processors()))
        jobs = []
        for selection in self._selections:
            chosen = tuple(cell for cell in cells if self._find_origin(cell)[0] == selection)
            if not cells or not all(cell in self.controls for cell in chosen):
                jobs += [(selection, chosen, number) for number in range(first, self._pairs)]
        measured = run_at_once([partial(self._measure, *job) for job in jobs], first)
        pairs = [Pair(Session({}), Session({})) for _ in range(first, self._pairs)]
        compared = set()
        for (selection, _, number), pair in zip(jobs, measured, strict=True):
            self._note(selection, pair)
            pairs[number - first] = pairs[number - first].join(pair)
            if not pair.baseline.seconds.keys().isdisjoint(pair.candidate.seconds):
                compared.add(selection)
        if not cells:
            self._selections = [each for each in self._selections if each in compared]
        return pairs

    def _find_origin(self, cell: str) -> tuple[Selection, str]:
        return self._origins.get(cell, (self._selections[0], ""))

    def _measure(self, selection: Selection, cells: tuple[str, ...], number: int, place: "Place") -> Pair:
        """Run sessions of both sides; which one starts alternates, so that it favours neither."""
        backends = tuple(dict.fromkeys(self._find_origin(cell)[1] for cell in cells))
        if backends and all(backends):  # importing the libraries of the others takes time
            selection = replace(selection, backends=backends)
        order = self._sides[::-1] if number % 2 else self._sides
        sessions = run_sessions(order, replace(selection, cells=cells), self.stores, number + 1, place)
        return Pair(**{side.name: each for side, each in zip(order, sessions, strict=True)})

    def _note(self, selection: Selection, pair: Pair) -> None:
        """Note where cells come from, and which images were measured."""
        self._origins |= {cell: (selection, backend) for side in pair for cell, backend in side.backends.items()}
        self.images |= {**pair.baseline.images, **pair.candidate.images}
        if pair.baseline.images and pair.candidate.images and pair.baseline.images != pair.candidate.images:
            raise NotMeasurableError(
                f"one side can read more images of {selection.images} than the other: leave those out"
            )

    def slow_down(self, slowdown: Slowdown) -> None:
        """Slow cells of the candidate from now on."""
        self._sides = (self._sides[0], replace(self._sides[1], slowdown=slowdown))

    def count_syncs(self) -> tuple[Counts, ...]:
        """Count how often each side syncs when it stores with the affected backends."""
        return count_sides(self._sides, self._named, self.stores)


def choose_selections(selection: Selection, affected: Affected) -> list[Selection]:
    """Choose the image sets that are measured: the one that was asked for, or those that show what a change affects."""
    if selection.images:
        return [selection]
    photos = replace(selection, images=PHOTOS, payloads=(ENCODED,), cutoffs=PHOTO_CUTOFFS)
    if not affected.everything:  # decoding takes nearly all of such an epoch, so what one backend does hardly counts
        others = " and ".join(f"({part})" for part in (selection.expression, "not decoded") if part)
        photos = replace(photos, expression=others)
    return [selection] * affected.pixels + [photos] * bool(affected.encoded)


@contextmanager
def prepare_sides(plan: Plan) -> Iterator[Sides]:
    """Make both worktrees in a temporary folder; delete them and all stores at the end."""
    with (
        hold_folder("gate-trees-") as folder,
        claim_stores(plan.stores, plan.selection.store_bytes) as stores,
    ):
        worktrees = folder / "old", folder / "new"  # paths of one length: only the storage differs
        for version, worktree in zip((plan.baseline, plan.candidate), worktrees, strict=True):
            make_worktree(plan.project, plan.code, version, worktree)
        check_backends(plan.selection.backends, plan.pythons, worktrees)
        baseline = Side("baseline", worktrees[0], plan.pythons[0], plan.code.path)
        candidate = Side("candidate", worktrees[1], plan.pythons[1], plan.code.path)
        yield Sides(baseline, candidate, plan, stores)


@contextmanager
def claim_stores(folder: Path | None, store_bytes: int) -> Iterator[Path]:
    """Make a folder for stores of up to so many bytes: in `folder`, else in memory if they fit, else on disk."""
    in_memory = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MAX_STORES * store_bytes
    with hold_folder("gate-stores-", folder or (MEMORY if in_memory else None)) as made:
        yield made


class Place(NamedTuple):
    """Where one pair at a time runs: its processor, the names of its files, and whether it must stop."""

    number: int
    processor: int
    stopped: threading.Event

    def name_files(self, side: Side) -> tuple[Path, Path, Path]:
        """Name what a session of this side writes: its run, its journal, its output."""
        names = f"run-{self.number}.json", f"journal-{self.number}.jsonl", f"output-{self.number}"
        return side.worktree / names[0], side.worktree / names[1], side.worktree / names[2]


def list_processors() -> list[int]:
    """List the processors that measure pairs at once."""
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return processors[:AT_ONCE]


def run_at_once(jobs: Sequence[Callable[[Place], Pair]], first: int) -> list[Pair]:
    """Run jobs, each in a place of its own: the processors from number `first` on. If one fails, stop all."""
    processors, stopped = list_processors(), threading.Event()
    free = deque(Place(number, processor, stopped) for number, processor in enumerate(processors))
    free.rotate(-first)  # one may be busy or slow

    def run(job: Callable[[Place], Pair]) -> Pair:
        if stopped.is_set():
            raise CancelledError
        place = free.popleft()
        try:
            return job(place)
        except BaseException:
            stopped.set()
            raise
        finally:
            free.append(place)

    with ThreadPoolExecutor(len(processors)) as pool:
        try:
            futures = [pool.submit(run, job) for job in jobs]
            failures = [failure for failure in (each.exception() for each in futures) if failure]
        finally:
            stopped.set()
    if failures:
        raise min(failures, key=lambda each: isinstance(each, CancelledError))  # the one that stopped the others
    return [each.result() for each in futures]


def run_sessions(sides: Sequence[Side], selection: Selection, stores: Path, seed: int, place: Place) -> list[Session]:
    """Run a session of each side, in turns; `seed` is that of string hashes, and the same for all."""
    commands, folders = [], [stores / f"{side.worktree.name}-{place.number}" for side in sides]
    for side, folder in zip(sides, folders, strict=True):
        report, journal, _ = place.name_files(side)
        for path in (report, journal):
            path.unlink(missing_ok=True)
        commands.append(_make_command(side, selection, folder, report, journal))
    os.sync()  # so that no earlier write reaches the disk while the clock runs
    ended = _run_processes(sides, commands, seed, place)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return [_read_session(side, selection, place, *each) for side, each in zip(sides, ended, strict=True)]


def _read_session(side: Side, selection: Selection, place: Place, code: int, output: str) -> Session:
    report, journal, _ = place.name_files(side)
    started, absent, unavailable = _read_journal(journal)
    if code == NO_CELLS:
        return Session({}, unavailable=unavailable)
    if code == WRONG_EXPRESSION:
        raise WrongInputError(f"{shorten_text(selection.expression)}: pytest's -k doesn't accept this expression")
    try:
        run = read_run(report)
    except BrokenRunError as problem:  # without a measured cell there is no run
        if code >= 0 and absent:
            return Session({}, absent=absent, unavailable=unavailable)
        raise NotMeasurableError(f"the {side.name} {_explain(code, output, started)}") from problem
    return Session(
        seconds={result.cell: average_faster_half(result.rounds) for result in run.results},
        thresholds={result.cell: result.threshold for result in run.results if result.threshold is not None},
        backends={result.cell: result.backend for result in run.results},
        absent={**run.failed, **run.skipped, **dict.fromkeys(run.missing, "the session ended before it")},
        libraries=run.libraries,
        images={run.image_set.sha256: describe_images(run.image_set)},
        unavailable=unavailable,
    )


def average_faster_half(rounds: Sequence[float]) -> float:
    """Average the faster half of the rounds: others may have been interrupted."""
    return fmean(sorted(rounds)[: (len(rounds) + 1) // 2])


def describe_images(images: ImageSet) -> str:
    """Describe an image set in a few words."""
    files = images.sample is not None and images.sample.side is not None
    return f"{images.name}, {count_noun(images.count, 'image file' if files else 'image')}"


def count_sides(sides: Sequence[Side], backends: Sequence[str], stores: Path) -> tuple[Counts, ...]:
    """Count the syncs of each side, which stores with these backends in a folder in `stores`."""
    folders, logs = [stores / side.worktree.name for side in sides], [side.worktree / "syncs.log" for side in sides]
    for folder in folders:
        folder.mkdir()
    commands = [
        make_command(side.python, folder, backends, log) for side, folder, log in zip(sides, folders, logs, strict=True)
    ]
    ended = _run_processes(sides, commands, 1, Place(0, list_processors()[0], threading.Event()))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return tuple(_read_counts(side, log, output) for side, log, (_, output) in zip(sides, logs, ended, strict=True))


def _read_counts(side: Side, log: Path, output: str) -> Counts:
    counts = count_syncs(read_file(log).decode(errors="replace").splitlines()) if log.exists() else {}
    if not counts:
        raise NotMeasurableError(f"strace traced no store of the {side.name} ({shorten_text(output)})")
    return counts


def _make_command(side: Side, selection: Selection, stores: Path, report: Path, journal: Path) -> list[str]:
    chosen = selection.cells or ("benchmarks", "-k", selection.expression)
    plugins = ("pytest_benchmark.plugin", "benchmarks.gate_session", "benchmarks.slowdown", "no:cacheprovider")
    paths = (f"--measured={side.worktree / side.code}", f"--basetemp={stores}", f"--journal={journal}")
    options = [*ROUNDS, *paths, f"--benchmark-json={report}", *(f"--override-ini={name}=" for name in OPTIONS)]
    options.append(f"--cutoffs={','.join(map(str, selection.cutoffs))}")
    if selection.backends:  # importing the libraries of the others takes half a second
        options.append(f"--backends={','.join(selection.backends)}")
    if selection.images:
        options.append(f"--images={selection.images}")
    if selection.payloads:
        options.append(f"--payloads={','.join(selection.payloads)}")
    return [side.python, "-m", "pytest", *chosen, *(f"-p{name}" for name in plugins), *options, "--color=no"]


def _make_environment(seed: int, slowdown: Slowdown) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in REMOVED}
    ours = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": str(seed)}
    if (path := kept.get("CIFAR10")) and Path(path).exists():
        ours["CIFAR10"] = str(Path(path).absolute())  # the session runs in another folder
    ours[SLOWDOWN] = json.dumps(slowdown)
    return kept | ours


def _run_processes(
    sides: Sequence[Side], commands: Sequence[Sequence[str]], seed: int, place: Place
) -> list[tuple[int, str]]:
    """Run a process of each side to its end, in turns; none of their own processes outlives this call."""
    logs = [place.name_files(side)[2] for side in sides]
    start = partial(_start_process, seed=seed, place=place)
    with ExitStack() as stack:
        running = [stack.enter_context(start(*each)) for each in zip(sides, commands, logs, strict=True)]
        take_turns(running)
        codes = [each.process.wait() for each in running]
    return [(code, read_file(log).decode(errors="replace")) for code, log in zip(codes, logs, strict=True)]


class Running(NamedTuple):
    """A process of a side that waits for its turns."""

    side: Side
    process: "subprocess.Popen[bytes]"
    turns: socket.socket
    stopped: threading.Event

    def wait(self) -> bytes:
        """Wait until it is ready; return what for, nothing if it has ended."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            if self.stopped.is_set():
                raise CancelledError
            try:
                return self.turns.recv(1)
            except ConnectionError:
                return b""
            except TimeoutError:
                if self.process.poll() is not None:  # though a process that it started is still there
                    return b""
        raise NotMeasurableError(f"the {self.side.name} took more than {TIMEOUT} seconds for one cell")


@contextmanager
def _start_process(side: Side, command: Sequence[str], log: Path, seed: int, place: Place) -> Iterator[Running]:
    mine, theirs = socket.socketpair()
    mine.settimeout(min(TIMEOUT, 1))
    with (
        mine,
        theirs,
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - this suite's own command
            command,
            cwd=side.worktree,
            env=_make_environment(seed, side.slowdown) | {TURNS: json.dumps([theirs.fileno(), place.processor])},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
        ) as process,
    ):
        theirs.close()
        try:
            yield Running(side, process, mine, place.stopped)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers too


def take_turns(processes: Sequence[Running]) -> None:
    """Let processes measure a few rounds each, in turns; all start a cell together. Return when all have ended."""
    ready = [each.wait() for each in processes]
    while any(ready):
        inside = [place for place, state in enumerate(ready) if state == ROUND]
        for place in inside or [place for place, state in enumerate(ready) if state]:
            with suppress(ConnectionError):  # it has ended
                processes[place].turns.send(b"\n")
            ready[place] = processes[place].wait()


def _read_journal(path: Path) -> tuple[list[str], Mapping[str, str], Mapping[str, str]]:
    """Read from a journal which cells started, why some have no result, and why some backends aren't there."""
    lines = [json.loads(line) for line in read_file(path).splitlines()] if path.exists() else []
    started = [line["started"] for line in lines if "started" in line]
    absent, unavailable = (
        {line[kind]: line["reason"] for line in lines if kind in line} for kind in ("absent", "backend")
    )
    return started, absent, unavailable


def _explain(code: int, output: str, started: Sequence[str]) -> str:
    """Say in one line why a session measured nothing."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name} in {shorten_text(started[-1]) if started else 'its start'}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("E ").strip() for line in lines if line.startswith(("E ", "ERROR"))] or lines[-1:]
    return f"can't run today's benchmarks (exit code {code}): {shorten_text(' '.join(errors[-1:]) or 'no output')}"
