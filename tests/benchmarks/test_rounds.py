"""How many rounds a cell gets."""

import pytest

from benchmarks.rounds import choose_least, choose_rounds, warm_up


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 40), (0.001, 40), (0.1, 10), (0.199, 5), (0.5, 5), (100.0, 5)])
def test_as_many_rounds_are_measured_as_fit(seconds: float, rounds: int) -> None:
    assert choose_rounds(seconds, longest=1.0, least=5, most=40) == rounds


def test_the_least_number_of_rounds_wins_over_the_most() -> None:
    assert choose_rounds(1.0, longest=1.0, least=5, most=2) == 5


@pytest.mark.parametrize(
    ("calls", "rounds"),
    [([0.4, 0.04], 25), ([0.04, 0.4], 25), ([1.1], 5), ([0.01], 40)],
    ids=["the first is slow", "the second is slow", "longer than all rounds", "nothing to choose"],
)
def test_the_faster_of_two_calls_says_how_many_rounds_fit(calls: list[float], rounds: int) -> None:
    left = iter(calls)
    assert warm_up(lambda: next(left), longest=1.0, least=5, most=40) == rounds
    assert not list(left)


def test_a_cell_that_may_fill_no_more_stores_than_it_must_warms_up_once() -> None:
    left = iter([0.1])
    assert warm_up(lambda: next(left), longest=1.0, least=3, most=2) == 3


def test_few_rounds_are_enough_for_many_images() -> None:
    assert [choose_least(5, images) for images in (10, 99_999, 100_000)] == [5, 5, 3]
    assert choose_least(1, 100_000) == 1
