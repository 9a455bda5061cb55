"""How a cell is measured: verification, an empty page cache, room on the disk, directories."""

import errno
import fcntl
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cell import Cell
from benchmarks.comparison import compare
from benchmarks.directories import Shelf, estimate_bytes, measure_disk, spread_directories
from benchmarks.page_cache import measure_residency
from storage import BACKENDS
from tests.support.backends import need_backend

pytestmark = need_backend("hdf5")

IMAGES = np.random.default_rng(0).integers(0, 256, (1500, 2, 2, 3), np.uint8)
LABELS = np.arange(1500)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory is what is wanted


class Once:
    """Calls once what pytest-benchmark would measure; puts no row into the table of the session."""

    enabled = False
    params: Mapping[str, object] = {}
    stats = None
    _min_rounds = 1
    _max_time = 0.0

    def __init__(self) -> None:
        self.has_error = False
        self.group = ""
        self.extra_info: dict[str, object] = {}

    def pedantic(self, target: Callable[..., object], setup: Callable[[], Any], rounds: int) -> object:
        """Call `target` with what `setup` returns."""
        assert rounds == 1
        arguments, options = setup()
        return target(*arguments, **options)


@pytest.fixture
def once() -> BenchmarkFixture:
    """Stand in for the benchmark fixture."""
    return cast("BenchmarkFixture", Once())


def test_a_disk_without_room_skips_the_cell_with_the_reason(
    once: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell("store_many", "hdf5", once, Shelf(tmp_path))
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil's
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(pytest.skip.Exception, match=r"stores may take .* has 1 left: .*--basetemp"):
        cell.measure_store(BACKENDS["hdf5"].store_many, IMAGES, LABELS, durability="buffered")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("condition", ["buffered", "durable"])
def test_a_store_is_synced_only_where_it_should_be_durable(
    once: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("benchmarks.cell.make_durable", synced.append)
    cell = Cell("store_many", "hdf5", once, Shelf(tmp_path))
    cell.measure_store(cell.backend.store_many, IMAGES, LABELS, durability=condition)
    assert len(synced) == (condition == "durable")
    assert once.has_error is False


def test_a_cell_that_fails_is_in_no_run(once: BenchmarkFixture, tmp_path: Path) -> None:
    cell = Cell("read_many", "hdf5", once, Shelf(tmp_path))
    cell.fill_store(IMAGES, LABELS, cache="warm")
    with pytest.raises(pytest.fail.Exception):
        cell.measure_read(
            lambda number: (IMAGES[number], 0), repeat((1,)), IMAGES, lambda result, _: compare(result, IMAGES, LABELS)
        )
    assert once.has_error is True


@pytest.mark.parametrize("calls", [1, 2])
def test_the_peak_of_the_last_call_that_warms_up_is_noted(
    once: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    peaks = iter([30, 20, 10])

    @contextmanager
    def note_next(facts: dict[str, object]) -> Iterator[None]:
        yield
        facts["peak_bytes"] = next(peaks)

    monkeypatch.setattr("benchmarks.cell.note_peak", note_next)
    monkeypatch.setattr("benchmarks.cell.warm_up", lambda call, *_: len([call() for _ in range(calls)]) // calls)
    monkeypatch.setattr(once, "enabled", True)
    cell = Cell("read_many", "hdf5", once, Shelf(tmp_path))
    cell.fill_store(IMAGES, LABELS, cache="warm")
    cell.measure_read(lambda: None, repeat(()), IMAGES, lambda _: None)
    assert once.extra_info["peak_bytes"] == [30, 20][calls - 1]


def test_a_cold_cell_evicts_its_store_before_it_reads(once: BenchmarkFixture, tmp_path: Path) -> None:
    cell = Cell("read_many", "hdf5", once, Shelf(tmp_path))
    store = cell.fill_store(IMAGES, LABELS, cache="cold")
    shares: list[float] = []
    cell.measure_read(lambda: shares.append(measure_residency(store)), repeat(()), IMAGES, lambda _: shares.append(2.0))
    assert shares[0] < 0.01
    assert shares[1:] == [2.0], "checked when the clock has stopped"
    assert once.extra_info["cache"] == "cold"
    assert once.extra_info["resident_share"] == shares[0]


def test_a_cold_cell_fails_where_files_stay_in_memory(once: BenchmarkFixture) -> None:
    if not SHARED_MEMORY.is_dir():
        pytest.skip(f"no {SHARED_MEMORY} here: a file system in memory")
    with TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        cell = Cell("read_many", "hdf5", once, Shelf(Path(folder)))
        cell.fill_store(IMAGES, LABELS, cache="cold")
        with pytest.raises(pytest.fail.Exception, match=rf"^not cold: \d+\.\d% of {folder}.*--basetemp"):
            cell.measure_read(cell.backend.read_many, repeat(()), IMAGES, lambda *_: None)
    assert once.has_error is True


def test_the_size_on_disk_counts_blocks_and_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "small").write_bytes(b"1")
    (tmp_path / "large").write_bytes(bytes(10_000))
    size = measure_disk(tmp_path)
    assert size["apparent_bytes"] == 10_001
    assert size["files"] == 2
    assert size["allocated_bytes"] == sum(path.stat().st_blocks for path in tmp_path.rglob("*") if path.is_file()) * 512


@pytest.mark.parametrize("name", list(BACKENDS))
def test_no_store_is_larger_than_estimated(name: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3), np.uint8)
    BACKENDS[name].store_many(tmp_path, images, np.arange(500))
    assert measure_disk(tmp_path)["allocated_bytes"] <= estimate_bytes(images)


@pytest.mark.parametrize(("spread", "files", "left"), [(True, 200, False), (False, 200, True), (False, 100, False)])
def test_a_store_of_many_files_is_deleted_at_once_only_where_directories_can_be_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, spread: bool, files: int, left: bool
) -> None:
    monkeypatch.setattr("benchmarks.directories.spread_directories", lambda _: spread)
    shelf = Shelf(tmp_path)
    store = shelf.make_store()
    for number in range(files):
        (store / str(number)).touch()
    shelf.discard(store)
    assert store.exists() is left


def test_spreading_directories_is_left_out_where_the_file_system_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    spread_directories(tmp_path)
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    assert spread_directories(tmp_path) is False
