"""Question: what do many images cost? Stored and read at once. The article's experiment."""

from itertools import repeat

from benchmarks.cell import Cell, Durability, compare
from benchmarks.page_cache import Cache
from fixtures.image_set import ImageSet


def test_store_many(cell: Cell, cutoff: int, durability: Durability, image_set: ImageSet) -> None:
    """Store `cutoff` images."""
    images, labels = image_set.take(cutoff)
    cell.measure_store(cell.backend.store_many, images, labels, durability=durability)


def test_read_many(cell: Cell, cutoff: int, cache: Cache, image_set: ImageSet) -> None:
    """Read `cutoff` images, all that the store has, in order."""
    images, labels = image_set.take(cutoff)
    store = cell.fill_store(images, labels, cache=cache)
    cell.measure_read(
        cell.backend.read_many, repeat((store,)), images, lambda result, _: compare(result, images, labels)
    )
