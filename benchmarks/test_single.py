"""Question: what does one image cost? Stored and read alone."""

from itertools import cycle
from operator import getitem
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cell import Cell, Content, Durability, compare
from benchmarks.page_cache import Cache
from benchmarks.workers import find_read
from fixtures.image_set import ImageSet
from storage import Image, Labels, Reader


def test_store_single(cell: Cell, durability: Durability, image_set: ImageSet) -> None:
    """Store one image, alone in its store."""
    images, labels = image_set.take(1)
    cell.measure_store(
        cell.backend.store_single, images[0], int(labels[0]), durability=durability, names=image_set.names
    )


@pytest.mark.default_cutoffs(10, 100, 1_000, 10_000)
def test_read_single(cell: Cell, cutoff: int, cache: Cache, image_set: ImageSet) -> None:
    """Read one image, another one each round, out of a store of `cutoff` images."""
    images, labels = image_set.take(cutoff)
    store = cell.fill_store(images, labels, cache=cache)
    order = np.random.default_rng(0).permutation(cutoff).tolist()

    def check(result: tuple[Image | bytes, int], store: Path, index: int) -> None:
        compare(result, images[index : index + 1], labels[index : index + 1], image_set.list_names([index]))
        compare(cell.backend.read_many(store), images, labels, image_set.names)

    cell.measure_read(cell.backend.read_single, ((store, index) for index in cycle(order)), images[:1], check)


@pytest.mark.default_cutoffs(10_000)
def test_read_open_single(cell: Cell, cutoff: int, image_set: ImageSet) -> None:
    """Read one image, another one each round, through a reader that is open before the clock starts."""
    images, labels = image_set.take(cutoff)
    store = cell.fill_store(images, labels, cache="warm")
    order = np.random.default_rng(0).permutation(cutoff).tolist()

    def check(result: tuple[Content, Labels | int], reader: Reader, index: int) -> None:
        compare(result, images[index : index + 1], labels[index : index + 1], image_set.list_names([index]))
        compare(find_read(reader)(np.arange(cutoff)), images, labels, image_set.names)

    with cell.backend.open_reader(store) as reader:
        read_one = getitem if isinstance(images, np.ndarray) else read_file
        cell.measure_read(read_one, ((reader, index) for index in cycle(order)), images[:1], check)


def read_file(reader: Reader, index: int) -> tuple[Content, Labels]:
    """Read one image file as it was stored."""
    return reader.read_encoded([index])
