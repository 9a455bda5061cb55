"""How a cell is measured: rounds, verification, an empty page cache, free space, directories."""

import errno
import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cell import Cell, Durability, as_set, choose_min_rounds, compare, compute_digest, select, warm_up
from benchmarks.directories import StoreDirectories, estimate_bytes, measure_disk, spread_directories
from benchmarks.options import PIXELS, choose_backends
from benchmarks.page_cache import measure_residency
from storage import BACKENDS, Encoded, Images, Labels
from tests.support.backends import EXAMPLE
from tests.support.disk import need_disk
from tests.support.encoded_sets import make_files

IMAGES = np.random.default_rng(0).integers(0, 256, (1500, 2, 2, 3), np.uint8)
LABELS = np.arange(1500)
FAILED = pytest.fail.Exception


@pytest.fixture
def once() -> BenchmarkFixture:
    """Make a benchmark fixture that calls the function once and adds no row to the table of the session."""

    def pedantic(target: Callable[..., object], setup: Callable[[], Any], rounds: int) -> object:
        assert rounds == 1
        arguments, options = setup()
        return target(*arguments, **options)

    facts = {"enabled": False, "has_error": False, "params": {}, "stats": None, "_min_rounds": 1, "_max_time": 0.0}
    return cast("BenchmarkFixture", SimpleNamespace(**facts, extra_info={}, pedantic=pedantic))


@pytest.fixture
def cell(once: BenchmarkFixture, tmp_path: Path) -> Cell:
    """Make a cell of the example backend with its stores in `tmp_path`."""
    return Cell("read_many", EXAMPLE, once, StoreDirectories(tmp_path))


