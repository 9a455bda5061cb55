"""How much noise a measurement has, and from which difference on it counts.

Rounds of one process aren't replicates: memory, files and processor are laid out once, and all rounds share that
layout. The noise between processes is estimated from the cells of two runs, most of which no change has touched: by how
much their ratios scatter about the common ratio.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Verdict = Literal["regression", "missing", "not measured", "inconclusive", "improvement", "new", "ok"]
"""The words of `compare` and `gate` for a cell, gravest first."""

FACTOR = 6.0  # scatters to each side: cells differ in their own scatter, and the worst of a hundred must be inside
TENTHS = (0.1, 0.9)  # of the rounds: the slowest and the quickest tenth are left out
MIN_SCATTER = 0.03  # as natural logarithm, like all below: no two processes are closer
MIN_CELLS = 8  # fewer don't show how much they scatter
UNKNOWN_SCATTER = 0.10
MAX_THRESHOLD = 10  # as a fraction: eleven times slower needs no comparison
_NORMAL = 1.4826  # standard deviation of a normal distribution / half the length of the interval that holds half of it


@dataclass(frozen=True)
class Thresholds:
    """From which difference on a cell is slower. Fractions are of the base's time: 0.10 is 1.10 times as long."""

    threshold: float = 0.10  # the smallest slowdown that is a regression; the other fractions follow from it
    alpha: float = 0.01  # how often a run without any change may report a regression
    least_seconds: float = 20e-6  # the smallest difference of a call that is a regression

    def widen(self, threshold: float | None) -> "Thresholds":
        """Return the thresholds of a cell that has its own `threshold`, or these."""
        return self if threshold is None else replace(self, threshold=threshold)

    @property
    def excluded(self) -> float:
        """The slowdown that the screen has to exclude: 15 % for a threshold of 10 %."""
        return 1.5 * self.threshold

    @property
    def noise(self) -> float:
        """The largest slowdown that is still noise: 3 % for a threshold of 10 %. Confirming tests against it."""
        return 0.3 * self.threshold

    @property
    def cleared(self) -> float:
        """The estimate below which a suspect is cleared: 5 % for a threshold of 10 %."""
        return 0.5 * self.threshold


def estimate_scatter(log_ratios: Sequence[float]) -> float:
    """Estimate the standard deviation of log(new / base) between two processes that measure the same.

    It comes from the shortest interval that holds half of the cells: a common factor doesn't count as scatter, and
    cells that did change don't widen it, even if they are half of all.
    """
    if len(log_ratios) < MIN_CELLS:
        return UNKNOWN_SCATTER
    half = -(-len(log_ratios) // 2)
    ordered = np.sort(log_ratios)
    shortest = float(np.min(ordered[half - 1 :] - ordered[: len(ordered) - half + 1]))
    return max(MIN_SCATTER, _NORMAL * shortest / 2)


def estimate_interval(
    base: Sequence[float], new: Sequence[float], scatter: float, *, stable: bool
) -> tuple[float, float]:
    """Estimate the bounds of the ratio new / base of one cell from its rounds in both runs, in seconds.

    If the rounds of a run disagree (`stable` is false), all of them count, and the scatter counts twice.
    """
    ends = TENTHS if stable else (0, 1)
    (base_quick, base_slow), (new_quick, new_slow) = (np.quantile(rounds, ends) for rounds in (base, new))
    with np.errstate(over="ignore"):  # rounds may be so far apart that the ratio is unknown
        widening = np.exp(FACTOR * scatter * (1 if stable else 2))
        return float(new_quick / base_slow / widening), float(new_slow / base_quick * widening)
