"""Question: what would reading cost without any store? The same arrays, made of what is in memory already.

A cell is the floor of the operation whose name it has, in new memory: only a store that keeps its own can be a little
faster. Sessions of CIFAR-10 have none.
"""

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cell import Content, measure_alone, select
from benchmarks.run_info import hash_definition
from benchmarks.workers import shuffle
from fixtures.image_set import ImageSet
from fixtures.photos import PhotoSample

if TYPE_CHECKING:
    from storage import Encoded

pytestmark = [pytest.mark.benchmark(group="floor"), pytest.mark.usefixtures("photos", "stores")]

Read = Callable[[NDArray[np.intp]], Content]
Floor = Callable[[Read, Content], None]


@pytest.fixture
def floor(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, cutoff: int, image_set: ImageSet) -> Floor:
    """Measure an epoch of a function that makes batches; then check each image of each."""
    operation = request.function.__name__.removeprefix("test_")
    facts = {"floor": True, "operation": operation, "images": cutoff, "definition": hash_definition(request.node)}
    benchmark.extra_info.update(facts)
    batches = [np.arange(cutoff)] if operation == "read_many" else shuffle(cutoff, image_set.batch)

    def measure(read: Read, images: Content) -> None:
        def read_epoch() -> None:
            for batch in batches:
                read(batch)

        def check() -> bool:
            found = chain.from_iterable(map(read, batches))
            pairs = zip(found, np.concatenate(batches).tolist(), strict=True)
            return all(np.array_equal(view_bytes(image), view_bytes(images[index])) for image, index in pairs)

        measure_alone(benchmark, read_epoch, check)

    return measure


def view_bytes(image: "NDArray[Any] | memoryview") -> NDArray[np.uint8]:
    """View the bytes of an image: NaN isn't equal to itself."""
    return np.frombuffer(image, np.uint8)


@pytest.mark.default_cutoffs(10_000)
def test_read_many(floor: Floor, cutoff: int, image_set: ImageSet) -> None:
    """Copy all images, in order."""
    images, _ = image_set.take(cutoff)
    floor(lambda _: images.copy() if isinstance(images, np.ndarray) else copy_files(images), images)


def copy_files(files: "Encoded") -> "Encoded":
    """Copy image files."""
    return type(files)(files.content.copy(), files.offsets.copy())


@pytest.mark.default_cutoffs(10_000)
def test_read_epoch(floor: Floor, cutoff: int, image_set: ImageSet) -> None:
    """Copy shuffled batches."""
    images, _ = image_set.take(cutoff)
    floor(lambda batch: select(images, batch), images)


@pytest.mark.kinds("encoded")
@pytest.mark.default_cutoffs(10_000)
def test_read_epoch_decoded(floor: Floor, threads: int, photos: PhotoSample) -> None:
    """Decode and scale shuffled batches."""
    floor(lambda batch: photos.decode(photos.files.take(batch), threads), photos.pixels)
