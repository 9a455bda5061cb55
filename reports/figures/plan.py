"""Plans the figures of a run: which ones it can fill, and with which values."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import attrgetter, itemgetter
from statistics import fmean
from typing import Literal

from reports.ranking import find_pareto, select_largest
from reports.run import USUAL, Params, Result, Run
from reports.text import add_params

_SPREAD = "Median of the rounds, bars from the first to the third quartile; lower is better."
_PARETO = "A ring marks the backends that no other beats: none is smaller and not slower, or faster and not larger."
ENCODED, PIXELS = ("payload", "encoded"), ("payload", "pixels")
_FEEDS = (
    "Files are decoded and scaled in the epoch; pixels were before it. Both sides have the same y; lower is better."
)
_SECONDS = {"store_many": "store images", "read_many": "read images", "read_epoch": "read images in shuffled batches"}

Point = tuple[float, float, float, float]  # x, such as a number of images; first quartile, median, third quartile
Lines = Mapping[str, Sequence[Point]]
Scale = Literal["linear", "logarithmic", "fit"]


@dataclass(frozen=True)
class Subplot:
    """One pair of axes and its lines, one a backend."""

    title: str
    unit: str
    lines: Lines
    scale: Scale = "fit"  # of both axes; fit: x is logarithmic, and y if its values differ more than tenfold
    across: str = "number of images"  # the label of x
    reference: tuple[str, float] | None = None  # name and y of a line to compare with
    marked: frozenset[str] = frozenset()  # backends with rings around their points
    beside: tuple[float, ...] = ()  # values of other axes, whose y is the same

    @property
    def values(self) -> tuple[float, ...]:
        """All values that y has to show: medians, their spreads, the reference, those beside it."""
        spreads = (value for line in self.lines.values() for _, *spread in line for value in spread)
        return (*spreads, *([self.reference[1]] if self.reference else []), *self.beside)

    @property
    def is_logarithmic(self) -> bool:
        """Whether y is logarithmic; if `fit` has a value of zero, it isn't."""
        if self.scale == "fit":
            return 0 < 10 * min(self.values) < max(self.values)
        return self.scale == "logarithmic"


@dataclass(frozen=True)
class FigurePlan:
    """One figure, its subplots from left to right."""

    subject: str
    params: Params  # that its cells share
    stem: str  # of its files' names
    title: str
    note: str  # how to read it
    subplots: Sequence[Subplot]


_Draft = tuple[str, Params, str, str, list[Subplot]]  # subject, parameters, title, note


def plan_figures(run: Run) -> list[FigurePlan]:
    """Plan the figures that a run can fill.

    Cells that differ in more than backend and number of images, such as buffered and durable ones, share no axes.
    """
    figures: dict[str, FigurePlan] = {}
    drafts = chain(_draft_feeds(run), chain.from_iterable(map(_draft_figures, run.parts.values())))
    for subject, params, title, note, subplots in drafts:
        filled = [subplot for subplot in subplots if subplot.lines]
        stem = _name_file(subject, params)
        while stem in figures:  # different parameters can be spelled alike in a file's name
            stem += "-2"
        if filled:
            figures[stem] = FigurePlan(subject, params, stem, title, note, filled)
    return list(figures.values())


def _draft_figures(run: Run) -> Iterator[_Draft]:
    """Draft every figure, even without cells."""
    for params, store, read in _pair_groups(run, "store_many", "read_many"):
        subplots = _plan_sides(store, read, "microseconds an image", "logarithmic")
        yield "overview", params, "Time to store and to read many images, in microseconds an image", _SPREAD, subplots
    for params, cells in run.select_groups("read_epoch").items():
        lines = _make_lines(cells, _measure_microseconds)
        subplot = Subplot(add_params("", params), "microseconds an image", lines, "logarithmic")
        yield "shuffled", params, "Time to read shuffled batches, in microseconds an image", _SPREAD, [subplot]
    yield from _draft_seconds(run)
    for params, store, read in _pair_groups(run, "store_single", "read_single"):
        subplots = _plan_sides(store, read, "microseconds", "fit")
        yield "single", params, "Time to store one image, and to read one, in microseconds", _SPREAD, subplots
    yield from _draft_workers(run)
    for params, cells in run.select_groups("store_many").items():
        yield "disk", params, "Disk use of a store, in bytes an image", *_plan_disk(params, cells)
    for params, cells in run.select_groups("read_many").items():
        subplot = _plan_sizes(params, cells, run.stored)
        yield "size", params, "Disk use against time to read", _PARETO, [subplot]


