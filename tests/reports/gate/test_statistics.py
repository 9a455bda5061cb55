"""The statistics of the gate, on data whose answers are known."""

import itertools
import math

import numpy as np
import pytest

from reports.gate.pairs import ANALYSES, FIRST_LOOK, SCREEN_PAIRS
from reports.gate.statistics import (
    Floats,
    InterimAnalysis,
    analyse_suspects,
    compute_greater,
    estimate_shift,
    exclude_slowdown,
    find_least,
    find_suspects,
    measure_usual,
    reject_all,
)
from reports.noise import MISSED, Thresholds
from tests.support.properties import example, given, st

ttest_1samp = pytest.importorskip(
    "scipy.stats", reason="SciPy is not installed: python -m pip install -e '.[test]'"
).ttest_1samp

NOTHING: Floats = np.empty(0)
_COLUMN = st.lists(st.floats(-10, 10), min_size=1, max_size=12)


def make_column(*differences: float) -> Floats:
    return np.array([differences], float).T


def spread(middle: float, pairs: int, width: float = 1e-4) -> Floats:
    """Make distinct differences of one cell, symmetric about `middle`."""
    return middle + make_column(*np.linspace(-width, width, pairs))


def analyse(
    shift: float, *, pairs: int = 12, width: float = 1e-4, seconds: float = 1.0, decided: Floats = NOTHING
) -> InterimAnalysis:
    """Judge one suspect by the usual thresholds."""
    return analyse_suspects(spread(shift, pairs, width), np.array([seconds]), [Thresholds()], decided)


def is_suspect(*differences: float, seconds: float = 1.0) -> bool:
    column = make_column(*differences)
    return bool(find_suspects(column, np.array([seconds]), [Thresholds()], measure_usual(column))[0])


@pytest.mark.parametrize("pairs", [1, 2, 5, 12, 24, 36, 48, 60])
def test_p_values_are_exact_if_all_differences_have_one_sign(pairs: int) -> None:
    assert compute_greater(spread(1, pairs), 0.0) == pytest.approx(2.0**-pairs, rel=1e-9, abs=1e-15)
    assert compute_greater(spread(-1, pairs), 0.0).tolist() == [1]
    assert compute_greater(np.zeros((pairs, 1)), 0.0).tolist() == [1]


def test_each_sum_of_ranks_has_its_exact_p_value() -> None:
    signed = [np.multiply(range(1, 6), signs) for signs in itertools.product([1, -1], repeat=5)]
    sums = np.array([ranks[ranks > 0].sum() for ranks in signed])
    expected = [np.mean(sums >= each) for each in sums]
    assert compute_greater(np.transpose(signed).astype(float), 0.0) == pytest.approx(expected)


def test_differences_of_zero_are_left_out_and_equal_ones_share_their_ranks() -> None:
    assert compute_greater(make_column(0, 0, 0, 1, 2, -3, 4), 0.0) == compute_greater(make_column(1, 2, -3, 4), 0.0)
    assert compute_greater(make_column(1, 1, 1, 1, 1), 0.0).tolist() == [1 / 32]
    assert compute_greater(make_column(2, -1, 1), 0.0) == compute_greater(make_column(2, 1, -1), 0.0)


def test_each_cell_has_its_own_shift_estimate_threshold_and_seconds() -> None:
    assert compute_greater(np.ones((5, 3)), np.array([0.5, 1, 2])).tolist() == [1 / 32, 1, 1]
    assert estimate_shift(np.array([[1.0, 5.0], [3.0, -5.0]])).tolist() == [2, 0]
    differences = math.log(1.2) + np.linspace(0, 1e-3, 5)[:, None] * np.ones(3)
    thresholds = [Thresholds(), Thresholds().widen(0.3), Thresholds()]
    usual = measure_usual(differences)
    assert find_suspects(differences, np.array([1, 1, 50e-6]), thresholds, usual).tolist() == [True, False, False]


@given(_COLUMN)
def test_the_shift_is_the_median_of_the_means_of_all_pairs(values: list[float]) -> None:
    means = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))
    half = len(means) // 2
    expected = means[half] if len(means) % 2 else (means[half - 1] + means[half]) / 2
    assert estimate_shift(make_column(*values)) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), max_size=12))
