"""The statistics of the gate: paired differences of logarithms, their estimate, exact tests, many tests at once.

All functions are pure. A difference is log(seconds of the candidate / seconds of the baseline) of one pair; axis 0
counts pairs, axis 1 cells. The tests are SciPy's.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.gate.pairs import ANALYSES
from reports.noise import Thresholds

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SCREEN_LEVEL = 0.1  # of the test that lets a cell pass the screen; 5 pairs can reach 1 / 32


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


def find_suspects(differences: Floats, seconds: Floats, thresholds: list[Thresholds]) -> Flags:
    """Find the cells that may be slower: a large slowdown can't be excluded, and the estimate is above the noise.

    `differences` has shape (pairs, cells); `seconds` of a call in the baseline and `thresholds` have one entry a cell.
    """
    noise = np.log1p([each.noise for each in thresholds])
    return ~exclude_slowdown(differences, seconds, thresholds) & (estimate_shift(differences) > noise)


def exclude_slowdown(differences: Floats, seconds: Floats, thresholds: list[Thresholds]) -> Flags:
    """Find the cells that exclude a slowdown of one and a half thresholds; parameters as of `find_suspects`."""
    large = [  # a slowdown that is too short to count isn't one
        math.log1p(max(each.excluded, each.least_seconds / base))
        for each, base in zip(thresholds, seconds, strict=True)
    ]
    return compute_greater(-differences, -np.array(large)) <= SCREEN_LEVEL


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
