"""The statistics of a comparison: processes of two runs, drift of the machine, scatter between processes, tests.

All functions are pure. Times are natural logarithms of seconds: the median of a cell in one process. Replicates are
processes, because all rounds of one process share its memory, files and processor.
"""

import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.noise import UNKNOWN_SCATTER

Process = Mapping[str, float]  # seconds by cell, reference cells included
Logarithms = Sequence[float]

# What is known before anything is measured, and how many processes that knowledge is worth.
PRIOR_SCATTER, PRIOR_FREEDOM = UNKNOWN_SCATTER, 4
PRIOR_DRIFT, DRIFT_FREEDOM = 0.02, 4
UNKNOWN_DRIFT = 0.10  # of a run without reference cells


@dataclass(frozen=True)
class Drift:
    """How much slower the machine was in the new run, as logarithm, and how uncertain that is for any one cell."""

    shift: float
    error: float
    freedom: int


@dataclass(frozen=True)
class Evidence:
    """How much slower one cell is, as logarithm, corrected for drift; its standard error, and what limits it.

    `floor` is the standard error that an endless number of new processes would leave.
    """

    base: Logarithms  # of each process, corrected for its speed
    new: Logarithms
    shift: float
    error: float
    floor: float
    freedom: int
    drift: Drift

    def find_margin(self, level: float) -> float:
        """Find how far the true shift may be from the estimate to one side, with this probability of an error."""
        return self._widen(self.error, level, self.freedom)

    def find_least_margin(self, level: float) -> float:
        """Find the margin that more new processes may reach at best."""
        return self._widen(self.floor, level, self.freedom)

    def _widen(self, error: float, level: float, freedom: int) -> float:
        return math.hypot(find_quantile(level, freedom) * error, self._find_drift_margin(level))

    def _find_drift_margin(self, level: float) -> float:
        return find_quantile(level, self.drift.freedom) * self.drift.error

    def can_rank(self, level: float) -> bool:
        """Whether there are processes enough for a test by ranks, which assumes nothing about their scatter."""
        return level * math.comb(len(self.base) + len(self.new), len(self.base)) >= 1

    def find_detectable(self, level: float) -> float:
        """Find about which shift would count as slower."""
        return self._widen(self.error, level, self.freedom if self.can_rank(level) else PRIOR_FREEDOM)

    def is_slower(self, level: float, sign: int = 1) -> bool:
        """Whether the cell is slower, or with a `sign` of -1 faster, with this probability of an error.

        With few processes the test is Student's, with so few degrees of freedom that its tails allow for outliers.
        """
        if not self.can_rank(level):
            return sign * self.shift > self._widen(self.error, level, PRIOR_FREEDOM)
        margin = self._find_drift_margin(level)
        quick, slow = ([sign * each for each in run] for run in (self.base, self.new))
        inversions = sum(after - margin <= before for before in quick for after in slow)
        return count_orders(len(quick), len(slow), inversions) <= level * math.comb(len(quick) + len(slow), len(quick))


def weigh_cells(base: Sequence[Process], new: Sequence[Process], references: Collection[str]) -> dict[str, Evidence]:
    """Weigh the evidence about each cell of both runs; `references` are the cells that measure the machine."""
    centres = _find_centres(base, new, references)
    before, after = (_collect([_correct(process, centres) for process in run]) for run in (base, new))
    shared = [cell for cell in before if cell in after]
    pooled = estimate_scatter((before[cell], after[cell]) for cell in shared)
    errors = {cell: _Errors(before[cell], after[cell], pooled) for cell in shared}
    speeds = [float(np.mean([measure_speed(process, centres) for process in run])) for run in (base, new)]
    error, freedom = estimate_drift_error([errors[cell] for cell in centres])
    drift = Drift(speeds[1] - speeds[0], error, freedom)
    return {
        cell: Evidence(before[cell], after[cell], each.shift, each.error, each.floor, each.freedom, drift)
        for cell, each in errors.items()
        if cell not in references
    }


