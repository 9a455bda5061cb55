"""Question: what does training cost? Shuffled batches through open readers, in one process and in several."""

from itertools import repeat

import pytest

from benchmarks.cell import Cell, compare, select
from benchmarks.page_cache import Cache
from benchmarks.workers import StartMethod, Workers, find_read, read_batches, shuffle
from fixtures.image_set import ImageSet
from storage import Reader


@pytest.mark.default_cutoffs(10, 100, 1_000, 10_000)
def test_read_epoch(cell: Cell, cutoff: int, cache: Cache, image_set: ImageSet) -> None:
    """Read each of `cutoff` images once, in shuffled batches; a warm store's reader is open before the clock starts."""
    images, labels = image_set.take(cutoff)
    batches = shuffle(cutoff, image_set.batch)
    store = cell.fill_store(images, labels, cache=cache)

    def check(reader: Reader) -> None:
        for batch in batches:
            compare(find_read(reader)(batch), select(images, batch), labels[batch], image_set.list_names(batch))

    def read_cold() -> None:
        with cell.backend.open_reader(store) as reader:
            read_batches(reader, batches)

    def check_cold(_: None) -> None:
        with cell.backend.open_reader(store) as reader:
            check(reader)

    if cache == "cold":
        cell.measure_read(read_cold, repeat(()), images, check_cold)
    else:
        with cell.backend.open_reader(store) as reader:
            cell.measure_read(read_batches, repeat((reader, batches)), images, lambda *_: check(reader))


@pytest.mark.default_cutoffs(10_000)
def test_read_epoch_workers(
    cell: Cell, cutoff: int, workers: int, start: StartMethod, cache: Cache, image_set: ImageSet
) -> None:
    """Read each of `cutoff` images once, in shuffled batches dealt to processes that are up before the clock starts."""
    images, labels = image_set.take(cutoff)
    batches = shuffle(cutoff, image_set.batch)
    store = cell.fill_store(images, labels, cache=cache)
    cell.evict()
    with Workers(cell.backend.open_reader, store, batches, count=workers, start=start, cache=cache) as crew:
        cell.note(startup_seconds=crew.startup_seconds, first_batch_seconds=crew.first_batch_seconds)
        cell.measure_read(
            crew.read_epoch, repeat(()), images, lambda _: crew.check(images, labels), measure_memory=False
        )
