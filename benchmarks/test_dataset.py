"""Question: what does safety cost? Datasets that are saved whole or not at all, and loaded with or without a check."""

from functools import partial
from itertools import repeat
from pathlib import Path

import pytest

from benchmarks.cell import Cell, Content, compare
from benchmarks.page_cache import Cache
from fixtures.image_set import ImageSet
from storage import Labels, load, save


@pytest.fixture
def dataset(cell: Cell) -> Cell:
    """Mark a cell as one of datasets: it is measured with the largest cutoff only."""
    return cell


@pytest.mark.default_cutoffs(10_000)
def test_save(dataset: Cell, backend: str, cutoff: int, image_set: ImageSet) -> None:
    """Save `cutoff` images: what the backend takes, and checksums, manifest and rename."""
    images, labels = image_set.take(cutoff)
    dataset.measure_store(
        make_save(backend), images, labels, durability="buffered", read_back=load, names=image_set.names
    )


@pytest.mark.default_cutoffs(10_000)
def test_load(dataset: Cell, backend: str, cutoff: int, cache: Cache, image_set: ImageSet) -> None:
    """Load `cutoff` images, and verify each."""
    measure_load(dataset, backend, cutoff, cache, image_set, verify=True)


@pytest.mark.default_cutoffs(10_000)
def test_load_unverified(dataset: Cell, backend: str, cutoff: int, cache: Cache, image_set: ImageSet) -> None:
    """Load `cutoff` images, and verify none."""
    measure_load(dataset, backend, cutoff, cache, image_set, verify=False)


def make_save(backend: str) -> partial[None]:
    """Make a function that saves a dataset of one backend."""
    return partial(save, backend=backend, durable=False)


def measure_load(dataset: Cell, backend: str, cutoff: int, cache: Cache, image_set: ImageSet, *, verify: bool) -> None:
    """Measure loading a whole dataset."""
    images, labels = image_set.take(cutoff)
    path = dataset.fill_store(images, labels, cache=cache, store_many=make_save(backend))

    def check(result: tuple[Content, Labels], _: Path) -> None:
        compare(result, images, labels, image_set.names)

    dataset.measure_read(partial(load, verify=verify), repeat((path,)), images, check)
