"""From which difference on a measurement counts, and the words for that."""

from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["regression", "missing", "not measured", "inconclusive", "improvement", "new", "ok"]
"""The words of `compare` and `gate` for a cell, gravest first."""

TENTHS = (0.1, 0.9)  # of the rounds: the slowest and the quickest tenth are left out
UNKNOWN_SCATTER = 0.10  # between processes, as natural logarithm, if only one was measured
MISSED = 0.001  # how often a cell that is slower by `Thresholds.never_ok` may be called ok
MAX_THRESHOLD = 10  # as a fraction: eleven times slower needs no comparison


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
        """The slowdown that makes a suspect unless the screen excludes it: 15 % for a threshold of 10 %."""
        return 1.5 * self.threshold

    @property
    def never_ok(self) -> float:
        """The slowdown that is never called ok: 20 % for a threshold of 10 %."""
        return 2 * self.threshold

    @property
    def noise(self) -> float:
        """The largest slowdown that is still noise: 3 % for a threshold of 10 %. Confirming tests against it."""
        return 0.3 * self.threshold

    @property
    def cleared(self) -> float:
        """The estimate below which a suspect is cleared: 5 % for a threshold of 10 %."""
        return 0.5 * self.threshold
