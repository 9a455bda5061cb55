"""The mathematics of the gate, on data whose answers are known."""

import itertools
import math

import numpy as np
import pytest

from reports.gate.statistics import (
    LOOKS,
    SCREEN_LEVEL,
    Floats,
    Look,
    compute_greater,
    estimate_shift,
    find_suspects,
    judge_look,
    reject_all,
)
from reports.noise import Thresholds
from tests.support.properties import given, st

NOTHING: Floats = np.empty(0)
_COLUMN = st.lists(st.floats(-10, 10), min_size=1, max_size=12)
_VALUES = st.lists(st.floats(0, 1), max_size=12)


def make_column(*differences: float) -> Floats:
    """Make the differences of one cell."""
    return np.array([differences], float).T


def spread(middle: float, pairs: int, width: float = 1e-4) -> Floats:
    """Make distinct differences of one cell, symmetric about `middle`."""
    return middle + make_column(*np.linspace(-width, width, pairs))


def judge(
    shift: float, *, pairs: int = 12, width: float = 1e-4, seconds: float = 1.0, decided: Floats = NOTHING
) -> Look:
    """Judge one suspect by the usual rules."""
    return judge_look(spread(shift, pairs, width), np.array([seconds]), [Thresholds()], decided)


def is_suspect(*differences: float, seconds: float = 1.0, rules: Thresholds | None = None) -> bool:
    """Say whether the screen lets one cell pass."""
    return bool(find_suspects(make_column(*differences), np.array([seconds]), [rules or Thresholds()])[0])


# --- the signed-rank test


@pytest.mark.parametrize("pairs", [1, 2, 5, 12, 24, 36, 48])
def test_only_greater_differences_have_the_least_p_value(pairs: int) -> None:
    assert compute_greater(spread(1, pairs), 0.0) == pytest.approx(2.0**-pairs, rel=1e-9, abs=1e-15)


def test_sixty_greater_differences_are_beyond_doubt() -> None:
    assert 0 <= compute_greater(spread(1, 60), 0.0)[0] < 1e-15


@pytest.mark.parametrize("pairs", [1, 5, 60])
def test_only_smaller_differences_have_a_p_value_of_one(pairs: int) -> None:
    assert compute_greater(spread(-1, pairs), 0.0).tolist() == [1]


def test_each_sum_of_ranks_has_its_exact_p_value() -> None:
    signed = [np.multiply(range(1, 6), signs) for signs in itertools.product([1, -1], repeat=5)]
    sums = np.array([ranks[ranks > 0].sum() for ranks in signed])
    expected = [np.mean(sums >= each) for each in sums]
    assert compute_greater(np.transpose(signed).astype(float), 0.0) == pytest.approx(expected)


def test_differences_of_zero_are_left_out() -> None:
    assert compute_greater(make_column(0, 0, 0, 1, 2, -3, 4), 0.0) == compute_greater(make_column(1, 2, -3, 4), 0.0)


@pytest.mark.parametrize("pairs", [1, 5, 60])
def test_nothing_but_zeros_speaks_against_nothing(pairs: int) -> None:
    assert compute_greater(np.zeros((pairs, 1)), 0.0).tolist() == [1]


def test_equal_differences_share_their_ranks() -> None:
    assert compute_greater(make_column(1, 1, 1, 1, 1), 0.0).tolist() == [1 / 32]
    assert compute_greater(make_column(2, -1, 1), 0.0) == compute_greater(make_column(2, 1, -1), 0.0)


def test_differences_are_compared_with_the_shift_of_their_own_cell() -> None:
    assert compute_greater(np.ones((5, 3)), np.array([0.5, 1, 2])).tolist() == [1 / 32, 1, 1]


def test_no_cells_have_no_p_values() -> None:
    assert compute_greater(np.empty((5, 0)), 0.0).shape == (0,)


# --- the estimate


@given(_COLUMN)
def test_the_shift_is_the_median_of_the_means_of_all_pairs(values: list[float]) -> None:
    means = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))
    half = len(means) // 2
    expected = means[half] if len(means) % 2 else (means[half - 1] + means[half]) / 2
    assert estimate_shift(make_column(*values)) == pytest.approx(expected)


@given(_COLUMN, st.floats(-10, 10))
def test_the_estimate_moves_with_the_differences(values: list[float], step: float) -> None:
    assert estimate_shift(make_column(*values) + step) == pytest.approx(estimate_shift(make_column(*values)) + step)


