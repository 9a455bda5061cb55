"""The index of names answers whether a part may have a name, and no damage makes it say that it hasn't."""

import os
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import InvalidInputError
from storage.dataset.name_index import format_index, hash_wanted, may_hold
from storage.dataset.names import Names
from tests.support.datasets import find_beside, flip_bit
from tests.support.image_sets import make_set

COUNT = 1200  # names in half as many folders: 1,800 hashes in four blocks
NAMES = Names.join(f"folder {number % 600}/{number}.png" for number in range(COUNT))
RECORDS = "0123456789abcdef"
IMAGES, LABELS = make_set(3, 5, 7)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "index").write_bytes(format_index(NAMES, RECORDS))
    return tmp_path / "index"


def ask(index: Path, *names: str, records: str = RECORDS) -> bool:
    return may_hold(index, records, hash_wanted(Names.join(names)))


def test_every_name_and_every_folder_is_found(index: Path) -> None:
    assert index.stat().st_size == 8 * (1800 + 4)
    assert all(ask(index, name) for name in NAMES), "the same names"
    assert all(ask(index, f"folder {number}") for number in range(600)), "names that are those of its folders"
    assert all(ask(index, f"{name}/1") for name in NAMES), "folders that are its names"


def test_other_names_are_not_found_not_even_in_its_folders(index: Path) -> None:
    assert not any(ask(index, f"folder {number % 600}/new {number}.png") for number in range(COUNT))
    assert not ask(index, "folder", "x/folder 1/1.png")
    assert not ask(index)


def test_an_index_that_is_not_uniform_is_searched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.dataset.name_index._hash_all", lambda names, _: (int(name) for name in names))
    for base in (0, (1 << 64) - COUNT):
        path = tmp_path / str(base)
        path.write_bytes(format_index(Names.join(str(base + number) for number in range(0, COUNT, 2)), RECORDS))
        found = [number for number in range(COUNT) if may_hold(path, RECORDS, np.array([base + number], np.uint64))]
        assert found == list(range(0, COUNT, 2))


@pytest.mark.parametrize("place", [0, 4000, 4090, 4096, -1])
def test_a_damaged_block_may_hold_any_name(place: int, index: Path) -> None:
    flip_bit(index, place)
    assert any(ask(index, f"new {number}") for number in range(100))


def test_what_was_cut_short_or_is_of_another_part_may_hold_any_name(index: Path) -> None:
    assert ask(index, "new", records="f" * 16)
    for size in (3 * 4096, 4096, 8, 3, 0):
        os.truncate(index, size)
        assert ask(index, "new")
    index.unlink()
    assert ask(index, "new")
    index.symlink_to("/dev/zero")
    assert ask(index, "new")


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "changed"])
@pytest.mark.parametrize("name", ["cat/1.png", "cat", "cat/0.png/2.png"])
def test_names_are_compared_without_an_index_too(name: str, tmp_path: Path, *, is_gone: bool) -> None:
    path = tmp_path / "set"
    storage.save(path, IMAGES[:2], LABELS[:2], "npy", names=["cat/0.png", "cat/1.png"])
    storage.append(path, IMAGES[:1], LABELS[:1], names=["dog/0.png"])
    index = find_beside(path, "index")
    index.unlink() if is_gone else flip_bit(index, 3)
    storage.append(path, IMAGES[:1], LABELS[:1], names=["cat/2.png"])
    with pytest.raises(InvalidInputError, match=r"it has an image named|which is that of a folder with others"):
        storage.append(path, IMAGES[:1], LABELS[:1], names=[name])
    with storage.open(path) as reader:
        assert list(reader.names) == ["cat/0.png", "cat/1.png", "dog/0.png", "cat/2.png"]
