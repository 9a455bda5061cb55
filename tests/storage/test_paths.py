"""Paths of stores, and what is found there."""

import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

import storage
from storage import CorruptStoreError, StorageError, StoreNotFoundError
from storage.paths import find_file, join_path, refuse_special_files, stat_file, walk_files


@pytest.mark.parametrize("store", ["a/store", "with blank", "Bücher 書", "\udcff", "."])
def test_a_path_is_joined_as_the_operating_system_expects(store: str) -> None:
    joined = join_path(Path(store), "file")
    assert isinstance(joined, bytes)
    assert Path(os.fsdecode(joined)) == Path(store) / "file"


@pytest.mark.parametrize("store", ["\0", "store\0", "store\0/more", "more/store\0"])
def test_a_null_character_is_refused(store: str) -> None:
    with pytest.raises(storage.StoreNotFoundError, match="null character"):
        join_path(Path(store), "file")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda store: store.touch(), StoreNotFoundError, r"store: it is a file"),
        (lambda _: None, StoreNotFoundError, r"store: it doesn't exist"),
        (lambda store: store.mkdir(), StoreNotFoundError, r"store: it is empty"),
        (lambda store: (store / "b").mkdir(parents=True), CorruptStoreError, r"it has no file \(but b, for one\)"),
        (lambda store: (store / "file").mkdir(parents=True), CorruptStoreError, "store/file: it is not a regular file"),
    ],
    ids=["a file", "nothing", "empty", "another file", "a folder"],
)
def test_a_missing_file_is_explained(
    make: Callable[[Path], object], error: type[StorageError], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "store")
    for find in (find_file, stat_file):
        with pytest.raises(error, match=message):
            find(tmp_path / "store", "file")


def test_a_file_that_appears_while_it_is_missed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    real = os.stat

    def miss(path: Path | bytes, **options: bool) -> os.stat_result:
        if isinstance(path, bytes):
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path, **options)

    monkeypatch.setattr(os, "stat", miss)
    assert stat_file(tmp_path, "file")[0] == os.fsencode(tmp_path / "file")


def test_a_folder_that_cannot_be_listed_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(walk_files(tmp_path)) == [(tmp_path, [])]
    monkeypatch.setattr(os, "scandir", Mock(side_effect=OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        list(walk_files(tmp_path))


def test_a_named_pipe_is_found_anywhere_in_a_store(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    refuse_special_files(tmp_path)
    os.mkfifo(tmp_path / "folder" / "pipe")
    with pytest.raises(storage.CorruptStoreError, match="folder/pipe: it is not a regular file"):
        refuse_special_files(tmp_path)
