"""An epoch goes on where it was, on any number of ranks, and each image still comes once."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import storage
from storage import BACKENDS, InvalidInputError, Reader
from storage.batches import Batches
from tests.support.image_sets import make_set
from tests.support.properties import given, settings, st

COUNTS = (0, 1, 40)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Reader]]:
    """Open readers of some numbers of images, whose labels are their places."""
    opened = {}
    for count in COUNTS:
        store = tmp_path_factory.mktemp("store") / "images"
        BACKENDS["npy"].store_many(store, make_set(count, 2, 2)[0], np.arange(count))
        opened[count] = BACKENDS["npy"].open_reader(store)
    yield opened
    for reader in opened.values():
        reader.close()


def start(reader: Reader, ranks: int, size: int, state: Any, **options: Any) -> list[Batches]:  # noqa: ANN401
    """Make the batches of all ranks, and have each go on at a state."""
    made = [reader.batches(size, seed=5, threads=1, rank=rank, world_size=ranks, **options) for rank in range(ranks)]
    for batches in made:
        batches.load_state_dict(json.loads(json.dumps(state)))
    return made


def advance(ranks: list[Batches], steps: int) -> list[int]:
    """Have each rank take some batches; return the images of all."""
    found: list[int] = []
    for batches in ranks:
        for _ in range(steps):
            batch = next(batches, None)
            found += [] if batch is None else batch[1].tolist()
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Open a dataset of four parts of ten images, whose labels are their places."""
    path = tmp_path_factory.mktemp("dataset") / "images"
    images, labels = make_set(40, 2, 2)[0], np.arange(40)
    storage.save(path, images[:10], labels[:10], "npy", durable=False)
    for start in (10, 20, 30):
        storage.append(path, images[start : start + 10], labels[start : start + 10], durable=False)
    with storage.open(path) as reader:
        yield reader


plans = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(0, 4)), max_size=4)


@settings(max_examples=10)
@given(count=st.sampled_from(COUNTS), plan=plans)
def test_each_image_comes_once_however_often_the_ranks_change(
    readers: dict[int, Reader], count: int, plan: list[tuple[int, int, int]]
) -> None:
    state = readers[count].batches(1, seed=5).state_dict()
    found: list[int] = []
    for ranks, size, steps in [*plan, (2, 3, 100)]:
        running = start(readers[count], ranks, size, state)
        found += advance(running, steps)
        states = [batches.state_dict() for batches in running]
        assert all(each == states[0] for each in states), "ranks that took as many batches have other states"
        state = states[0]
        for batches in running:
            batches.close()
    assert sorted(found) == list(range(count))
    assert state["position"] == count


@settings(max_examples=5)
@given(window=st.integers(1, 5), plan=plans)
def test_each_image_comes_once_in_windows_however_often_the_ranks_change(
    dataset: Reader, window: int, plan: list[tuple[int, int, int]]
) -> None:
    state: dict[str, int] = dataset.batches(1, seed=5, window=window).state_dict()
    found: list[int] = []
    for ranks, size, steps in [*plan, (2, 3, 100)]:
        running = start(dataset, ranks, size, state)
        found += advance(running, steps)
        state = running[0].state_dict()
        for batches in running:
            batches.close()
    assert sorted(found) == list(range(40))
    assert (state["position"], state["window"]) == (40, window)


