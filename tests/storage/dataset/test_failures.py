"""Saving when something fails: the old dataset stays, and nothing else is left."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

import storage
from storage import BACKENDS, ForkedWriterError, Images, StorageError, StoreFullError
from storage.dataset import replacement, writer
from tests.support.backends import need_backend
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import list_names

pytestmark = need_backend("lmdb_packed")


def test_an_error_of_the_caller_is_raised_unchanged_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def make_batches() -> Iterator[Images]:
        yield make_set(3)[0]
        raise OSError(errno.EIO, "a camera of the caller")

    storage.save(tmp_path / "set", *make_set(2))
    with pytest.raises(OSError, match="a camera of the caller") as caught:
        storage.save(tmp_path / "set", make_batches(), make_set(5)[1], overwrite=True)
    assert not isinstance(caught.value, StorageError)
    assert list_names(tmp_path) == ["set"]
    assert_same(storage.load(tmp_path / "set"), make_set(2))


def test_too_little_space_is_noticed_before_a_backend_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_set(20)
    monkeypatch.setattr(writer, "PART", images.nbytes // 2)
    monkeypatch.setattr(BACKENDS["lmdb_packed"], "store_many", None)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=10, f_frsize=4096))
    reason = r"set: nothing was saved.* \(40,960 bytes are free, 61,920 are needed\): free"
    for batches in (images, [images]):
        with pytest.raises(StoreFullError, match=reason):
            storage.save(tmp_path / "set", batches, labels)
        assert list_names(tmp_path) == []


def test_space_is_checked_for_the_remaining_parts_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_set(20)
    monkeypatch.setattr(writer, "PART", images.nbytes // 2)
    free = iter([61_920, 30_960])
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=next(free), f_frsize=1))
    storage.save(tmp_path / "set", [images], labels)
    assert_same(storage.load(tmp_path / "set"), (images, labels))
    assert list(free) == []


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, StoreFullError, r"No space left on device\)\): free some space"),
        (errno.EIO, StorageError, r"Input/output error\)\)$"),
    ],
)
def test_the_old_dataset_stays_if_the_disk_fails(
    backend: str, code: int, kind: type[StorageError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", *make_set(2), backend)
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(code, os.strerror(code))))
    expected = rf"set: nothing was saved, and what was there is untouched \(.*{message}"
    with pytest.raises(StorageError, match=expected) as caught:
        storage.save(tmp_path / "set", *make_set(3), backend, overwrite=True)
    assert type(caught.value) is kind
    monkeypatch.undo()
    assert_same(storage.load(tmp_path / "set"), make_set(2))
    assert list_names(tmp_path) == ["set"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_publishing_is_undone_if_the_disk_does_not_confirm_it(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    def fail(path: Path) -> None:
        assert path == tmp_path
        assert_same(storage.load(tmp_path / "set"), make_set(3))
        raise error

    if there:
        storage.save(tmp_path / "set", *make_set(2))
    monkeypatch.setattr(replacement, "sync", fail)
    with pytest.raises((StorageError, KeyboardInterrupt)):
        storage.save(tmp_path / "set", *make_set(3), overwrite=True)
    assert list_names(tmp_path) == ["set"] * there
    if there:
        assert_same(storage.load(tmp_path / "set"), make_set(2))


@pytest.mark.parametrize(
    ("code", "message"), [(errno.EINVAL, "cannot exchange two directories"), (errno.EIO, "Input/output error")]
)
def test_the_old_dataset_stays_if_directories_cannot_be_exchanged(
    code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", *make_set(2))
    monkeypatch.setattr(replacement, "_libc", SimpleNamespace(renameat2=lambda *_: -1))
    monkeypatch.setattr("ctypes.get_errno", lambda: code)
    with pytest.raises(StorageError, match=message):
        storage.save(tmp_path / "set", *make_set(3), overwrite=True)
    assert_same(storage.load(tmp_path / "set"), make_set(2))
    assert list_names(tmp_path) == ["set"]


def test_the_next_writer_removes_what_a_dead_one_left_and_nothing_else(tmp_path: Path) -> None:
    others = [".set.tmp-123-0123abcd.tmp-4-0123abcd", ".other.tmp-123-0123abcd", ".set.tmp-mine", "set.tmp-1-0123abcd"]
    for name in (".set.tmp-123-0123abcd", *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("half")
    storage.save(tmp_path / "set", *make_set(2))
    assert list_names(tmp_path) == sorted([*others, "set"])


def test_a_lock_that_cannot_be_released_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filelock.FileLock.release", Mock(side_effect=lambda: os.close(-1)))  # a fresh error each time
    storage.save(tmp_path / "set", *make_set(3))
    monkeypatch.undo()
    storage.save(tmp_path / "set", *make_set(4), overwrite=True)
    assert_same(storage.load(tmp_path / "set"), make_set(4))


def test_a_forked_writer_leaves_the_stage_to_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_batches() -> Iterator[Images]:
        yield make_set(3)[0][:1]
        monkeypatch.setattr(os, "getpid", lambda: 1)
        yield make_set(3)[0][1:]

    with pytest.raises(ForkedWriterError, match=f"process {os.getpid()} is saving it, not this one"):
        storage.save(tmp_path / "set", make_batches(), make_set(3)[1])
    assert [name[:9] for name in list_names(tmp_path)] == [".set.tmp-"]


def test_a_lock_without_permission_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filelock.FileLock.acquire", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(StorageError, match=r"its lock cannot be opened .*writable for you"):
        storage.save(tmp_path / "set", *make_set(4))


def test_space_is_not_checked_for_a_backend_that_compresses(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
    if BACKENDS[backend].INFO.compresses:
        storage.save(tmp_path / "set", *make_set(4), backend)
        assert_same(storage.load(tmp_path / "set"), make_set(4))
    else:
        with pytest.raises(StoreFullError):
            storage.save(tmp_path / "set", *make_set(4), backend)
