"""What only the LMDB backend has: a map that grows, one environment a process, records of another layout."""

import struct
import threading
from pathlib import Path

import lmdb as library
import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.records import write

lmdb = take_backend("lmdb")

from storage.backends import _lmdb as lmdb_environment  # noqa: E402 - not before it is known to be here

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), np.uint8)
LABELS = np.arange(50)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store of fifty images."""
    lmdb.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_lmdb_itself_can_read_the_records(store: Path) -> None:
    with library.open(str(store), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert transaction.get((7).to_bytes(8, "big")) == IMAGES[7].tobytes()
        assert transaction.get(b"layout", b"") == struct.pack("<3Q", 50, 32, 32)
        assert transaction.get(b"labels", b"") == bytes(range(50))


@pytest.mark.parametrize("shape", [(4100, 1, 1, 3), (3000, 26, 26, 3), (1500, 36, 36, 3), (3, 500, 500, 3)])
def test_the_computed_map_holds_the_records_without_growing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.zeros(shape, np.uint8)
    lmdb.store_many(tmp_path, images, np.zeros(len(images), np.int64))
    assert (tmp_path / "data.mdb").stat().st_size <= lmdb_environment.compute_map_size(images)


def test_only_the_data_file_is_in_the_store(store: Path) -> None:
    lmdb.open_reader(store).close()
    assert [path.name for path in store.iterdir()] == ["data.mdb"]


def test_threads_open_the_store_at_once(store: Path) -> None:
    start, wrong = threading.Barrier(4), []

    def read() -> None:
        start.wait()
        for index in range(50):
            image, label = lmdb.read_single(store, index)
            if label != index or not np.array_equal(image, IMAGES[index]):
                wrong.append(index)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_shape_that_fits_no_memory_is_an_error_of_ours(tmp_path: Path) -> None:
    lmdb.store_many(tmp_path, IMAGES[:0], LABELS[:0])
    write(tmp_path, {b"layout": struct.pack("<3Q", 0, 10**12, 10**12)})
    with pytest.raises(storage.StorageError, match="does not fit in memory"):
        lmdb.read_many(tmp_path)


FIRST, LAST = (0).to_bytes(8, "big"), (49).to_bytes(8, "big")


@pytest.mark.parametrize(
    "records",
    [
        {b"layout": None},
        {b"layout": b""},
        {b"layout": b"{}"},
        {b"layout": struct.pack("<4Q", 50, 32, 32, 1)},
        {b"layout": struct.pack("<3Q", 51, 32, 32)},
        {b"layout": struct.pack("<3Q", 10**12, 32, 32)},
        {b"layout": struct.pack("<3Q", 50, 10**6, 10**6)},
        {b"layout": struct.pack("<3q", 50, -32, -32)},
        {b"layout": struct.pack("<3Q", 50, 0, 32)},
        {b"labels": b""},
        {b"labels": bytes(150)},
        {b"labels": b"12345678"},
        {FIRST: b"too short"},
        {LAST: b"too short"},
        {LAST: None},
        {LAST: None, b"other": b"record"},
    ],
)
def test_records_of_another_layout_are_refused(store: Path, records: dict[bytes, bytes | None]) -> None:
    write(store, records)
    for read in (lmdb.read_many, lambda path: lmdb.open_reader(path).read(range(50))):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


@pytest.mark.parametrize("records", [{(7).to_bytes(8, "big"): b"short"}, {(7).to_bytes(8, "big"): None, b"other": b""}])
def test_a_damaged_record_is_refused_when_it_is_read_alone(store: Path, records: dict[bytes, bytes | None]) -> None:
    write(store, records)
    with lmdb.open_reader(store) as reader, pytest.raises(storage.CorruptStoreError, match=str(store)):
        reader[7]


@pytest.mark.parametrize("missing", [0, 7, 20, 40])
def test_an_image_under_another_key_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    monkeypatch.setattr(lmdb, "PART", 20 * IMAGES[0].nbytes)
    write(store, {missing.to_bytes(8, "big"): None, (50).to_bytes(8, "big"): IMAGES[missing].tobytes()})
    for read in (lmdb.read_many, lambda path: lmdb.open_reader(path).read(range(50))):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


@pytest.mark.parametrize("part", [1, 7, 49, 50, 51])
def test_parts_of_any_length_come_back(store: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(lmdb, "PART", part * IMAGES[0].nbytes)
    images, labels = lmdb.read_many(store)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_a_file_that_ends_early_is_refused_before_it_is_mapped(store: Path) -> None:
    path = store / "data.mdb"
    content = path.read_bytes()
    for size in range(0, len(content), 4096):
        path.write_bytes(content[:size])
        with pytest.raises(storage.CorruptStoreError, match=str(store)) as first:
            lmdb.read_many(store)
        with pytest.raises(storage.CorruptStoreError) as second:
            lmdb.read_many(store)
        assert str(first.value) == str(second.value), "the first attempt left the file open"
