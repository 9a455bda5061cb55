"""Paths of stores, and what is found there."""

import os
from pathlib import Path

import pytest

import storage
from storage.paths import join_path, refuse_special_files, walk_files


@pytest.mark.parametrize("store", ["a/store", "with blank", "Bücher 書", "\udcff", "."])
def test_a_path_is_joined_as_the_operating_system_expects(store: str) -> None:
    joined = join_path(Path(store), "file")
    assert isinstance(joined, bytes)
    assert Path(os.fsdecode(joined)) == Path(store) / "file"


@pytest.mark.parametrize("store", ["\0", "store\0", "store\0/more", "more/store\0"])
def test_a_null_character_is_refused(store: str) -> None:
    with pytest.raises(storage.StoreNotFoundError, match="null character"):
        join_path(Path(store), "file")


def test_a_folder_that_cannot_be_listed_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(_: Path) -> None:
        raise OSError(5, "Input/output error")

    assert list(walk_files(tmp_path)) == [(tmp_path, [])]
    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(OSError, match="Input/output error"):
        list(walk_files(tmp_path))


def test_a_named_pipe_is_found_anywhere_in_a_store(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    refuse_special_files(tmp_path)
    os.mkfifo(tmp_path / "folder" / "pipe")
    with pytest.raises(storage.CorruptStoreError, match="folder/pipe: it is not a regular file"):
        refuse_special_files(tmp_path)