def _draft_seconds(run: Run) -> Iterator[_Draft]:
    """Draft the article's figures: seconds a call, on linear and on logarithmic axes."""
    scales: tuple[Scale, ...] = ("linear", "logarithmic")
    for operation, verb in _SECONDS.items():
        for params, cells in run.select_groups(operation).items():
            lines = _make_lines(cells, attrgetter("quartiles"))
            subplots = [Subplot(add_params(f"{scale} axes", params), "seconds", lines, scale) for scale in scales]
            yield operation, params, f"Time to {verb}, in seconds", _SPREAD, subplots


def _draft_workers(run: Run) -> Iterator[_Draft]:
    """Draft a shuffled epoch against the number of workers, one figure for each of the other parameters."""
    cells: dict[Params, list[Result]] = {}
    for params, results in run.select_groups("read_epoch_workers").items():
        if _count("workers", results[0]):
            cells.setdefault(tuple(each for each in params if each[0] != "workers"), []).extend(results)
    for params, results in cells.items():
        for count in sorted({result.images for result in results}):
            alike = sorted((result for result in results if result.images == count), key=partial(_count, "workers"))
            title = add_params(f"{count:,} images", params)
            lines = _make_lines(alike, _measure_microseconds, partial(_count, "workers"))
            subplot = Subplot(title, "microseconds an image", lines, across="worker processes")
            yield "workers", params, "A shuffled epoch, shared among workers", _SPREAD, [subplot]


def _count(name: str, result: Result) -> int:
    """Return a parameter that counts something, or 0 if it isn't a count."""
    value = dict(result.params).get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _draft_feeds(run: Run) -> Iterator[_Draft]:
    """Draft epochs of files against the threads that decode them, and beside them epochs of pixels."""
    cells = chain.from_iterable(run.select_groups("read_epoch_decoded").values())
    decoded = sorted((each for each in cells if _count("threads", each)), key=partial(_count, "threads"))
    ready = run.select_groups("read_epoch").get((("cache", "warm"), PIXELS), ())
    for count in sorted({each.images for each in decoded}):
        files = [each for each in decoded if each.images == count]
        on_the_way = Subplot(
            f"{ENCODED[1]}, {count:,} images: decoded in the epoch",
            "microseconds an image",
            _make_lines(files, _measure_microseconds, partial(_count, "threads")),
            "logarithmic",
            "threads that decode",
            _find_floor(run, "read_epoch_decoded", ENCODED, count),
        )
        before = Subplot(
            f"{PIXELS[1]}: decoded before",
            "microseconds an image",
            _make_lines((each for each in ready if each.images <= count), _measure_microseconds),
            "logarithmic",
            reference=_find_floor(run, "read_epoch", PIXELS, count),
        )
        both = on_the_way.values + before.values if before.lines else on_the_way.values
        title = "Two ways to feed a model, in microseconds an image"
        yield "decoded", (), title, _FEEDS, [replace(each, beside=both) for each in (on_the_way, before)]


def _find_floor(run: Run, operation: str, payload: tuple[str, str], count: int) -> tuple[str, float] | None:
    """Find how long an operation takes without any store, by the number of threads that is fastest."""
    floors = [
        each for each in run.floors if (each.operation, each.images) == (operation, count) and payload in each.params
    ]
    return min((("no store", 1e6 * each.median / count) for each in floors), key=itemgetter(1), default=None)


