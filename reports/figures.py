"""The figures of a run: what the article drew, from the run's JSON alone.

`plan_figures` decides what is drawn, `draw` writes it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from reports.drawing import Lines, Panel, Picture, Point, Scale, choose_styles, draw_alike, paint_picture
from reports.results import Axes, Result, Run
from reports.table import add_axes, describe_provenance, group_results

_ORDINARY = {("cache", "warm"), ("durability", "buffered")}
_SPREAD = "Median of the rounds, bars from the first to the third quartile; lower is better."
_Groups = Mapping[tuple[str, Axes], Sequence[Result]]


def plan_figures(run: Run) -> list[Picture]:
    """Decide which figures a run can fill, and with which values; figures without cells are absent.

    Cells that differ in more than backend and number of images, such as buffered and durable ones, share no axes.
    """
    pictures: dict[str, Picture] = {}
    for name, axes, title, note, panels in _plan_each(group_results(run.results)):
        filled = [panel for panel in panels if panel.lines]
        stem = _name_file(name, axes)
        while stem in pictures:  # different axes can be spelled alike in a file's name
            stem += "-2"
        if filled:
            pictures[stem] = Picture(stem, title, note, filled)
    return list(pictures.values())


def draw(run: Run, out: Path) -> list[Path]:
    """Draw the figures of a run into the directory `out`, each as SVG and as PNG, 1,200 pixels wide.

    The directory is made if need be; files of the same names are replaced. Returns what was
    written; the same run gives the same bytes.

    Raises
    ------
    BrokenRunError, OSError
        The run has more backends than can be told apart; the directory or a file in it cannot be written.
    """
    styles = choose_styles(run)
    out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with draw_alike():
        for picture in plan_figures(run):
            figure = paint_picture(picture, styles, describe_provenance(run))
            about = {"Title": picture.title, "Description": f"{picture.note} {describe_provenance(run)}", "Date": None}
            paths += [out / f"{picture.stem}.svg", out / f"{picture.stem}.png"]
            figure.savefig(paths[-2], metadata=about)
            figure.savefig(paths[-1], dpi=100)
    return paths


def _plan_each(groups: _Groups) -> Iterator[tuple[str, Axes, str, str, list[Panel]]]:
    """Yield name, axes, title, note and panels of every figure, of those without cells too."""
    for axes, store, read in _pair_groups(groups, "store_many", "read_many"):
        panels = _plan_sides(store, read, "microseconds an image", "logarithmic")
        yield "overview", axes, "Time to store and to read many images, in microseconds an image", _SPREAD, panels
        note = "Ratio of medians, bars between the ratios of opposite quartiles; below 1, reading is the faster."
        panel = Panel("", "seconds to read / seconds to store", _compute_ratios(store, read), reference=("equal", 1.0))
        yield "read_store_ratio", axes, add_axes("Time to read over time to store", axes), note, [panel]
    verbs = {"store_many": "store images", "read_many": "read images", "read_epoch": "read images in shuffled batches"}
    for operation, verb in verbs.items():
        for axes, cells in _find_groups(groups, operation):
            lines = _make_lines(cells, lambda result: result.quartiles)
            panels = [Panel(f"{scale} axes", "seconds", lines, scale) for scale in ("linear", "logarithmic")]
            yield operation, axes, add_axes(f"Time to {verb}, in seconds", axes), _SPREAD, panels
    for axes, store, read in _pair_groups(groups, "store_single", "read_single"):
        panels = _plan_sides(store, read, "microseconds", "fit")
        yield "single", axes, "Time to store one image, and to read one, in microseconds", _SPREAD, panels
    for axes, cells in _find_groups(groups, "store_many"):
        yield "disk", axes, add_axes("Disk use of a store, in bytes an image", axes), *_plan_disk(cells)


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
    results: Iterable[Result], measure: Callable[[Result], Sequence[float]], across: str = "images"
) -> Lines:
    lines: dict[str, list[Point]] = {}
    for result in results:
        low, middle, high = measure(result)
        lines.setdefault(result.backend, []).append((getattr(result, across), low, middle, high))
    return lines


def _measure_microseconds(result: Result) -> list[float]:
    return [1e6 * seconds / result.images for seconds in result.quartiles]


def _plan_sides(store: Sequence[Result], read: Sequence[Result], unit: str, scale: Scale) -> list[Panel]:
    across = "number of images in the store"
    return [
        Panel(
            add_axes(side, cells[0].axes),
            unit,
            _make_lines(cells, _measure_microseconds, "store_images"),
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


def _plan_disk(cells: Sequence[Result]) -> tuple[str, list[Panel]]:
    stored = [result for result in cells if result.disk]
    raw = stored[-1].bytes / stored[-1].images if stored else 0.0
    panels = [
        Panel(
            f"{kind} size", "bytes an image", _make_lines(stored, partial(_measure_size, kind)), reference=("raw", raw)
        )
        for kind in ("apparent", "allocated")
    ]
    return f"What files claim, and what the file system gives; raw pixels and label are {raw:,.0f} bytes.", panels


def _name_file(name: str, axes: Axes) -> str:
    """Name a figure's files by letters and digits only, whatever the run says."""
    unusual = [(axis, value) for axis, value in axes if (axis, value) not in _ORDINARY]
    words = [value if isinstance(value, str) else f"{axis}-{value}" for axis, value in unusual]
    return "-".join([name, *(re.sub("[^a-z0-9]+", "-", word.lower())[:40].strip("-") or "other" for word in words)])
