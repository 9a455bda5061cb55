"""How a cell is measured: fresh stores, warm-up, rounds, and a check of every result after the clock has stopped.

The method and the reasons for it are in ``docs/method.md``.
"""

import gc
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.directories import StoreDirectories, measure_disk
from benchmarks.memory import note_peak
from benchmarks.page_cache import Cache, ColdStore
from benchmarks.run_info import hash_definition, name_operation, read_threshold
from storage import BACKENDS, Backend, Images, Labels
from storage.durability import make_durable

if TYPE_CHECKING:
    from storage import Encoded

MAX_ROUNDS = 1_000  # more wouldn't make the median more precise, but would fill the JSON
MANY_IMAGES, LONG = 100_000, 1.0  # images, and seconds of a call, from which FEW_ROUNDS are enough
FEW_ROUNDS = 3
COMPARED_AT_ONCE = 1_000  # images, so that comparing needs little memory

Durability = Literal["buffered", "durable"]
Content: TypeAlias = "Images | Encoded"  # of an image set: pixels, or image files
Arguments = tuple[Any, ...]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
WRAP = pytest.StashKey[Wrap]()  # of a test item: changes what is timed; benchmarks/slowdown.py uses it
PAUSE = pytest.StashKey[Callable[[], None]]()  # of a test item: called before each round; benchmarks/gate_session.py


