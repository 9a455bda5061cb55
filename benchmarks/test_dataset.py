"""Question: what does safety cost. Datasets saved whole or not at all, and loaded with and without proof."""

from functools import partial
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest

import storage
from benchmarks.cell import Cell
from benchmarks.comparison import compare
from fixtures.image_set import ImageSet


@pytest.fixture
def dataset(cell: Cell, backend: str) -> Cell:
    """Let a cell store and read datasets of its backend."""
    functions: Any = SimpleNamespace(
        store_many=partial(storage.save, backend=backend, durable=False), read_many=storage.load
    )
    cell.backend = functions
    return cell


@pytest.mark.default_cutoffs(10_000)
def test_save(dataset: Cell, cutoff: int, image_set: ImageSet) -> None:
    """Save `cutoff` images: what the backend takes, and checksums, manifest and rename."""
    images, labels = image_set.take(cutoff)
    dataset.measure_store(dataset.backend.store_many, images, labels, durability="buffered")


@pytest.mark.default_cutoffs(10_000)
def test_load(dataset: Cell, cutoff: int, cache: str, image_set: ImageSet) -> None:
    """Load `cutoff` images, and prove each."""
    measure_load(dataset, cutoff, cache, image_set, verify=True)


@pytest.mark.default_cutoffs(10_000)
def test_load_unverified(dataset: Cell, cutoff: int, cache: str, image_set: ImageSet) -> None:
    """Load `cutoff` images, and prove none."""
    measure_load(dataset, cutoff, cache, image_set, verify=False)


def measure_load(dataset: Cell, cutoff: int, cache: str, image_set: ImageSet, *, verify: bool) -> None:
    """Measure loading all that a dataset has."""
    images, labels = image_set.take(cutoff)
    path = dataset.fill_store(images, labels, cache=cache)
    dataset.measure_read(
        partial(storage.load, verify=verify), repeat((path,)), images, lambda result, _: compare(result, images, labels)
    )
