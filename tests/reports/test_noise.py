"""Scatter between processes, and intervals of ratios."""

import math

import numpy as np
import pytest

from reports.noise import FACTOR, MIN_CELLS, MIN_SCATTER, UNKNOWN_SCATTER, estimate_interval, estimate_scatter
from tests.support.properties import given, st

_SECONDS = st.floats(1e-12, 1e9)
_ROUNDS = st.lists(_SECONDS, min_size=1, max_size=20)


@pytest.mark.parametrize("ratio", [0.0, math.log(3)], ids=["equal", "common factor"])
def test_runs_that_differ_by_a_common_factor_have_the_smallest_scatter(ratio: float) -> None:
    assert estimate_scatter([ratio] * 40) == MIN_SCATTER


def test_normal_scatter_is_estimated_as_its_standard_deviation() -> None:
    ratios = np.random.default_rng(0).normal(0, 0.2, 4_001).tolist()
    assert estimate_scatter(ratios) == pytest.approx(0.2, rel=0.05)


def test_a_few_slow_cells_do_not_count_as_scatter() -> None:
    ratios = np.random.default_rng(0).normal(0, 0.05, 60).tolist()
    assert estimate_scatter([*ratios, 2.0, 2.0, 2.0]) == pytest.approx(estimate_scatter(ratios), rel=0.2)


def test_too_few_cells_have_an_unknown_scatter() -> None:
    assert estimate_scatter([]) == UNKNOWN_SCATTER
    assert estimate_scatter([0.0] * (MIN_CELLS - 1)) == UNKNOWN_SCATTER > MIN_SCATTER
    assert estimate_scatter([0.0] * MIN_CELLS) == MIN_SCATTER


def test_equal_rounds_keep_the_scatter_of_processes() -> None:
    low, high = estimate_interval([1.0] * 5, [2.0] * 9, 0.05, stable=True)
    assert [low, high] == pytest.approx([2 * math.exp(-FACTOR * 0.05), 2 * math.exp(FACTOR * 0.05)])


def test_the_quickest_tenth_is_compared_with_the_slowest_tenth() -> None:
    base, new = [1.0 + place / 100 for place in range(11)], [2.0 + place / 100 for place in range(11)]
    low, high = estimate_interval(base, new, 0.05, stable=True)
    widening = math.exp(FACTOR * 0.05)
    assert [low, high] == pytest.approx([2.01 / 1.09 / widening, 2.09 / 1.01 * widening])


def test_all_unstable_rounds_count_and_the_scatter_twice() -> None:
    low, high = estimate_interval([1.0, 1.5, 4.0], [20.0, 30.0, 50.0], 0.05, stable=False)
    widening = math.exp(2 * FACTOR * 0.05)
    assert [low, high] == pytest.approx([20.0 / 4.0 / widening, 50.0 / 1.0 * widening])


def test_exchanging_the_runs_inverts_the_interval() -> None:
    base, new = [1.0, 1.1, 1.3], [2.0, 2.0, 2.6]
    low, high = estimate_interval(base, new, 0.05, stable=True)
    assert list(estimate_interval(new, base, 0.05, stable=True)) == pytest.approx([1 / high, 1 / low])


@given(base=_ROUNDS, new=_ROUNDS, scatter=st.floats(MIN_SCATTER, 150), more=st.floats(0, 10))
def test_the_ratio_is_inside_and_more_scatter_is_wider(
    base: list[float], new: list[float], scatter: float, more: float
) -> None:
    low, high = estimate_interval(base, new, scatter, stable=True)
    assert low <= np.median(new) / np.median(base) <= high
    assert low >= 0
    lower, higher = estimate_interval(base, new, scatter + more, stable=True)
    assert lower <= low
    assert high <= higher
