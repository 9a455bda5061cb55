"""Badger: files that are checked before Badger opens them, and checksums of values."""

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.encoded_sets import make_files
from tests.support.foreign import Case, cut, delete, flip, write
from tests.support.image_sets import assert_same, make_set

badger = take_backend("badger")

from storage.go_bridge import Records  # noqa: E402 - not before it is known to be here

IMAGES, LABELS = make_set(10)
LOG, TABLE = "000000.vlog", "000001.sst"
FILES = [LOG, TABLE, "000002.sst", "KEYREGISTRY", "MANIFEST", "files.json"]
CHANGED = r"aren't those in files\.json"


def flip_pixel(store: Path) -> None:
    flip(LOG, (store / LOG).read_bytes().index(IMAGES[7].tobytes()) + 100)(store)


def add_table(store: Path) -> None:
    (store / "000009.sst").write_bytes((store / TABLE).read_bytes())


FOREIGN = {
    **{f"a changed {name}": Case(flip(name, 20), CHANGED) for name in FILES if name not in {LOG, "files.json"}},
    **{f"no {name}": Case(delete(name)) for name in FILES},
    **{f"a list of files {text!r}": Case(write("files.json", text)) for text in (b"", b"7", b"{}")},
    "a value log cut short": Case(cut(LOG, -1), CHANGED),
    "a table of another store": Case(add_table, CHANGED),
    "a changed pixel": Case(flip_pixel, "checksum mismatch"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    badger.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_a_record_is_the_pixels_and_then_the_label(store: Path) -> None:
    value = np.empty((1, 32 * 32 * 3 + 8), np.uint8)
    with Records("badger", os.fsencode(store)) as records:
        records.get(np.array([7], ">u8"), value, np.empty(0, np.uint8))
    assert value.tobytes() == IMAGES[7].tobytes() + LABELS[7].astype("<i8").tobytes()


def test_a_record_is_the_file_and_then_the_label(tmp_path: Path) -> None:
    files, labels = make_files(10)
    badger.store_many(tmp_path, files, labels)
    value = np.empty(files[6].nbytes + 8, np.uint8)
    with Records("badger", os.fsencode(tmp_path)) as records:
        records.get(np.array([6], ">u8"), value, np.empty(0, np.uint8))
    assert value.tobytes() == bytes(files[6]) + labels[6].astype("<i8").tobytes()


def test_a_changed_byte_of_a_file_costs_no_other_file(tmp_path: Path) -> None:
    files, labels = make_files(10)
    badger.store_many(tmp_path, files, labels)
    flip(LOG, (tmp_path / LOG).read_bytes().index(bytes(files[6])) + 100)(tmp_path)
    with badger.open_reader(tmp_path) as reader:
        assert bytes(reader.read_encoded([4])[0][0]) == bytes(files[4])
        with pytest.raises(storage.CorruptStoreError, match="checksum mismatch"):
            reader.read_encoded([4, 6])


def test_the_files_are_always_the_same_and_take_no_more_space_than_the_records(store: Path) -> None:
    assert sorted(path.name for path in store.iterdir()) == FILES
    allocated = sum(path.stat().st_blocks * 512 for path in store.iterdir())
    assert allocated < 1.1 * (IMAGES.nbytes + LABELS.nbytes) + 8 * 4096


def test_a_changed_pixel_costs_no_other_image(store: Path) -> None:
    flip_pixel(store)
    with badger.open_reader(store) as reader:
        assert_same(reader[6], (IMAGES[6], LABELS[6]))
        with pytest.raises(storage.CorruptStoreError, match="checksum mismatch"):
            reader.read([6, 7])


def test_a_value_log_that_is_cut_short_while_it_is_read_is_an_error(store: Path) -> None:
    with badger.open_reader(store) as reader:
        os.truncate(store / LOG, 4096)
        with pytest.raises(storage.CorruptStoreError, match="invalid memory address"):
            reader.read(range(10))


def test_a_refused_table_is_not_deleted(store: Path) -> None:
    add_table(store)
    with pytest.raises(storage.CorruptStoreError, match=CHANGED):
        badger.read_many(store)
    assert (store / "000009.sst").exists()


def test_a_store_that_is_being_written_is_refused_at_once(tmp_path: Path) -> None:
    with (
        Records("badger", os.fsencode(tmp_path), 1 << 20),
        pytest.raises(storage.CorruptStoreError, match=r"has no files\.json"),
    ):
        badger.read_many(tmp_path)


def test_an_image_larger_than_a_record_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(badger, "MAX_VALUE", 3079)
    with pytest.raises(storage.InvalidInputError, match="3080 bytes, and a value of Badger at most 3079"):
        badger.store_many(tmp_path / "store", IMAGES, LABELS)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", [".DS_Store", "lost+found"])
def test_files_that_badger_ignores_are_ignored(store: Path, name: str) -> None:
    (store / name).mkdir() if "+" in name else (store / name).touch()
    assert_same(badger.read_many(store), (IMAGES, LABELS))


def test_a_store_is_read_although_a_forked_child_holds_the_lock_of_its_writer(store: Path) -> None:
    folder = os.open(store, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert_same(badger.read_many(store), (IMAGES, LABELS))
    os.close(folder)
