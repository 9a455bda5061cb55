"""A run as typed values: its cells, their statistics, and where they were measured.

`reports.reading` makes these from JSON and cleans every string: one line, no control characters, limited in length.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from reports.errors import WrongInputError
from reports.noise import TENTHS
from reports.sample import Sample
from reports.text import count_noun

MAX_SPREAD = 0.10  # as a fraction of the median: the suite calls no difference below 10 % a regression
MIN_ROUNDS = 3  # fewer don't show how much they differ
UNSTABLE_RULE = f"IQR above {100 * MAX_SPREAD:.0f} % of the median, or fewer than {MIN_ROUNDS} rounds"

_OPERATIONS = ("store_single", "read_single", "store_many", "read_many", "read_epoch", "read_epoch_workers")
ENCODED, PIXELS = "encoded", "pixels"  # payloads
USUAL = {("cache", "warm"), ("durability", "buffered")}  # parameters of a run without options

Params = tuple[tuple[str, str | int | float], ...]  # of a cell, besides backend and number of images; sorted by name
Group = tuple[str, Params]  # an operation and parameters: results that agree in both may share a table or a figure


class BrokenRunError(WrongInputError):
    """A file isn't a run of this suite, or it's damaged."""


@dataclass(frozen=True)
class ImageSet:
    """The images that a run stored; `sha256` is hexadecimal."""

    name: str
    count: int
    sha256: str
    sample: Sample | None = None  # of image files; None if the images are arrays

    @property
    def generated(self) -> bool:
        """Whether the suite made them."""
        return self.name == "standin"

    @property
    def facts(self) -> dict[str, str]:
        """Name and text of each fact: which images, and how they were drawn."""
        named = {"Images": f"{self.name}, {count_noun(self.count, 'image')}, SHA-256 {self.sha256[:12]}"}
        part = {"Measured": self._measured} if self._measured else {}
        return named | part | (self.sample.facts if self.sample else {})

    @property
    def sentence(self) -> str:
        """The sample in a sentence or two; empty if there is none."""
        words = [self.sample.sentence if self.sample else "", f"Measured: {self._measured}." if self._measured else ""]
        return " ".join(filter(None, words))

    @property
    def _measured(self) -> str:
        """Which images of the sample were measured; empty if all were."""
        if not self.sample or self.count >= self.sample.count:
            return ""
        return f"the first {self.count:,} of these {self.sample.count:,}"


@dataclass(frozen=True)
class Machine:
    """The machine of a run: CPU model, operating system, kernel release."""

    cpu: str
    system: str
    release: str


@dataclass(frozen=True)
class StoreDirectory:
    """The file system that held the stores, and its free bytes and inodes at the end of the session."""

    file_system: str
    free_bytes: int
    free_inodes: int | None = None  # None if the file system has no fixed number, and in old runs


@dataclass(frozen=True)
class Commit:
    """The commit that a run measured; `dirty` if the working tree had changes."""

    id: str  # or a word, such as "unversioned"
    dirty: bool

    @property
    def known(self) -> bool:
        """Whether `id` is hexadecimal digits."""
        return re.fullmatch("[0-9a-f]{7,64}", self.id) is not None

    @property
    def short(self) -> str:
        """The first eight digits or the word, and whether there were changes."""
        return (self.id[:8] if self.known else self.id) + (" with changes" if self.dirty else "")


@dataclass(frozen=True)
class Disk:
    """The disk use of one store."""

    apparent_bytes: int  # the lengths of its files
    allocated_bytes: int  # the blocks that the file system gave it
    files: int


@dataclass(frozen=True)
class Result:
    """One measured cell."""

    cell: str
    operation: str
    backend: str
    images: int  # that one call stores or reads
    store_images: int  # in the store
    bytes: int  # that one call moves, pixels and labels
    params: Params
    rounds: tuple[float, ...]  # seconds a call
    disk: Disk | None  # None if the cell stores nothing
    definition: str | None = None  # digest of how the cell is measured; None in old runs
    threshold: float | None = None  # slowdown, as a fraction, from which the cell counts as slower; None for the usual
    peak_bytes: int | None = None  # by which the memory of the process grew at most during a call; None if not measured
    startup_seconds: float | None = None  # until workers or a data loader were ready, once; None if nothing was started
    requests: int | None = None  # to a bucket, in the last round; None if not counted
    fetched_bytes: int | None = None  # from a bucket, in the last round; None if not counted

    @cached_property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of the rounds, in seconds, interpolated linearly."""
        low, middle, high = np.quantile(self.rounds, (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

    @cached_property
    def tenths(self) -> tuple[float, float]:
        """First and last decile of the rounds, in seconds, interpolated linearly."""
        quick, slow = np.quantile(self.rounds, TENTHS).tolist()
        return quick, slow

    @property
    def median(self) -> float:
        """Seconds a call, the median of the rounds."""
        return self.quartiles[1]

    @property
    def is_parallel(self) -> bool:
        """Whether threads or processes work at the same time, so that the time depends on free processors."""
        params = dict(self.params)
        return bool(params.get("workers")) or params.get("threads", 1) != 1

    @property
    def iqr(self) -> float:
        """Seconds between the first and the third quartile."""
        return self.quartiles[2] - self.quartiles[0]

    @property
    def images_per_second(self) -> float:
        """Images stored or read a second, at the median."""
        return self.images / self.median

    @property
    def fetched_ratio(self) -> float | None:
        """Bytes fetched from a bucket for each that was used; None if not counted, or if nothing was read."""
        return self.fetched_bytes / self.bytes if self.fetched_bytes and self.bytes else None

    @property
    def payload(self) -> str:
        """What is stored of an image; empty if there is no choice."""
        return str(dict(self.params).get("payload", ""))

    @property
    def way(self) -> str:
        """The cache or durability of the cell; `other` if it has neither. Cells of different ways share no table."""
        return next((str(value) for name, value in self.params if name in {"cache", "durability"}), "other")

    @property
    def unstable(self) -> bool:
        """Whether the rounds are too few or differ too much: see `UNSTABLE_RULE`."""
        return self.iqr > MAX_SPREAD * self.median or len(self.rounds) < MIN_ROUNDS


@dataclass(frozen=True)
class Reference:
    """A cell that no backend takes part in: it measures the machine."""

    cell: str
    rounds: tuple[float, ...]  # seconds a call
    definition: str | None = None
    is_parallel: bool | None = None  # whether it measures several processors at once


@dataclass(frozen=True)
class Floor:
    """A cell that makes what an operation reads of what is in memory already: no backend can be faster."""

    cell: str
    operation: str
    images: int
    params: Params
    rounds: tuple[float, ...]  # seconds a call
    definition: str | None = None

    @property
    def median(self) -> float:
        """Seconds a call, the median of the rounds."""
        return float(np.median(self.rounds))


@dataclass(frozen=True)
class Run:
    """One session: its results and how they were measured. Cells are named by their ids."""

    path: Path
    results: tuple[Result, ...]
    image_set: ImageSet
    machine: Machine
    cpu_count: int
    store_directory: StoreDirectory
    libraries: Mapping[str, str]  # name -> version
    command: str
    intended: tuple[str, ...]
    failed: Mapping[str, str]  # cell -> reason
    skipped: Mapping[str, str]
    complete: bool
    commit: Commit
    datetime: dt.datetime
    memory_bytes: int | None = None  # that the session could use; this and all below are None in old runs
    layouts: Mapping[str, str] | None = None  # backend -> files on disk, in one line
    maintainers: Mapping[str, str] | None = None
    licences: Mapping[str, str] | None = None
    unavailable: Mapping[str, str] | None = None  # backend -> why it wasn't measured
    references: tuple[Reference, ...] = ()
    floors: tuple[Floor, ...] = ()
    replicates: tuple[Mapping[str, tuple[float, ...]], ...] = ()  # rounds by cell, of each process but the first

    @property
    def unmeasured(self) -> Mapping[str, str]:
        """The cells that left a reason instead of a result, or failed in one of several processes."""
        return {**self.failed, **self.skipped}

    @property
    def interrupted(self) -> bool:
        """Whether the session ended early; a cell that failed doesn't end it."""
        return not self.complete and bool(self.missing or not self.unmeasured)

    @property
    def parallel(self) -> frozenset[str]:
        """The cells that need several processors at once."""
        cells: tuple[Result | Reference, ...] = (*self.results, *self.references)
        return frozenset(each.cell for each in cells if each.is_parallel)

    @property
    def cells(self) -> "tuple[Result | Reference | Floor, ...]":
        """All cells that were measured."""
        return (*self.results, *self.references, *self.floors)

    @cached_property
    def processes(self) -> tuple[Mapping[str, float], ...]:
        """The fastest round of each cell that was measured, reference cells included, in each process.

        What else the machine does slows rounds down, so the fastest ones of two processes differ least.
        """
        cells: tuple[Result | Reference, ...] = (*self.results, *self.references)
        first = {each.cell: each.rounds for each in cells}
        return tuple(
            {cell: min(rounds) for cell, rounds in process.items() if cell in first}
            for process in (first, *self.replicates)
        )

    @property
    def backends(self) -> list[str]:
        """The names of the measured backends, sorted."""
        return sorted({result.backend for result in self.results})

    @property
    def missing(self) -> tuple[str, ...]:
        """The cells that were meant to run and left neither a result nor a reason."""
        known = {each.cell for each in self.cells} | self.failed.keys() | self.skipped.keys()
        return tuple(cell for cell in self.intended if cell not in known)

    @cached_property
    def parts(self) -> "Mapping[Params, Run]":
        """The results of each payload, with the parameter that names it; they share no table, axes or ranks."""
        payloads = {tuple(pair for pair in result.params if pair[0] == "payload"): None for result in self.results}
        return {
            payload: replace(self, results=tuple(each for each in self.results if set(payload) <= set(each.params)))
            for payload in sorted(payloads, key=lambda pairs: [str(value) for _, value in pairs])
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """Short warnings to show beside any figure of the run."""
        words = {"stand-in images": self.image_set.generated, "incomplete run": not self.complete}
        return tuple(warning for warning, holds in words.items() if holds)

    @cached_property
    def groups(self) -> Mapping[Group, Sequence[Result]]:
        """The results by group, in the order of `_OPERATIONS`; within a group by number of images, then by time."""
        groups: dict[Group, list[Result]] = {}
        for result in sorted(self.results, key=lambda each: (each.images, each.store_images, each.median, each.cell)):
            groups.setdefault((result.operation, result.params), []).append(result)
        return {group: groups[group] for group in sorted(groups, key=_order_group)}

    def select_groups(self, operation: str) -> dict[Params, Sequence[Result]]:
        """Select the groups of one operation, by their parameters."""
        return {params: results for (name, params), results in self.groups.items() if name == operation}

    @property
    def stored(self) -> Sequence[Result]:
        """The results whose disk use counts: of many images, buffered if there are any."""
        return next(iter(self.select_groups("store_many").values()), ())


def _order_group(group: Group) -> tuple[object, ...]:
    """Put warm before cold and buffered before durable, and unknown operations last."""
    operation, params = group
    names = [(name, (name, value) not in USUAL, isinstance(value, str), value) for name, value in params]
    return (*_OPERATIONS, operation).index(operation), operation, names
