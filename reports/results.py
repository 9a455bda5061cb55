"""A run's JSON as checked, typed values: the one module of this room that opens a run.

A run is what pytest-benchmark 5 saves of one session of the suite, plus a key `run` of the suite's own. The file
may come from anywhere: every field that is used is checked, and statistics are computed from the raw rounds.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np

from reports.wording import shorten_text

FORMAT = 1  # the layout of the key `run` that this module reads

WIDEST_SPREAD = 0.10
FEWEST_ROUNDS = 3
UNSTABLE_RULE = f"IQR above {100 * WIDEST_SPREAD:.0f} % of the median, or fewer than {FEWEST_ROUNDS} rounds"
"""When a cell is unstable. Its middle rounds then differ by more than the changes that people look for (the suite
calls nothing below 10 % a regression), or there are too few of them to see how much they differ."""

Axes = tuple[tuple[str, str | int | float], ...]
"""What sets cells of one operation apart, besides backend and number of images: sorted pairs of name and value."""

_NO_AXES = {"operation", "backend", "cutoff", "images"}
_AXES_OF_EXTRA_INFO = ("cache", "durability", "workers")  # its other fields are measurements
_WORDS = {bool: "true or false", dict: "an object", float: "seconds", int: "a count", list: "a list", str: "text"}
_RANGES = {float: (1e-12, 1e9), int: (0, 2**63 - 1)}  # no timer sees a picosecond, no session lasts 30 years


class BrokenRunError(ValueError):
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
    """The disk that held the stores: type of file system, free bytes when the session started."""

    file_system: str
    free_bytes: int


@dataclass(frozen=True)
class Commit:
    """Which commit a run measured, and whether its tree had changes beside it."""

    id: str
    dirty: bool

    @property
    def short(self) -> str:
        """The first eight digits, or the word that stands for no commit, and a note on changes."""
        name = self.id if self.id in {"unknown", "unversioned"} else self.id[:8]
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

    @cached_property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of the rounds, in seconds, interpolated linearly."""
        low, middle, high = np.quantile(self.rounds, (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

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
    """One session: its results, and what must be known to read them. Cells are named by their ids."""

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


def read_run(path: Path) -> Run:
    """Read and check the JSON of one run.

    Raises
    ------
    BrokenRunError
        The file is missing, no JSON, cut off, of another suite or an unknown format, without results or raw rounds,
        or a field has a wrong type or a value that cannot be. The message names the file and the field.
    """
    try:
        return _make_run(path, _parse(path))
    except BrokenRunError as problem:
        raise BrokenRunError(f"{shorten_text(str(path), 1000)}: {problem}") from problem


def _parse(path: Path) -> Any:  # noqa: ANN401 - JSON can be anything until it is checked
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return json.loads(text)
    except OSError as problem:
        raise BrokenRunError(f"cannot be read ({problem.strerror}); name the JSON file of a run") from problem
    except json.JSONDecodeError as problem:
        if not text.strip():
            raise BrokenRunError("the file is empty; repeat the run") from problem
        rest = len(text.rstrip()) - problem.pos
        if problem.msg.startswith("Unterminated string") or rest <= len("-Infinity"):
            raise BrokenRunError("the file was cut off; copy it again or repeat the run") from problem
        raise BrokenRunError(f"not JSON (line {problem.lineno}); name the JSON file of a run") from problem
    except (ValueError, RecursionError) as problem:
        raise BrokenRunError("not JSON; name the JSON file of a run") from problem


def _make_run(path: Path, document: Any) -> Run:  # noqa: ANN401 - likewise
    if not isinstance(document, dict) or "benchmarks" not in document:
        raise BrokenRunError("JSON, but no run; name a file that this suite saved")
    if "run" not in document:
        raise BrokenRunError("a run of another suite (it has no 'run'); name a file that this suite saved")
    own = _check_type(dict, document["run"], "run")
    number = _check_type(int, own.get("format"), "format")
    if number != FORMAT:
        raise BrokenRunError(f"a run of format {number}, this version reads {FORMAT}; update the suite or repeat it")
    results = _make_results(_check_type(list, document["benchmarks"], "benchmarks"))
    machine = _check_type(dict, document.get("machine_info"), "machine_info")
    cpu = machine.get("cpu")
    model = cpu.get("brand_raw") if isinstance(cpu, dict) else None  # pytest-benchmark cannot always tell
    own |= {"machine": machine | {"cpu": model or machine.get("machine")}}
    own |= {"commit": document.get("commit_info"), "datetime": document.get("datetime")}
    run: Run = _make(Run, own, "", path=path, results=results)
    return run


def _make_results(entries: list[Any]) -> tuple[Result, ...]:
    if not entries:
        raise BrokenRunError("the run has no results; repeat it and let at least one cell finish")
    results: dict[str, Result] = {}
    for place, entry in enumerate(entries):
        result = _make_result(_check_type(dict, entry, f"benchmarks[{place}]"), f"benchmarks[{place}].")
        if result.cell in results:
            raise _report_damage(f"cell {shorten_text(result.cell, 80)} is there twice")
        results[result.cell] = result
    return tuple(results.values())


def _make_result(entry: dict[str, Any], where: str) -> Result:
    cell = _check_type(str, entry.get("fullname"), f"{where}fullname")
    where = f"cell {shorten_text(cell, 80)}: "
    extra = _check_type(dict, entry.get("extra_info"), f"{where}extra_info")
    params = _check_type(dict, entry.get("params") or {}, f"{where}params")
    stats = _check_type(dict, entry.get("stats"), f"{where}stats")
    if "data" not in stats:
        raise BrokenRunError(f"{where}no raw rounds; save with --benchmark-save-data (the default of this suite)")
    axes = _make_axes({name: extra.get(name) for name in _AXES_OF_EXTRA_INFO} | params, where)
    disk = _make(Disk, extra, where) if any(field.name in extra for field in fields(Disk)) else None
    measured = extra | {"cell": cell, "rounds": stats["data"]}
    result: Result = _make(Result, measured, where, axes=axes, disk=disk)
    if not (result.images and result.store_images and result.rounds):
        raise _report_damage(f"{where}there are no images or no rounds")
    return result


def _make_axes(facts: dict[str, Any], where: str) -> Axes:
    axes: list[tuple[str, str | int | float]] = []
    for name, value in sorted(facts.items()):
        if isinstance(value, dict | list):
            raise _report_damage(f"{where}params.{shorten_text(name, 40)} is neither text nor a number")
        if name not in _NO_AXES and value is not None:
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _RANGES[int][1]
            axes.append((name, value if is_number else str(value)))
    return tuple(axes)


def _make(kind: Any, holder: Mapping[str, Any], where: str, **given: object) -> Any:  # noqa: ANN401 - one of the classes
    """Make one of the classes above out of a JSON object, beside what is made already."""
    wanted = {field.name: field.type for field in fields(kind) if field.name not in given}
    return kind(
        **given, **{name: _check_type(each, holder.get(name), f"{where}{name}") for name, each in wanted.items()}
    )


def _check_type(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - the type decides
    """Check a JSON value against a type of this module, and turn it into that type."""
    if is_dataclass(kind):
        return _make(kind, _check_type(dict, value, where), f"{where}.")
    if get_origin(kind) is tuple:
        (each, _) = get_args(kind)
        return tuple(
            _check_type(each, item, f"{where}[{place}]") for place, item in enumerate(_check_type(list, value, where))
        )
    if get_origin(kind) is Mapping:
        texts = _check_type(dict, value, where)
        return {name: _check_type(str, text, f"{where}.{shorten_text(name, 80)}") for name, text in texts.items()}
    if kind is dt.datetime:
        try:
            return dt.datetime.fromisoformat(_check_type(str, value, where))
        except ValueError as problem:
            raise _report_damage(f"{where} is no date and time") from problem
    fits = isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if fits and kind in _RANGES:
        least, most = _RANGES[kind]
        fits = least <= value <= most
    if not fits:
        raise _report_damage(f"{where} is missing or not {_WORDS[kind]}")
    return value


def _report_damage(problem: str) -> BrokenRunError:
    return BrokenRunError(f"{problem}; the file was changed or damaged, repeat the run")
