"""The figures of a page, each with its message as the title."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reports.figures.plan import FigurePlan, Lines, Subplot, plan_figures
from reports.matrix import Cell, Row, View
from reports.noise import UNKNOWN_SCATTER
from reports.page.charts import WIDTH, Chart, lay_out
from reports.page.tables import Table, tabulate_subplot
from reports.payloads import Answer
from reports.recommendations import CROWD
from reports.remote import AT_ONCE, EPOCHS, Bucket, find_epoch
from reports.run import Run
from reports.text import format_number, format_time, join_words

WIDE = 1060  # of a chart as wide as the page


@dataclass(frozen=True)
class Figure:
    """A chart, or the same one for wide and for narrow screens; it is shown for one payload and one cache."""

    name: str
    message: str
    note: str
    payload: str
    cache: str
    charts: tuple[Chart, ...]
    table: Table


@dataclass(frozen=True)
class Bars:
    """How long each backend takes in a use, on a linear scale."""

    message: str
    unit: str
    rows: tuple[tuple[str, Cell, float], ...]  # backend, cell, percent of the longest bar


def draw_bars(view: View) -> Bars | None:
    """Draw the times of the first use of a view; None if it has only sizes."""
    use = next((use for use in view.uses if use.operations), None)
    if use is None:
        return None
    order = view.rank(use)
    longest = order[-1][1]
    rows = tuple((backend, cell, 100 * cell.value / longest.value) for backend, cell in order)
    leaders = view.list_leaders(use)
    first = join_words(leaders) if len(leaders) <= CROWD else f"{len(leaders)} backends"
    message = f"{use.title}: {first} {'takes' if len(leaders) == 1 else 'take'} {order[0][1].text} {use.unit}"
    if longest.standing == "behind":
        message += f"; {order[-1][0]} takes {format_number(longest.ratio)} times as long"
    return Bars(message, use.unit, rows)


@dataclass(frozen=True)
class Split:
    """What shuffling adds to reading in order, in an epoch of each backend."""

    message: str
    rows: tuple[tuple[str, float, str], ...]  # backend, percent that reading in order takes, words


def split_epochs(view: View) -> Split | None:
    """Split epochs of arrays by what a scan takes; None if one worker's epochs and scans weren't measured.

    Runs of image files have floors, which tell more: `describe_parts`.
    """
    state = view.state
    measured = [row for row in view.rows if {"train", "scan"} <= row.cells.keys()]
    if not measured or state.payload or state.is_projected or state.workers != "one":
        return None
    order = sorted(measured, key=lambda row: row.cells["train"].value)
    shuffling = {row.backend: _measure_shuffling(row) for row in order}
    most, best = max(shuffling, key=lambda backend: shuffling[backend]), measured[0].backend
    if not shuffling[most]:
        message = "Where an epoch's time goes: shuffling takes less than the noise"
    else:
        message = f"Where an epoch's time goes: shuffling takes {shuffling[most]:.0f} % of {most}'s"
        message += f", {shuffling[best]:.0f} % of {best}'s" if best != most and shuffling[best] else ""
    rows = [
        (backend, 100 - percent, f"{percent:.0f} % shuffling" if percent else "within the noise")
        for backend, percent in shuffling.items()
    ]
    return Split(message, tuple(rows))


def _measure_shuffling(row: Row) -> float:
    """Return the percentage of an epoch that a scan doesn't take; 0 if two cells may differ so much by chance."""
    epoch, scan = row.cells["train"], row.cells["scan"]
    scatter = UNKNOWN_SCATTER * (2 if epoch.unstable or scan.unstable else 1)
    return 100 * (1 - scan.value / epoch.value) if epoch.value > scan.value * math.exp(scatter) else 0


@dataclass(frozen=True)
class Rates:
    """How many images a second one backend gives from a bucket in some ways, on a linear scale."""

    message: str
    rows: tuple[tuple[str, str, float], ...]  # way, images a second, percent of the longest bar


def draw_rates(bucket: Bucket) -> Rates | None:
    """Draw the epochs of the best backend of a bucket beside what a download and single requests give."""
    cells = {way.name: bucket.best[way.name] for way in EPOCHS if way.name in bucket.best}
    epoch = find_epoch(bucket.best)
    if epoch is None:
        return None
    longest = max(result.images_per_second for result in cells.values())
    rows = tuple(
        (name, f"{format_number(result.images_per_second)}/s", 100 * result.images_per_second / longest)
        for name, result in cells.items()
    )
    message = f"{epoch.backend} gives {format_number(epoch.images_per_second)} images a second"
    if single := bucket.best.get(AT_ONCE.name):
        ratio = format_number(epoch.images_per_second / single.images_per_second)
        message += f", {ratio} times as many as single requests, 32 at once"
    return Rates(message, rows)


def plan_page(run: Run) -> Iterator[Figure]:
    """Plan size against time, and the sweep over numbers of images, for each payload and cache."""
    plans = plan_figures(run)
    shown: set[tuple[str, str, str]] = set()
    for plan in plans:
        params = dict(plan.params)
        payload, cache = str(params.get("payload", "")), str(params.get("cache", "warm"))
        made = _draw(plan)
        key = (plan.subject, payload, cache)
        if made and key not in shown:  # an overview of durable stores shows the same reads
            shown.add(key)
            message, note, subplot, widths = made
            charts = tuple(lay_out(subplot, width) for width in widths)
            yield Figure(plan.subject, message, note, payload, cache, charts, tabulate_subplot(plan.title, subplot))


def _draw(plan: FigurePlan) -> tuple[str, str, Subplot, Sequence[int]] | None:
    """Write the message of a figure that pages show, and choose its subplot; None for the others."""
    if plan.subject == "size":
        (subplot,) = plan.subplots
        return _describe_front(subplot), plan.note, subplot, (WIDE, WIDTH)
    if plan.subject == "overview" and plan.subplots[-1].title.startswith("to read"):
        subplot = plan.subplots[-1]
        lines = {name: line for name, line in subplot.lines.items() if len(line) > 1}
        if lines:
            return _describe_sweep(lines), plan.note, replace(subplot, lines=lines), (WIDTH,)
    return None


def _describe_front(subplot: Subplot) -> str:
    names = sorted(subplot.marked)
    if len(subplot.lines) == 1:
        return f"Disk against time: {names[0]}"
    if len(names) > CROWD:
        return f"Disk against time: {len(names)} of {len(subplot.lines)} backends are beaten by no other in both"
    return f"Disk against time: no other backend beats {join_words(names)} in both"


def _describe_sweep(lines: Lines) -> str:
    fastest: dict[float, tuple[float, str]] = {}
    for name, line in lines.items():
        for x, _, middle, _ in line:
            fastest[x] = min(fastest.get(x, (middle, name)), (middle, name))
    few, many = min(fastest), max(fastest)
    if len({name for _, name in fastest.values()}) == 1:
        return f"{fastest[few][1]} reads fastest, from {few:,.0f} to {many:,.0f} images"
    return f"{fastest[many][1]} reads {many:,.0f} images fastest; of {few:,.0f}, {fastest[few][1]} does"


def describe_parts(answer: Answer) -> str:
    """Say what takes most of the time of the first choice whose parts are known."""
    choice = next(choice for choice in answer.choices if choice.parts)
    part = max(choice.parts, key=lambda part: part.fraction)
    percent, time = f"{100 * part.fraction:.0f} %", format_time(part.seconds)
    return f"{part.name.capitalize()}: {percent} of an epoch of {choice.name}, {time} an image"
