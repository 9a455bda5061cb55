"""Paths of stores, and what is found there."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

import storage
from storage import CorruptStoreError, StorageError, StoreNotFoundError
from storage.errors import reading
from storage.paths import (
    find_file,
    join_path,
    open_file,
    open_regular,
    refuse_special_files,
    stat_file,
    walk_files,
)


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
    real = os.lstat

    def miss(path: Path | bytes, **options: bool) -> os.stat_result:
        if isinstance(path, bytes):
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path, **options)

    monkeypatch.setattr(os, "lstat", miss)
    assert stat_file(tmp_path, "file")[0] == os.fsencode(tmp_path / "file")


def test_a_folder_that_cannot_be_listed_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(walk_files(tmp_path)) == [(tmp_path, [])]
    monkeypatch.setattr(os, "scandir", Mock(side_effect=OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        list(walk_files(tmp_path))
    with pytest.raises(OSError, match="Input/output error"):
        refuse_special_files(tmp_path)


def make_link(path: Path) -> None:
    """Make a link to a regular file."""
    path.symlink_to(__file__)


def make_folder_link(path: Path) -> None:
    """Make a link to a folder."""
    path.symlink_to(Path(__file__).parent)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (os.mkfifo, "not a regular file"),
    "socket": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "not a regular file|No such device"),
    "link": (make_link, "it is a link"),
    "folder_link": (make_folder_link, "it is a link"),
    "broken_link": (lambda path: path.symlink_to("nowhere"), "it is a link"),
    "circle": (lambda path: path.symlink_to(path), "it is a link"),
}


@pytest.mark.parametrize(("make", "message"), SPECIAL.values(), ids=SPECIAL)
def test_only_regular_files_are_opened(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    refuse_special_files(tmp_path)
    path = tmp_path / "folder" / "special"
    make(path)
    with pytest.raises(storage.CorruptStoreError, match="folder/special: it is"):
        refuse_special_files(tmp_path)
    for find in (find_file, stat_file):
        with pytest.raises(storage.CorruptStoreError, match=message):
            find(path.parent, path.name)
    with pytest.raises(storage.StorageError, match=message), open_file(path.parent, path.name):
        pass
    with reading(tmp_path), pytest.raises((OSError, storage.StorageError)):
        open_regular(path)


def test_an_opened_file_is_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with open_file(tmp_path, "file") as (descriptor, status):
        assert os.read(descriptor, 9) == b"content"
        assert status.st_size == len(b"content")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_file_that_cannot_be_opened_is_unreadable_rather_than_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(storage.StorageError, match="the operating system refused") as caught:
        open_file(tmp_path, "file").__enter__()
    assert type(caught.value) is storage.StorageError
