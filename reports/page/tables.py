"""The tables of a page: rows of entries, each with a text and what it is sorted by."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass

from reports.backends_table import COLUMNS, Store
from reports.compare.comparison import Comparison
from reports.figures.subplot import Panel
from reports.noise import Verdict
from reports.page.projection import COUNTS, Estimate, Limit, Sweep
from reports.recommendations import NAME, Answer
from reports.run import Result, Run, group_results
from reports.text import add_params, count_noun, format_bytes, format_number, format_time, name_cell, shorten_text

STRIP = (100, 8)  # width and height of a strip, in its own units
_IMPORTANCE: tuple[Verdict, ...] = ("regression", "improvement", "inconclusive", "ok")


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its text, the number it is sorted by, if that is no text, and ticks to draw beside it."""

    text: str
    number: float | None = None
    ticks: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first entry of each row names it. Behind ticks stands a `guide`, a path too."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    guide: str = ""


def tabulate_answer(answer: Answer) -> Table:
    """Show what an answer stands on: each backend, its value, the ratio to the best, and what decides on ties."""
    tied = {tier for tier, count in Counter(place.tier for place in answer.places).items() if count > 1}
    rows = [
        (
            Entry(shorten_text(place.backend, NAME)),
            Entry(format_time(place.value) if answer.results else f"{place.value:,.0f}", place.value),
            Entry(format_number(place.ratio), place.ratio),
            Entry(f"{place.tier + 1}{' (tie)' if place.tier in tied else ''}", place.tier),
            *([_show_noise(answer.results[place.backend])] if answer.results else []),
        )
        for place in answer.places
    ]
    noise = ("without the quickest and the slowest tenth",) if answer.results else ()
    return Table(answer.circumstances, ("backend", answer.unit, "times the best", "place", *noise), tuple(rows))


def _show_noise(result: Result) -> Entry:
    """Show what `reports.ranking.is_slower` looks at."""
    quick, slow = result.tenths
    unstable = ", unstable" if result.unstable else ""
    rounds = count_noun(len(result.rounds), "round")
    return Entry(f"{format_time(quick)} to {format_time(slow)}, {rounds}{unstable}", quick)


def tabulate_stores(stores: Iterable[Store]) -> Table:
    """Show what each store is, and what it is good for."""
    rows = [tuple(map(Entry, astuple(store))) for store in stores]
    return Table("What each backend is, and how it does in this run", COLUMNS, tuple(rows))


def tabulate_panel(title: str, panel: Panel) -> Table:
    """Show the exact figures behind one panel of a figure with that title: a column for each place across.

    Where each backend has but one value, the place across is a column too.
    """
    caption = f"{title}: {panel.title}" if panel.title else title
    if all(len(line) == 1 for line in panel.lines.values()):
        rows = [
            (Entry(shorten_text(backend, NAME)), Entry(f"{x:,.0f}", x), _show_spread(spread))
            for backend, ((x, *spread),) in panel.lines.items()
        ]
        return Table(caption, ("backend", panel.across, panel.unit), tuple(rows))
    places = sorted({x for line in panel.lines.values() for x, *_ in line})
    values = {backend: {x: _show_spread(spread) for x, *spread in line} for backend, line in panel.lines.items()}
    wide = [
        (Entry(shorten_text(backend, NAME)), *(own.get(x, Entry("-")) for x in places))
        for backend, own in values.items()
    ]
    columns = (f"{x:,.0f}" for x in places)
    return Table(f"{caption}, {panel.unit} by {panel.across}", ("backend", *columns), tuple(wide))


def _show_spread(spread: Sequence[float]) -> Entry:
    """Show a median, and the quartiles around it where they differ from it."""
    low, middle, high = spread
    around = f" ({format_number(low)} to {format_number(high)})" if low != high else ""
    return Entry(f"{format_number(middle)}{around}", middle)


def tabulate_rounds(run: Run) -> tuple[Table, ...]:
    """Show each cell with its rounds: how many, their quartiles, and a strip of them; a table for each way."""
    results = [result for own in group_results(run.results).values() for result in own]
    rows = [
        (
            Entry(name_cell(result.cell)),
            Entry(f"{len(result.rounds):,}", len(result.rounds)),
            Entry(format_time(result.median), result.median),
            Entry(format_time(result.iqr), result.iqr),
            Entry(format_number(result.images_per_second), result.images_per_second),
            Entry("unstable" if result.unstable else "stable"),
            Entry("", min(result.rounds) / result.median, draw_strip(result)),
        )
        for result in results
    ]
    columns = ("cell", "rounds", "median", "IQR", "images/s", "stable?", "each round, half to twice the median")
    ways = map(_find_way, results)
    return _split_ways("Raw rounds of each cell", columns, zip(ways, rows, strict=True), "M50,0V8")


def draw_strip(result: Result) -> str:
    """Draw a tick for each round, as the path of an SVG: higher where many are, at the edge what is beyond."""
    width, height = STRIP
    counts: dict[int, int] = {}
    for seconds in result.rounds:
        place = width / 2 * (1 + math.log2(seconds / result.median))
        edge = round(min(max(place, 1), width - 1))
        counts[edge] = counts.get(edge, 0) + 1
    most = max(counts.values())
    path, before, down = "", 0, height  # from the top of one tick to the foot of the next
    for place, count in sorted(counts.items()):
        tick = 2 + round((height - 2) * math.sqrt(count / most))
        path += f"{'m' if path else 'M'}{place - before},{down}v-{tick}"
        before, down = place, tick
    return path


