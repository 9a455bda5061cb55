"""Bolt: pages that Bolt would trust, one writer or many readers, and records that were left out."""

import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.encoded_sets import make_files
from tests.support.foreign import Case, Change, cut, overwrite, write
from tests.support.image_sets import make_set

bolt = take_backend("bolt")

from storage.go_bridge import Records  # noqa: E402 - not before it is known to be here

FILE = "images.bolt"
COUNT, PAGE = 2000, 32 << 10
IMAGES, LABELS = make_set(COUNT, 8, 8)
NOTHING = np.empty(0, np.uint8)
METADATA = np.array([10, 32, 32], "<u8")
FILES, FILE_LABELS = make_files(10)


def put(numbers: range = range(10), metadata: Any = METADATA) -> Change:  # noqa: ANN401 - of any shape
    images, labels = make_set(10)

    def change(store: Path) -> None:
        (store / FILE).unlink()
        with Records("bolt", os.fsencode(store / FILE), 1 << 24) as records:
            records.put(np.array(numbers, ">u8"), images[numbers], labels[numbers].astype("<i8"))
            records.put(np.frombuffer(b"metadata", np.uint8), metadata, NOTHING)

    return change


def put_files(offsets: Any = FILES.offsets, count: int = 10, size: int = len(FILES.content)) -> Change:  # noqa: ANN401 - an array or None
    def change(store: Path) -> None:
        (store / FILE).unlink()
        with Records("bolt", os.fsencode(store / FILE), 1 << 24) as records:
            records.put(np.arange(10).astype(">u8"), FILES.content, FILE_LABELS.astype("<i8"), FILES.offsets)
            if offsets is not None:
                records.put(np.frombuffer(b"_offsets", np.uint8), offsets, NOTHING)
            records.put(np.frombuffer(b"metadata", np.uint8), np.array([count, size, 0], "<u8"), NOTHING)

    return change


def move_offset(place: int | slice, offset: int) -> Change:
    offsets = FILES.offsets.copy()
    offsets[place] = offset
    return put_files(offsets)


def rename_bucket(store: Path) -> None:
    (store / FILE).write_bytes((store / FILE).read_bytes().replace(b"images", b"figure"))


