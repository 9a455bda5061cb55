"""How a cell is measured: rounds, verification, room on the disk, directories."""

import errno
import fcntl
import shutil
from collections import namedtuple
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cells import Cell, as_set, choose_rounds, compare
from benchmarks.stores import Shelf, estimate_bytes, measure_disk, spread_directories
from storage import BACKENDS

IMAGES = np.random.default_rng(0).integers(0, 256, (1500, 2, 2, 3), np.uint8)
LABELS = np.arange(1500)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 40), (0.001, 40), (0.1, 10), (0.199, 5), (0.5, 5), (100.0, 5)])
def test_as_many_rounds_are_measured_as_fit(seconds: float, rounds: int) -> None:
    assert choose_rounds(seconds, longest=1.0, least=5, most=40) == rounds


def test_the_least_number_of_rounds_wins_over_the_most() -> None:
    assert choose_rounds(1.0, longest=1.0, least=5, most=2) == 5


def test_an_equal_result_passes() -> None:
    compare((IMAGES.copy(), LABELS.copy()), IMAGES, LABELS)
    compare((IMAGES[7], 7), *as_set(IMAGES[7], 7))


@pytest.mark.parametrize("index", [0, 999, 1000, 1499])
def test_one_wrong_pixel_or_label_fails_and_is_named(index: int) -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    images[index, 1, 1, 2] ^= 1
    with pytest.raises(pytest.fail.Exception, match=f"image or label {index} was not read"):
        compare((images, LABELS), IMAGES, LABELS)
    labels[index] += 1
    with pytest.raises(pytest.fail.Exception, match=f"image or label {index} was not read"):
        compare((IMAGES, labels), IMAGES, LABELS)


def test_a_missing_image_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"stored .* with 1500 labels, read"):
        compare((IMAGES[:-1], LABELS[:-1]), IMAGES, LABELS)


class Once:
    """Calls once what pytest-benchmark would measure; puts no row into the table of the session."""

    enabled = False
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
    monkeypatch.setattr("benchmarks.cells.make_durable", synced.append)
    cell = Cell("store_many", "hdf5", once, Shelf(tmp_path))
    cell.measure_store(cell.backend.store_many, IMAGES, LABELS, durability=condition)
    assert len(synced) == (condition == "durable")
    assert once.has_error is False


def test_a_cell_that_fails_is_in_no_run(once: BenchmarkFixture, tmp_path: Path) -> None:
    cell = Cell("read_many", "hdf5", once, Shelf(tmp_path))
    cell.fill_store(IMAGES, LABELS)
    with pytest.raises(pytest.fail.Exception):
        cell.measure_read(
            lambda number: (IMAGES[number], 0), repeat((1,)), IMAGES, lambda result, _: compare(result, IMAGES, LABELS)
        )
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
    monkeypatch.setattr("benchmarks.stores.spread_directories", lambda _: spread)
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