@given(_COLUMN)
def test_the_estimate_of_opposite_differences_is_opposite(values: list[float]) -> None:
    assert estimate_shift(-make_column(*values)) == pytest.approx(-estimate_shift(make_column(*values)))


@pytest.mark.parametrize("values", [(7,), (7, 7, 7), (7, 7, 7, 7, 1000)], ids=["one pair", "all equal", "one astray"])
def test_the_estimate_is_what_most_pairs_say(values: tuple[float, ...]) -> None:
    assert estimate_shift(make_column(*values)).tolist() == [7]


def test_cells_are_estimated_each_for_itself() -> None:
    assert estimate_shift(np.array([[1.0, 5.0], [3.0, -5.0]])).tolist() == [2, 0]


# --- many tests at once


def test_holm_decides_the_textbook_example() -> None:
    values = np.array(
        [0.01, 0.04, 0.03, 0.005]
    )  # against 0.05 / 4, / 3, / 2: the third smallest fails, and so the last
    assert reject_all(values, 0.05).tolist() == [True, False, False, True]


@given(_VALUES)
def test_holm_agrees_with_its_definition(values: list[float]) -> None:
    left, rejected = list(enumerate(values)), [False] * len(values)
    while left and min(left, key=lambda each: each[1])[1] <= 0.5 / len(left):
        place = min(left, key=lambda each: each[1])
        rejected[place[0]] = True
        left.remove(place)
    assert reject_all(np.array(values), 0.5).tolist() == rejected


@given(_VALUES.flatmap(lambda values: st.tuples(st.just(values), st.permutations(range(len(values))))))
def test_holm_does_not_depend_on_the_order(drawn: tuple[list[float], list[int]]) -> None:
    values, order = np.array(drawn[0]), np.array(drawn[1], int)
    same = [
        number for number in range(len(values)) if (values == values[number]).sum() == 1
    ]  # of equals, any may be it
    shuffled = np.empty(len(values), bool)
    shuffled[order] = reject_all(values[order], 0.5)
    assert shuffled[same].tolist() == reject_all(values, 0.5)[same].tolist()


def test_holm_stops_at_the_first_that_is_not_rejected() -> None:
    assert reject_all(np.array([0.9, 0.9, 0.04]), 0.05).tolist() == [False, False, False]


# --- the screen


def test_a_cell_that_is_slower_in_every_pair_is_suspect() -> None:
    assert is_suspect(0.2, 0.21, 0.22, 0.19, 0.18)


def test_a_cell_without_a_difference_is_not_suspect() -> None:
    assert not is_suspect(0, 0, 0, 0, 0)


def test_a_cell_whose_pairs_exclude_fifteen_percent_is_not_suspect() -> None:
    almost = math.log(1.149)
    assert not is_suspect(*[almost - step / 1000 for step in range(5)])


def test_one_pair_out_of_five_above_fifteen_percent_excludes_nothing_if_it_is_far_above() -> None:
    assert compute_greater(-make_column(0.05, 0.06, 0.07, 0.08, 1), -math.log(1.15))[0] > SCREEN_LEVEL
    assert is_suspect(0.05, 0.06, 0.07, 0.08, 1)


@pytest.mark.parametrize(("share", "suspect"), [(0.029, False), (0.031, True)])
def test_a_suspect_is_estimated_above_three_percent(share: float, suspect: bool) -> None:  # noqa: FBT001 - a parameter
    middle = math.log1p(share)
    assert is_suspect(middle - 0.3, middle - 0.2, middle, middle + 0.2, middle + 0.3) is suspect


def test_twice_as_slow_is_no_suspect_if_the_difference_is_below_twenty_microseconds() -> None:
    slower = [math.log(2) + step / 1000 for step in range(5)]
    assert is_suspect(*slower, seconds=21e-6)
    assert not is_suspect(*slower, seconds=19e-6)


def test_a_threshold_of_its_own_widens_the_screen_of_a_cell() -> None:
    slower = [math.log(1.2) + step / 1000 for step in range(5)]
    assert is_suspect(*slower)
    assert not is_suspect(*slower, rules=Thresholds().widen(0.3))


def test_a_cell_is_screened_by_its_own_rules_and_seconds() -> None:
    differences = math.log(1.2) + np.linspace(0, 1e-3, 5)[:, None] * np.ones(3)
    rules = [Thresholds(), Thresholds().widen(0.3), Thresholds()]
    assert find_suspects(differences, np.array([1, 1, 50e-6]), rules).tolist() == [True, False, False]


