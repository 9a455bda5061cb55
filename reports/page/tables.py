"""The tables of a page: rows of entries, each with a text and the number it's sorted by."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from reports.compare.comparison import Comparison, Row
from reports.compare.text import describe_interval
from reports.figures.plan import Subplot
from reports.noise import Verdict
from reports.payloads import Answer, Choice
from reports.projection import COUNTS, Estimate, Limit, Sweep
from reports.remote import COLUMNS, SHUFFLED, WINDOWED, Bucket
from reports.run import PIXELS, Result, Run
from reports.text import add_params, count_noun, format_bytes, format_number, format_time, name_cell

COSTED = (1_000_000, 100_000_000)  # images whose costs are shown
MAX_SLOWER = 10  # cells that come first; all are below
STRIP = (100, 8)  # width and height of a strip of rounds, in its own units
_COMPARED = ("cell", "base", "new", "new / base", "interval", "verdict")
_VERBS = {"store_many": "Time to store", "read_many": "Time to read", "read_epoch": "Time to read shuffled"}
_IMPORTANCE: tuple[Verdict, ...] = ("regression", "improvement", "inconclusive", "ok")


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its text, the number it's sorted by, unless by text, and a path to draw beside it."""

    text: str
    number: float | None = None
    ticks: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first entry of each row names it. `guide` is a path drawn behind all ticks."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    guide: str = ""
    results: tuple[Result, ...] = ()  # that the rows show, if each shows one


_WayRow = tuple[str, *tuple[Entry, ...]]  # the way a cell was measured, then its row


def tabulate_subplot(title: str, subplot: Subplot) -> Table:
    """Show the exact numbers of one subplot: a column for each x, or one column for x if backends have one value."""
    caption = f"{title}: {subplot.title}" if subplot.title else title
    if all(len(line) == 1 for line in subplot.lines.values()):
        rows = [
            (Entry(backend), Entry(f"{x:,.0f}", x), _show_spread(spread))
            for backend, ((x, *spread),) in subplot.lines.items()
        ]
        return Table(caption, ("backend", subplot.across, subplot.unit), tuple(rows))
    places = sorted({x for line in subplot.lines.values() for x, *_ in line})
    values = {backend: {x: _show_spread(spread) for x, *spread in line} for backend, line in subplot.lines.items()}
    wide = [(Entry(backend), *(own.get(x, Entry("-")) for x in places)) for backend, own in values.items()]
    columns = ("backend", *(f"{x:,.0f}" for x in places))
    return Table(f"{caption}, {subplot.unit} by {subplot.across}", columns, tuple(wide))


def _show_spread(spread: Sequence[float]) -> Entry:
    """Show a median, and the quartiles if they differ from it."""
    low, middle, high = spread
    around = f" ({format_number(low)} to {format_number(high)})" if low != high else ""
    return Entry(f"{format_number(middle)}{around}", middle)


def tabulate_rounds(run: Run) -> tuple[Table, ...]:
    """Show the rounds of each cell: how many, spread, memory, disk, start-up, a strip of them; a table for each way."""
    ways: dict[str, list[Result]] = {}
    for results in run.groups.values():
        for result in results:
            ways.setdefault(result.way, []).append(result)
    columns = (
        *("cell", "rounds", "median", "IQR", "images/s", "stable?"),
        *("peak memory", "disk", "start-up", "each round, half to twice the median"),
    )
    return tuple(
        Table(f"Raw rounds of each cell: {way}", columns, tuple(map(_show_rounds, own)), "M50,0V8", tuple(own))
        for way, own in ways.items()
    )


def _show_rounds(result: Result) -> tuple[Entry, ...]:
    return (
        Entry(name_cell(result.cell)),
        Entry(f"{len(result.rounds):,}", len(result.rounds)),
        _show_time(result.median),
        _show_time(result.iqr),
        Entry(format_number(result.images_per_second), result.images_per_second),
        Entry("unstable" if result.unstable else "stable"),
        _show_bytes(result.peak_bytes),
        _show_bytes(result.disk.allocated_bytes if result.disk else None),
        _show_time(result.startup_seconds) if result.startup_seconds else Entry("-"),
        Entry("", min(result.rounds) / result.median, draw_strip(result)),
    )


def _show_bytes(number: int | None) -> Entry:
    return Entry("-") if number is None else Entry(format_bytes(number), number)


def _show_time(seconds: float) -> Entry:
    return Entry(format_time(seconds), seconds)