@example([0.1, 0.4, 0.3, 0.05])  # against 0.5 / 4, / 3, / 2: then it stops
def test_holm_agrees_with_its_definition(values: list[float]) -> None:
    left, rejected = sorted(enumerate(values), key=lambda each: each[1]), [False] * len(values)
    while left and left[0][1] <= 0.5 / len(left):
        rejected[left.pop(0)[0]] = True
    assert reject_all(np.array(values), 0.5).tolist() == rejected


@pytest.mark.parametrize(
    ("differences", "suspect"),
    [
        ((0.2, 0.21, 0.22, 0.19, 0.18), True),
        ((0, 0, 0, 0, 0), False),
        (tuple(math.log(1.14) - step / 1000 for step in range(5)), False),
        ((0.05, 0.06, 0.07, 0.08, 1), True),
        (tuple(math.log1p(0.029) + step for step in (-0.3, -0.2, 0, 0.2, 0.3)), False),
        (tuple(math.log1p(0.031) + step for step in (-0.3, -0.2, 0, 0.2, 0.3)), True),
    ],
    ids=["slower", "equal", "below 15 %", "one pair far above 15 %", "estimate of 2.9 %", "estimate of 3.1 %"],
)
def test_a_suspect_is_estimated_above_noise_and_may_be_fifteen_percent_slower(
    differences: tuple[float, ...], *, suspect: bool
) -> None:
    assert is_suspect(*differences) is suspect


def test_twice_as_slow_is_not_suspect_if_the_difference_is_below_twenty_microseconds() -> None:
    slower = [math.log(2) + step / 1000 for step in range(5)]
    assert is_suspect(*slower, seconds=21e-6)
    assert not is_suspect(*slower, seconds=19e-6)


def test_no_cells_have_neither_p_values_nor_suspects() -> None:
    assert compute_greater(np.empty((5, 0)), 0.0).shape == (0,)
    assert find_suspects(np.empty((5, 0)), NOTHING, [], measure_usual(np.empty((5, 0)))).shape == (0,)


def test_a_large_slowdown_in_all_pairs_is_confirmed() -> None:
    analysis = analyse(math.log(1.2))
    assert (analysis.confirmed.tolist(), analysis.cleared.tolist()) == ([True], [False])
    assert analysis.shift == pytest.approx(math.log(1.2))
    assert analysis.value == pytest.approx(2.0**-12)
    assert analyse(math.log(1.2), seconds=110e-6).confirmed.all(), "20 microseconds are enough"


@pytest.mark.parametrize(
    ("ratio", "width", "seconds"),
    [(1.2, 2.0, 1.0), (1.09, 1e-4, 1.0), (1.2, 1e-4, 90e-6), (1.051, 1e-4, 1.0)],
    ids=["no test", "estimate below 10 %", "below 20 microseconds", "estimate above 5 %"],
)
def test_weak_evidence_neither_confirms_nor_clears(ratio: float, width: float, seconds: float) -> None:
    analysis = analyse(math.log(ratio), width=width, seconds=seconds)
    assert (analysis.value[0] > 0.002) == (width == 2.0)
    assert not analysis.confirmed.any()
    assert not analysis.cleared.any()


@pytest.mark.parametrize(("ratio", "seconds"), [(0.5, 1.0), (1.0, 1.0), (1.049, 1.0), (1.2, 49e-6)])
def test_an_estimate_below_five_percent_or_ten_microseconds_clears(ratio: float, seconds: float) -> None:
    assert analyse(math.log(ratio), seconds=seconds).cleared.all()


def test_a_suspect_is_judged_by_its_own_threshold() -> None:
    differences = np.hstack([spread(math.log(1.2), 12)] * 3)
    thresholds = [Thresholds(), Thresholds().widen(0.3), Thresholds().widen(0.5)]
    analysis = analyse_suspects(differences, np.ones(3), thresholds, NOTHING)
    assert analysis.confirmed.tolist() == [True, False, False]
    assert analysis.cleared.tolist() == [False, False, True]


def test_suspects_that_were_decided_before_count_as_tests() -> None:
    assert analyse(math.log(1.2), decided=np.ones(7)).confirmed.all()  # 2 ** -12 is below 0.002 / 8
    assert not analyse(math.log(1.2), decided=np.ones(8)).confirmed.any()
    assert analyse(math.log(1.2), decided=np.zeros(50)).confirmed.all()  # they were certain


