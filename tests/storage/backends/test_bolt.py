"""What only the Bolt backend has: pages that Bolt would believe, one writer or many readers, records left out."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

import storage
from storage.errors import CorruptStoreError
from tests.support.backends import take_backend
from tests.support.image_sets import make_set

bolt = take_backend("bolt")

from storage.go_bridge import Records  # noqa: E402 - not before it is known to be here

COUNT, PAGE = 2000, 32 << 10
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
LABELS = np.arange(COUNT) - 5
METADATA = np.array([COUNT, 8, 8], "<u8")
NOTHING = np.empty(0, np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store whose tree has two levels."""
    bolt.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def write_records(store: Path, numbers: range, metadata: np.ndarray) -> None:
    """Write some of the records only."""
    keys = np.array(numbers, ">u8")
    with Records("bolt", os.fsencode(store / "images.bolt"), 1 << 24) as records:
        records.put(keys, IMAGES[numbers], LABELS[numbers].astype("<i8"))
        records.put(np.frombuffer(b"metadata", np.uint8), metadata, NOTHING)


def change(store: Path, offset: int, content: bytes) -> None:
    """Write over some bytes of the file."""
    with (store / "images.bolt").open("r+b") as file:
        file.seek(offset)
        file.write(content)


def find_branches(store: Path) -> list[int]:
    """Find where the pages begin that have children."""
    whole = (store / "images.bolt").read_bytes()
    return [
        page
        for page in range(2 * PAGE, len(whole), PAGE)
        if struct.unpack_from("<QH", whole, page) == (page // PAGE, 1)
    ]


def change_branches(store: Path, offset: int, content: bytes) -> None:
    """Write over some bytes of each page that has children."""
    for page in find_branches(store):
        change(store, page + offset, content)


def test_a_record_is_the_pixels_and_then_the_label(store: Path) -> None:
    value = np.empty((1, 8 * 8 * 3 + 8), np.uint8)
    with Records("bolt", os.fsencode(store / "images.bolt")) as records:
        records.get(np.array([7], ">u8"), value, NOTHING)
    assert value.tobytes() == IMAGES[7].tobytes() + (2).to_bytes(8, "little")


def test_one_file_is_written_whose_pages_are_full(store: Path) -> None:
    assert [path.name for path in store.iterdir()] == ["images.bolt"]
    assert (store / "images.bolt").stat().st_size < 1.1 * COUNT * (8 * 8 * 3 + 8 + 8 + 16) + 10 * PAGE


def test_reading_changes_nothing(store: Path) -> None:
    before = (store / "images.bolt").stat()
    with bolt.open_reader(store) as reader, bolt.open_reader(store) as other:
        assert reader[3][1] == other[3][1]
    after = (store / "images.bolt").stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


def test_a_store_that_is_being_written_is_refused_at_once(tmp_path: Path) -> None:
    with (
        Records("bolt", os.fsencode(tmp_path / "images.bolt"), 1 << 20),
        pytest.raises(CorruptStoreError, match="timeout"),
    ):
        bolt.read_many(tmp_path)


def test_an_empty_file_is_refused_and_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "images.bolt").touch()
    with pytest.raises(CorruptStoreError):
        bolt.open_reader(tmp_path)
    assert not (tmp_path / "images.bolt").stat().st_size


def test_a_file_that_was_cut_short_is_refused_before_a_page_is_missed(store: Path) -> None:
    size = (store / "images.bolt").stat().st_size
    os.truncate(store / "images.bolt", size - PAGE)
    with pytest.raises(CorruptStoreError, match="the file was cut short"):
        bolt.read_single(store, 0)


def test_a_file_that_is_cut_short_while_it_is_read_is_an_error(store: Path) -> None:
    with bolt.open_reader(store) as reader:
        os.truncate(store / "images.bolt", 2 * PAGE)
        with pytest.raises(CorruptStoreError, match="invalid memory address"):
            reader.read(range(COUNT))


def test_a_page_that_two_lead_to_is_found(store: Path) -> None:
    change_branches(store, 16 + 8, (5).to_bytes(8, "little"))
    change_branches(store, 16 + 16 + 8, (5).to_bytes(8, "little"))
    with pytest.raises(CorruptStoreError, match="is missing"):
        bolt.read_many(store)


def test_a_page_that_leads_back_to_itself_is_refused(store: Path) -> None:
    for page in find_branches(store):
        change(store, page + 16 + 8, (page // PAGE).to_bytes(8, "little"))
    with pytest.raises(CorruptStoreError, match=r"round in circles|is damaged|do not fit"):
        bolt.open_reader(store)


def test_a_page_that_leads_out_of_the_file_is_refused(store: Path) -> None:
    change_branches(store, 16 + 8, (1 << 40).to_bytes(8, "little"))
    with pytest.raises(CorruptStoreError, match=f"page {1 << 40} is damaged"):
        bolt.read_many(store)


def test_keys_that_are_out_of_order_are_refused(store: Path) -> None:
    whole = (store / "images.bolt").read_bytes()
    for page in find_branches(store):
        second = page + 2 * 16
        change(store, second + struct.unpack_from("<I", whole, second)[0], b"\xff")
    with pytest.raises(CorruptStoreError, match="has keys that do not fit"):
        bolt.open_reader(store)


def test_a_page_of_zeros_is_refused_when_it_is_read(store: Path) -> None:
    change(store, 6 * PAGE, bytes(PAGE))
    with bolt.open_reader(store) as reader:
        assert reader[0][1] == LABELS[0]
        with pytest.raises(CorruptStoreError, match="page 6 is damaged"):
            reader.read(range(COUNT))


def test_a_page_that_is_no_page_of_the_tree_is_refused(store: Path) -> None:
    change_branches(store, 0, bytes(PAGE))
    with pytest.raises(CorruptStoreError, match="is damaged"):
        bolt.read_many(store)


def test_a_file_without_the_bucket_is_refused(store: Path) -> None:
    content = (store / "images.bolt").read_bytes()
    (store / "images.bolt").write_bytes(content.replace(b"images", b"figure"))
    with pytest.raises(CorruptStoreError, match="there is no bucket images"):
        bolt.open_reader(store)


def test_a_store_without_its_last_record_is_refused(tmp_path: Path) -> None:
    write_records(tmp_path, range(COUNT - 1), METADATA)
    with pytest.raises(CorruptStoreError, match="is missing"):
        bolt.open_reader(tmp_path)


def test_a_record_that_is_left_out_is_found_when_it_is_read(tmp_path: Path) -> None:
    write_records(tmp_path, range(1, COUNT), METADATA)
    with bolt.open_reader(tmp_path) as reader:
        assert reader[1][1] == LABELS[1]
        with pytest.raises(CorruptStoreError, match="record 0000000000000000 is missing"):
            reader.read([1, 0])


@pytest.mark.parametrize("metadata", [METADATA[:2], METADATA * 0, np.array([COUNT, 8, 9], "<u8")])
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, metadata: np.ndarray) -> None:
    write_records(tmp_path, range(COUNT), metadata)
    with pytest.raises(CorruptStoreError):
        bolt.read_many(tmp_path)


def test_an_image_larger_than_a_record_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.go_bridge.image_set.LARGEST", 3071)
    with pytest.raises(storage.InvalidInputError, match="a record at most 3071"):
        bolt.store_many(tmp_path / "store", *make_set(2))
    assert not (tmp_path / "store").exists()
