"""Question: how fast is the machine? Cells without a backend: they show how far the machine drifted between two runs.

They are part of every run, and take a tenth of a second each, or a few.
"""

import hashlib
import io
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cell import measure_alone
from benchmarks.run_info import hash_definition

SIZE = 30 << 20  # bytes to copy and to write: as many as 10,000 images have
PART = SIZE // 10  # that are hashed, and read: they fit in the cache of most processors
STEPS = 20_000
PHOTO = (500, 375)  # width and height in pixels, as photos of ImageNet often have

pytestmark = [
    pytest.mark.benchmark(max_time=0.1, min_rounds=5, group="reference"),
    pytest.mark.usefixtures("stores"),  # the run says on which file system they are, also if it is interrupted early
]

Measure = Callable[[Callable[[], object], Callable[[], bool]], None]


@pytest.fixture
def reference(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Measure:
    """Measure a function without a backend."""
    benchmark.extra_info.update(reference=True, definition=hash_definition(request.node))
    return partial(measure_alone, benchmark)


@pytest.fixture
def parallel_reference(benchmark: BenchmarkFixture, reference: Measure) -> Measure:
    """Measure a function that needs all processors at once."""
    benchmark.extra_info["is_parallel"] = True
    return reference


@pytest.fixture(scope="session")
def content() -> NDArray[np.uint8]:
    """Make bytes that don't compress."""
    return np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)


@pytest.fixture
def file(stores: Path) -> Iterator[Path]:
    """Name a file that doesn't exist, on the disk that holds the stores."""
    path = Path(tempfile.mkdtemp(prefix="reference-", dir=stores)) / "raw"
    yield path
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def test_copy(reference: Measure, content: NDArray[np.uint8]) -> None:
    """Copy 30 MB in memory."""
    copy = np.empty_like(content)
    reference(lambda: np.copyto(copy, content), lambda: np.array_equal(copy, content))


def test_write(reference: Measure, content: NDArray[np.uint8], file: Path) -> None:
    """Write a file of 30 MB."""

    def write() -> None:
        file.unlink(missing_ok=True)
        file.write_bytes(content.data)

    reference(write, lambda: np.array_equal(np.fromfile(file, np.uint8), content))


def test_read(reference: Measure, content: NDArray[np.uint8], file: Path) -> None:
    """Read a file of 3 MB that is in the page cache."""
    part = content[:PART]
    file.write_bytes(part.data)
    copy = np.empty_like(part)

    def read() -> None:
        with file.open("rb", buffering=0) as opened:
            opened.readinto(copy.data)

    reference(read, lambda: np.array_equal(copy, part))


def test_hash(reference: Measure, content: NDArray[np.uint8]) -> None:
    """Hash 3 MB."""
    part = content[:PART].data
    digests: list[str] = []
    expected = {hashlib.sha256(part).hexdigest()}
    reference(lambda: digests.append(hashlib.sha256(part).hexdigest()), lambda: set(digests) == expected)


def test_hash_everywhere(parallel_reference: Measure, content: NDArray[np.uint8]) -> None:
    """Hash 30 MB on each processor at once: whether another program has one."""
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    digests: set[str] = set()
    with ThreadPoolExecutor(len(processors), initializer=occupy, initargs=(deque(processors),)) as threads:

        def hash_everywhere() -> None:
            digests.update(threads.map(hash_content, [content] * len(processors)))

        parallel_reference(hash_everywhere, lambda: digests == {hash_content(content)})


def occupy(processors: deque[int]) -> None:
    """Have this thread stay on a processor that no other thread has."""
    processor = processors.pop()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {processor})


def hash_content(content: NDArray[np.uint8]) -> str:
    """Hash bytes, without Python's lock."""
    return hashlib.sha256(content.data).hexdigest()


def test_decode(reference: Measure) -> None:
    """Decode a JPEG file of 0.2 megapixels, with Pillow."""
    photo = make_photo()
    expected = decode_photo(photo)
    decoded: list[NDArray[np.uint8]] = []

    def decode() -> None:
        decoded[:] = [decode_photo(photo)]

    reference(decode, lambda: np.array_equal(decoded[0], expected))


def make_photo() -> bytes:
    """Make a JPEG file: large smooth shapes, and noise."""
    random, file = np.random.default_rng(0), io.BytesIO()
    shapes = PIL.Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    noise = random.normal(0, 12, (PHOTO[1], PHOTO[0], 1))
    pixels = np.asarray(shapes.resize(PHOTO, PIL.Image.Resampling.BICUBIC)) + noise
    PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def decode_photo(photo: bytes) -> NDArray[np.uint8]:
    """Decode an image file."""
    return np.asarray(PIL.Image.open(io.BytesIO(photo)))


def test_interpret(reference: Measure) -> None:
    """Run a loop of Python."""
    sums: list[int] = []
    reference(lambda: sums.append(add_numbers()), lambda: set(sums) == {STEPS * (STEPS - 1) // 2})


def add_numbers() -> int:
    """Add numbers one by one, through a dictionary."""
    numbers: dict[int, int] = {}
    total = 0
    for step in range(STEPS):
        numbers[step] = step
        total += numbers[step]
    return total