def tabulate_sweep(sweep: Sweep) -> Table:
    """Show the lines of a sweep and where they lead; what is past a backend's limit is said to be."""
    form = format_time if sweep.quantity == "seconds" else format_bytes
    rows = [
        (
            Entry(shorten_text(line.backend, NAME)),
            *(
                _show_estimate(each, count, line.limit, form)
                for count, each in zip(COUNTS, line.estimates, strict=True)
            ),
            _show_limit(line.limit),
            Entry(form(line.fixed) if line.fixed else "0", line.fixed),
            Entry(form(line.each) if line.each else "0", line.each),
            Entry(f"{100 * line.misfit:.0f} %", line.misfit),
        )
        for line in sweep.projections
    ]
    largest = max(line.largest for line in sweep.projections)
    verb = {"store_many": "Time to store", "read_many": "Time to read"}[sweep.operation]
    title = add_params(verb if sweep.quantity == "seconds" else "Bytes on disk, allocated", sweep.axes)
    counts = (f"{count:,} images" for count in COUNTS)
    columns = ("backend", *counts, "believe up to", "fixed", "each image", "worst misfit")
    return Table(f"{title}, projected from up to {largest:,} images", columns, tuple(rows))


def _show_estimate(estimate: Estimate, count: int, limit: Limit | None, form: Callable[[float], str]) -> Entry:
    past = ", past the limit" if limit and count > limit.images else ""
    return Entry(f"{form(estimate.value)} ({form(estimate.low)} to {form(estimate.high)}){past}", estimate.value)


def _show_limit(limit: Limit | None) -> Entry:
    if limit is None:
        return Entry("not known")
    digits = 10 ** max(0, len(str(limit.images)) - 2)  # two of them count
    return Entry(f"{limit.images // digits * digits:,} ({limit.reason})", limit.images)


def tabulate_comparison(comparison: Comparison) -> tuple[Table, ...]:
    """Show each cell of two runs with its ratio and its verdict; a table for each way of measuring."""
    ways = {result.cell: _find_way(result) for run in (comparison.base, comparison.new) for result in run.results}
    rows = [
        (
            ways[row.cell],
            Entry(name_cell(row.cell)),
            Entry(format_time(row.base), row.base),
            Entry(format_time(row.new), row.new),
            Entry(format_number(row.ratio), row.ratio),
            Entry(f"{format_number(row.low)} to {format_number(row.high)}", row.low),
            Entry(row.verdict),
        )
        for verdict in _IMPORTANCE
        for row in comparison.select_rows(verdict)
    ]
    for verdict, results in (("missing", comparison.missing), ("new", comparison.added)):
        for result in results:
            time = Entry(format_time(result.median), result.median)
            both = (time, Entry("")) if verdict == "missing" else (Entry(""), time)
            rows.append((_find_way(result), Entry(name_cell(result.cell)), *both, Entry(""), Entry(""), Entry(verdict)))
    columns = ("cell", "base", "new", "new / base", "interval", "verdict")
    return _split_ways("Each cell against the base", columns, ((way, row) for way, *row in rows))


def tabulate_history(runs: Sequence[Run]) -> tuple[Table, ...]:
    """Show the median of each cell of the last run in all runs, oldest first; a table for each way of measuring."""
    cells = [{result.cell: result for result in run.results} for run in runs]
    rows = [
        (
            Entry(name_cell(result.cell)),
            Entry("", result.median, "".join(_draw_course([each.get(result.cell) for each in cells], result.median))),
            *(_show_median(each.get(result.cell)) for each in cells),
        )
        for result in runs[-1].results
    ]
    dates = tuple(f"{run.datetime:%Y-%m-%d %H:%M}" for run in runs)
    columns = ("cell", "course, half to twice the last run", *dates)
    ways = map(_find_way, runs[-1].results)
    return _split_ways("Median of each cell in each run", columns, zip(ways, rows, strict=True), "M0,4H100")


def _find_way(result: Result) -> str:
    """Find which way of measuring a cell was measured in: those of different ways share no column."""
    return next((str(value) for name, value in result.axes if name in {"cache", "durability"}), "other")


def _split_ways(
    caption: str, columns: tuple[str, ...], rows: Iterable[tuple[str, Sequence[Entry]]], guide: str = ""
) -> tuple[Table, ...]:
    split: dict[str, list[tuple[Entry, ...]]] = {}
    for way, row in rows:
        split.setdefault(way, []).append(tuple(row))
    return tuple(
        Table(f"{caption}: {shorten_text(way, NAME)}", columns, tuple(own), guide) for way, own in split.items()
    )


def _show_median(result: Result | None) -> Entry:
    return Entry("") if result is None else Entry(format_time(result.median), result.median)


def _draw_course(results: Sequence[Result | None], last: float) -> Iterator[str]:
    """Draw the medians of one cell in two runs or more as the path of an SVG, from half to twice the last one."""
    width, height = STRIP
    letter = "M"
    for place, result in enumerate(results):
        if result is None:
            letter = "M"
            continue
        x = round(2 + (width - 4) * place / (len(results) - 1))
        y = round(min(max(height / 2 * (1 - math.log2(result.median / last)), 0.5), height - 0.5), 1)
        yield f"{letter}{x},{y}"
        letter = "L"
