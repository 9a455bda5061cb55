"""How a cell is measured: fresh directories, what is timed, disk bytes, verification.

The method and its reasons are in ``docs/method.md``.
"""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.comparison import as_set, compare
from benchmarks.definition import hash_definition, read_threshold
from benchmarks.directories import Shelf, measure_disk
from benchmarks.memory import note_peak
from benchmarks.page_cache import ColdStore
from benchmarks.rounds import MOST_ROUNDS, choose_least, warm_up
from storage import BACKENDS, Backend, Images, Labels
from storage.durability import make_durable

Arguments = tuple[Any, ...]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
WRAP = pytest.StashKey[Wrap]()  # of a test item: changes what is timed; the gate slows cells with it to test itself


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
    wrap : callable
        Changes what is timed.
    """

    def __init__(
        self,
        operation: str,
        backend: str,
        benchmark: BenchmarkFixture,
        shelf: Shelf,
        wrap: Wrap = lambda function: function,
    ) -> None:
        self.backend: Backend = BACKENDS[backend]
        self._operation = operation
        self._benchmark = benchmark
        self._shelf = shelf
        self._wrap = wrap
        self._cold: ColdStore | None = None
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
        most = min(MOST_ROUNDS, self._shelf.check_space(images, 1 + choose_least(self._least, len(images))))
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

    def fill_store(self, images: Images, labels: Labels, *, cache: str) -> Path:
        """Write the store that this cell reads, outside the clock.

        Parameters
        ----------
        images : ndarray of uint8, shape (N, H, W, 3)
        labels : ndarray of int64, shape (N,)
        cache : str
            ``warm``, or ``cold``: then nobody may have the store open when a round starts.
        """
        self._shelf.check_space(images, 1)
        self.note(cache=cache, store_images=len(images))
        store = self._shelf.make_store()
        self.backend.store_many(store, images, labels)
        if cache == "cold":
            self._cold = ColdStore(store)
        return store

    def evict(self) -> None:
        """Evict the store of a cold cell from the page cache."""
        if self._cold is not None:
            self._cold.evict()
            self.note(resident_share=self._cold.resident_share)

    def note(self, **facts: str | float) -> None:
        """Add to what the JSON says of this cell."""
        self._facts.update(facts)

    def measure_read(
        self,
        function: Callable[..., Any],
        arguments: Iterator[Arguments],
        images: Images,
        check: Callable[..., None],
        *,
        elsewhere: bool = False,
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
        elsewhere : bool
            Other processes read: nothing is said of memory.
        """
        used: Arguments = ()

        def prepare() -> tuple[Arguments, dict[str, Any]]:
            nonlocal used
            self.evict()
            used = next(arguments)
            return used, {}

        result = self._measure(function, prepare, images, MOST_ROUNDS, elsewhere=elsewhere)
        check(result, *used)
        self._benchmark.has_error = False

    def _measure(
        self,
        target: Callable[..., Any],
        prepare: Callable[[], Any],
        images: Images,
        most: int,
        *,
        elsewhere: bool = False,
    ) -> Any:  # noqa: ANN401 - whatever the target returns
        """Warm up, choose the number of rounds, measure; return the last result."""
        benchmark, facts, target = self._benchmark, self._facts, self._wrap(target)
        benchmark.group = self._name_group()
        benchmark.has_error = True  # until what was measured is verified: a wrong or cut cell is in no run
        gc.collect()

        def call() -> float:
            before = time.perf_counter()
            arguments, _ = prepare()
            with nullcontext() if elsewhere else note_peak(facts):  # of two calls, the second one's stays
                start = time.perf_counter() if self._cold is None else before  # evicting may take longer than reading
                target(*arguments)
                return time.perf_counter() - start

        least = choose_least(self._least, len(images))
        rounds = warm_up(call, self._longest, least, most) if benchmark.enabled else 1
        result = benchmark.pedantic(target, setup=prepare, rounds=rounds)
        facts.update(images=len(images), bytes=images.nbytes + len(images) * np.dtype(np.int64).itemsize)
        if benchmark.stats is not None:
            facts["images_per_second"] = len(images) / benchmark.stats.stats.median
        return result

    def _name_group(self) -> str:
        """Name what may share a table of the session: cells of one operation that differ in their backend only."""
        axes = [pair for pair in self._benchmark.params.items() if pair[0] not in {"backend", "cutoff"}]
        words = [f"{name} {value}" if isinstance(value, int) else value for name, value in axes if value != "warm"]
        return " ".join([self._operation, f"{self._facts['store_images']:>7,} images", *words])


def store_durably(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function that stores also wait for the disk."""

    def store(folder: Path, *content: Any) -> None:  # noqa: ANN401 - whatever `function` takes
        function(folder, *content)
        make_durable(folder)

    return store


@pytest.fixture
def cell(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, backend: str, stores: Path) -> Iterator[Cell]:
    """Prepare a cell in a folder of its own."""
    operation = request.function.__name__.removeprefix("test_")
    shelf = Shelf(Path(tempfile.mkdtemp(prefix=f"{operation}-{backend}-", dir=stores)))
    prepared = Cell(operation, backend, benchmark, shelf, request.node.stash.get(WRAP, lambda function: function))
    prepared.note(definition=hash_definition(request.node), **read_threshold(request.node))
    yield prepared
    shelf.discard(shelf.folder)
