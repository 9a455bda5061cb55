"""How a cell is measured: rounds, fresh directories, disk bytes, verification.

The method and its reasons are in ``docs/method.md``.
"""

import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.stores import Shelf, estimate_bytes, measure_disk
from storage import BACKENDS, Backend, Images, Labels
from storage.durability import make_durable

MOST_ROUNDS = 1_000  # more would tell the median no better, and fill the JSON
MANY_IMAGES = 100_000  # from here on, FEW_ROUNDS are enough
FEW_ROUNDS = 3
MOST_BYTES = 2 << 30  # of stores in one cell, unless the least number of rounds needs more
COMPARED = 1_000  # images at a time, so that comparing needs little memory

Arguments = tuple[Any, ...]


class Cell:
    """One benchmark: an operation of one backend on so many images.

    Parameters
    ----------
    operation : str
        Such as ``store_many``.
    backend : str
        A name in `storage.BACKENDS`.
    benchmark : BenchmarkFixture
        What measures; it is used once.
    shelf : Shelf
        Where the stores of this cell go.
    """

    def __init__(self, operation: str, backend: str, benchmark: BenchmarkFixture, shelf: Shelf) -> None:
        self.backend: Backend = BACKENDS[backend]
        self._operation = operation
        self._benchmark = benchmark
        self._shelf = shelf
        self._facts = benchmark.extra_info
        self._least = int(benchmark._min_rounds)  # noqa: SLF001 - the fixture knows what options and markers say
        self._longest = float(benchmark._max_time)  # noqa: SLF001
        self._facts.update(operation=operation, backend=backend)

    def measure_store(
        self, function: Callable[..., None], images: Images, labels: Labels | int, *, durability: str
    ) -> None:
        """Measure a function that stores, each round in a fresh empty directory; then read back and compare.

        Parameters
        ----------
        function : callable
            Called with a directory, `images` and `labels`.
        images : ndarray of uint8, shape (N, H, W, 3)
            Or one image, shape (H, W, 3).
        labels : ndarray of int64, shape (N,)
            Or one label.
        durability : str
            ``buffered``, or ``durable``: then the store is synced to disk inside the clock.
        """
        content = images, labels
        images, labels = as_set(*content)
        most = self._check_space(images, 1 + self._least_rounds(images))
        self._facts.update(durability=durability, store_images=len(images))
        stores: list[Path] = []

        def prepare() -> tuple[Arguments, dict[str, Any]]:
            while stores:
                self._shelf.discard(stores.pop())
            stores.append(self._shelf.make_store())
            return (stores[-1], *content), {}

        self._measure(store_durably(function) if durability == "durable" else function, prepare, images, most)
        self._facts.update(measure_disk(stores[-1]))
        compare(self.backend.read_many(stores[-1]), images, labels)
        self._benchmark.has_error = False

    def fill_store(self, images: Images, labels: Labels) -> Path:
        """Write the store that this cell reads, outside the clock."""
        self._check_space(images, 1)
        self._facts.update(store_images=len(images))
        store = self._shelf.make_store()
        self.backend.store_many(store, images, labels)
        return store

    def measure_read(
        self, function: Callable[..., Any], arguments: Iterator[Arguments], images: Images, check: Callable[..., None]
    ) -> None:
        """Measure a function that reads; then check what it read.

        Parameters
        ----------
        function : callable
            Called with the next of `arguments`, each round.
        arguments : iterator of tuple
            Without an end.
        images : ndarray of uint8, shape (N, H, W, 3)
            As many as one call reads.
        check : callable
            Called when the clock has stopped, with the last result and the arguments that gave it.
        """
        used: Arguments = ()

        def prepare() -> tuple[Arguments, dict[str, Any]]:
            nonlocal used
            used = next(arguments)
            return used, {}

        result = self._measure(function, prepare, images, MOST_ROUNDS)
        check(result, *used)
        self._benchmark.has_error = False

    def _measure(self, target: Callable[..., Any], prepare: Callable[[], Any], images: Images, most: int) -> Any:  # noqa: ANN401 - whatever the target returns
        """Warm up once, choose the number of rounds, measure; return the last result."""
        benchmark, facts = self._benchmark, self._facts
        benchmark.group = f"{self._operation} {facts['store_images']:>7,} images {facts.get('durability', '')}".rstrip()
        benchmark.has_error = True  # until what was measured is verified: a wrong or cut cell is in no run
        gc.collect()
        rounds = 1
        if benchmark.enabled:
            arguments, _ = prepare()
            start = time.perf_counter()
            target(*arguments)
            seconds = time.perf_counter() - start
            rounds = choose_rounds(seconds, self._longest, self._least_rounds(images), most)
        result = benchmark.pedantic(target, setup=prepare, rounds=rounds)
        facts.update(images=len(images), bytes=images.nbytes + len(images) * np.dtype(np.int64).itemsize)
        if benchmark.stats is not None:
            facts["images_per_second"] = len(images) / benchmark.stats.stats.median
        return result

    def _least_rounds(self, images: Images) -> int:
        return min(self._least, FEW_ROUNDS) if len(images) >= MANY_IMAGES else self._least

    def _check_space(self, images: Images, stores: int) -> int:
        """Skip the cell if the disk may not hold so many stores; return how many it may fill."""
        store, free = estimate_bytes(images), shutil.disk_usage(self._shelf.folder).free
        if free < store * stores:
            pytest.skip(
                f"{stores} stores may take {store * stores:,} bytes, and {self._shelf.folder} has {free:,} left: "
                "free some space, or choose another disk with --basetemp"
            )
        return min(MOST_ROUNDS, min(MOST_BYTES, free // 2) // store)


def as_set(images: Images, labels: Labels | int) -> tuple[Images, Labels]:
    """Take one image and its label for an image set of one; return an image set as it is."""
    return images.reshape(-1, *images.shape[-3:]), np.atleast_1d(np.asarray(labels, np.int64))


def store_durably(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function that stores also wait for the disk."""

    def store(folder: Path, *content: Any) -> None:  # noqa: ANN401 - whatever `function` takes
        function(folder, *content)
        make_durable(folder)

    return store


def choose_rounds(seconds: float, longest: float, least: int, most: int) -> int:
    """Choose how many rounds of so many seconds to measure: as many as fit `longest`, from `least` to `most`."""
    return max(least, min(most, int(longest / max(seconds, 1e-9))))


def compare(result: tuple[Images, Labels | int], images: Images, labels: Labels) -> None:
    """Fail unless what was read is what was stored, pixel for pixel and label for label."""
    read_images, read_labels = as_set(*result)
    if read_images.shape != images.shape or read_labels.shape != labels.shape:
        pytest.fail(f"stored {images.shape} with {len(labels)} labels, read {read_images.shape}, {len(read_labels)}")
    for start in range(0, len(images), COMPARED):
        part = slice(start, start + COMPARED)
        wrong = (read_images[part] != images[part]).any(axis=(1, 2, 3)) | (read_labels[part] != labels[part])
        if wrong.any():
            pytest.fail(f"image or label {start + int(wrong.argmax())} was not read as it was stored")


@pytest.fixture
def cell(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, backend: str, stores: Path) -> Iterator[Cell]:
    """Prepare a cell in a folder of its own."""
    operation = request.function.__name__.removeprefix("test_")
    shelf = Shelf(Path(tempfile.mkdtemp(prefix=f"{operation}-{backend}-", dir=stores)))
    yield Cell(operation, backend, benchmark, shelf)
    shelf.discard(shelf.folder)
