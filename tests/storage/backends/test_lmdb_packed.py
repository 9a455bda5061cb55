"""What only LMDB with many images a record has: records of many sizes, in any place of the map, and damage to them."""

import struct
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb as library
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import storage
from storage import Images
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same, make_set
from tests.support.records import write

lmdb_packed = take_backend("lmdb_packed")

from storage.backends import _lmdb_records as lmdb_records  # noqa: E402 - not before it is known to be here

IMAGES, LABELS = make_set(50)[0], np.arange(50)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a store of fifty images, eight a record."""
    monkeypatch.setattr(lmdb_packed, "RECORD", 8 * IMAGES[0].nbytes)
    lmdb_packed.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def make_key(number: int) -> bytes:
    """Make the key of a record."""
    return number.to_bytes(8, "big")


def test_lmdb_itself_can_read_the_records(store: Path) -> None:
    with library.open(str(store), readonly=True, lock=False) as environment, environment.begin() as transaction:
        records = dict(transaction.cursor())
    assert list(records) == [*map(make_key, range(7)), b"labels", b"layout"]
    assert records[make_key(1)] == IMAGES[8:16].tobytes()
    assert records[make_key(6)] == IMAGES[48:].tobytes()
    assert records[b"layout"] == struct.pack("<4Q", 50, 32, 32, 8)
    assert records[b"labels"] == bytes(range(50))


@pytest.mark.parametrize(
    ("count", "height", "width", "images_per_record"),
    [
        (600, 32, 32, 256),
        (257, 32, 32, 256),
        (498, 17, 31, 497),
        (1100, 17, 31, 497),
        (3, 512, 513, 1),
        (5, 600, 500, 1),
        (5, 362, 362, 2),
        (2000, 1, 1, 262_144),
    ],
)
def test_records_of_any_number_and_size_come_back(
    tmp_path: Path, count: int, height: int, width: int, images_per_record: int
) -> None:
    images, labels = make_set(count, height, width)
    lmdb_packed.store_many(tmp_path, images, labels)
    assert_same(lmdb_packed.read_many(tmp_path), (images, labels))
    assert_same(lmdb_packed.read_single(tmp_path, count - 1), (images[-1], labels[-1]))
    order = np.random.default_rng(0).permutation(count)
    out = np.empty_like(images)
    with lmdb_packed.open_reader(tmp_path) as reader:
        assert_same(reader[count // 2], (images[count // 2], labels[count // 2]))
        for start in range(0, count, 100):
            part = order[start : start + 100]
            assert_same(reader.read(part), (images[part], labels[part]))
        assert_same(reader.read(order, out), (images[order], labels[order]))
        assert len(reader.read([])[0]) == 0
    with library.open(str(tmp_path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert struct.unpack("<4Q", transaction.get(b"layout", b""))[3] == images_per_record


def test_more_than_is_read_under_one_transaction_comes_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_packed, "PART", 2 * lmdb_packed.RECORD)
    assert_same(lmdb_packed.read_many(store), (IMAGES, LABELS))


def test_large_images_are_read_into_an_array_without_another_of_their_size(tmp_path: Path) -> None:
    images, labels = make_set(8, 600, 500)
    lmdb_packed.store_many(tmp_path, images, labels)
    out = np.empty_like(images)
    with lmdb_packed.open_reader(tmp_path) as reader:
        tracemalloc.start()
        try:
            reader.read(range(8), out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < images[0].nbytes
    np.testing.assert_array_equal(out, images)


def shuffle_records(store: Path) -> None:
    """Delete records and put them again in another order, so that LMDB uses pages again where it finds them."""
    order = [5, 0, 3, 6, 1, 4, 2]
    for number in order:
        write(store, {make_key(number): None, b"free": bytes(5000)})
        write(store, {b"free": None})
    for number in order:
        write(store, {make_key(number): IMAGES[8 * number : 8 * number + 8].tobytes()})


def find_addresses(images: Any) -> list[int]:  # noqa: ANN401 - a view or a list
    """Find where images are in memory."""
    return [image.__array_interface__["data"][0] for image in images]


@pytest.mark.parametrize("first", [0, 20, 49])
def test_records_that_lie_in_any_order_are_read_right(store: Path, first: int) -> None:
    shuffle_records(store)
    assert_same(lmdb_packed.read_many(store), (IMAGES, LABELS))
    with lmdb_packed.open_reader(store) as reader:
        assert_same(reader[first], (IMAGES[first], LABELS[first]))
        for batch in ([first], [first, 17], [30, 2, 30], [41, 49, 0], range(50), [8]):
            assert_same(reader.read(batch), (IMAGES[list(batch)], LABELS[list(batch)]))
        addresses = find_addresses(reader.view())
    assert addresses != sorted(addresses), "the records lie in order: nothing was tested"


def test_every_order_of_batches_finds_every_image(store: Path) -> None:
    shuffle_records(store)
    random = np.random.default_rng(0)
    for _ in range(50):
        with lmdb_packed.open_reader(store) as reader:
            for batch in np.split(random.permutation(50), [1, 2, 5, 20]):
                assert_same(reader.read(batch), (IMAGES[batch], LABELS[batch]))


def test_a_thread_reads_right_while_another_looks_records_up(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffle_records(store)
    found: list[Images] = []

    def stretch(*arguments: Any, **options: Any) -> Images:  # noqa: ANN401 - as NumPy's
        thread = threading.Thread(target=lambda: found.append(reader.read([49, 40])[0]))
        thread.start()
        thread.join()
        return as_strided(*arguments, **options)

    with lmdb_packed.open_reader(store) as reader:
        reader.read([40, 49])
        monkeypatch.setattr(lmdb_records, "as_strided", stretch)
        np.testing.assert_array_equal(reader.read(range(40))[0], IMAGES[:40])
    np.testing.assert_array_equal(found, [IMAGES[[49, 40]]])


def test_threads_that_look_records_up_at_once_read_right(store: Path) -> None:
    shuffle_records(store)
    right: list[bool] = []

    def read(seed: int) -> None:
        batches = np.split(np.random.default_rng(seed).permutation(50), [1, 2, 3, 5, 10])
        start.wait()
        found = [reader.read(batch)[0] for batch in batches]
        right.extend(map(np.array_equal, found, (IMAGES[batch] for batch in batches)))

    for round_ in range(20):
        start = threading.Barrier(4)
        with lmdb_packed.open_reader(store) as reader:
            threads = [threading.Thread(target=read, args=(4 * round_ + number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert right == [True] * 20 * 4 * 6


RECORD = IMAGES[:8].tobytes()
DAMAGES: dict[str, dict[bytes, bytes | None]] = {
    "no layout": {b"layout": None},
    "empty layout": {b"layout": b""},
    "JSON": {b"layout": b"{}"},
    "three numbers": {b"layout": struct.pack("<3Q", 50, 32, 32)},
    "five numbers": {b"layout": struct.pack("<5Q", 50, 32, 32, 8, 0)},
    "one image more": {b"layout": struct.pack("<4Q", 51, 32, 32, 8)},
    "as many as fit the records": {b"layout": struct.pack("<4Q", 56, 32, 32, 8)},
    "one image fewer": {b"layout": struct.pack("<4Q", 49, 32, 32, 8)},
    "too many images": {b"layout": struct.pack("<4Q", 10**12, 32, 32, 8)},
    "no image": {b"layout": struct.pack("<4Q", 0, 32, 32, 8)},
    "too large": {b"layout": struct.pack("<4Q", 50, 10**6, 10**6, 8)},
    "negative": {b"layout": struct.pack("<4q", 50, -32, -32, 8)},
    "no height": {b"layout": struct.pack("<4Q", 50, 0, 32, 8)},
    "none a record": {b"layout": struct.pack("<4Q", 50, 32, 32, 0)},
    "seven a record": {b"layout": struct.pack("<4Q", 50, 32, 32, 7)},
    "nine a record": {b"layout": struct.pack("<4Q", 50, 32, 32, 9)},
    "all in a record": {b"layout": struct.pack("<4Q", 50, 32, 32, 50)},
    "64 bits a record": {b"layout": struct.pack("<4Q", 50, 32, 32, 2**64 - 1)},
    "no labels": {b"labels": b""},
    "labels of 3 bytes": {b"labels": bytes(150)},
    "fewer labels": {b"labels": b"12345678"},
    "first too short": {make_key(0): RECORD[:-1]},
    "first too long": {make_key(0): RECORD + b"1"},
    "first empty": {make_key(0): b""},
    "last too short": {make_key(6): RECORD[: 2 * 3072 - 1]},
    "last too long": {make_key(6): RECORD},
    "last missing": {make_key(6): None},
    "one missing": {make_key(3): None},
    "one under another key": {make_key(3): None, make_key(7): RECORD},
    "one under another name": {make_key(3): None, b"other": RECORD},
    "one too many": {make_key(7): RECORD},
}
READS: dict[str, Callable[[Path], object]] = {
    "read_many": lmdb_packed.read_many,
    "batch": lambda path: lmdb_packed.open_reader(path).read(range(50)),
    "out": lambda path: lmdb_packed.open_reader(path).read(range(50), np.empty_like(IMAGES)),
    "view": lambda path: np.asarray(lmdb_packed.open_reader(path).view()),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("records", DAMAGES.values(), ids=DAMAGES)
def test_damaged_records_are_refused(
    store: Path, records: dict[bytes, bytes | None], read: Callable[[Path], object]
) -> None:
    write(store, records)
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        read(store)


@pytest.mark.parametrize("records", [{make_key(3): RECORD[1:]}, {make_key(3): None, b"other": RECORD}])
def test_a_damaged_record_is_refused_when_it_is_read_alone_and_the_others_are_not(
    store: Path, records: dict[bytes, bytes | None]
) -> None:
    write(store, records)
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        lmdb_packed.read_single(store, 30)
    with lmdb_packed.open_reader(store) as reader:
        calls: list[Callable[[], object]] = [lambda: reader[30], lambda: reader.read([30]), lambda: reader.view()[30]]
        for read in calls:
            with pytest.raises(storage.CorruptStoreError, match="record 3"):
                read()
        assert_same(reader.read([0, 49]), (IMAGES[[0, 49]], LABELS[[0, 49]]))


def test_one_record_that_says_it_may_hold_more_images_than_numpy_counts_is_refused(tmp_path: Path) -> None:
    lmdb_packed.store_many(tmp_path, IMAGES, LABELS)
    write(tmp_path, {b"layout": struct.pack("<4Q", 50, 32, 32, 2**63)})
    for read in (lmdb_packed.read_many, lambda path: lmdb_packed.open_reader(path).read([1])):
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
            read(tmp_path)


def test_a_shape_that_fits_no_memory_is_an_error_of_ours(tmp_path: Path) -> None:
    lmdb_packed.store_many(tmp_path, IMAGES[:0], LABELS[:0])
    write(tmp_path, {b"layout": struct.pack("<4Q", 0, 10**12, 10**12, 1)})
    for read in (lmdb_packed.read_many, lambda path: lmdb_packed.open_reader(path).read([])):
        with pytest.raises(storage.StorageError, match="does not fit in memory"):
            read(tmp_path)


def test_what_lmdb_refuses_is_an_error_of_ours(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lmdb_packed.open_reader(store) as reader:
        monkeypatch.setattr(lmdb_records, "pack_key", lambda _: b"")  # a key that LMDB refuses
        calls: list[Callable[[], object]] = [lambda: reader[0], lambda: reader.read([0]), lambda: reader.view()[0]]
        for read in calls:
            with pytest.raises(storage.CorruptStoreError, match="record 0"):
                read()


def test_a_file_that_ends_early_is_refused_before_it_is_mapped(store: Path) -> None:
    path = store / "data.mdb"
    content = path.read_bytes()
    for size in range(0, len(content), 4096):
        path.write_bytes(content[:size])
        for read in READS.values():
            with pytest.raises(storage.CorruptStoreError, match=str(store)):
                read(store)
