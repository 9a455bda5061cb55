"""The colour, marker and dashes of a backend, the same in every figure."""

from collections.abc import Mapping
from dataclasses import dataclass

from reports.run import BrokenRunError, Run

# Okabe and Ito, "Color Universal Design", 2008: those that contrast most with white come first, black last; orange, sky
# blue and yellow are darker than theirs, so that all have a contrast of 3 with white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C28500", "#3A9BCF", "#9C9300", "#000000")
DARK_COLOURS = ("#4DA3E8", "#FF8A3D", "#2BC79A", "#E59AC5", "#F2B632", "#9AD8FF", "#F7EE6E", "#FFFFFF")
MARKERS = 12
DASHES = 4
MAX_LINES = 96  # that many combinations differ


@dataclass(frozen=True)
class Style:
    """Indexes below the lengths of `COLOURS`, `MARKERS` and `DASHES`."""

    colour: int
    marker: int
    dashes: int


def choose_styles(run: Run) -> Mapping[str, Style]:
    """Give each backend of a run its style, or raise `BrokenRunError` if there are too many."""
    backends = run.backends
    if len(backends) > MAX_LINES:
        words = f"{len(backends):,} backends, figures can show {MAX_LINES}; leave some out"
        raise BrokenRunError(f"{run.path}: {words}")
    colours = len(COLOURS)
    return {
        backend: Style(number % colours, number % MARKERS, number // colours % DASHES)
        for number, backend in enumerate(backends)
    }