def test_each_window_is_finished_by_all_ranks_before_the_next_one(dataset: Reader) -> None:
    ranks = [dataset.batches(4, seed=5, window=2, rank=rank, world_size=5) for rank in range(5)]
    parts = [{label // 10 for batches in ranks for label in next(batches)[1].tolist()} for _ in range(2)]
    assert [len(some) for some in parts] == [2, 2]
    assert parts[0] | parts[1] == {0, 1, 2, 3}
    for batches in ranks:
        batches.close()


def test_a_state_without_a_window_ends_that_of_the_batches(dataset: Reader) -> None:
    full, windowed = dataset.batches(4, seed=5), dataset.batches(4, seed=5, window=2)
    windowed.load_state_dict(full.state_dict())
    assert windowed.state_dict() == full.state_dict()
    assert [labels.tolist() for _, labels in windowed] == [labels.tolist() for _, labels in full]


def test_a_state_in_windows_of_other_parts_is_refused(dataset: Reader, readers: dict[int, Reader]) -> None:
    state = readers[40].batches(4, seed=5, window=2).state_dict()
    with pytest.raises(InvalidInputError, match="a state of"):
        dataset.batches(4, seed=5, window=2).load_state_dict(state)


@pytest.mark.parametrize("window", [0, -1, 1.0, True, "2"])
def test_an_impossible_window_is_refused(dataset: Reader, window: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidInputError, match="window is"):
        dataset.batches(4, seed=5, window=window)


@settings(max_examples=20)
@given(ranks=st.integers(1, 5), size=st.integers(1, 9), steps=st.integers(0, 3))
def test_with_drop_last_all_ranks_have_as_many_whole_batches(
    readers: dict[int, Reader], ranks: int, size: int, steps: int
) -> None:
    running = start(readers[40], ranks, size, readers[40].batches(1, seed=5).state_dict(), drop_last=True)
    taken = advance(running, steps)
    resumed = start(readers[40], ranks, size, running[0].state_dict(), drop_last=True)
    lengths = [len(batches) for batches in resumed]
    batches = [[len(labels) for _, labels in rank] for rank in resumed]
    assert batches == [[size] * lengths[0]] * ranks
    assert len(taken) + sum(map(sum, batches)) == 40 // (size * ranks) * size * ranks
    for rank in running:
        rank.close()


def test_without_drop_last_ranks_differ_by_one_batch_at_most(readers: dict[int, Reader]) -> None:
    ranks = [readers[40].batches(8, seed=5, rank=rank, world_size=3) for rank in range(3)]
    lengths = [[len(labels) for _, labels in rank] for rank in ranks]
    assert lengths == [[8, 8], [8, 8], [8]]


def test_what_was_only_read_ahead_comes_again(readers: dict[int, Reader]) -> None:
    batches = readers[40].batches(4, seed=5)
    whole = [labels.tolist() for _, labels in readers[40].batches(4, seed=5)]
    assert [next(batches)[1].tolist() for _ in range(3)] == whole[:3]
    state = batches.state_dict()
    next(batches)
    batches.load_state_dict(state)
    assert [labels.tolist() for _, labels in batches] == whole[3:]


def test_a_state_brings_its_seed_and_epoch(readers: dict[int, Reader]) -> None:
    saved = readers[40].batches(4, seed=6, epoch=7)
    next(saved)
    state = saved.state_dict()
    resumed = readers[40].batches(4, seed=0)
    resumed.load_state_dict(state)
    assert [labels.tolist() for _, labels in resumed] == [labels.tolist() for _, labels in saved]
    assert resumed.state_dict() == {"version": 1, "count": 40, "seed": 6, "epoch": 7, "position": 40}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"position": 41}, "a state of"),
        ({"position": -1}, "position is -1: give 0 or more"),
        ({"position": 4.0}, r"position is 4\.0"),
        ({"count": 39}, "a state of"),
        ({"version": 2}, "a state of"),
        ({"more": 1}, "a state of"),
        ({"window": 1}, "a state of"),
        ({"window": 0, "parts": 1}, "window is 0"),
        (None, "a state of None"),
    ],
)
def test_what_is_no_state_of_these_images_is_refused_and_changes_nothing(
    readers: dict[int, Reader],
    change: dict[str, Any] | None,
    problem: str,
) -> None:
    batches = readers[40].batches(4, seed=5)
    before = batches.state_dict()
    state: Any = None if change is None else before | change
    with pytest.raises(InvalidInputError, match=problem):
        batches.load_state_dict(state)
    assert batches.state_dict() == before


def test_the_state_of_other_images_is_refused(readers: dict[int, Reader]) -> None:
    with pytest.raises(InvalidInputError, match=r"'count': 1,.* and not of .*'count': 40"):
        readers[40].batches(2, seed=5).load_state_dict(readers[1].batches(2, seed=5).state_dict())