def test_no_cells_have_no_suspects() -> None:
    assert find_suspects(np.empty((5, 0)), NOTHING, []).shape == (0,)


# --- a look at the suspects


def test_a_large_slowdown_in_all_pairs_is_confirmed() -> None:
    look = judge(math.log(1.2))
    assert look.confirmed.tolist() == [True]
    assert look.cleared.tolist() == [False]
    assert look.shift == pytest.approx(math.log(1.2))
    assert look.value == pytest.approx(2.0**-12)


def test_a_large_estimate_is_not_enough_without_the_test() -> None:
    look = judge(math.log(1.2), width=2.0)
    assert look.shift[0] > math.log(1.1)
    assert look.value[0] > 0.002
    assert not look.confirmed.any()
    assert not look.cleared.any()


def test_the_test_is_not_enough_without_an_estimate_of_ten_percent() -> None:
    look = judge(math.log(1.09))
    assert look.value[0] < 0.002
    assert not look.confirmed.any()
    assert not look.cleared.any()


def test_ten_percent_are_not_enough_without_twenty_microseconds() -> None:
    look = judge(math.log(1.2), seconds=90e-6)
    assert look.value[0] < 0.002
    assert not look.confirmed.any()
    assert not look.cleared.any()
    assert judge(math.log(1.2), seconds=110e-6).confirmed.all()


@pytest.mark.parametrize(("share", "cleared"), [(-0.5, True), (0, True), (0.049, True), (0.051, False)])
def test_an_estimate_below_five_percent_clears(share: float, cleared: bool) -> None:  # noqa: FBT001 - a parameter
    assert judge(math.log1p(share)).cleared.tolist() == [cleared]


def test_a_difference_below_ten_microseconds_clears() -> None:
    assert judge(math.log(1.2), seconds=49e-6).cleared.all()


def test_a_threshold_of_its_own_decides_about_a_cell() -> None:
    differences = np.hstack([spread(math.log(1.2), 12)] * 3)
    rules = [Thresholds(), Thresholds().widen(0.3), Thresholds().widen(0.5)]
    look = judge_look(differences, np.ones(3), rules, NOTHING)
    assert look.confirmed.tolist() == [True, False, False]
    assert look.cleared.tolist() == [False, False, True]


def test_suspects_that_were_decided_before_count_as_tests() -> None:
    assert judge(math.log(1.2), decided=np.ones(7)).confirmed.all()  # 2 ** -12 is below 0.002 / 8
    assert not judge(math.log(1.2), decided=np.ones(8)).confirmed.any()


def test_decided_suspects_that_were_certain_cost_nothing() -> None:
    assert judge(math.log(1.2), decided=np.zeros(50)).confirmed.all()


def test_faster_is_slower_with_the_arms_exchanged() -> None:
    slower, faster = (
        judge_look(sign * spread(sign * 0.3, 24), np.ones(1), [Thresholds()], NOTHING) for sign in (1, -1)
    )
    assert faster.shift == pytest.approx(slower.shift)
    assert faster.confirmed.all()
    assert slower.confirmed.all()


def test_rules_follow_from_the_threshold() -> None:
    rules = Thresholds(threshold=0.2)
    assert (rules.excluded, rules.noise, rules.cleared) == pytest.approx((0.3, 0.06, 0.1))
    assert rules.widen(None) is rules
    assert Thresholds(alpha=0.05, least_seconds=1.0).widen(0.3) == Thresholds(0.3, 0.05, 1.0)


@pytest.mark.parametrize("suspects", [1, 3])
def test_noise_alone_is_confirmed_in_less_than_one_run_of_a_hundred(suspects: int) -> None:
    gates, chance = 2_000, np.random.default_rng(20261121)
    noise = math.log1p(Thresholds().noise) + chance.laplace(scale=0.4, size=(max(LOOKS), gates * suspects))
    least = Thresholds().alpha / len(LOOKS)  # what no test passes, no look confirms
    near = np.any([compute_greater(noise[:look], math.log1p(Thresholds().noise)) <= least for look in LOOKS], axis=0)
    wrong = 0
    for gate in np.flatnonzero(near.reshape(gates, suspects).any(axis=1)):
        cells = noise[:, gate * suspects : (gate + 1) * suspects]
        looks = (judge_look(cells[:look], np.ones(suspects), [Thresholds()] * suspects, NOTHING) for look in LOOKS)
        wrong += any(look.confirmed.any() for look in looks)
    assert 0 < wrong < 0.01 * gates