def test_faster_is_slower_with_the_sides_exchanged() -> None:
    slower, faster = (
        analyse_suspects(sign * spread(sign * 0.3, 24), np.ones(1), [Thresholds()], NOTHING) for sign in (1, -1)
    )
    assert faster.shift == pytest.approx(slower.shift)
    assert faster.confirmed.all()
    assert slower.confirmed.all()


def test_all_thresholds_follow_from_one() -> None:
    thresholds = Thresholds(threshold=0.2)
    assert (thresholds.excluded, thresholds.noise, thresholds.cleared) == pytest.approx((0.3, 0.06, 0.1))
    assert thresholds.widen(None) is thresholds
    assert Thresholds(alpha=0.05, least_seconds=1.0).widen(0.3) == Thresholds(0.3, 0.05, 1.0)


@pytest.mark.parametrize("suspects", [1, 3])
def test_noise_alone_is_confirmed_in_less_than_one_run_of_a_hundred(suspects: int) -> None:
    gates, chance = 2_000, np.random.default_rng(20261121)
    limit = math.log1p(Thresholds().noise)
    noise = limit + chance.laplace(scale=0.4, size=(max(ANALYSES), gates * suspects))
    level = Thresholds().alpha / len(ANALYSES)  # an analysis confirms nothing above it
    near = np.any([compute_greater(noise[:pairs], limit) <= level for pairs in ANALYSES], axis=0)
    wrong = 0
    for gate in np.flatnonzero(near.reshape(gates, suspects).any(axis=1)):
        cells = noise[:, gate * suspects : (gate + 1) * suspects]
        analyses = (
            analyse_suspects(cells[:pairs], np.ones(suspects), [Thresholds()] * suspects, NOTHING) for pairs in ANALYSES
        )
        wrong += any(analysis.confirmed.any() for analysis in analyses)
    assert 0 < wrong < 0.01 * gates


def test_the_variance_that_most_cells_have_counts_more_the_more_cells_there_are() -> None:
    pairs = np.linspace(-1, 1, 5)[:, None]
    variance, freedom = measure_usual(pairs * [1, 1, 2, 9, 9, 9])
    assert freedom == 4
    assert variance == pytest.approx(0.625 * (4 + 81) / 2 * 6 / 5)
    assert [measure_usual(np.ones((5, cells))).freedom for cells in (0, 1, 2, 3, 9)] == [0, 0, 1, 2, 4]


def test_a_slowdown_is_excluded_by_student_s_t() -> None:
    differences = np.random.default_rng(0).normal(0, 0.1, (12, 1))
    for level in (0.1, 0.001):
        bound = ttest_1samp(differences, 0).confidence_interval(1 - 2 * level).high
        limits = estimate_shift(differences) - differences.mean(axis=0) + bound
        assert not exclude_slowdown(differences, measure_usual(differences), limits * 0.999, level)[0]
        assert exclude_slowdown(differences, measure_usual(differences), limits * 1.01, level)[0]


def test_more_pairs_that_scatter_alike_would_exclude_more() -> None:
    differences, limit = spread(0, 5, 0.15), np.array([0.18])
    assert not exclude_slowdown(differences, measure_usual(differences), limit)[0]
    assert exclude_slowdown(differences, measure_usual(differences), limit, pairs=60)[0]


def test_a_slowdown_that_takes_too_little_time_is_not_one_to_exclude() -> None:
    found = find_least([0.2, 0.2], np.array([1.0, 10e-6]), [Thresholds()] * 2)
    assert np.expm1(found) == pytest.approx([0.2, 2.0])


@pytest.mark.parametrize(
    "scatter", [pytest.param(0.03, marks=pytest.mark.slow), 0.1, pytest.param(0.3, marks=pytest.mark.slow)]
)
def test_a_cell_that_is_twenty_percent_slower_is_called_ok_in_less_than_one_case_of_a_thousand(scatter: float) -> None:
    chance, cells = np.random.default_rng(7), 8_000
    differences = np.log(1.2) + scatter * chance.standard_t(5, (max(ANALYSES), cells)) * chance.choice([1, 3], cells)
    looks = (SCREEN_PAIRS, SCREEN_PAIRS + FIRST_LOOK, *ANALYSES)
    usual = measure_usual(differences[:SCREEN_PAIRS])
    excluded = [exclude_slowdown(differences[:pairs], usual, np.full(cells, np.log(1.2))) for pairs in looks]
    assert np.any(excluded, axis=0).mean() < MISSED
