"""Durability: files, directories and the name of a store are synced."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

import storage
from storage.durability import make_durable
from tests.support.open_files import count_open


def test_every_file_and_directory_and_the_folder_above_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store" / "inner").mkdir(parents=True)
    for name in ("store/inner/file", "store/other", "beside"):
        (tmp_path / name).write_bytes(b"1")
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    make_durable(tmp_path / "store")
    names = ["store/inner/file", "store/inner", "store/other", "store"]
    assert sorted(synced) == sorted([tmp_path, *(tmp_path / name for name in names)])
    assert synced.index(tmp_path / "store/inner/file") < synced.index(tmp_path / "store")
    assert synced[-1] == tmp_path, "the name of the store is synced last"


def test_a_disk_that_is_full_at_the_sync_raises_store_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(storage.StoreFullError, match=str(tmp_path)):
        make_durable(tmp_path)
    assert count_open(tmp_path) == 0


def test_a_file_that_cannot_be_synced_raises_our_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(storage.StorageError, match="operating system refused"):
        make_durable(tmp_path)
