"""Lays figures out as inline SVG: drawn a second time, because matplotlib's SVG would add 782 kB to a page."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from reports.figures.plan import Point, Subplot, space_out
from reports.figures.styles import Style, choose_style
from reports.sentence import POPULAR
from reports.text import format_number, shorten_text

WIDTH, TOP, BOTTOM, LEFT, RIGHT = 410, 30, 46, 56, 122  # of the drawing, in its own units; a letter is 14 high
LINE = 17  # from one label to the next
_LETTER = 8  # the width of a letter of a number below an axis
_MIN_HEIGHT = 240
_MAX_LETTERS = 15
MAX_LABELS = 9  # lines; the others are gray

# Outlines around (0, 0), in the order of matplotlib's markers in drawing.py: "osD^vPX<>*ph".
MARKERS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
    "M-4,-4H4V4H-4Z",
    "M0,-5L5,0L0,5L-5,0Z",
    "M0,-5L5,4H-5Z",
    "M0,5L5,-4H-5Z",
    "M-2,-5H2V-2H5V2H2V5H-2V2H-5V-2H-2Z",
    "M-2,-5L0,-3L2,-5L5,-2L3,0L5,2L2,5L0,3L-2,5L-5,2L-3,0L-5,-2Z",
    "M-5,0L4,-5V5Z",
    "M5,0L-4,-5V5Z",
    "M0,-6L1.5,-2H6L2.4,0.8L3.7,5L0,2.5L-3.7,5L-2.4,0.8L-6,-2H-1.5Z",
    "M0,-5L5,-1L3,5H-3L-5,-1Z",
    "M0,-5L4.5,-2.5V2.5L0,5L-4.5,2.5V-2.5Z",
)
DASHES = ("", "7 3", "2 3", "7 3 2 3")


class Tick(NamedTuple):
    """A line of an axis, and the number beside it."""

    place: float
    text: str


class Mark(NamedTuple):
    """One value: where it is, the ends of its spread, the exact numbers in words, whether it has a ring."""

    x: float
    y: float
    low: float
    high: float
    words: str
    ringed: bool


@dataclass(frozen=True)
class Curve:
    """One backend: its label, if it has one, and the height of that, its style, its values from left to right."""

    label: str | None
    height: float
    style: Style
    marks: tuple[Mark, ...]

    @property
    def spread(self) -> str:
        """The path of a bar for each value that has a spread."""
        return "".join(f"M{mark.x},{mark.low}V{mark.high}" for mark in self.marks if mark.low != mark.high)


class Reference(NamedTuple):
    """A line to compare with, and the height of its label."""

    place: float
    height: float
    label: str


@dataclass(frozen=True)
class Chart:
    """One subplot as it is drawn; places are in units of the drawing, from its top left corner."""

    title: str
    unit: str
    across: str
    width: float
    height: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    reference: Reference | None


@dataclass(frozen=True)
class _Axis:
    """A scale from the smallest to the largest value, onto places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def place(self, value: float) -> float:
        """Place a value, rounded to a tenth of a unit."""
        low, high, value = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        return round(self.start + (self.end - self.start) * (value - low) / (high - low), 1)

    def find_ticks(self) -> tuple[Tick, ...]:
        """Find ticks at round values."""
        values = _list_log(self.low, self.high) if self.log else _list_linear(self.high)
        return tuple(Tick(self.place(value), _write_tick(value)) for value in values)

    def find_ticks_below(self, measured: Iterable[float]) -> tuple[Tick, ...]:
        """Find ticks whose numbers fit side by side: at measured values if these are whole, or at round ones."""
        values = sorted(set(measured))
        ticks = tuple(Tick(self.place(value), f"{value:,.0f}") for value in values)
        if all(value == round(value) for value in values) and _fits(ticks):
            return ticks
        ticks = self.find_ticks()
        every = next(every for every in range(1, len(ticks) + 1) if _fits(ticks[::every]))
        return ticks[::every]


