"""The statistics of the gate: paired differences of logarithms, their estimate, exact tests, many tests at once.

All functions are pure. A difference is log(seconds of the candidate / seconds of the baseline) of one pair; axis 0
counts pairs, axis 1 cells. The tests are SciPy's. A slowdown is excluded by Student's t, as in comparisons with saved
runs: ranks of a few pairs can't exclude anything with a small probability of an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports.compare.statistics import LEAST_SCATTER, PRIOR_FREEDOM, find_quantile
from reports.gate.pairs import ANALYSES
from reports.noise import MISSED, Thresholds

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SCREEN_LEVEL = 0.1  # how often a slowdown of `Thresholds.excluded` may pass the screen
OK_LEVEL = MISSED / (2 + len(ANALYSES))  # of each look at a cell: the screen, the first one, the analyses


def estimate_shift(differences: Floats) -> Floats:
    """Estimate the shift of each cell: Hodges and Lehmann's median of the means of all pairs of differences."""
    first, second = np.triu_indices(len(differences))
    shift: Floats = np.median((differences[first] + differences[second]) / 2, axis=0)
    return shift


def compute_greater(differences: Floats, shift: Floats | float) -> Floats:
    """Compute each cell's p-value for "its differences aren't greater than `shift`", by Wilcoxon's signed-rank test.

    Ties share their ranks: then, which is rare with times, a p-value may be too small.
    """
    from scipy.stats import wilcoxon  # noqa: PLC0415 - takes a second, and is an optional dependency

    centred = differences - shift
    if not centred.size:
        return np.ones(centred.shape[1])
    found: Floats = np.asarray(wilcoxon(centred, axis=0, method="exact", alternative="greater").pvalue, np.float64)
    return found


def reject_all(values: Floats, level: float) -> Flags:
    """Decide by p-values which hypotheses to reject, by Holm's method: any true one is rejected at most at `level`."""
    order = np.argsort(values, kind="stable")
    small = values[order] <= level / np.arange(len(values), 0, -1)
    rejected = np.zeros(len(values), bool)
    rejected[order] = np.logical_and.accumulate(small)
    return rejected


class Usual(NamedTuple):
    """The variance between pairs that most cells have, and how many degrees of freedom that is worth."""

    variance: float
    freedom: int


def measure_usual(differences: Floats) -> Usual:
    """Measure the variance that most cells have; a few cells show less of it."""
    freedom = len(differences) - 1
    median = float(np.median(np.var(differences, axis=0, ddof=1))) if differences.size else 0.0
    return Usual(median * freedom / (freedom - 2 / 3), min(PRIOR_FREEDOM, max(differences.shape[1] - 1, 0)))


def exclude_slowdown(
    differences: Floats, usual: Usual, slowdown: Floats, level: float = OK_LEVEL, pairs: int = 0
) -> Flags:
    """Find the cells that exclude this slowdown, a logarithm, with this probability of an error.

    With `pairs`, they would if so many pairs scattered like these.
    """
    own, pairs = len(differences) - 1, pairs or len(differences)
    variance = (own * np.var(differences, axis=0, ddof=1) + usual.freedom * usual.variance) / (own + usual.freedom)
    error = np.sqrt((variance + LEAST_SCATTER**2) / pairs)
    excluded: Flags = estimate_shift(differences) + find_quantile(level, pairs - 1 + usual.freedom) * error < slowdown
    return excluded


def find_least(fractions: Sequence[float], seconds: Floats, thresholds: Sequence[Thresholds]) -> Floats:
    """Turn slowdowns into logarithms; one that takes too little time to count becomes the smallest that does."""
    least = [each.least_seconds for each in thresholds] / seconds
    return np.log1p(np.maximum(fractions, least))


def find_suspects(differences: Floats, seconds: Floats, thresholds: list[Thresholds], usual: Usual) -> Flags:
    """Find the cells that may be slower: a large slowdown can't be excluded, and the estimate is above the noise.

    `differences` has shape (pairs, cells); `seconds` of a call in the baseline and `thresholds` have one entry a cell.
    """
    noise = np.log1p([each.noise for each in thresholds])
    large = find_least([each.excluded for each in thresholds], seconds, thresholds)
    return ~exclude_slowdown(differences, usual, large, SCREEN_LEVEL) & (estimate_shift(differences) > noise)


@dataclass(frozen=True)
class InterimAnalysis:
    """The evidence about each suspect so far; neither confirmed nor cleared: more pairs are needed."""

    shift: Floats  # estimated logarithm of the ratio
    value: Floats  # p-value against "no slower than noise"
    confirmed: Flags
    cleared: Flags


def analyse_suspects(
    differences: Floats, seconds: Floats, thresholds: list[Thresholds], decided: Floats
) -> InterimAnalysis:
    """Judge the suspects at one of `ANALYSES`; parameters as of `find_suspects`.

    `decided` are p-values of suspects that earlier analyses decided: they are tests of this run too.
    """
    shift = estimate_shift(differences)
    value = compute_greater(differences, np.log1p([each.noise for each in thresholds]))
    level = thresholds[0].alpha / len(ANALYSES)
    rejected = reject_all(np.concatenate([value, decided]), level)[: len(value)]
    threshold = np.log1p([each.threshold for each in thresholds])
    clear = np.log1p([each.cleared for each in thresholds])
    least_seconds = np.array([each.least_seconds for each in thresholds])
    difference = seconds * np.expm1(shift)
    confirmed = rejected & (shift >= threshold) & (difference >= least_seconds)
    cleared = ~confirmed & ((shift < clear) | (difference < least_seconds / 2))
    return InterimAnalysis(shift, value, confirmed, cleared)
