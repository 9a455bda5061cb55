"""Question: what would reading cost without any store? The same arrays, made of what is in memory already.

A cell is the floor of the operation whose name it has. It writes to memory that is kept from round to round, so a store
that keeps its own can't be faster. Sessions of CIFAR-10 have none.
"""

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cell import Content, measure_alone
from benchmarks.run_info import hash_definition, name_operation
from benchmarks.workers import shuffle
from fixtures.image_set import ImageSet
from fixtures.photos import PhotoSample

pytestmark = [pytest.mark.benchmark(group="floor"), pytest.mark.usefixtures("photos", "stores")]

Batch = NDArray[np.intp]
Make = Callable[[], "NDArray[Any] | Sequence[memoryview]"]  # a batch, until the next one is made
Floor = Callable[[Callable[[Batch], Make], Content], None]


@pytest.fixture
def floor(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, cutoff: int, image_set: ImageSet) -> Floor:
    """Measure an epoch of batches, each prepared before the clock starts; then check each image of each."""
    operation = name_operation(request.node)
    facts = {"floor": True, "operation": operation, "images": cutoff, "definition": hash_definition(request.node)}
    benchmark.extra_info.update(facts)
    batches = [np.arange(cutoff)] if operation == "read_many" else shuffle(cutoff, image_set.batch)

    def measure(prepare: Callable[[Batch], Make], images: Content) -> None:
        prepared = [prepare(batch) for batch in batches]

        def make_all() -> None:
            for make in prepared:
                make()

        def check() -> bool:
            found = chain.from_iterable(make() for make in prepared)
            pairs = zip(found, np.concatenate(batches).tolist(), strict=True)
            return all(np.array_equal(view_bytes(image), view_bytes(images[index])) for image, index in pairs)

        measure_alone(benchmark, make_all, check)

    return measure


def view_bytes(image: "NDArray[Any] | memoryview") -> NDArray[np.uint8]:
    """View the bytes of an image: NaN isn't equal to itself."""
    return np.frombuffer(image, np.uint8)


@pytest.mark.default_cutoffs(10_000)
def test_read_many(floor: Floor, cutoff: int, image_set: ImageSet) -> None:
    """Copy all images, in order."""
    images, _ = image_set.take(cutoff)
    stored = images if isinstance(images, np.ndarray) else images.content
    kept = np.empty_like(stored)
    copied = kept if isinstance(images, np.ndarray) else type(images)(kept, images.offsets)

    def copy() -> Content:
        np.copyto(kept, stored)
        return copied

    floor(lambda _: copy, images)


@pytest.mark.default_cutoffs(10_000)
def test_read_epoch(floor: Floor, cutoff: int, image_set: ImageSet) -> None:
    """Copy shuffled batches."""
    images, _ = image_set.take(cutoff)
    if isinstance(images, np.ndarray):
        kept = np.empty_like(images[: image_set.batch])
        floor(lambda batch: lambda: images.take(batch, 0, kept[: len(batch)], "clip"), images)  # "raise" copies twice
    else:
        memory = np.empty_like(images.content).data
        floor(lambda batch: prepare_files([images[index] for index in batch], memory), images)


def prepare_files(files: Sequence[memoryview], memory: memoryview) -> Make:
    """Prepare to copy image files, one after the other."""
    places = [memory[start:end] for start, end in pairwise(np.cumsum([0, *map(len, files)]).tolist())]

    def copy() -> Sequence[memoryview]:
        for place, file in zip(places, files, strict=True):
            place[:] = file
        return places

    return copy


@pytest.mark.kinds("encoded")
@pytest.mark.default_cutoffs(10_000)
def test_read_epoch_decoded(floor: Floor, threads: int, photos: PhotoSample, image_set: ImageSet) -> None:
    """Decode and scale shuffled batches."""
    kept = np.empty((image_set.batch, photos.side, photos.side, 3), np.uint8)

    def prepare(batch: Batch) -> Make:
        files, images = [photos.files[index] for index in batch], kept[: len(batch)]
        return lambda: photos.decode(files, threads, images)

    floor(prepare, photos.pixels)