def lay_out(subplot: Subplot, width: float = WIDTH) -> Chart:
    """Lay a subplot out: axes, curves, labels that stay apart. Curves without a label come first, below the others."""
    across = [x for line in subplot.lines.values() for x, *_ in line]
    labelled = choose_labels(subplot)
    height = max(_MIN_HEIGHT, LINE * (len(labelled) + bool(subplot.reference)))
    x_axis = _fit(across, LEFT, width - RIGHT, 1.4, log=subplot.scale != "linear")
    y_axis = _fit(subplot.values, TOP + height, TOP, 1.5, log=subplot.is_logarithmic)
    marks = {name: tuple(_make_marks(name, line, subplot, x_axis, y_axis)) for name, line in subplot.lines.items()}
    ends = [marks[name][-1].y for name in labelled]
    ends += [y_axis.place(subplot.reference[1])] if subplot.reference else []
    heights = _spread(ends, TOP, height)
    places = dict(zip(labelled, heights, strict=False))
    return Chart(
        title=subplot.title,
        unit=subplot.unit,
        across=subplot.across,
        width=width,
        height=TOP + height + BOTTOM,
        x_ticks=x_axis.find_ticks_below(across),
        y_ticks=y_axis.find_ticks(),
        curves=tuple(
            Curve(
                shorten_text(name, _MAX_LETTERS) if name in places else None,
                places.get(name, 0.0),
                choose_style(name),
                marks[name],
            )
            for name in sorted(marks, key=places.__contains__)
        ),
        reference=Reference(ends[-1], heights[-1], subplot.reference[0]) if subplot.reference else None,
    )


def choose_labels(subplot: Subplot) -> Collection[str]:
    """Choose the lines to label: those with a ring and the lowest ones at the end, and the popular choice."""
    order = sorted(subplot.lines, key=lambda name: (name not in subplot.marked, subplot.lines[name][-1][2], name))
    popular = [name for name in POPULAR if name in order]
    return [*popular, *(name for name in order if name not in popular)][:MAX_LABELS]


def _make_marks(name: str, line: Sequence[Point], subplot: Subplot, x_axis: _Axis, y_axis: _Axis) -> Iterator[Mark]:
    for x, low, middle, high in line:
        spread = f", {format_number(low)} to {format_number(high)}" if low != high else ""
        words = f"{name}: {format_number(middle)} {subplot.unit}{spread}; {subplot.across}: {x:,.0f}"
        bottom, height, top = map(y_axis.place, (low, middle, high))
        yield Mark(x_axis.place(x), height, bottom, top, words, name in subplot.marked)


def _fit(values: Sequence[float], start: float, end: float, margin: float, *, log: bool) -> _Axis:
    """Fit an axis to its values; linear ones start at zero."""
    low, high = min(values), max(values)
    if log:
        return _Axis(low / margin, high * margin, start, end, log=True)
    return _Axis(0, 1.06 * high if high > 0 else 1, start, end, log=False)


def _list_log(low: float, high: float) -> list[float]:
    """List decades, at most seven of them, or finer steps where these are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, -(-len(powers) // 7))
    for steps, chosen in (((1,), powers[::every]), ((1, 2, 5), powers), (range(1, 10), powers)):
        values = [step * 10.0**power for power in chosen for step in steps if low <= step * 10.0**power <= high]
        if len(values) > 2:  # noqa: PLR2004 - two numbers aren't a scale
            break
    return values


def _list_linear(high: float) -> list[float]:
    """List four to eight round numbers from zero on."""
    step = 10.0 ** math.floor(math.log10(high / 4))
    step *= next(factor for factor in (5, 2.5, 2, 1) if high / (factor * step) >= 4 or factor == 1)  # noqa: PLR2004
    return [step * place for place in range(int(high / step) + 1)]


def _write_tick(value: float) -> str:
    """Write a round number exactly, in at most nine letters, which fit beside an axis."""
    text = f"{value:,.7f}".rstrip("0").rstrip(".")
    return text if len(text) <= 9 and (value == 0 or value >= 1e-6) else f"{value:.3g}"  # noqa: PLR2004


def _fits(ticks: Sequence[Tick]) -> bool:
    """Return whether the numbers of ticks, from left to right, fit side by side."""
    return all(
        right.place - left.place >= _LETTER * (len(left.text) + len(right.text)) / 2 for left, right in pairwise(ticks)
    )


def _spread(ends: Sequence[float], top: float, height: float) -> list[float]:
    """Find heights for labels, as near to the ends of their lines as they can be a line apart."""
    order = sorted(range(len(ends)), key=lambda place: ends[place])
    spaced = space_out([(ends[place] - top) / height for place in order], LINE / height)
    heights = dict(zip(order, spaced, strict=True))
    return [round(top + height * heights[place], 1) for place in range(len(ends))]