def _pair_groups(run: Run, store: str, read: str) -> Iterator[tuple[Params, Sequence[Result], Sequence[Result]]]:
    """Pair the groups of two operations that agree in all parameters that both have."""
    for store_params, stored in run.select_groups(store).items() or [((), [])]:
        for read_params, were_read in run.select_groups(read).items() or [((), [])]:
            both = dict(store_params) | dict(read_params)
            if both == dict(read_params) | dict(store_params):
                yield tuple(sorted(both.items())), stored, were_read


def _make_lines(
    results: Iterable[Result],
    measure: Callable[[Result], Sequence[float]],
    across: Callable[[Result], float] = attrgetter("images"),
) -> Lines:
    lines: dict[str, list[Point]] = {}
    for result in results:
        low, middle, high = measure(result)
        lines.setdefault(result.backend, []).append((across(result), low, middle, high))
    return lines


def _measure_microseconds(result: Result) -> list[float]:
    return [1e6 * seconds / result.images for seconds in result.quartiles]


def _measure_size(kind: str, result: Result) -> list[float]:
    return [getattr(result.disk, f"{kind}_bytes") / result.images] * 3


def _plan_sides(store: Sequence[Result], read: Sequence[Result], unit: str, scale: Scale) -> list[Subplot]:
    across = "number of images in the store"
    sides = (("to store", store), ("to read", read))
    lines = [_make_lines(cells, _measure_microseconds, attrgetter("store_images")) for _, cells in sides]
    return [
        Subplot(add_params(side, cells[0].params), unit, own, scale, across)
        for (side, cells), own in zip(sides, lines, strict=True)
        if cells
    ]


def _plan_disk(params: Params, cells: Sequence[Result]) -> tuple[str, list[Subplot]]:
    stored = [result for result in cells if result.disk]
    raw = stored[-1].bytes / stored[-1].images if stored else 0.0
    subplots = []
    for kind in ("apparent", "allocated"):
        lines = _make_lines(stored, partial(_measure_size, kind))
        subplots.append(Subplot(add_params(f"{kind} size", params), "bytes an image", lines, reference=("raw", raw)))
    content = "the image's own file" if ENCODED in params else "raw pixels"
    note = f"Lengths of the files, and what the file system gives them; {content} and label are {raw:,.0f} bytes."
    return note, subplots


def _plan_sizes(params: Params, read: Sequence[Result], store: Sequence[Result]) -> Subplot:
    """Plan size against time at the largest number of images; a size of 0 bytes isn't known yet."""
    measured = {(result.backend, result.images): result.disk.allocated_bytes for result in store if result.disk}
    largest = select_largest(result for result in read if measured.get((result.backend, result.images)))
    sizes = {backend: measured[backend, result.images] / result.images for backend, result in largest.items()}
    count = max((result.images for result in largest.values()), default=0)
    return Subplot(
        add_params(f"{count:,} images", params),
        "microseconds an image to read",
        _make_lines(largest.values(), _measure_microseconds, lambda result: sizes[result.backend]),
        across="bytes an image on disk",
        marked=find_pareto(sizes, tuple(largest.values())),
    )


def _name_file(name: str, params: Params) -> str:
    """Name a figure's files by letters and digits only, whatever the run contains."""
    unusual = [pair for pair in params if pair not in USUAL]
    words = [value if isinstance(value, str) else f"{param}-{value}" for param, value in unusual]
    return "-".join([name, *(re.sub("[^a-z0-9]+", "-", word.lower())[:40].strip("-") or "other" for word in words)])


def space_out(wanted: Sequence[float], step: float) -> list[float]:
    """Move rising heights at least `step` apart, within 0 and 1 and by the least squares: isotonic regression."""
    pools: list[list[float]] = []
    for number, height in enumerate(wanted):
        pools.append([height - number * step])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    levels = [fmean(pool) for pool in pools for _ in pool]
    return [min(max(level, step / 2), 1 - (len(levels) - 0.5) * step) + n * step for n, level in enumerate(levels)]
