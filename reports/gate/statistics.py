"""The mathematics of the gate: paired differences of logarithms, their estimate, exact tests, many tests at once.

All functions are pure. A difference is log(seconds of the new arm / seconds of the base arm) of one pair; axis 0 counts
pairs, axis 1 cells. The tests are SciPy's.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.noise import Thresholds

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LOOKS = (12, 24, 36, 48, 60)  # pairs after which suspects are judged
SCREEN_PAIRS = 5
SCREEN_LEVEL = 0.1  # of the test that lets a cell pass the screen; 5 pairs can reach 1 / 32


def estimate_shift(differences: Floats) -> Floats:
    """Estimate the shift of each cell: Hodges and Lehmann's median of the means of all pairs of differences.

    Parameters
    ----------
    differences : ndarray of float64, shape (pairs, cells)
        At least one pair.

    Returns
    -------
    ndarray of float64, shape (cells,)
    """
    first, second = np.triu_indices(len(differences))
    shift: Floats = np.median((differences[first] + differences[second]) / 2, axis=0)
    return shift


def compute_greater(differences: Floats, shift: Floats | float) -> Floats:
    """Compute the p-value of each cell for "its differences are not greater than `shift`".

    The exact one-sided signed-rank test of Wilcoxon; differences of zero are left out, and tied ones share their ranks.
    It is exact where no two differences are as large; ties, which times hardly have, may make a p-value too small.

    Returns
    -------
    ndarray of float64, shape (cells,)
        1 where nothing speaks against it.
    """
    from scipy.stats import wilcoxon  # noqa: PLC0415 - takes a second, and is an optional dependency

    centred = differences - shift
    if not centred.size:
        return np.ones(centred.shape[1])
    found: Floats = np.asarray(wilcoxon(centred, axis=0, method="exact", alternative="greater").pvalue, np.float64)
    return found


def reject_all(values: Floats, level: float) -> Flags:
    """Say which hypotheses are rejected when all are tested at once: Holm's method.

    Parameters
    ----------
    values : ndarray of float64, shape (tests,)
        p-values.
    level : float
        How often any true hypothesis of them may be rejected.

    Returns
    -------
    ndarray of bool, shape (tests,)
    """
    order = np.argsort(values, kind="stable")
    fine = values[order] <= level / np.arange(len(values), 0, -1)
    rejected = np.zeros(len(values), bool)
    rejected[order] = np.logical_and.accumulate(fine)
    return rejected


def find_suspects(differences: Floats, seconds: Floats, rules: list[Thresholds]) -> Flags:
    """Find the cells that may be slower: a large slowdown cannot be excluded, and the estimate is above the noise.

    Parameters
    ----------
    differences : ndarray of float64, shape (pairs, cells)
    seconds : ndarray of float64, shape (cells,)
        Of a call in the base arm.
    rules : list of Thresholds
        One a cell.

    Returns
    -------
    ndarray of bool, shape (cells,)
    """
    noise = np.log1p([rule.noise for rule in rules])
    return ~exclude_slowdown(differences, seconds, rules) & (estimate_shift(differences) > noise)


def exclude_slowdown(differences: Floats, seconds: Floats, rules: list[Thresholds]) -> Flags:
    """Say which cells exclude a slowdown of one and a half thresholds; parameters as of `find_suspects`."""
    bounds = np.array([_find_bound(rule, base) for rule, base in zip(rules, seconds, strict=True)])
    return compute_greater(-differences, -bounds) <= SCREEN_LEVEL


def _find_bound(rule: Thresholds, seconds: float) -> float:
    """Find the logarithm of the slowdown that must be excluded: what is too short to count is no slowdown."""
    return math.log1p(max(rule.excluded, rule.least_seconds / seconds))


@dataclass(frozen=True)
class Look:
    """What one look at the suspects says; arrays have one entry a suspect.

    Attributes
    ----------
    shift : ndarray of float64
        Estimated logarithm of the ratio.
    value : ndarray of float64
        p-value against "no slower than noise".
    confirmed, cleared : ndarray of bool
        A regression for certain; none. Both are False where more pairs are needed.
    """

    shift: Floats
    value: Floats
    confirmed: Flags
    cleared: Flags


def judge_look(differences: Floats, seconds: Floats, rules: list[Thresholds], decided: Floats) -> Look:
    """Judge the suspects after one of `LOOKS`.

    Parameters
    ----------
    differences : ndarray of float64, shape (pairs, suspects)
        Of fresh pairs: nothing that made a cell suspect is in them.
    seconds : ndarray of float64, shape (suspects,)
        Of a call in the base arm.
    rules : list of Thresholds
        One a suspect.
    decided : ndarray of float64, shape (others,)
        p-values of the suspects that earlier looks have decided: they are tests of this run too.
    """
    shift = estimate_shift(differences)
    value = compute_greater(differences, np.log1p([rule.noise for rule in rules]))
    level = rules[0].alpha / len(LOOKS)
    rejected = reject_all(np.concatenate([value, decided]), level)[: len(value)]
    least, clear = (np.log1p([getattr(rule, name) for rule in rules]) for name in ("threshold", "cleared"))
    short = np.array([rule.least_seconds for rule in rules])
    difference = seconds * np.expm1(shift)
    confirmed = rejected & (shift >= least) & (difference >= short)
    return Look(shift, value, confirmed, ~confirmed & ((shift < clear) | (difference < short / 2)))
