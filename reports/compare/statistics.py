"""The statistics of a comparison: processes of two runs, drift of the machine, scatter between processes, tests.

All functions are pure. Times are natural logarithms of seconds: the fastest round of a cell in one process. Replicates
are processes, because all rounds of one process share its memory, files and processor.
"""

import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.noise import UNKNOWN_SCATTER

Process = Mapping[str, float]  # seconds by cell, reference cells included
Logarithms = Sequence[float]

# What is known before anything is measured, and how many processes that knowledge is worth.
PRIOR_SCATTER, PRIOR_FREEDOM = UNKNOWN_SCATTER, 4
PRIOR_DRIFT, DRIFT_FREEDOM = 0.02, 4
MIN_FREEDOM = 4  # fewer processes don't show which reference cells are precise
LEAST_SCATTER = 0.005  # of any cell
DRIFT_LEVEL = 0.005  # how often the drift may be further from its estimate than its margin
UNKNOWN_DRIFT = 0.10  # of a run without reference cells
CROWDING = 3  # how many times as far other programs may slow cells of several processors as they slow the reference
UNKNOWN_CROWDING = math.log(1.6)  # how far they slow that reference if it wasn't measured: they use one of two


@dataclass(frozen=True)
class Drift:
    """How much slower the machine was in the new run, as logarithm, and how uncertain that is for any one cell."""

    shift: float
    error: float
    freedom: int
    crowding: float | None = None  # how much more work for several processors drifted, either way; None: not measured

    @property
    def margin(self) -> float:
        """How far the drift of a cell may be from the estimate to one side; all cells share it, so it isn't divided."""
        return find_quantile(DRIFT_LEVEL, self.freedom) * self.error

    @property
    def parallel_margin(self) -> float:
        """How much further that of a cell may be that needs several processors."""
        return CROWDING * (UNKNOWN_CROWDING if self.crowding is None else self.crowding)


@dataclass(frozen=True)
class Shift:
    """How much slower one cell is, as logarithm, in processes of usual speed; its standard error, and what limits it.

    `floor` is the standard error that an endless number of new processes would leave.
    """

    value: float
    error: float
    floor: float
    freedom: int


@dataclass(frozen=True)
class Evidence:
    """The logarithms of one cell in each process of both runs, without drift, and what they say together."""

    base: Logarithms
    new: Logarithms
    shift: float  # how much slower the cell is
    measured: Shift
    drift: Drift
    is_parallel: bool  # whether it needs several processors, so that it may have drifted differently
    processes: int  # of the new run that measured it, also one that doesn't count

    @property
    def drift_margin(self) -> float:
        """How far the drift of this cell may be from the estimate to one side."""
        return self.drift.margin + self.drift.parallel_margin * self.is_parallel

    def find_margin(self, level: float) -> float:
        """Find how far the true shift may be from the estimate to one side, with this probability of an error."""
        return self._widen(self.measured.error, level, self.measured.freedom)

    def find_least_margin(self, level: float) -> float:
        """Find the margin that more new processes may reach at best."""
        return self._widen(self.measured.floor, level, self.measured.freedom)

    def can_be_slower(self, level: float) -> bool:
        """Whether more new processes may show a shift that the drift of this cell doesn't explain."""
        return self.shift + find_quantile(level, self.measured.freedom) * self.measured.error > self.drift_margin

    def _widen(self, error: float, level: float, freedom: int) -> float:
        return math.hypot(find_quantile(level, freedom) * error, self.drift_margin)

    def can_rank(self, level: float) -> bool:
        """Whether there are processes enough for a test by ranks, which assumes nothing about their scatter."""
        return level * math.comb(len(self.base) + len(self.new), len(self.base)) >= 1

    def find_detectable(self, level: float) -> float:
        """Find about which shift would count as slower."""
        freedom = self.measured.freedom if self.can_rank(level) else PRIOR_FREEDOM
        return self._widen(self.measured.error, level, freedom)

    def is_slower(self, level: float, sign: int = 1) -> bool:
        """Whether the cell is slower, or with a `sign` of -1 faster, with this probability of an error.

        With few processes the test is Student's, with so few degrees of freedom that its tails allow for outliers.
        """
        if not self.can_rank(level):
            return sign * self.shift > self._widen(self.measured.error, level, PRIOR_FREEDOM)
        quick, slow = ([sign * each for each in run] for run in (self.base, self.new))
        inversions = sum(after - self.drift_margin <= before for before in quick for after in slow)
        return count_orders(len(quick), len(slow), inversions) <= level * math.comb(len(quick) + len(slow), len(quick))


