"""Ranks, ties, and the Pareto front."""

import math
from collections.abc import Sequence
from itertools import pairwise, product

import pytest

from reports.noise import UNKNOWN_SCATTER
from reports.ranking import find_pareto, is_slower, rank_sizes, rank_times, select_largest
from tests.support.properties import given, st
from tests.support.results import make_result

ROUNDS = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=12)
LIMIT = math.exp(UNKNOWN_SCATTER)


def _select(*measured: tuple[str, int]) -> dict[str, int]:
    """Select among results of backends at numbers of images; backend -> number."""
    results = [make_result(backend, 1.0, images) for backend, images in measured]
    return {backend: result.images for backend, result in select_largest(results).items()}


def test_backends_are_compared_at_the_largest_number_of_images_that_two_have() -> None:
    assert _select(("png", 10), ("lmdb", 10), ("png", 100), ("lmdb", 100), ("png", 1000)) == {"png": 100, "lmdb": 100}
    assert _select(("png", 10), ("png", 100), ("lmdb", 100), ("hdf5", 10)) == {"png": 100, "lmdb": 100}
    assert _select(("png", 10), ("png", 100), ("lmdb", 1000)) == {"lmdb": 1000}, "no number is shared"
    assert _select() == {}


def test_single_reads_are_compared_by_the_images_in_their_stores() -> None:
    results = [make_result(name, 1.0, 1, store_images=count) for name in ("png", "lmdb") for count in (10, 1000)]
    assert {result.store_images for result in select_largest(results).values()} == {1000}


def test_a_backend_that_only_noise_keeps_in_a_tier_is_too_noisy_to_rank() -> None:
    close, far, noisy = (
        make_result("close", 1.05),
        make_result("far", 5.0),
        make_result("noisy", [0.9, 0.9, 4.0, 8.0, 8.0]),
    )
    ranks = rank_times([make_result("best", 1.0), close, far, noisy])
    assert [(rank.backend, rank.tier, rank.noisy) for rank in ranks] == [
        ("best", 0, False),
        ("close", 0, False),
        ("noisy", 0, True),
        ("far", 1, False),
    ]


def test_a_tie_allows_medians_to_differ_as_processes_do() -> None:
    def is_noisy(seconds: Sequence[float]) -> bool:
        return rank_times([make_result("best", [1.0, 1.0, 1.02, 1.5, 2.0]), make_result("other", seconds)])[1].noisy

    assert [is_noisy([1.02 * LIMIT**2 * factor] * 3) for factor in (0.99, 1.01)] == [False, True]


def test_times_are_ranked_by_their_medians() -> None:
    results = [make_result("png", [3.0, 9.0, 6.0]), make_result("lmdb", 1.0), make_result("hdf5", 2.0)]
    ranks = [(rank.backend, rank.value, rank.ratio, rank.tier) for rank in rank_times(results)]
    assert ranks == [("lmdb", 1.0, 1.0, 0), ("hdf5", 2.0, 2.0, 1), ("png", 6.0, 6.0, 2)]


def test_nothing_is_ranked_without_results() -> None:
    assert rank_times(()) == ()
    assert rank_sizes({}) == ()
    assert find_pareto({}, ()) == frozenset()


@pytest.mark.parametrize(("factor", "slower"), [(0.999 * LIMIT, False), (1.001 * LIMIT, True)])
def test_stable_cells_tie_within_what_processes_scatter(factor: float, *, slower: bool) -> None:
    assert is_slower(make_result("a", 1.0), make_result("b", factor)) is slower


@pytest.mark.parametrize(("factor", "slower"), [(0.999 * LIMIT**2, False), (1.001 * LIMIT**2, True)])
@pytest.mark.parametrize("count", [(2, 5), (5, 2)], ids=["best", "other"])
def test_unstable_cells_tie_within_twice_of_that(factor: float, count: tuple[int, int], *, slower: bool) -> None:
    best, other = make_result("a", [1.0] * count[0]), make_result("b", [factor] * count[1])
    assert best.unstable or other.unstable
    assert is_slower(best, other) is slower


def test_overlapping_rounds_tie_whatever_their_medians() -> None:
    best, other = make_result("a", [1.0] * 8 + [9.0] * 2), make_result("b", [3.0] * 10)
    assert not is_slower(best, other), "the slowest tenth of the best is above the other"
    assert is_slower(make_result("a", [1.0] * 19 + [9.0]), other), "less than a tenth does not count"


@given(one=ROUNDS, other=ROUNDS)
def test_no_two_results_are_slower_than_each_other(one: list[float], other: list[float]) -> None:
    first, second = make_result("a", one), make_result("b", other)
    assert not (is_slower(first, second) and is_slower(second, first))
    assert not is_slower(first, first)


@given(measured=st.dictionaries(st.text(max_size=3), ROUNDS, min_size=1), chance=st.randoms())
def test_a_ranking_rises_from_one_in_any_order_of_cells(
    measured: dict[str, list[float]], chance: st.DataObject
) -> None:
    results = [make_result(name, rounds) for name, rounds in measured.items()]
    ranks = rank_times(results)
    assert (ranks[0].ratio, ranks[0].tier) == (1.0, 0)
    assert all(left.ratio <= right.ratio for left, right in pairwise(ranks))
    tiers = {rank.backend: rank.tier for rank in ranks}
    assert set(tiers.values()) == set(range(max(tiers.values()) + 1)), "no tier is empty"
    for one, other in product(results, results):
        assert not is_slower(one, other) or tiers[one.backend] < tiers[other.backend], "who is beaten is behind"
    chance.shuffle(results)  # type: ignore[attr-defined]
    assert rank_times(results) == ranks


def test_sizes_within_one_percent_tie() -> None:
    ranks = rank_sizes({"png": 102.0, "lmdb": 100.0, "hdf5": 101.0})
    assert [(rank.backend, rank.ratio, rank.tier) for rank in ranks] == [
        ("lmdb", 1.0, 0),
        ("hdf5", 1.01, 0),
        ("png", 1.02, 1),
    ]


@pytest.mark.parametrize(
    ("measured", "front"),
    [
        ({"fast": (300.0, 1.0), "small": (100.0, 5.0), "neither": (300.0, 6.0)}, {"fast", "small"}),
        ({"best": (100.0, 1.0), "as small": (100.0, 2.0), "as fast": (200.0, 1.0)}, {"best"}),
        ({"one": (100.0, 1.0), "tie": (100.5, 1.05)}, {"one", "tie"}),
        ({"fast": (100.03, 1.0), "hardly smaller": (100.0, 100.0)}, {"fast"}),
        ({"known": (100.0, 2.0), "of unknown size": (None, 1.0)}, {"known"}),
    ],
)
def test_a_backend_that_another_beats_is_not_on_the_front(
    measured: dict[str, tuple[float | None, float]], front: set[str]
) -> None:
    times = [make_result(name, seconds) for name, (_, seconds) in measured.items()]
    assert find_pareto({name: size for name, (size, _) in measured.items() if size}, times) == front


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.floats(1, 1e9), st.floats(1e-9, 1e3)), min_size=1))
def test_at_least_one_backend_is_not_beaten(measured: dict[str, tuple[float, float]]) -> None:
    times = [make_result(name, seconds) for name, (_, seconds) in measured.items()]
    found = find_pareto({name: size for name, (size, _) in measured.items()}, times)
    assert found
