"""LMDB: the records of a store, a map that grows, and environments that readers share; for packed records, too."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import Backend, Images
from storage.arrays import make_result
from tests.support.backends import take_backend, take_family
from tests.support.encoded_sets import assert_same_files, make_files
from tests.support.foreign import Case, Change, both, cut, make_folder, store_files, write
from tests.support.image_sets import assert_same, check_reads, make_set
from tests.support.open_files import count_maps, count_open

lmdb = take_backend("lmdb")

import lmdb as library  # noqa: E402 - it is here if the backend is

from storage.backends import _lmdb  # noqa: E402 - likewise

MEMBERS = take_family("lmdb", "lmdb_packed")
FAMILY = pytest.mark.parametrize("family", MEMBERS.values(), ids=MEMBERS)
IMAGES, LABELS = make_set(10)
FILES, FILE_LABELS = make_files(10)
SIZE = FILES.content.nbytes


def make_key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def change_records(store: Path, records: dict[bytes, bytes | None]) -> None:
    """Change records of a store; None deletes one."""
    with (
        library.open(str(store), map_size=1 << 26, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in records.items():
            if value is None:
                transaction.delete(key)
            else:
                transaction.put(key, value)


def put(records: dict[bytes, bytes | None]) -> Change:
    return lambda store: change_records(store, records)


def read_records(store: Path) -> dict[bytes, bytes]:
    with library.open(str(store), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def put_files(layout: tuple[int, int, int], records: dict[bytes, bytes | None] | None = None) -> Change:
    return both(store_files(lmdb), put({b"layout": struct.pack("<3Q", *layout), **(records or {})}))


LAYOUTS = {
    "one image more": (11, 32, 32),
    "larger images": (10, 10**6, 10**6),
    "no height": (10, 0, 32),
    "numbers of 64 bits": (2**64 - 10, 32, 32),
}
FOREIGN = {
    "no layout": Case(put({b"layout": None}), "complete"),
    "JSON as the layout": Case(put({b"layout": b"{}"}), "complete"),
    "a layout of packed records": Case(put({b"layout": struct.pack("<4Q", 10, 32, 32, 1)}), "another backend"),
    **{name: Case(put({b"layout": struct.pack("<3Q", *layout)})) for name, layout in LAYOUTS.items()},
    "no image, of a shape beyond memory": Case(
        put(
            {b"layout": struct.pack("<3Q", 0, 10**12, 10**12), b"labels": b""}
            | {make_key(number): None for number in range(10)}
        ),
        error=storage.StorageError,
    ),
    "one file more": Case(put_files((11, SIZE, 0))),
    "files of more bytes than the store": Case(put_files((10, 10 * SIZE, 0)), "and there are"),
    "files beyond memory": Case(put_files((10, 2**40, 0)), "bytes of memory", storage.StorageError),
    "files of 63 bits": Case(put_files((0, 2**63, 0)), error=storage.StorageError),
    "files without labels": Case(put_files((10, SIZE, 0), {b"labels": b""}), "labels"),
    "no labels": Case(put({b"labels": b""}), "labels"),
    "labels of 3 bytes": Case(put({b"labels": bytes(30)}), "labels"),
    "fewer labels": Case(put({b"labels": b"12345678"}), "labels"),
    "the first record too short": Case(put({make_key(0): b"too short"})),
    "the last record missing": Case(put({make_key(9): None})),
    "the last record under another key": Case(put({make_key(9): None, b"other": b"record"})),
    "a record under a later key": Case(put({make_key(7): None, make_key(10): IMAGES[7].tobytes()}), "missing"),
    "a file of another program": Case(write("data.mdb", struct.pack("<4Q", 1, 2, 3, 4) * 1000)),
    "a directory as the file": Case(make_folder("data.mdb")),
    **{f"cut to {size} bytes": Case(cut("data.mdb", size)) for size in (0, 4096, 8192, 12_288, -4096, -1)},
}


def test_lmdb_itself_reads_the_records(tmp_path: Path) -> None:
    lmdb.store_many(tmp_path, IMAGES, np.arange(10))
    assert read_records(tmp_path) == {
        **{make_key(number): image.tobytes() for number, image in enumerate(IMAGES)},
        b"labels": bytes(range(10)),
        b"layout": struct.pack("<3Q", 10, 32, 32),
    }


def test_lmdb_itself_reads_the_files(tmp_path: Path) -> None:
    lmdb.store_many(tmp_path, FILES, np.arange(10))
    assert read_records(tmp_path) == {
        **{make_key(number): bytes(file) for number, file in enumerate(FILES)},
        b"labels": bytes(range(10)),
        b"layout": struct.pack("<3Q", 10, SIZE, 0),
    }


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ({make_key(4): None, make_key(10): b"later"}, "record 4: it is missing"),
        ({make_key(4): bytes(SIZE + 1)}, "record 4: it is missing or damaged"),
    ],
)
def test_a_file_that_is_missing_or_too_long_is_named(
    tmp_path: Path, records: dict[bytes, bytes | None], words: str
) -> None:
    lmdb.store_many(tmp_path, FILES, FILE_LABELS)
    change_records(tmp_path, records)
    with lmdb.open_reader(tmp_path) as reader:
        reads: list[Callable[[], object]] = [
            lambda: lmdb.read_many(tmp_path),
            lambda: lmdb.read_single(tmp_path, 4),
            lambda: reader.read_encoded([2, 4]),
        ]
        for read in reads:
            with pytest.raises(storage.CorruptStoreError, match=words):
                read()


def test_files_of_fewer_bytes_than_described_are_refused(tmp_path: Path) -> None:
    lmdb.store_many(tmp_path, FILES, FILE_LABELS)
    change_records(tmp_path, {make_key(6): b"shorter"})
    with pytest.raises(storage.CorruptStoreError, match=f"its files have {SIZE - 69_993} bytes, not {SIZE}"):
        lmdb.read_many(tmp_path)


@FAMILY
@pytest.mark.parametrize("part", [1, 3000, 80_000])
def test_files_are_read_in_as_many_transactions_as_needed(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(family, "PART", part)
    monkeypatch.setattr(family, "RECORD", 1000, raising=False)  # lmdb_packed's
    family.store_many(tmp_path, FILES, FILE_LABELS)
    assert_same_files(family.read_many(tmp_path), (FILES, FILE_LABELS))


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    lmdb.store_many(tmp_path, IMAGES, LABELS)
    change_records(tmp_path, {make_key(7): b"short"})
    with lmdb.open_reader(tmp_path) as reader, pytest.raises(storage.CorruptStoreError) as caught:
        reader[7]
    assert (caught.value.store, caught.value.record) == (tmp_path, 7)


@pytest.mark.parametrize("missing", [3, 4, 8])
def test_each_transaction_of_a_read_notices_a_missing_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    monkeypatch.setattr(lmdb, "PART", 4 * IMAGES[0].nbytes)
    lmdb.store_many(tmp_path, IMAGES, LABELS)
    change_records(tmp_path, {make_key(missing): None, make_key(10): IMAGES[missing].tobytes()})
    with pytest.raises(storage.CorruptStoreError, match="missing"):
        lmdb.read_many(tmp_path)


@pytest.mark.parametrize("part", [1, 3, 9, 10, 11])
def test_read_many_uses_as_many_transactions_as_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(lmdb, "PART", part * IMAGES[0].nbytes)
    lmdb.store_many(tmp_path, IMAGES, LABELS)
    assert_same(lmdb.read_many(tmp_path), (IMAGES, LABELS))


@pytest.mark.parametrize("shape", [(4100, 1, 1, 3), (3000, 26, 26, 3), (1500, 36, 36, 3), (3, 500, 500, 3)])
def test_the_computed_map_holds_the_records_without_growing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.zeros(shape, np.uint8)
    lmdb.store_many(tmp_path, images, np.zeros(len(images), np.int64))
    assert (tmp_path / "data.mdb").stat().st_size <= _lmdb.compute_map_size(np.full(len(images), images[0].nbytes))


@FAMILY
def test_a_map_that_is_too_small_grows(family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lmdb, "compute_map_size", lambda _: 65_536)
    family.store_many(tmp_path, *make_set(100))
    assert_same(family.read_many(tmp_path), make_set(100))


@FAMILY
@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ([0], "<i1"),
        ([-128, 127], "<i1"),
        ([128, 0], "<i2"),
        ([-129], "<i2"),
        ([2**15], "<i4"),
        ([-(2**31), 2**31 - 1], "<i4"),
        ([-(2**31) - 1, 5], "<i8"),
        ([-(2**63), 2**63 - 1], "<i8"),
    ],
)
def test_labels_take_the_smallest_integers_that_hold_them(
    family: Backend, tmp_path: Path, row: list[int], kind: str
) -> None:
    labels = np.array(row, np.int64)
    images, _ = make_set(len(row), 4, 4)
    family.store_many(tmp_path, images, labels)
    assert read_records(tmp_path)[b"labels"] == labels.astype(kind).tobytes()
    check_reads(family, tmp_path, (images, labels))


@FAMILY
@pytest.mark.parametrize("size", [1, 3072, 10_000, 10**9])
def test_a_store_may_be_written_in_any_number_of_transactions(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(_lmdb, "TRANSACTION", size)
    monkeypatch.setattr(family, "RECORD", 2 * 3072, raising=False)  # lmdb_packed's
    family.store_many(tmp_path, *make_set(11))
    assert_same(family.read_many(tmp_path), make_set(11))


@FAMILY
def test_a_key_that_lmdb_refuses_to_write_is_a_storage_error(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lmdb, "pack_key", lambda _: b"")
    with pytest.raises(storage.StorageError, match="BAD_VALSIZE") as caught:
        family.store_many(tmp_path, *make_set(3))
    assert not isinstance(caught.value, storage.CorruptStoreError)


@FAMILY
def test_a_store_of_the_other_layout_is_refused(family: Backend, tmp_path: Path) -> None:
    for name, other in MEMBERS.items():
        for count in (0, 1, 10) if other is not family else ():
            store = tmp_path / f"{name}-{count}"
            other.store_many(store, *make_set(count))
            for read in (family.read_many, family.open_reader):
                with pytest.raises(storage.CorruptStoreError, match="another backend"):
                    read(store)


@FAMILY
def test_readers_share_an_environment_and_the_last_one_closes_it(family: Backend, tmp_path: Path) -> None:
    family.store_many(tmp_path, *make_set(3))
    one, two = family.open_reader(tmp_path), family.open_reader(tmp_path)
    assert (count_open(tmp_path), count_maps(tmp_path)) == (1, 1)
    one.close()
    family.read_many(tmp_path)
    two.close()
    assert (count_open(tmp_path), count_maps(tmp_path)) == (0, 0)


@FAMILY
def test_a_store_that_is_refused_is_closed(family: Backend, tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(struct.pack("<4Q", 1, 2, 3, 4) * 1000)
    for _ in range(2):
        with pytest.raises(storage.CorruptStoreError, match="MDB_INVALID"):
            family.read_many(tmp_path)
    assert (count_open(tmp_path), count_maps(tmp_path)) == (0, 0)


@FAMILY
def test_a_store_that_is_replaced_while_it_is_read_is_refused(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = make_set(3)
    for name, pixels in (("one", images), ("two", images[::-1])):
        family.store_many(tmp_path / name, pixels, labels)

    def replace(store: Path, shape: tuple[int, ...], out: object, dtype: np.dtype[Any]) -> Images:
        (tmp_path / "two" / "data.mdb").replace(tmp_path / "one" / "data.mdb")
        return make_result(store, shape, out, dtype)

    monkeypatch.setattr(family, "make_all", replace)
    with pytest.raises(storage.CorruptStoreError, match="replaced while it was read"):
        family.read_many(tmp_path / "one")
