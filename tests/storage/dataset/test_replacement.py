"""A directory stays what it is while it is held, and is deleted only when it has no readers."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import filelock
import pytest

from storage.dataset.replacement import discard, exchange, hold_directory, is_ours, lock_path
from storage.errors import StorageError, StoreLockedError, StoreNotFoundError
from tests.support.open_files import count_open


def test_a_held_directory_is_not_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    with hold_directory(folder) as pinned:
        discard(folder)
        assert folder.exists()
        folder.rename(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "file").write_text("content")
        assert (pinned / "file").read_text() == "content"
    discard(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("when", ["before it is locked", "while it is being deleted"])
def test_a_directory_that_is_replaced_is_skipped_for_its_successor(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "set", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    (new / "file").write_text("new")
    deleting = os.open(old, os.O_RDONLY)
    if when == "while it is being deleted":
        fcntl.flock(deleting, fcntl.LOCK_EX)
    real, tries = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        tries.append(descriptor)
        if len(tries) == 1:
            exchange(new, old)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold_directory(old) as pinned:
        assert (pinned / "file").read_text() == "new"
    os.close(deleting)
    assert len(tries) == 2


def test_a_lock_of_another_program_is_not_waited_for(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(StoreLockedError, match="another program holds a lock"), hold_directory(tmp_path):
        pass
    os.close(descriptor)


def test_a_directory_that_disappears_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    monkeypatch.setattr(fcntl, "flock", lambda *_: folder.rename(tmp_path / "gone"))
    with pytest.raises(StoreNotFoundError, match="set: it doesn't exist"), hold_directory(folder):
        pass


@pytest.mark.parametrize(("code", "is_read"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks_can_be_read(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_read: bool
) -> None:
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(code, os.strerror(code))))
    before = count_open(tmp_path)
    if is_read:
        with hold_directory(tmp_path) as pinned:
            assert pinned.samefile(tmp_path)
    else:
        with pytest.raises(StorageError, match="the operating system refused"), hold_directory(tmp_path):
            pass
    assert count_open(tmp_path) == before


def test_discarding_a_missing_folder_or_a_file_does_nothing(tmp_path: Path) -> None:
    discard(tmp_path / "absent")
    (tmp_path / "file").touch()
    discard(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_exchange_raises_the_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "other")


def test_a_held_directory_that_cannot_be_closed_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.close

    def close(descriptor: int) -> None:
        real(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with hold_directory(tmp_path) as pinned:
        assert pinned.samefile(tmp_path)
        monkeypatch.setattr(os, "close", close)
    monkeypatch.undo()
    assert count_open(tmp_path) == 0


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("elsewhere")], ids=["pipe", "folder", "link"]
)
def test_a_lock_that_another_program_made_is_not_opened(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / ".set.lock")
    with pytest.raises(StorageError, match=r"its lock, \.set\.lock, isn't a regular file"), lock_path(tmp_path / "set"):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("elsewhere")], ids=["pipe", "folder", "link"]
)
def test_what_another_user_puts_at_the_lock_before_it_is_opened_is_neither_followed_nor_waited_for(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = filelock.FileLock.acquire

    def plant_and_acquire(lock: filelock.FileLock) -> object:
        make(tmp_path / ".set.lock")
        return acquire(lock)

    tmp_path.chmod(0o1777)
    (tmp_path / "elsewhere").write_text("precious")
    monkeypatch.setattr(filelock.FileLock, "acquire", plant_and_acquire)
    with pytest.raises(StorageError, match=r"regular file|the operating system refused"), lock_path(tmp_path / "set"):
        pass
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert count_open(tmp_path) == 0


def test_a_folder_is_ours_if_this_user_made_it_and_private_if_no_other_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode, private in ((0o700, True), (0o755, True), (0o775, False), (0o1777, False)):
        tmp_path.chmod(mode)
        assert (is_ours(tmp_path), is_ours(tmp_path, private=True)) == (True, private)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    assert not is_ours(tmp_path / "link")
    assert not is_ours(tmp_path / "file")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert not is_ours(tmp_path)
