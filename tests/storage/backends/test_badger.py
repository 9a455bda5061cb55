"""What only the Badger backend has: files that are checked before Badger believes them, checksums of values."""

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

import storage
from storage.errors import CorruptStoreError
from tests.support.backends import take_backend
from tests.support.image_sets import make_set

badger = take_backend("badger")

from storage.go_bridge import Records  # noqa: E402 - not before it is known to be here

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), np.uint8)
LABELS = np.arange(50) - 5
LOG, TABLE = "000000.vlog", "000001.sst"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store of fifty images."""
    badger.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def flip(path: Path, offset: int) -> None:
    """Flip a bit."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_a_record_is_the_pixels_and_then_the_label(store: Path) -> None:
    value = np.empty((1, 32 * 32 * 3 + 8), np.uint8)
    with Records("badger", os.fsencode(store)) as records:
        records.get(np.array([7], ">u8"), value, np.empty(0, np.uint8))
    assert value.tobytes() == IMAGES[7].tobytes() + (2).to_bytes(8, "little")


def test_the_files_are_always_the_same(store: Path) -> None:
    expected = [LOG, TABLE, "000002.sst", "KEYREGISTRY", "MANIFEST", "files.json"]
    assert sorted(path.name for path in store.iterdir()) == expected


def test_no_more_room_is_taken_than_the_records_need(store: Path) -> None:
    allocated = sum(path.stat().st_blocks * 512 for path in store.iterdir())
    assert allocated < 1.1 * (IMAGES.nbytes + LABELS.nbytes) + 8 * 4096


def test_reading_changes_nothing(store: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    with badger.open_reader(store) as reader, badger.open_reader(store) as other:
        assert reader[3][1] == other[3][1]
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir()} == before


def test_a_pixel_that_changed_is_found_when_it_is_read(store: Path) -> None:
    flip(store / LOG, (store / LOG).read_bytes().index(IMAGES[7].tobytes()) + 100)
    with badger.open_reader(store) as reader:
        assert reader[6][1] == LABELS[6]
        with pytest.raises(CorruptStoreError, match="checksum mismatch"):
            reader.read([6, 7])


@pytest.mark.parametrize("name", [TABLE, "000002.sst", "KEYREGISTRY", "MANIFEST"])
def test_a_bit_that_changed_is_found_before_badger_sees_it(store: Path, name: str) -> None:
    flip(store / name, 20)
    with pytest.raises(CorruptStoreError, match=r"not those that files\.json lists"):
        badger.read_single(store, 0)


def test_a_value_log_that_was_cut_short_is_refused(store: Path) -> None:
    os.truncate(store / LOG, (store / LOG).stat().st_size - 1)
    with pytest.raises(CorruptStoreError, match=r"not those that files\.json lists"):
        badger.open_reader(store)


def test_a_value_log_that_is_cut_short_while_it_is_read_is_an_error(store: Path) -> None:
    with badger.open_reader(store) as reader:
        os.truncate(store / LOG, 4096)
        with pytest.raises(CorruptStoreError, match="invalid memory address"):
            reader.read(range(50))


def test_a_table_of_another_store_is_refused_and_stays(store: Path) -> None:
    (store / "000009.sst").write_bytes((store / TABLE).read_bytes())
    with pytest.raises(CorruptStoreError, match=r"not those that files\.json lists"):
        badger.read_many(store)
    assert (store / "000009.sst").exists()


@pytest.mark.parametrize("text", ["", "7", "{}"])
def test_a_list_of_files_that_is_none_is_refused(store: Path, text: str) -> None:
    (store / "files.json").write_text(text, encoding="utf-8")
    with pytest.raises(CorruptStoreError):
        badger.open_reader(store)


def test_a_store_that_is_being_written_is_refused_at_once(store: Path, tmp_path: Path) -> None:
    (tmp_path / "files.json").rename(tmp_path / "listed")
    with Records("badger", os.fsencode(store), 1 << 20), pytest.raises(CorruptStoreError, match=r"has no files\.json"):
        badger.read_many(store)


def test_an_image_larger_than_a_record_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.go_bridge.image_set.LARGEST", 3071)
    with pytest.raises(storage.InvalidInputError, match="a record at most 3071"):
        badger.store_many(tmp_path / "store", *make_set(2))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", [".DS_Store", "lost+found"])
def test_what_is_not_of_badger_is_passed_over(store: Path, name: str) -> None:
    (store / name).mkdir() if "+" in name else (store / name).touch()
    np.testing.assert_array_equal(badger.read_many(store)[0], IMAGES)


def test_a_store_is_read_though_a_child_that_was_forked_meanwhile_holds_the_lock_of_its_writer(store: Path) -> None:
    folder = os.open(store, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    np.testing.assert_array_equal(badger.read_many(store)[0], IMAGES)
    os.close(folder)
