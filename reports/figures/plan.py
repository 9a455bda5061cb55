"""Which figures a run can fill, and with which values: what the article drew and what choosers ask besides."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter

import numpy as np

from reports.figures.subplot import Lines, Panel, Picture, Point, Scale
from reports.ranking import find_pareto, select_largest
from reports.run import ORDINARY, Axes, Result, Run, find_stored, group_results
from reports.text import add_params

_SPREAD = "Median of the rounds, bars from the first to the third quartile; lower is better."
_PARETO = "A ring marks what no other backend beats: none is smaller and not slower, or faster and not larger."
_Groups = Mapping[tuple[str, Axes], Sequence[Result]]


def plan_figures(run: Run) -> list[Picture]:
    """Decide which figures a run can fill, and with which values; figures without cells are absent.

    Cells that differ in more than backend and number of images, such as buffered and durable ones, share no axes.
    """
    pictures: dict[str, Picture] = {}
    for subject, axes, title, note, panels in _plan_each(group_results(run.results)):
        filled = [panel for panel in panels if panel.lines]
        stem = _name_file(subject, axes)
        while stem in pictures:  # different axes can be spelled alike in a file's name
            stem += "-2"
        if filled:
            pictures[stem] = Picture(subject, stem, title, note, filled)
    return list(pictures.values())


def _plan_each(groups: _Groups) -> Iterator[tuple[str, Axes, str, str, list[Panel]]]:
    """Yield subject, axes, title, note and panels of every figure, of those without cells too."""
    for axes, store, read in _pair_groups(groups, "store_many", "read_many"):
        panels = _plan_sides(store, read, "microseconds an image", "logarithmic")
        yield "overview", axes, "Time to store and to read many images, in microseconds an image", _SPREAD, panels
    for axes, cells in _find_groups(groups, "read_epoch"):
        lines = _make_lines(cells, _measure_microseconds)
        panel = Panel(add_params("", axes), "microseconds an image", lines, "logarithmic")
        yield "shuffled", axes, "Time to read shuffled batches, in microseconds an image", _SPREAD, [panel]
    for axes, store, read in _pair_groups(groups, "store_many", "read_many"):
        note = "Ratio of medians, bars between the ratios of opposite quartiles; below 1, reading is the faster."
        lines = _compute_ratios(store, read)
        panel = Panel(add_params("", axes), "seconds to read / seconds to store", lines, reference=("equal", 1.0))
        yield "read_store_ratio", axes, "Time to read over time to store", note, [panel]
    yield from _plan_seconds(groups)
    for axes, store, read in _pair_groups(groups, "store_single", "read_single"):
        panels = _plan_sides(store, read, "microseconds", "fit")
        yield "single", axes, "Time to store one image, and to read one, in microseconds", _SPREAD, panels
    yield from _plan_workers(groups)
    for axes, cells in _find_groups(groups, "store_many"):
        yield "disk", axes, "Disk use of a store, in bytes an image", *_plan_disk(axes, cells)
    for axes, cells in _find_groups(groups, "read_many"):
        panel = _plan_sizes(axes, cells, find_stored(groups))
        yield "size", axes, "Disk use against time to read", _PARETO, [panel]


def _plan_seconds(groups: _Groups) -> Iterator[tuple[str, Axes, str, str, list[Panel]]]:
    """Plan what the article drew: seconds a call, twice."""
    verbs = {"store_many": "store images", "read_many": "read images", "read_epoch": "read images in shuffled batches"}
    for operation, verb in verbs.items():
        for axes, cells in _find_groups(groups, operation):
            lines = _make_lines(cells, lambda result: result.quartiles)
            panels = [
                Panel(add_params(f"{scale} axes", axes), "seconds", lines, scale) for scale in ("linear", "logarithmic")
            ]
            yield operation, axes, f"Time to {verb}, in seconds", _SPREAD, panels


def _plan_workers(groups: _Groups) -> Iterator[tuple[str, Axes, str, str, list[Panel]]]:
    """Plan a shuffled epoch against the number of workers, apart by all else."""
    cells: dict[Axes, list[Result]] = {}
    for axes, results in _find_groups(groups, "read_epoch_workers"):
        workers = dict(axes).get("workers")
        if isinstance(workers, int) and workers > 0:
            cells.setdefault(tuple(axis for axis in axes if axis[0] != "workers"), []).extend(results)
    for axes, results in cells.items():
        for count in sorted({result.images for result in results}):
            alike = sorted((result for result in results if result.images == count), key=_count_workers)
            title = add_params(f"{count:,} images", axes)
            lines = _make_lines(alike, _measure_microseconds, _count_workers)
            panel = Panel(title, "microseconds an image", lines, across="worker processes")
            yield "workers", axes, "A shuffled epoch, shared among workers", _SPREAD, [panel]


def _count_workers(result: Result) -> int:
    return int(dict(result.axes)["workers"])


def _find_groups(groups: _Groups, operation: str) -> list[tuple[Axes, Sequence[Result]]]:
    return [(axes, results) for (name, axes), results in groups.items() if name == operation]


def _pair_groups(groups: _Groups, store: str, read: str) -> Iterator[tuple[Axes, Sequence[Result], Sequence[Result]]]:
    """Put stored and read cells side by side that agree in all axes which both have."""
    for store_axes, stored in _find_groups(groups, store) or [((), [])]:
        for read_axes, were_read in _find_groups(groups, read) or [((), [])]:
            both = dict(store_axes) | dict(read_axes)
            if both == dict(read_axes) | dict(store_axes):
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


def _plan_sides(store: Sequence[Result], read: Sequence[Result], unit: str, scale: Scale) -> list[Panel]:
    across = "number of images in the store"
    return [
        Panel(
            add_params(side, cells[0].axes),
            unit,
            _make_lines(cells, _measure_microseconds, attrgetter("store_images")),
            scale,
            across,
        )
        for side, cells in (("to store", store), ("to read", read))
        if cells
    ]


def _compute_ratios(store: Sequence[Result], read: Sequence[Result]) -> Lines:
    stored = {(result.backend, result.images): result.quartiles[::-1] for result in store}
    both = [result for result in read if (result.backend, result.images) in stored]
    return _make_lines(both, lambda result: np.divide(result.quartiles, stored[result.backend, result.images]).tolist())


def _measure_size(kind: str, result: Result) -> list[float]:
    return [getattr(result.disk, f"{kind}_bytes") / result.images] * 3


def _plan_disk(axes: Axes, cells: Sequence[Result]) -> tuple[str, list[Panel]]:
    stored = [result for result in cells if result.disk]
    raw = stored[-1].bytes / stored[-1].images if stored else 0.0
    panels = [
        Panel(
            add_params(f"{kind} size", axes),
            "bytes an image",
            _make_lines(stored, partial(_measure_size, kind)),
            reference=("raw", raw),
        )
        for kind in ("apparent", "allocated")
    ]
    return f"What files claim, and what the file system gives; raw pixels and label are {raw:,.0f} bytes.", panels


def _plan_sizes(axes: Axes, read: Sequence[Result], store: Sequence[Result]) -> Panel:
    """Plan size against time at the largest number of images; a store's size does not depend on durability.

    Some file systems say that a store takes 0 bytes before it reaches the disk: then nothing is known of its size.
    """
    measured = {(result.backend, result.images): result.disk.allocated_bytes for result in store if result.disk}
    largest = select_largest(result for result in read if measured.get((result.backend, result.images)))
    sizes = {backend: measured[backend, result.images] / result.images for backend, result in largest.items()}
    lines = _make_lines(largest.values(), _measure_microseconds, lambda result: sizes[result.backend])
    count = max((result.images for result in largest.values()), default=0)
    return Panel(
        add_params(f"{count:,} images", axes),
        "microseconds an image to read",
        lines,
        across="bytes an image on disk",
        marked=find_pareto(sizes, tuple(largest.values())),
    )


def _name_file(name: str, axes: Axes) -> str:
    """Name a figure's files by letters and digits only, whatever the run says."""
    unusual = [(axis, value) for axis, value in axes if (axis, value) not in ORDINARY]
    words = [value if isinstance(value, str) else f"{axis}-{value}" for axis, value in unusual]
    return "-".join([name, *(re.sub("[^a-z0-9]+", "-", word.lower())[:40].strip("-") or "other" for word in words)])
