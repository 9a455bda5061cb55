"""Question: what does training cost. Shuffled batches through an open reader."""

from itertools import repeat

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.cells import Cell, compare
from fixtures.image_set import ImageSet
from storage import Reader

BATCH = 256  # images


@pytest.mark.largest_default_cutoff(10_000)
def test_read_epoch(cell: Cell, cutoff: int, image_set: ImageSet) -> None:
    """Read each of `cutoff` images once, in shuffled batches; the reader is open before the clock starts."""
    images, labels = image_set.take(cutoff)
    order = np.random.default_rng(0).permutation(cutoff)
    batches = [order[start : start + BATCH] for start in range(0, cutoff, BATCH)]

    def check(_: None, reader: Reader, batches: list[NDArray[np.intp]]) -> None:
        for batch in batches:
            compare(reader.read(batch), images[batch], labels[batch])

    with cell.backend.open_reader(cell.fill_store(images, labels)) as reader:
        cell.measure_read(read_epoch, repeat((reader, batches)), images, check)


def read_epoch(reader: Reader, batches: list[NDArray[np.intp]]) -> None:
    """Read one batch after another, keeping none."""
    for batch in batches:
        reader.read(batch)
