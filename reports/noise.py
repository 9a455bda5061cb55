"""How sure a ratio of two runs is: the one place where that is estimated.

Rounds of one process are no replicates: memory, files and processor are laid out once, and all rounds share that. So
the part between processes comes from what is known of it: by how much the cells of the two runs, most of which no
change has touched, scatter about their common ratio.
"""

from collections.abc import Sequence

import numpy as np

FACTOR = 6.0  # scatters to each side: cells differ in their own scatter, and the worst of a hundred must be inside
TENTHS = (0.1, 0.9)  # of the rounds: the slowest and the quickest tenth are left out
LEAST_SCATTER = 0.03  # as natural logarithm, like all below: no two processes are closer
FEWEST_CELLS = 8  # fewer do not tell how much they scatter
UNKNOWN_SCATTER = 0.10
_NORMAL = 1.4826  # a standard deviation is so many times half the length of what holds half of all


def estimate_scatter(log_ratios: Sequence[float]) -> float:
    """Estimate how much two processes differ that measure the same.

    Parameters
    ----------
    log_ratios
        The natural logarithm of new / base, one for each cell that both runs have.

    Returns
    -------
    float
        A standard deviation of such logarithms, from the shortest interval that holds half of them: a common factor is
        no scatter, and cells that did change do not widen it, not even half of all.
    """
    if len(log_ratios) < FEWEST_CELLS:
        return UNKNOWN_SCATTER
    half = -(-len(log_ratios) // 2)
    ordered = np.sort(log_ratios)
    shortest = float(np.min(ordered[half - 1 :] - ordered[: len(ordered) - half + 1]))
    return max(LEAST_SCATTER, _NORMAL * shortest / 2)


def estimate_interval(
    base: Sequence[float], new: Sequence[float], scatter: float, *, stable: bool
) -> tuple[float, float]:
    """Estimate between which bounds the ratio of one cell in two runs lies.

    Parameters
    ----------
    base, new
        The rounds of the cell in either run, in seconds.
    scatter
        Of processes that measure the same, as `estimate_scatter` has it.
    stable
        Whether the rounds of each run agree. If not, all of them count, and the scatter counts twice.

    Returns
    -------
    tuple of float
        The least and the largest ratio of medians, new / base; the measured ratio is between them.
    """
    ends = TENTHS if stable else (0, 1)
    (base_quick, base_slow), (new_quick, new_slow) = (np.quantile(rounds, ends) for rounds in (base, new))
    with np.errstate(over="ignore"):  # rounds may be so far apart that nothing is known
        widening = np.exp(FACTOR * scatter * (1 if stable else 2))
        return float(new_quick / base_slow / widening), float(new_slow / base_quick * widening)
