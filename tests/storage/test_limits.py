"""Limits on work that a file asks for."""

import os
from pathlib import Path

import pytest

from storage import CorruptStoreError, StorageError
from storage.limits import MAX_EXPANSION, MAX_MEMORY, check_amount, check_memory, check_store, measure_content

STORE = Path("photos")


def test_an_amount_that_is_there_is_accepted() -> None:
    check_amount("a chunk", 7, available=7, store=STORE, limit=7)


def test_an_amount_that_cannot_be_there_is_damage() -> None:
    with pytest.raises(CorruptStoreError, match=r"^photos: a chunk has 5,000 bytes, and there are 4,096: "):
        check_amount("a chunk", 5000, available=4096, store=STORE)


def test_an_amount_above_a_limit_is_no_damage() -> None:
    with pytest.raises(StorageError, match=r"^photos: it has 5,000 pixels, more than the limit of 99: raise") as caught:
        check_amount("it", 5000, store=STORE, limit=99, unit="pixels")
    assert not isinstance(caught.value, CorruptStoreError)


SIZE = 8 << 20  # bytes


@pytest.mark.parametrize("content", [0, SIZE], ids=["hole", "zeros"])
def test_only_bytes_on_the_disk_allow_memory(tmp_path: Path, content: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(content))
    os.truncate(path, SIZE)
    assert measure_content(os.fsencode(path), path.stat()) == content
    with path.open("rb") as file:
        assert measure_content(file.fileno(), path.stat()) == content


def test_memory_is_limited_by_what_is_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = MAX_MEMORY + 5 * MAX_EXPANSION
    check_memory(STORE, allowed, 5)
    with pytest.raises(StorageError, match=r"photos: .* it is damaged, or has holes: .*storage.limits.MAX_MEMORY"):
        check_memory(STORE, allowed + 1, 5)
    monkeypatch.setattr("storage.limits.MAX_MEMORY", MAX_MEMORY + 1)
    check_memory(STORE, allowed + 1, 5)


def test_all_files_of_a_store_count_except_links(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "one", tmp_path / "folder" / "two"):
        path.write_bytes(bytes(4096))
    (tmp_path / "link").symlink_to(__file__)
    allowed = MAX_MEMORY + 3 * MAX_EXPANSION * 8192
    check_store(tmp_path, allowed, ratio=3)
    with pytest.raises(StorageError, match=r"24,576 are on the disk"):
        check_store(tmp_path, allowed + 1, ratio=3)


def test_a_folder_that_cannot_be_listed_is_not_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        check_store(tmp_path / "absent", MAX_MEMORY + 1)