def weigh_cells(
    base: Sequence[Process], new: Sequence[Process], references: Collection[str], parallel: Collection[str] = ()
) -> dict[str, Evidence]:
    """Weigh the evidence about each cell of both runs; `references` are the cells that measure the machine.

    Those that are `parallel` need several processors at once: the others don't show whether these were free. Of these,
    the first process of a run counts only if it is alone: it starts the workers of a cell once, others three times.
    """
    old, now = ([{cell: math.log(each) for cell, each in process.items()} for process in run] for run in (base, new))
    serial = [cell for cell in references if cell not in parallel]
    speeds = measure_speeds(old, now, serial)
    before, after = _collect(old, speeds[0], parallel), _collect(now, speeds[1], parallel)
    shared = [cell for cell in before if cell in after]
    pooled = estimate_scatter((before[cell], after[cell]) for cell in shared)
    found = {cell: _estimate_shift(before[cell], after[cell], pooled) for cell in shared}
    rest = estimate_drift([found[cell] for cell in shared if cell in serial])
    crowding = [
        max(0.0, abs(found[cell].value - rest.shift) - 2 * found[cell].error)  # more than noise
        for cell in shared
        if cell in references and cell in parallel
    ]
    drift = replace(
        rest,
        shift=rest.shift + float(np.mean(speeds[1]) - np.mean(speeds[0])),
        crowding=max(crowding, default=None),
    )
    return {
        cell: Evidence(
            before[cell],
            [each - rest.shift for each in after[cell]],
            shift.value - rest.shift,
            shift,
            drift,
            cell in parallel,
            sum(cell in process for process in now),
        )
        for cell, shift in found.items()
        if cell not in references
    }


def measure_speeds(
    base: Sequence[Mapping[str, float]], new: Sequence[Mapping[str, float]], references: Collection[str]
) -> tuple[list[float], list[float]]:
    """Measure how much slower each process was than the base usually is, as logarithm.

    It is the mean of the reference cells, those that scatter less counting more; 0 if too few processes show that.
    """
    shared = sorted(cell for cell in references if all(cell in process for process in (*base, *new)))
    if not shared or len(base) + len(new) - 2 < MIN_FREEDOM:
        return [0.0] * len(base), [0.0] * len(new)
    times = {cell: ([each[cell] for each in base], [each[cell] for each in new]) for cell in shared}
    weights = np.array([1 / (_pool(*each)[0] + LEAST_SCATTER**2) for each in times.values()])
    centres = np.array([np.mean(before) for before, _ in times.values()])
    before, after = (
        (weights @ (np.array([each[run] for each in times.values()]) - centres[:, None]) / weights.sum()).tolist()
        for run in range(2)
    )
    return before, after


def estimate_drift(references: Sequence[Shift]) -> Drift:
    """Estimate the drift from the shifts of the reference cells, the more precise ones counting more.

    These are random effects: each cell may drift differently. How much is estimated by the method of Paule and Mandel,
    with what is known before counting like so many cells.
    """
    if not references:
        return Drift(0.0, UNKNOWN_DRIFT, DRIFT_FREEDOM)
    freedom = len(references) - 1 + DRIFT_FREEDOM
    low, high = 0.0, 1e6  # variance
    while high - low > 1e-9 * high:
        variance = (low + high) / 2
        shift, _ = _average(references, variance)
        excess = sum((each.value - shift) ** 2 / (each.error**2 + variance) for each in references)
        small = excess + DRIFT_FREEDOM * PRIOR_DRIFT**2 / variance > freedom
        low, high = (variance, high) if small else (low, variance)
    shift, error = _average(references, high)
    return Drift(shift, math.hypot(math.sqrt(high), error), freedom)


def _average(shifts: Sequence[Shift], variance: float) -> tuple[float, float]:
    """Average shifts that each differ by this variance from what they estimate; return the mean and its error."""
    weights = [1 / (each.error**2 + variance) for each in shifts]
    mean = sum(weight * each.value for weight, each in zip(weights, shifts, strict=True)) / sum(weights)
    return mean, math.sqrt(1 / sum(weights))


def _measure_variance(values: Logarithms) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0


def _collect(
    processes: Iterable[Mapping[str, float]], speeds: Sequence[float], parallel: Collection[str]
) -> dict[str, list[float]]:
    """Collect what each cell took in the processes that measured it, had they been of usual speed."""
    found: dict[str, list[float]] = {}
    for process, speed in zip(processes, speeds, strict=True):
        for cell, each in process.items():
            found.setdefault(cell, []).append(each - speed)
    return {cell: times[1:] if cell in parallel and len(times) > 1 else times for cell, times in found.items()}


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


def _estimate_shift(base: Logarithms, new: Logarithms, pooled: float) -> Shift:
    """Estimate a shift and its errors; the variance of the cell counts with that of most cells."""
    own, processes = _pool(base, new)
    freedom = processes + PRIOR_FREEDOM
    variance = (processes * own + PRIOR_FREEDOM * pooled) / freedom + LEAST_SCATTER**2
    return Shift(
        value=float(np.median(np.subtract.outer(new, base))),  # the estimate of Hodges and Lehmann
        error=math.sqrt(variance / len(base) + variance / len(new)),
        floor=math.sqrt(variance / len(base)),
        freedom=freedom,
    )


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
