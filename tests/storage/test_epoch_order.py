"""The order of an epoch is a permutation, the same everywhere, and as random as it looks."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest

from storage.epoch_order import BLOCK, EpochOrder, WindowedOrder

SEEDS = 600


STARTS = np.array([0, 40, 40, 75, 80, 160, 200])  # of six parts; one is empty


def find_all(count: int, seed: int = 0, epoch: int = 0) -> list[int]:
    return list(EpochOrder(count, seed, epoch).find(np.arange(count)).tolist())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 12, 13, 255, 256, 257, 10_000, 65_537])
def test_every_image_comes_once(count: int) -> None:
    assert sorted(find_all(count)) == list(range(count))


def test_the_order_is_the_one_that_earlier_versions_chose() -> None:
    assert find_all(10, seed=7, epoch=3) == [0, 9, 4, 3, 7, 8, 5, 6, 2, 1]
    content = np.array(find_all(100_000, seed=2**70, epoch=1), "<i8").tobytes()
    assert hashlib.sha256(content).hexdigest() == "628b8c6182900676e2c9f56d0cefb857b3b0acef3d9970abf6eb6d119d7dda89"


@pytest.mark.parametrize(("count", "seeds"), [(3, 300), (5, 1_200)])
def test_all_orders_of_a_few_images_are_equally_frequent(count: int, seeds: int) -> None:
    orders = Counter(tuple(find_all(count, seed)) for seed in range(seeds))
    freedom = math.factorial(count) - 1
    expected = seeds / (freedom + 1)
    assert len(orders) == freedom + 1
    chi_squared = sum((found - expected) ** 2 / expected for found in orders.values())
    assert abs(chi_squared - freedom) < 4 * math.sqrt(2 * freedom), "some orders are more frequent than others"


@pytest.mark.parametrize("count", [1_000, 100_000_000])
def test_images_that_follow_each_other_have_nothing_in_common(count: int) -> None:
    images = EpochOrder(count, seed=1, epoch=2).find(np.arange(1_000))
    correlations = [np.corrcoef(images[:-step], images[step:])[0, 1] for step in (1, 2, 10, 31, 32)]
    correlations.append(np.corrcoef(images, np.arange(1_000))[0, 1])
    assert np.abs(correlations).max() < 4 / math.sqrt(1_000)


def test_each_seed_and_each_epoch_has_another_order() -> None:
    orders = {tuple(find_all(100, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_any_part_of_the_order_is_found_without_the_rest() -> None:
    order = EpochOrder(2**40, seed=0, epoch=0)
    places = np.array([2**40 - 1, 0, 5])
    assert order.find(places).tolist() == [int(order.find(places[number : number + 1])[0]) for number in range(3)]


@pytest.mark.parametrize("size", [1, 7, BLOCK - 1, BLOCK + 1])
def test_batches_are_cut_in_blocks_from_the_same_order(size: int) -> None:
    count = 2 * BLOCK + 5
    cut = list(EpochOrder(count, 0, 0).cut(range(0, count, size), size))
    assert [len(batch) for batch in cut] == [size] * (count // size) + ([count % size] if count % size else [])
    assert np.concatenate(cut).tolist() == find_all(count)


def find_windowed(starts: np.ndarray, window: int, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return WindowedOrder(starts, window, seed, epoch).find(np.arange(starts[-1]))


@pytest.mark.parametrize("window", [1, 2, 5, 6, 100])
def test_every_image_comes_once_in_windows(window: int) -> None:
    assert sorted(find_windowed(STARTS, window).tolist()) == list(range(200))


def test_a_window_ends_before_the_next_one_starts() -> None:
    parts = np.searchsorted(STARTS, find_windowed(STARTS, 2), side="right") - 1
    changes = np.flatnonzero(np.diff(parts)) + 1
    seen = [set(found.tolist()) for found in np.split(parts, changes)]
    first, last = ({part: [n for n, some in enumerate(seen) if part in some][end] for part in parts} for end in (0, -1))
    at_once = [sum(first[part] <= number <= last[part] for part in first) for number in range(len(seen))]
    assert max(at_once) == 2, "images of more than two parts are mixed"
    assert len(seen) > 20, "images of two parts aren't mixed"


def test_the_images_of_a_window_are_those_of_its_parts() -> None:
    windows = WindowedOrder(STARTS, 2, 0, 0).find_windows()
    parts = np.searchsorted(STARTS, find_windowed(STARTS, 2), side="right") - 1
    first = [int(part) for part in windows[0] if STARTS[part] < STARTS[part + 1]]
    assert sorted(np.concatenate(windows).tolist()) == list(range(6))
    assert set(parts[: sum(STARTS[part + 1] - STARTS[part] for part in first)].tolist()) == set(first)
    assert EpochOrder(200, 0, 0).find_windows() == []


def test_a_window_of_all_parts_is_the_full_shuffle() -> None:
    assert find_windowed(STARTS, 6, seed=3, epoch=1).tolist() == find_all(200, 3, 1)


def test_the_order_in_windows_is_the_one_that_earlier_versions_chose() -> None:
    starts = np.arange(0, 100_001, 1_000)
    content = find_windowed(starts, 8, seed=2**70, epoch=1).astype("<i8").tobytes()
    assert hashlib.sha256(content).hexdigest() == "0cea34679e044a8038e297c55feb905d3ce65009a755c25de74848d21b399641"


def test_any_part_of_an_order_in_windows_is_found_without_the_rest() -> None:
    starts = np.arange(0, 10**8 + 1, 40_000)
    order = WindowedOrder(starts, 4, seed=0, epoch=0)
    places = np.array([10**8 - 1, 0, 160_000, 5])
    found = order.find(places).tolist()
    assert found == [int(order.find(places[number : number + 1])[0]) for number in range(4)]


def test_parts_and_images_come_in_another_order_with_each_seed_and_epoch() -> None:
    orders = [find_windowed(STARTS, 1, seed, epoch) for seed in range(5) for epoch in range(5)]
    assert len({tuple(order) for order in orders}) == 25
    parts = [np.searchsorted(STARTS, order, side="right") for order in orders]
    assert len({tuple(found) for found in parts}) > 20


def test_windows_put_each_image_anywhere_equally_often() -> None:
    starts = np.array([0, 2, 4, 6])
    places = Counter(find_windowed(starts, 2, seed).tolist().index(3) for seed in range(SEEDS))
    chi_squared = sum((found - SEEDS / 6) ** 2 / (SEEDS / 6) for found in places.values())
    assert len(places) == 6
    assert abs(chi_squared - 5) < 4 * math.sqrt(2 * 5), "an image comes more often at some places than at others"
