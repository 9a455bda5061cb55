"""Question: what does training on image files cost? Batches of arrays, decoded and scaled on the way."""

from itertools import repeat

import pytest

from benchmarks.cell import Cell, compare
from benchmarks.workers import shuffle
from fixtures.image_set import ImageSet
from fixtures.photos import PhotoSample
from storage import Reader


@pytest.mark.kinds("encoded")
@pytest.mark.default_cutoffs(10_000)
def test_read_epoch_decoded(cell: Cell, cutoff: int, threads: int, image_set: ImageSet, photos: PhotoSample) -> None:
    """Read each of `cutoff` image files once, in shuffled batches that are decoded and scaled by some threads."""
    files, labels = image_set.take(cutoff)
    batches = shuffle(cutoff, image_set.batch)
    size = photos.side, photos.side
    store = cell.fill_store(files, labels, cache="warm")

    def read_decoded(reader: Reader) -> None:
        for batch in batches:
            reader.read(batch, size=size, threads=threads)

    def check(reader: Reader) -> None:
        for batch in batches:
            decoded = reader.read(batch, size=size, threads=threads)
            compare(decoded, photos.pixels[batch], labels[batch], image_set.list_names(batch))

    with cell.backend.open_reader(store) as reader:
        cell.measure_read(read_decoded, repeat((reader,)), files, lambda _, reader: check(reader))
