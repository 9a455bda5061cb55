"""Question: what do many images cost? Stored and read at once. The article's experiment."""

from itertools import repeat
from pathlib import Path

from benchmarks.cell import Cell, Content, Durability, compare
from benchmarks.page_cache import Cache
from fixtures.image_set import ImageSet
from storage import Labels


def test_store_many(cell: Cell, cutoff: int, durability: Durability, image_set: ImageSet) -> None:
    """Store `cutoff` images."""
    images, labels = image_set.take(cutoff)
    cell.measure_store(cell.backend.store_many, images, labels, durability=durability, names=image_set.names)


def test_read_many(cell: Cell, cutoff: int, cache: Cache, image_set: ImageSet) -> None:
    """Read `cutoff` images, all that the store has, in order."""
    images, labels = image_set.take(cutoff)
    store = cell.fill_store(images, labels, cache=cache)

    def check(result: tuple[Content, Labels], _: Path) -> None:
        compare(result, images, labels, image_set.names)

    cell.measure_read(cell.backend.read_many, repeat((store,)), images, check)
