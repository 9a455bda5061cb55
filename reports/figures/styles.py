"""Which colour, marker and dashes a backend has, the same in every figure."""

from collections.abc import Mapping
from dataclasses import dataclass

from reports.run import BrokenRunError, Run

# Okabe and Ito, "Color Universal Design", 2008: those that stand out on white come first, black last; orange, sky blue
# and yellow are darker than theirs, so that all have a contrast of 3 with white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C28500", "#3A9BCF", "#9C9300", "#000000")
DARK_COLOURS = ("#4DA3E8", "#FF8A3D", "#2BC79A", "#E59AC5", "#F2B632", "#9AD8FF", "#F7EE6E", "#FFFFFF")
"""The same on a dark ground."""
MARKERS = 12
DASHES = 4
MOST_LINES = 96  # so many of their combinations differ


@dataclass(frozen=True)
class Style:
    """Numbers of a colour, a marker and dashes: below the lengths of `COLOURS`, `MARKERS` and `DASHES`."""

    colour: int
    marker: int
    dashes: int


def choose_styles(run: Run) -> Mapping[str, Style]:
    """Give each backend of a run its style.

    Raises
    ------
    BrokenRunError
        The run has more backends than can be told apart.
    """
    backends = sorted({result.backend for result in run.results})
    if len(backends) > MOST_LINES:
        raise BrokenRunError(f"{run.path}: {len(backends):,} backends, figures tell {MOST_LINES} apart; leave some out")
    colours = len(COLOURS)
    return {
        backend: Style(place % colours, place % MARKERS, place // colours % DASHES)
        for place, backend in enumerate(backends)
    }
