"""What the LMDB backends share: labels in as few bytes as they need, environments that are counted, maps."""

import os
import struct
from pathlib import Path

import lmdb as library
import numpy as np
import pytest

import storage
from storage import Backend, Images
from storage.arrays import make_result
from tests.support.backends import take_family
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import count_maps, count_open

MEMBERS = take_family("lmdb", "lmdb_packed")

from storage.backends import _lmdb as lmdb_environment  # noqa: E402 - not before it is known to be here
from storage.backends._lmdb import begin_reading  # noqa: E402

FAMILY = pytest.mark.parametrize("family", MEMBERS.values(), ids=MEMBERS)

SIZES: list[tuple[list[int], str]] = [
    ([0], "<i1"),
    ([-128, 127], "<i1"),
    ([128, 0], "<i2"),
    ([-129], "<i2"),
    ([-(2**15), 2**15 - 1], "<i2"),
    ([2**15], "<i4"),
    ([1, -(2**15) - 1], "<i4"),
    ([-(2**31), 2**31 - 1], "<i4"),
    ([2**31], "<i8"),
    ([-(2**31) - 1, 5], "<i8"),
    ([-(2**63), 2**63 - 1], "<i8"),
]


@FAMILY
@pytest.mark.parametrize(("row", "kind"), SIZES)
def test_labels_take_the_smallest_integers_that_hold_them(
    family: Backend, tmp_path: Path, row: list[int], kind: str
) -> None:
    labels = np.array(row, np.int64)
    images, _ = make_set(len(row), 4, 4)
    family.store_many(tmp_path, images, labels)
    with library.open(str(tmp_path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert transaction.get(b"labels", b"") == labels.astype(kind).tobytes()
    assert_same(family.read_many(tmp_path), (images, labels))
    assert family.read_single(tmp_path, -1)[1] == row[-1]
    with family.open_reader(tmp_path) as reader:
        assert_same(reader.read(range(len(row))), (images, labels))
        assert reader[0][1] == row[0]


@FAMILY
@pytest.mark.parametrize("bytes_at_once", [1, 3072, 10_000, 10**9])
def test_records_come_back_whatever_the_number_of_transactions(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_at_once: int
) -> None:
    monkeypatch.setattr(lmdb_environment, "TRANSACTION", bytes_at_once)
    monkeypatch.setattr(family, "RECORD", 2 * 3072, raising=False)  # lmdb_packed's
    family.store_many(tmp_path, *make_set(11))
    assert_same(family.read_many(tmp_path), make_set(11))


@FAMILY
def test_a_map_that_is_too_small_grows(family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_environment, "compute_map_size", lambda _: 65_536)
    family.store_many(tmp_path, *make_set(100))
    assert_same(family.read_many(tmp_path), make_set(100))


@FAMILY
def test_what_lmdb_refuses_to_write_is_an_error_of_ours(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_environment, "pack_key", lambda _: b"")  # a key that LMDB refuses
    with pytest.raises(storage.StorageError, match="BAD_VALSIZE"):
        family.store_many(tmp_path, *make_set(3))


@FAMILY
def test_a_store_whose_description_was_not_written_is_refused(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(family, "append_description", stop)
    with pytest.raises(KeyboardInterrupt):
        family.store_many(tmp_path, *make_set(3))
    for read in (family.read_many, family.open_reader, lambda path: family.read_single(path, 0)):
        with pytest.raises(storage.CorruptStoreError, match="not complete"):
            read(tmp_path)


@FAMILY
def test_a_store_of_the_other_kind_is_refused(family: Backend, tmp_path: Path) -> None:
    for name, other in MEMBERS.items():
        if other is not family:
            for count in (0, 1, 10):
                (tmp_path / name).mkdir(exist_ok=True)
                other.store_many(tmp_path / name / str(count), *make_set(count))
                for read in (family.read_many, family.open_reader):
                    with pytest.raises(storage.CorruptStoreError, match="another program or backend"):
                        read(tmp_path / name / str(count))


@FAMILY
def test_no_environment_is_left_when_all_are_closed(family: Backend, tmp_path: Path) -> None:
    family.store_many(tmp_path, *make_set(3))
    one, two = family.open_reader(tmp_path), family.open_reader(tmp_path)
    assert (count_open(tmp_path), count_maps(tmp_path)) == (1, 1)
    one.close()
    family.read_many(tmp_path)
    two.close()
    assert (count_open(tmp_path), count_maps(tmp_path)) == (0, 0)


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").mkdir()
    with pytest.raises(storage.CorruptStoreError, match=r"data\.mdb is no regular file"), begin_reading(tmp_path):
        pass


def test_a_file_of_another_program_is_refused_and_closed(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(struct.pack("<4Q", 1, 2, 3, 4) * 1000)
    for _ in range(2):
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)), begin_reading(tmp_path):
            pass
    assert (count_open(tmp_path), count_maps(tmp_path)) == (0, 0)


@FAMILY
def test_what_the_operating_system_refuses_is_an_error_of_ours(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, **options: object) -> os.stat_result:
        if "data.mdb" in str(path):
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)  # type: ignore[arg-type] # as it was called

    stat = os.stat
    family.store_many(tmp_path, *make_set(1))
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(storage.StorageError, match="the operating system refused"), begin_reading(tmp_path):
        pass


@FAMILY
def test_a_store_that_is_replaced_while_it_is_read_is_refused(
    family: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = make_set(3)
    for name, pixels in (("one", images), ("two", images[::-1])):
        family.store_many(tmp_path / name, pixels, labels)

    def replace(store: Path, shape: tuple[int, ...], out: object) -> Images:
        (tmp_path / "two" / "data.mdb").replace(tmp_path / "one" / "data.mdb")
        return make_result(store, shape, out)

    monkeypatch.setattr(family, "make_result", replace)
    with pytest.raises(storage.CorruptStoreError, match="was replaced while it was read"):
        family.read_many(tmp_path / "one")
