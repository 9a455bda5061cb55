"""Where a file system has no locks, a writer says so, and writes without one if it is told to."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

import storage
from storage import StorageError
from tests.support.commands import Command
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import list_names

pytest_plugins = ["tests.support.command_fixtures"]

IMAGES, LABELS = make_set(5, 5, 7)
NO_LOCKS = r"set: this file system has no locks \(.*lock=False \(`--no-lock`\)"
WRITES: dict[str, Callable[..., None]] = {
    "save": lambda path, **options: storage.save(path, IMAGES, LABELS, "npy", overwrite=True, **options),
    "append": lambda path, **options: storage.append(path, IMAGES, LABELS, **options),
    "compact": storage.compact,
}


@pytest.fixture
def unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save a dataset, then take the locks away from its file system."""
    storage.save(tmp_path / "set", IMAGES[:2], LABELS[:2], "npy")
    refuse = Mock(side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)))
    monkeypatch.setattr(fcntl, "flock", refuse)
    return tmp_path / "set"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_writer_says_that_there_are_no_locks_and_changes_nothing(write: Callable[..., None], unlocked: Path) -> None:
    before = list_names(unlocked)
    with pytest.raises(StorageError, match=NO_LOCKS) as caught:
        write(unlocked)
    assert caught.type is StorageError
    assert list_names(unlocked) == before
    assert_same(storage.load(unlocked), (IMAGES[:2], LABELS[:2]))


@pytest.mark.parametrize("name", WRITES)
def test_a_writer_without_a_lock_writes_and_leaves_nothing_else(name: str, unlocked: Path) -> None:
    (unlocked.parent / f".{unlocked.name}.lock").unlink()
    WRITES[name](unlocked, lock=False)
    expected = {"save": 5, "append": 7, "compact": 2}[name]
    assert len(storage.load(unlocked)[1]) == expected
    assert storage.check(unlocked).is_whole
    assert list_names(unlocked.parent) == ["set"]


def test_a_conversion_says_how_to_go_without_a_lock(run: Command, unlocked: Path) -> None:
    copy = unlocked.parent / "copy"
    code, _, complaints = run("convert", unlocked, copy, "--backend", "npy")
    assert code == 2
    assert "this file system has no locks" in complaints
    assert "`--no-lock`" in complaints
    assert run("convert", unlocked, copy, "--backend", "npy", "--no-lock")[0] == 0
    assert_same(storage.load(copy), (IMAGES[:2], LABELS[:2]))


def test_an_error_of_the_lock_that_is_no_lack_of_locks_is_what_it_is(
    unlocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(StorageError, match="the operating system refused"):
        storage.save(unlocked, IMAGES, LABELS, "npy", overwrite=True)