def _find_centres(base: Sequence[Process], new: Sequence[Process], references: Collection[str]) -> dict[str, float]:
    """Find the usual time of each reference cell that every process measured."""
    shared = [cell for cell in sorted(references) if all(cell in process for process in (*base, *new))]
    return {cell: float(np.mean([math.log(process[cell]) for process in base])) for cell in shared}


def _correct(process: Process, centres: Mapping[str, float]) -> dict[str, float]:
    """Take the logarithms of a process, divided by its speed."""
    speed = measure_speed(process, centres)
    return {cell: math.log(seconds) - speed for cell, seconds in process.items()}


def measure_speed(process: Process, centres: Mapping[str, float]) -> float:
    """Measure how much slower than usual a process was, as logarithm: the median of its reference cells."""
    differences = [math.log(process[cell]) - centre for cell, centre in centres.items()]
    return float(np.median(differences)) if differences else 0.0


def estimate_drift_error(references: "Sequence[_Errors]") -> tuple[float, int]:
    """Estimate how far a cell may drift from the common drift, and the degrees of freedom.

    That is how far reference cells still differ from it, beyond what their scatter explains.
    """
    if not references:
        return UNKNOWN_DRIFT, DRIFT_FREEDOM
    freedom = len(references) - 1 + DRIFT_FREEDOM
    excess = sum(each.shift**2 - each.error**2 for each in references)
    return math.sqrt((DRIFT_FREEDOM * PRIOR_DRIFT**2 + max(0.0, excess)) / freedom), freedom


def _measure_variance(values: Logarithms) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0


def _collect(processes: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for process in processes:
        for cell, value in process.items():
            found.setdefault(cell, []).append(value)
    return found


def estimate_scatter(cells: Iterable[tuple[Logarithms, Logarithms]]) -> float:
    """Estimate the variance between processes that most cells have; changes between the runs don't count."""
    variances = [_pool(*cell) for cell in cells if sum(map(len, cell)) > len(cell)]
    usual = [variance * freedom / (freedom - 2 / 3) for variance, freedom in variances]  # the median is that low
    return float(np.median(usual)) if usual else PRIOR_SCATTER**2


def _pool(base: Logarithms, new: Logarithms) -> tuple[float, int]:
    """Return the variance within both runs, and its degrees of freedom."""
    freedom = len(base) + len(new) - 2
    squares = sum(_measure_variance(values) * (len(values) - 1) for values in (base, new))
    return (squares / freedom if freedom else 0.0), freedom


class _Errors:
    """The shift of one cell and its errors; its own variance counts with what most cells have."""

    def __init__(self, base: Logarithms, new: Logarithms, pooled: float) -> None:
        own, processes = _pool(base, new)
        self.freedom = processes + PRIOR_FREEDOM
        variance = (processes * own + PRIOR_FREEDOM * pooled) / self.freedom
        self.shift = float(np.median(np.subtract.outer(new, base)))  # the estimate of Hodges and Lehmann
        self.floor = math.sqrt(variance / len(base))
        self.error = math.sqrt(variance / len(base) + variance / len(new))


@functools.cache
def count_orders(base: int, new: int, inversions: int) -> int:
    """Count the orders of so many processes in which at most so many pairs are inverted: the test of Mann and Whitney.

    All orders are equally likely if nothing changed.
    """
    counts = [1, *[0] * inversions]  # by inversions: the coefficients of Gauss's binomial
    for size in range(1, base + 1):
        for place in range(inversions, new + size - 1, -1):
            counts[place] -= counts[place - new - size]
        for place in range(size, inversions + 1):
            counts[place] += counts[place - size]
    return sum(counts)


@functools.cache
def find_quantile(level: float, freedom: int) -> float:
    """Find the value that Student's t exceeds with probability `level`, which is below one half."""
    low, high = 0.0, 1.0
    while compute_tail(high, freedom) > level:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if compute_tail(middle, freedom) > level else (low, middle)
    return high


def compute_tail(value: float, freedom: int) -> float:
    """Compute the probability that Student's t exceeds a value, by the finite series for whole degrees of freedom.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(value / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for step in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * step / (step + 1)
    inside = (2 / math.pi) * (angle + sine * total) if odd else sine * total
    return (1 - inside) / 2
