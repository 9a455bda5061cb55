"""A run as typed values: its cells, their statistics, and what must be known to read them."""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from reports.errors import WrongInputError
from reports.noise import TENTHS
from reports.text import shorten_text

WIDEST_SPREAD = 0.10
FEWEST_ROUNDS = 3
UNSTABLE_RULE = f"IQR above {100 * WIDEST_SPREAD:.0f} % of the median, or fewer than {FEWEST_ROUNDS} rounds"
"""When a cell is unstable. Its middle rounds then differ by more than the changes that people look for (the suite
calls nothing below 10 % a regression), or there are too few of them to see how much they differ."""

Axes = tuple[tuple[str, str | int | float], ...]
"""What sets cells of one operation apart, besides backend and number of images: sorted pairs of name and value."""


class BrokenRunError(WrongInputError):
    """A file is not the run of this suite that it should be; the message is one line."""


@dataclass(frozen=True)
class ImageSet:
    """Which images a run stored: name, number of images, SHA-256 in hexadecimal."""

    name: str
    count: int
    sha256: str


@dataclass(frozen=True)
class Machine:
    """Where a run was measured: CPU model, operating system, release of its kernel."""

    cpu: str
    system: str
    release: str


@dataclass(frozen=True)
class StoreDirectory:
    """The disk that held the stores: type of file system, and when the session ended free bytes and free inodes.

    `free_inodes` is None where the file system has no fixed number of files, and in runs made before it was noted.
    """

    file_system: str
    free_bytes: int
    free_inodes: int | None = None


@dataclass(frozen=True)
class Commit:
    """Which commit a run measured, and whether its tree had changes beside it."""

    id: str
    dirty: bool

    @property
    def known(self) -> bool:
        """Whether it is a commit's digits, not the word that stands for no commit."""
        return re.fullmatch("[0-9a-f]{7,64}", self.id) is not None

    @property
    def short(self) -> str:
        """The first eight digits, or the word that stands for no commit, and a note on changes."""
        name = self.id[:8] if self.known else self.id
        return shorten_text(name) + (" with changes" if self.dirty else "")


@dataclass(frozen=True)
class Disk:
    """What one store takes on disk: bytes that its files claim, bytes that the file system gave, number of files."""

    apparent_bytes: int
    allocated_bytes: int
    files: int


@dataclass(frozen=True)
class Result:
    """One measured cell.

    `images` is how many images one call stores or reads, `store_images` how many its store holds, `bytes` how much
    one call moves, pixels and labels. `rounds` are seconds a call. `disk` is None where nothing is stored.
    `definition` is the digest of how the cell is measured, None in runs made before there was one. `threshold` is how
    much slower, as a share, before this cell counts as slower; None where its benchmark does not say.
    """

    cell: str
    operation: str
    backend: str
    images: int
    store_images: int
    bytes: int
    axes: Axes
    rounds: tuple[float, ...]
    disk: Disk | None
    definition: str | None = None
    threshold: float | None = None

    @cached_property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of the rounds, in seconds, interpolated linearly."""
        low, middle, high = np.quantile(self.rounds, (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

    @cached_property
    def tenths(self) -> tuple[float, float]:
        """Seconds that a tenth of the rounds is below, and a tenth above, interpolated linearly."""
        quick, slow = np.quantile(self.rounds, TENTHS).tolist()
        return quick, slow

    @property
    def median(self) -> float:
        """Seconds a call, the middle of the rounds."""
        return self.quartiles[1]

    @property
    def iqr(self) -> float:
        """Seconds between the first and the third quartile of the rounds."""
        return self.quartiles[2] - self.quartiles[0]

    @property
    def images_per_second(self) -> float:
        """Images stored or read a second, at the median."""
        return self.images / self.median

    @property
    def durability(self) -> str | None:
        """Whether a store was `buffered` or `durable`; None where nothing is stored."""
        return next((str(value) for name, value in self.axes if name == "durability"), None)

    @property
    def unstable(self) -> bool:
        """Whether the rounds are too few, or differ too much, to stand for the cell: see `UNSTABLE_RULE`."""
        return self.iqr > WIDEST_SPREAD * self.median or len(self.rounds) < FEWEST_ROUNDS


@dataclass(frozen=True)
class Run:
    """One session: its results, and what must be known to read them. Cells are named by their ids.

    `memory_bytes` is the memory that the session could use. Of each backend measured, `layouts` says in one line what
    it keeps on disk, `maintainers` who keeps its library, `licences` under which licence. `unavailable` says why a
    backend was not measured that would have been. All of these are None in runs made before they were noted.
    """

    path: Path
    results: tuple[Result, ...]
    image_set: ImageSet
    machine: Machine
    cpu_count: int
    store_directory: StoreDirectory
    libraries: Mapping[str, str]
    command: str
    intended: tuple[str, ...]
    failed: Mapping[str, str]
    skipped: Mapping[str, str]
    complete: bool
    commit: Commit
    datetime: dt.datetime
    memory_bytes: int | None = None
    layouts: Mapping[str, str] | None = None
    maintainers: Mapping[str, str] | None = None
    licences: Mapping[str, str] | None = None
    unavailable: Mapping[str, str] | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The cells that were meant to run and left neither a result nor a reason."""
        known = {result.cell for result in self.results} | self.failed.keys() | self.skipped.keys()
        return tuple(cell for cell in self.intended if cell not in known)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before any figure of the run, in plain words."""
        words = {"stand-in images": self.image_set.name == "standin", "incomplete run": not self.complete}
        return tuple(warning for warning, holds in words.items() if holds)


_OPERATIONS = ("store_single", "read_single", "store_many", "read_many", "read_epoch", "read_epoch_workers")
ORDINARY = {("cache", "warm"), ("durability", "buffered")}  # what is measured unless more is asked for


def group_results(results: Iterable[Result]) -> dict[tuple[str, Axes], list[Result]]:
    """Sort results into groups that may share a table or a figure: equal in operation and in all axes.

    Returns
    -------
    dict
        (operation, axes) -> results by number of images, then by time. Warm comes before cold, buffered before
        durable; unknown operations come last.
    """
    groups: dict[tuple[str, Axes], list[Result]] = {}
    for result in sorted(results, key=lambda result: (result.images, result.store_images, result.median, result.cell)):
        groups.setdefault((result.operation, result.axes), []).append(result)

    def place(group: tuple[str, Axes]) -> tuple[object, ...]:
        operation, axes = group
        rank = (*_OPERATIONS, operation).index(operation)
        return (
            rank,
            operation,
            [(name, (name, value) not in ORDINARY, isinstance(value, str), value) for name, value in axes],
        )

    return {group: groups[group] for group in sorted(groups, key=place)}


def find_stored(groups: Mapping[tuple[str, Axes], Sequence[Result]]) -> Sequence[Result]:
    """Find the results whose disk use counts in what `group_results` made: of many images, buffered if there are."""
    return next((cells for (name, _), cells in groups.items() if name == "store_many"), ())