def draw_strip(result: Result) -> str:
    """Draw a tick for each round as an SVG path: higher where there are many; rounds that don't fit are at the edge."""
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
    """Show the lines of a sweep and their projections, and which of these are past a backend's limit."""
    form = format_time if sweep.quantity == "seconds" else format_bytes
    rows = [
        (
            Entry(line.backend),
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
    verb = _VERBS[sweep.operation]
    title = add_params(verb if sweep.quantity == "seconds" else "Bytes on disk, allocated", sweep.params)
    counts = (f"{count:,} images" for count in COUNTS)
    columns = ("backend", *counts, "valid up to", "fixed", "each image", "worst misfit")
    return Table(f"{title}, projected from up to {largest:,} images", columns, tuple(rows))


def _show_estimate(estimate: Estimate, count: int, limit: Limit | None, form: Callable[[float], str]) -> Entry:
    past = ", past the limit" if limit and count > limit.images else ""
    return Entry(f"{form(estimate.value)} ({form(estimate.low)} to {form(estimate.high)}){past}", estimate.value)


def _show_limit(limit: Limit | None) -> Entry:
    if limit is None:
        return Entry("unknown")
    digits = 10 ** max(0, len(str(limit.images)) - 2)  # two of them count
    return Entry(f"{limit.images // digits * digits:,} ({limit.reason})", limit.images)


def tabulate_costs(answer: Answer, run: Run) -> Table:
    """Show what each choice takes for each of `COSTED`, in proportion; pixels are decoded before they are written."""
    rows = [
        (
            Entry(f"{count // 1_000_000:,} million as {choice.name}"),
            _show_disk(choice.disk, count, run.store_directory.free_bytes),
            _show_writing(answer, choice, count, run.memory_bytes),
            _show_epoch(choice, count, run.memory_bytes),
        )
        for count in COSTED
        for choice in answer.choices
    ]
    images = max(choice.epoch.images for choice in answer.choices)
    caption = f"What so many such images would take, in proportion to {count_noun(images, 'image')}"
    return Table(caption, ("images", "disk", "time to write", "an epoch"), tuple(rows))


def tabulate_bucket(bucket: Bucket) -> Table:
    """Show what each backend takes in a bucket, and what its epochs fetch."""
    shown = [way for way in COLUMNS if any(way.name in cells for cells in bucket.backends.values())]
    counted = [way for way in (WINDOWED, SHUFFLED) if way in shown]
    rows = [
        (
            Entry(backend),
            *(_show_time(cells[way.name].median) if way.name in cells else Entry("-") for way in shown),
            *(_show_fetched(cells.get(way.name)) for way in counted),
        )
        for backend, cells in bucket.backends.items()
    ]
    columns = ("backend", *(way.name for way in shown), *(f"fetched, {way.name}" for way in counted))
    return Table(f"{bucket.title}. Fetched: requests, and bytes as multiples of those used.", columns, tuple(rows))


def _show_fetched(result: Result | None) -> Entry:
    if result is None or result.requests is None or result.fetched_ratio is None:
        return Entry("-")
    ratio = format_number(result.fetched_ratio)
    return Entry(f"{count_noun(result.requests, 'request')}, {ratio}x", result.fetched_ratio)


def tabulate_bucket_costs(bucket: Bucket) -> Table:
    """Show hours, requests and bytes for many images in the best backend."""
    rows = [
        (
            Entry(f"{cost.images // 1_000_000:,} million: {cost.way.name}"),
            _show_time(cost.seconds),
            Entry("not counted") if cost.requests is None else Entry(f"{cost.requests:,.0f}", cost.requests),
            Entry("not counted") if cost.fetched is None else Entry(format_bytes(cost.fetched), cost.fetched),
        )
        for cost in bucket.costs
    ]
    name = next(iter(bucket.backends))
    caption = f"What so many such images would take in {name}, in proportion to {count_noun(bucket.images, 'image')}"
    return Table(caption, ("images", "time", "requests", "fetched"), tuple(rows))


def _show_disk(each: float | None, count: int, free: int) -> Entry:
    if each is None:
        return Entry("unknown")
    past = ", more than is free here" if each * count > free else ""
    return Entry(f"{format_bytes(each * count)}{past}", each * count)


def _show_writing(answer: Answer, choice: Choice, count: int, memory: int | None) -> Entry:
    if choice.writing is None:
        return Entry("not measured")
    decoding = sum(each.seconds for each in answer.choices if each.payload != choice.payload == PIXELS)
    seconds = count * (choice.writing + decoding)
    with_decoding = ", with decoding" if decoding else ""
    return Entry(f"{format_time(seconds)}{with_decoding}{_doubt(choice, count, memory)}", seconds)


def _show_epoch(choice: Choice, count: int, memory: int | None) -> Entry:
    seconds = count * choice.seconds
    return Entry(f"{format_time(seconds)}{_doubt(choice, count, memory)}", seconds)


def _doubt(choice: Choice, count: int, memory: int | None) -> str:
    """Say that what was measured in memory doesn't hold for more than it holds."""
    return ", if memory held them" if memory and choice.disk and choice.disk * count > memory else ""


def tabulate_comparison(comparison: Comparison) -> tuple[Table, ...]:
    """Show each cell of two runs with its ratio and its verdict; a table for each way."""
    ways = {result.cell: result.way for run in (comparison.base, comparison.new) for result in run.results}
    rows: list[_WayRow] = [
        (ways[row.cell], *_show_row(row, comparison))
        for verdict in _IMPORTANCE
        for row in comparison.select_rows(verdict)
    ]
    empty = Entry("")
    absent = [result for result in comparison.base.results if result.cell in comparison.absent]
    for verdict, results in (("missing", comparison.missing), ("not measured", absent), ("new", comparison.added)):
        for result in results:
            time = _show_time(result.median)
            base, new = (empty, time) if verdict == "new" else (time, empty)
            rows.append(
                (result.way, Entry(name_cell(result.cell)), base, new, empty, empty, _show_verdict(verdict, comparison))
            )
    return _split_ways("Each cell against the base", _COMPARED, rows)


def tabulate_slower(comparison: Comparison) -> Table | None:
    """Show what became slower for certain, then what looks slower, each by how much; None if nothing does."""
    suspects = (row for row in comparison.rows if row.suspect)
    rows = sorted(suspects, key=lambda row: (row.verdict != "regression", -row.ratio))[:MAX_SLOWER]
    shown = tuple(_show_row(row, comparison) for row in rows)
    return Table("What became slower, or looks slower", _COMPARED, shown) if rows else None


def _show_row(row: Row, comparison: Comparison) -> tuple[Entry, ...]:
    return (
        Entry(name_cell(row.cell)),
        _show_time(row.base),
        _show_time(row.new),
        Entry(format_number(row.ratio), row.ratio),
        Entry(describe_interval(row), row.low),
        _show_verdict(row.verdict, comparison),
    )


def _show_verdict(verdict: str, comparison: Comparison) -> Entry:
    return Entry(f"{verdict}{comparison.doubt}")


def tabulate_history(runs: Sequence[Run]) -> tuple[Table, ...]:
    """Show the median of each cell of the last run in all runs, oldest first; a table for each way."""
    cells = [{result.cell: result for result in run.results} for run in runs]
    rows: list[_WayRow] = []
    for result in runs[-1].results:
        course = [each.get(result.cell) for each in cells]
        drawing = Entry("", result.median, "".join(_draw_course(course, result.median)))
        medians = [_show_time(each.median) if each else Entry("") for each in course]
        rows.append((result.way, *(Entry(name_cell(result.cell)), drawing, *medians)))
    dates = tuple(f"{run.datetime:%Y-%m-%d %H:%M}" for run in runs)
    columns = ("cell", "course, half to twice the last run", *dates)
    return _split_ways("Median of each cell in each run", columns, rows, "M0,4H100")


def _split_ways(caption: str, columns: tuple[str, ...], rows: Iterable[_WayRow], guide: str = "") -> tuple[Table, ...]:
    """Make a table for each way."""
    split: dict[str, list[tuple[Entry, ...]]] = {}
    for way, *row in rows:
        split.setdefault(way, []).append(tuple(row))
    return tuple(Table(f"{caption}: {way}", columns, tuple(own), guide) for way, own in split.items())


def _draw_course(results: Sequence[Result | None], last: float) -> Iterator[str]:
    """Draw the medians of one cell in two runs or more as an SVG path, from half to twice the last one."""
    width, height = STRIP
    letter = "M"
    for number, result in enumerate(results):
        if result is None:
            letter = "M"
            continue
        x = round(2 + (width - 4) * number / (len(results) - 1))
        y = round(min(max(height / 2 * (1 - math.log2(result.median / last)), 0.5), height - 0.5), 1)
        yield f"{letter}{x},{y}"
        letter = "L"