class Cell:
    """One benchmark: an operation of one backend on a number of images. It can be measured once.

    `wrap` changes what is timed, `pause` is called before each round; `directories` is where the stores go.
    """

    def __init__(
        self,
        operation: str,
        backend: str,
        benchmark: BenchmarkFixture,
        directories: StoreDirectories,
        wrap: Wrap | None = None,
        pause: Callable[[], None] | None = None,
    ) -> None:
        self.backend: Backend = BACKENDS[backend]
        self._operation = operation
        self._benchmark = benchmark
        self._directories = directories
        self._wrap, self._pause = wrap, pause
        self._cold: ColdStore | None = None
        self._min_rounds, self._max_seconds = read_limits(benchmark)
        self.note(operation=operation, backend=backend)

    def note(self, **facts: str | float) -> None:
        """Add fields to the JSON of this cell."""
        self._benchmark.extra_info.update(facts)

    def measure_store(
        self,
        function: Callable[..., None],
        images: "Content | memoryview",
        labels: Labels | int,
        *,
        durability: Durability,
        read_back: Callable[[Path], tuple[Content, Labels]] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """Measure ``function(directory, images, labels)``: each round fills a fresh directory; read the last one back.

        `images` and `labels` are an image set, or one image and its label. A ``durable`` store is synced to disk inside
        the clock. `read_back` reads what was stored, by default with the backend's `read_many`. `names` are of the
        images, if they have any.
        """
        content = images, labels
        images, labels = as_set(images, labels)
        needed = 1 + choose_min_rounds(self._min_rounds, len(images))
        max_rounds = min(MAX_ROUNDS, self._directories.check_space(images, needed))
        self.note(durability=durability, store_images=len(images))
        stores: list[Path] = []

        def prepare() -> tuple[Arguments, dict[str, Any]]:
            while stores:
                self._directories.discard(stores.pop())
            stores.append(self._directories.make_store())
            return (stores[-1], *content), {}

        def check(_: object) -> None:
            self.note(**measure_disk(stores[-1]))
            compare((read_back or self.backend.read_many)(stores[-1]), images, labels, names)

        target = store_durably(function) if durability == "durable" else function
        self._measure(target, prepare, images, check, max_rounds=max_rounds)

    def fill_store(
        self, images: Content, labels: Labels, *, cache: Cache, store_many: Callable[..., None] | None = None
    ) -> Path:
        """Write the store that this cell reads, outside the clock, by default with the backend's `store_many`.

        No process may have a ``cold`` store open when a round starts.
        """
        self._directories.check_space(images, 1)
        self.note(cache=cache, store_images=len(images))
        store = self._directories.make_store()
        (store_many or self.backend.store_many)(store, images, labels)
        if cache == "cold":
            self._cold = ColdStore(store)
        return store

    def evict(self) -> None:
        """Evict the store of a cold cell from the page cache."""
        if self._cold is not None:
            self._cold.evict()
            self.note(resident_share=self._cold.resident_fraction)

    def measure_read(
        self,
        function: Callable[..., Any],
        arguments: Iterator[Arguments],
        images: Content,
        check: Callable[..., None],
        *,
        measure_memory: bool = True,
    ) -> None:
        """Measure a function that reads, in each round with the next of `arguments`; then check what it read.

        One call reads as many images as `images` has. `check` is called after the clock has stopped, with the last
        result and the arguments that gave it. If other processes do the reading, don't measure memory.
        """
        used: Arguments = ()

        def prepare() -> tuple[Arguments, dict[str, Any]]:
            nonlocal used
            self.evict()
            used = next(arguments)
            return used, {}

        def check_last(result: object) -> None:
            check(result, *used)

        self._measure(function, prepare, images, check_last, measure_memory=measure_memory)

    def _measure(
        self,
        target: Callable[..., Any],
        prepare: Callable[[], tuple[Arguments, dict[str, Any]]],
        images: Content,
        check: Callable[[Any], None],
        *,
        max_rounds: int = MAX_ROUNDS,
        measure_memory: bool = True,
    ) -> None:
        """Warm up, choose the number of rounds, measure, and check the last result."""
        benchmark, facts = self._benchmark, self._benchmark.extra_info
        target = self._wrap(target) if self._wrap else target
        benchmark.group = self._name_group()
        benchmark.has_error = True  # leaves the cell out of the run unless its result is verified
        gc.collect()

        def pause_and_prepare() -> tuple[Arguments, dict[str, Any]]:
            if self._pause:
                self._pause()
            return prepare()

        def call() -> float:
            before = time.perf_counter()
            arguments, _ = prepare()
            with note_peak(facts) if measure_memory else nullcontext():  # of two calls, the second one's remains
                start = time.perf_counter() if self._cold is None else before  # evicting may take longer than reading
                target(*arguments)
                return time.perf_counter() - start

        min_rounds = choose_min_rounds(self._min_rounds, len(images))
        rounds = warm_up(call, self._max_seconds, min_rounds, max_rounds) if benchmark.enabled else 1
        result = benchmark.pedantic(target, setup=pause_and_prepare, rounds=rounds)
        facts.update(images=len(images), bytes=images.nbytes + len(images) * np.dtype(np.int64).itemsize)
        if benchmark.stats is not None:
            facts["images_per_second"] = len(images) / benchmark.stats.stats.median
        check(result)
        benchmark.has_error = False

    def _name_group(self) -> str:
        """Name the table of the session that this cell belongs to: its rows differ only in the backend."""
        params = [pair for pair in self._benchmark.params.items() if pair[0] not in {"backend", "cutoff"}]
        words = [f"{name} {value}" if isinstance(value, int) else value for name, value in params if value != "warm"]
        return " ".join([self._operation, f"{self._benchmark.extra_info['store_images']:>7,} images", *words])


@pytest.fixture
def cell(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, backend: str, stores: Path) -> Iterator[Cell]:
    """Prepare a cell with its own folder of stores."""
    operation = name_operation(request.node)
    directories = StoreDirectories(Path(tempfile.mkdtemp(prefix=f"{operation}-{backend}-", dir=stores)))
    prepared = Cell(
        operation, backend, benchmark, directories, *(request.node.stash.get(key, None) for key in (WRAP, PAUSE))
    )
    prepared.note(definition=hash_definition(request.node), **read_threshold(request.node))
    yield prepared
    directories.discard(directories.folder)


def measure_alone(benchmark: BenchmarkFixture, function: Callable[[], object], check: Callable[[], bool]) -> None:
    """Measure a function without a backend after warm-up, in as many rounds as fit; then check what it did."""

    def call() -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    benchmark.has_error = True  # leaves the cell out of the run unless its result is verified
    gc.collect()
    min_rounds, max_seconds = read_limits(benchmark)
    rounds = warm_up(call, max_seconds, min_rounds, MAX_ROUNDS) if benchmark.enabled else 1
    benchmark.pedantic(function, rounds=rounds)
    if not check():
        pytest.fail("the result is wrong: this machine can't be trusted")
    benchmark.has_error = False


def read_limits(benchmark: BenchmarkFixture) -> tuple[int, float]:
    """Read the minimum number of rounds and the seconds for all of them, as options and markers set them."""
    return int(benchmark._min_rounds), float(benchmark._max_time)  # noqa: SLF001 - there is no public way


def store_durably(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function that stores also wait for the disk."""

    def store(folder: Path, *content: Any) -> None:  # noqa: ANN401 - whatever `function` takes
        function(folder, *content)
        make_durable(folder)

    return store


def warm_up(call: Callable[[], float], max_seconds: float, min_rounds: int, max_rounds: int) -> int:
    """Call once or twice, and choose the number of rounds that fit from the faster call.

    The first call is often slow, because it touches memory and loads code for the first time. It is repeated unless it
    took longer than all rounds should, or the choice is clear already.
    """
    seconds = call()
    if seconds <= max_seconds and choose_rounds(seconds, max_seconds, min_rounds, max_rounds) < max_rounds:
        seconds = min(seconds, call())
    return choose_rounds(seconds, max_seconds, min_rounds, max_rounds)


def choose_rounds(seconds: float, max_seconds: float, min_rounds: int, max_rounds: int) -> int:
    """Choose as many rounds of `seconds` as fit into `max_seconds`, within the limits; the minimum wins."""
    min_rounds = min(min_rounds, FEW_ROUNDS) if seconds > LONG else min_rounds
    return max(min_rounds, min(max_rounds, int(max_seconds / max(seconds, 1e-9))))


def choose_min_rounds(min_rounds: int, images: int) -> int:
    """Lower the minimum number of rounds if there are many images."""
    return min(min_rounds, FEW_ROUNDS) if images >= MANY_IMAGES else min_rounds


def as_set(images: "Content | bytes | memoryview", labels: Labels | int) -> tuple[Content, Labels]:
    """Turn one image and its label into an image set of one; leave an image set as it is."""
    if isinstance(images, np.ndarray):
        images = images[np.newaxis] if np.ndim(labels) == 0 else images
    elif isinstance(images, bytes | memoryview):
        from storage import Encoded  # noqa: PLC0415 - the gate measures older commits, too

        images = Encoded.join([images])
    return images, np.atleast_1d(np.asarray(labels, np.int64))


def select(images: Content, indices: NDArray[np.intp]) -> Content:
    """Copy the images at some indices."""
    return images[indices] if isinstance(images, np.ndarray) else images.take(indices)


def compare(
    result: "tuple[Content | bytes | memoryview, Labels | int]",
    images: Content,
    labels: Labels,
    names: Sequence[str] = (),
) -> None:
    """Fail unless every pixel, or every byte of a file, and every label was read as it was stored; name the image."""
    read_images, read_labels = as_set(*result)
    stored, read = outline(images), outline(read_images)
    if stored != read or read_labels.shape != labels.shape:
        pytest.fail(f"stored {stored} with {len(labels)} labels, read {read}, {len(read_labels)}")
    for start in range(0, len(images), COMPARED_AT_ONCE):
        part = slice(start, start + COMPARED_AT_ONCE)
        wrong = find_wrong(read_images[part], images[part]) | (read_labels[part] != labels[part])
        if wrong.any():
            number = start + int(wrong.argmax())
            name = f" ({names[number]})" if names else ""
            pytest.fail(f"image or label {number}{name} was not read as it was stored")


def outline(images: Content) -> str:
    """Say what all images have in common."""
    return f"{images.shape} {images.dtype}" if isinstance(images, np.ndarray) else f"{len(images)} files"


def find_wrong(read: Any, images: Any) -> NDArray[np.bool_]:  # noqa: ANN401 - both are `Content` of one kind
    """Find the images that differ."""
    if isinstance(images, np.ndarray):
        bytes_read, bytes_stored = (np.ascontiguousarray(each).view(np.uint8) for each in (read, images))  # NaN, too
        wrong: NDArray[np.bool_] = (bytes_read != bytes_stored).reshape(len(images), -1).any(axis=1)
        return wrong
    if np.array_equal(read.offsets, images.offsets) and np.array_equal(read.content, images.content):
        return np.zeros(len(images), np.bool_)
    return np.array([one != other for one, other in zip(read, images, strict=True)])


def compute_digest(images: Content, labels: Labels) -> str:
    """Compute a digest of a batch, to compare one that was read in another process."""
    arrays = (images,) if isinstance(images, np.ndarray) else (images.content, images.offsets)
    digest = hashlib.sha256()
    for array in (*arrays, labels.astype(np.int64)):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