def test_full_disk_skips_the_cell_with_the_reason(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(pytest.skip.Exception, match=r"stores may take .* has 1 left: .*--basetemp"):
        cell.measure_store(cell.backend.store_many, IMAGES, LABELS, durability="buffered")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("asked", ["buffered", "durable"])
def test_only_a_durable_store_is_synced(
    cell: Cell, once: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, asked: Durability
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("benchmarks.cell.make_durable", synced.append)
    cell.measure_store(cell.backend.store_many, IMAGES, LABELS, durability=asked)
    assert len(synced) == (asked == "durable")
    assert once.has_error is False


def test_store_is_read_back_with_the_given_function(cell: Cell) -> None:
    def store(store: Path, images: Images, _: Labels) -> None:
        (store / "mine").write_text(str(len(images)))

    def read_back(store: Path) -> tuple[Images, Labels]:
        assert (store / "mine").read_text() == "1500"
        return IMAGES, LABELS + 1

    with pytest.raises(FAILED, match="label 0 was not read as it was stored"):
        cell.measure_store(store, IMAGES, LABELS, durability="buffered", read_back=read_back)


def test_cell_with_a_wrong_result_is_left_out_of_the_run(cell: Cell, once: BenchmarkFixture) -> None:
    cell.fill_store(IMAGES, LABELS, cache="warm")
    with pytest.raises(FAILED):
        cell.measure_read(lambda: (IMAGES[1], 0), repeat(()), IMAGES, lambda read: compare(read, IMAGES, LABELS))
    assert once.has_error is True


@pytest.mark.parametrize("calls", [1, 2])
def test_peak_memory_is_that_of_the_last_warm_up_call(
    cell: Cell, once: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    peaks = iter([30, 20, 10])

    @contextmanager
    def note_next(facts: dict[str, object]) -> Iterator[None]:
        yield
        facts["peak_bytes"] = next(peaks)

    monkeypatch.setattr("benchmarks.cell.note_peak", note_next)
    monkeypatch.setattr("benchmarks.cell.warm_up", lambda call, *_: len([call() for _ in range(calls)]) // calls)
    monkeypatch.setattr(once, "enabled", True)
    cell.fill_store(IMAGES, LABELS, cache="warm")
    cell.measure_read(lambda: None, repeat(()), IMAGES, lambda _: None)
    assert once.extra_info["peak_bytes"] == [30, 20][calls - 1]


def test_a_pause_comes_before_each_round_is_prepared(once: BenchmarkFixture, tmp_path: Path) -> None:
    events: list[str] = []

    def prepare() -> Iterator[tuple[()]]:
        events.append("prepare")
        yield ()

    cell = Cell("read_many", EXAMPLE, once, StoreDirectories(tmp_path), pause=lambda: events.append("pause"))
    cell.fill_store(IMAGES, LABELS, cache="warm")
    cell.measure_read(lambda: events.append("read"), prepare(), IMAGES, lambda _: None)
    assert events == ["pause", "prepare", "read"]


def test_cold_cell_evicts_its_store_before_it_reads(cell: Cell, once: BenchmarkFixture, tmp_path: Path) -> None:
    need_disk(tmp_path)
    store = cell.fill_store(IMAGES, LABELS, cache="cold")
    fractions: list[float] = []
    cell.measure_read(
        lambda: fractions.append(measure_residency(store)), repeat(()), IMAGES, lambda _: fractions.append(2.0)
    )
    assert fractions[0] < 0.01
    assert fractions[1:] == [2.0], "the result is checked after the clock has stopped"
    assert once.extra_info["cache"] == "cold"
    assert once.extra_info["resident_share"] == fractions[0]


@pytest.mark.parametrize(
    ("calls", "max_rounds", "rounds"),
    [
        ([0.0], 40, 40),
        ([0.01], 40, 40),
        ([0.1, 0.1], 40, 10),
        ([0.199, 0.199], 40, 5),
        ([0.4, 0.04], 40, 25),
        ([0.04, 0.4], 40, 25),
        ([1.1], 40, 3),
        ([1.0, 1.0], 40, 5),
        ([0.1], 2, 5),
    ],
)
def test_faster_of_two_warm_up_calls_decides_how_many_rounds_fit_unless_one_is_enough(
    calls: list[float], max_rounds: int, rounds: int
) -> None:
    left = iter(calls)
    assert warm_up(lambda: next(left), max_seconds=1.0, min_rounds=5, max_rounds=max_rounds) == rounds
    assert not list(left)


def test_few_rounds_are_enough_for_many_images() -> None:
    assert [choose_min_rounds(5, images) for images in (10, 99_999, 100_000)] == [5, 5, 3]
    assert choose_min_rounds(1, 100_000) == 1


@pytest.mark.parametrize("index", [0, 999, 1000, 1499])
def test_one_wrong_pixel_or_label_fails_and_is_named(index: int) -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    compare((images, labels), IMAGES, LABELS)
    compare((images[index], index), *as_set(IMAGES[index], index))
    images[index, 1, 1, 2] ^= 1
    labels[index] += 1
    for result in ((images, LABELS), (IMAGES, labels)):
        with pytest.raises(FAILED, match=f"image or label {index} was not read"):
            compare(result, IMAGES, LABELS)
    with pytest.raises(FAILED, match=r"stored .* with 1500 labels, read"):
        compare((IMAGES[:-1], LABELS[:-1]), IMAGES, LABELS)


def test_one_wrong_byte_or_label_of_image_files_fails_and_is_named() -> None:
    files, labels = make_files(1500)
    compare((files, labels), files, labels)
    compare((bytes(files[7]), int(labels[7])), files[7:8], labels[7:8])
    longer = Encoded.join([*files[:1100], b"longer", *files[1101:]])
    changed = Encoded(files.content.copy(), files.offsets)
    changed.content[files.offsets[1300]] ^= 1
    other_labels = labels.copy()
    other_labels[1400] += 1
    for result, index in (((longer, labels), 1100), ((changed, labels), 1300), ((files, other_labels), 1400)):
        with pytest.raises(FAILED, match=f"image or label {index} was not read as it was stored"):
            compare(result, files, labels)
    with pytest.raises(FAILED, match="stored 1500 files with 1500 labels, read 1499 files, 1500"):
        compare((files[:-1], labels), files, labels)
    with pytest.raises(FAILED, match=r"stored 1500 files .*, read \(1500, 2, 2, 3\) uint8"):
        compare((IMAGES, labels), files, labels)


def test_digest_of_image_files_depends_on_bytes_and_where_each_begins() -> None:
    labels = np.arange(2)
    digests = {compute_digest(Encoded.join(files), labels) for files in ([b"ab", b"c"], [b"a", b"bc"], [b"ab", b"d"])}
    assert len(digests) == 3
    assert compute_digest(select(Encoded.join([b"c", b"ab"]), np.array([1, 0])), labels) in digests


def test_digest_depends_on_pixels_labels_and_shape_but_not_on_memory_layout() -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    images[7, 0, 0, 0] ^= 1
    labels[7] += 1
    others = [(images, LABELS), (IMAGES, labels), (IMAGES[:-1], LABELS[:-1]), (IMAGES.reshape(1500, 4, 1, 3), LABELS)]
    assert len({compute_digest(*batch) for batch in [(IMAGES, LABELS), *others]}) == 5
    assert compute_digest(np.asfortranarray(IMAGES), LABELS[::-1][::-1]) == compute_digest(IMAGES, LABELS)


def test_size_on_disk_counts_bytes_blocks_and_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "small").write_bytes(b"1")
    (tmp_path / "large").write_bytes(bytes(10_000))
    blocks = sum(path.stat().st_blocks for path in tmp_path.rglob("*") if path.is_file())
    assert measure_disk(tmp_path) == {"apparent_bytes": 10_001, "allocated_bytes": 512 * blocks, "files": 2}


def check_estimate(name: str, folder: Path, images: Any) -> None:  # noqa: ANN401 - a set of either kind
    for count in (1, 10, len(images)):
        store = folder / str(count)
        store.mkdir()
        BACKENDS[name].store_many(store, images[:count], np.arange(count))
        size, most = measure_disk(store)["allocated_bytes"], estimate_bytes(images[:count])
        assert size <= most, f"{count} images take {size:,} bytes in {name}, more than {most:,}"


@pytest.mark.parametrize("name", choose_backends(BACKENDS, ("encoded",)))
def test_no_store_of_image_files_is_larger_than_estimated(name: str, tmp_path: Path) -> None:
    lengths = (200_000, 4_096, 90_000, 5_000) * 40
    check_estimate(name, tmp_path, Encoded.join(np.random.default_rng(0).bytes(length) for length in lengths))


@pytest.mark.parametrize("name", choose_backends(BACKENDS, PIXELS))
def test_no_store_is_larger_than_estimated(name: str, tmp_path: Path) -> None:
    check_estimate(name, tmp_path, np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(("spread", "files", "left"), [(True, 200, False), (False, 200, True), (False, 100, False)])
def test_store_of_many_files_is_deleted_at_once_only_if_directories_can_be_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, spread: bool, files: int, left: bool
) -> None:
    monkeypatch.setattr("benchmarks.directories.spread_directories", lambda _: spread)
    directories = StoreDirectories(tmp_path)
    store = directories.make_store()
    for number in range(files):
        (store / str(number)).touch()
    directories.discard(store)
    assert store.exists() is left


def test_spreading_directories_returns_false_if_the_file_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    assert spread_directories(tmp_path) is False