FOREIGN = {
    "no first record": Case(put(range(1, 10)), "record 0000000000000000 is missing"),
    "no last record": Case(put(range(9)), "is missing"),
    "a shorter description": Case(put(metadata=METADATA[:2])),
    "a description of zeros": Case(put(metadata=METADATA * 0)),
    "a description of larger images": Case(put(metadata=np.array([10, 32, 33], "<u8"))),
    "no offsets": Case(put_files(None), "record 5f6f666673657473 is missing"),
    "fewer offsets": Case(put_files(FILES.offsets[:-1]), "has 80 bytes, not 88"),
    "one file more": Case(put_files(count=11), "has 88 bytes, not 96"),
    "one byte more": Case(put_files(size=len(FILES.content) + 1), "offsets"),
    "files beyond memory": Case(put_files(size=1 << 40), error=storage.StorageError),
    "an offset that goes down": Case(move_offset(7, 0), "offsets"),
    "a last file of another size": Case(move_offset(slice(8, 10), len(FILES.content) - 1), "has 8 bytes, not 9"),
    "another bucket": Case(rename_bucket, "there is no bucket images"),
    "an empty file": Case(write(FILE, b"")),
    "a file cut short": Case(cut(FILE, -PAGE), "the file was cut short"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    bolt.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_a_record_is_the_pixels_and_then_the_label(store: Path) -> None:
    value = np.empty((1, 8 * 8 * 3 + 8), np.uint8)
    with Records("bolt", os.fsencode(store / FILE)) as records:
        records.get(np.array([7], ">u8"), value, NOTHING)
    assert value.tobytes() == IMAGES[7].tobytes() + LABELS[7].astype("<i8").tobytes()


def test_a_record_of_another_size_than_its_offsets_say_is_refused(store: Path) -> None:
    move_offset(5, int(FILES.offsets[5]) - 1)(store)
    with bolt.open_reader(store) as reader:
        reads: list[Callable[[], object]] = [
            lambda: bolt.read_many(store),
            lambda: reader.read_encoded([4]),
            reader.read_labels,
        ]
        for read in reads:
            with pytest.raises(storage.CorruptStoreError, match="record 0000000000000004 has 3008 bytes, not 3007"):
                read()


def test_a_record_is_the_file_and_then_the_label(tmp_path: Path) -> None:
    bolt.store_many(tmp_path, FILES, FILE_LABELS)
    values = np.empty(len(FILES.content) + 80, np.uint8)
    offsets = FILES.offsets + 8 * np.arange(11)
    with Records("bolt", os.fsencode(tmp_path / FILE)) as records:
        records.get(np.arange(10).astype(">u8"), values, NOTHING, offsets)
    expected = [bytes(file) + label.astype("<i8").tobytes() for file, label in zip(FILES, FILE_LABELS, strict=True)]
    assert values.tobytes() == b"".join(expected)


def test_a_store_is_one_file_whose_pages_are_full(store: Path) -> None:
    assert [path.name for path in store.iterdir()] == [FILE]
    assert (store / FILE).stat().st_size < 1.1 * COUNT * (8 * 8 * 3 + 8 + 8 + 16) + 10 * PAGE


def test_a_store_that_is_being_written_is_refused_at_once_and_not_called_damaged(tmp_path: Path) -> None:
    with (
        Records("bolt", os.fsencode(tmp_path / FILE), 1 << 20),
        pytest.raises(storage.StorageError, match="another program has locked it") as raised,
    ):
        bolt.read_many(tmp_path)
    assert type(raised.value) is storage.StorageError


def test_a_dataset_that_another_program_has_locked_is_unreadable(tmp_path: Path) -> None:
    storage.save(tmp_path / "photos", FILES, FILE_LABELS, backend="bolt")
    (path,) = (tmp_path / "photos").rglob(FILE)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert storage.check(tmp_path / "photos").outcome == "unreadable"
    assert storage.check(tmp_path / "photos").is_whole


def test_a_file_that_is_cut_short_while_it_is_read_is_an_error(store: Path) -> None:
    with bolt.open_reader(store) as reader:
        os.truncate(store / FILE, 2 * PAGE)
        with pytest.raises(storage.CorruptStoreError, match="invalid memory address"):
            reader.read(range(COUNT))


def number(value: int) -> bytes:
    return value.to_bytes(8, "little")


# A branch begins with 16 bytes of its own; then there are 16 for each child: where its key is, and which page it is.
BRANCHES: dict[str, tuple[Callable[[bytes, int], dict[int, bytes]], str]] = {
    "two children are one page": (lambda *_: {24: number(5), 40: number(5)}, "is missing"),
    "it leads to itself": (lambda _, page: {24: number(page // PAGE)}, "form a cycle|is damaged|do not fit"),
    "it leads out of the file": (lambda *_: {24: number(1 << 40)}, f"page {1 << 40} is damaged"),
    "keys are out of order": (
        lambda whole, page: {32 + struct.unpack_from("<I", whole, page + 32)[0]: b"\xff"},
        "has keys that do not fit",
    ),
    "zeros": (lambda *_: {0: bytes(PAGE)}, "is damaged"),
}


@pytest.mark.parametrize(("change", "words"), BRANCHES.values(), ids=BRANCHES)
def test_a_damaged_branch_is_refused(store: Path, change: Callable[[bytes, int], dict[int, bytes]], words: str) -> None:
    whole = (store / FILE).read_bytes()
    for page in range(2 * PAGE, len(whole), PAGE):
        if struct.unpack_from("<QH", whole, page) == (page // PAGE, 1):
            for place, content in change(whole, page).items():
                overwrite(FILE, page + place, content)(store)
    with pytest.raises(storage.CorruptStoreError, match=words):
        bolt.read_many(store)


def test_a_leaf_of_zeros_is_refused_when_it_is_read(store: Path) -> None:
    overwrite(FILE, 6 * PAGE, bytes(PAGE))(store)
    with bolt.open_reader(store) as reader:
        assert reader[0][1] == LABELS[0]
        with pytest.raises(storage.CorruptStoreError, match="page 6 is damaged"):
            reader.read(range(COUNT))
