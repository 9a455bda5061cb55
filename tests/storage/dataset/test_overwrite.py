"""Saving replaces a dataset with `overwrite=True`, and never anything else that is at its path."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import storage
from storage import StoreExistsError
from storage.dataset.replacement import copy_permissions
from tests.support.backends import need_backend
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import list_names

pytestmark = need_backend("lmdb_packed")


def test_a_dataset_is_replaced_only_with_overwrite(backend: str, tmp_path: Path) -> None:
    old, new = make_set(5), make_set(6)
    storage.save(tmp_path / "set", *old, backend)
    with pytest.raises(StoreExistsError, match="overwrite=True"):
        storage.save(tmp_path / "set", *new, backend)
    assert_same(storage.load(tmp_path / "set"), old)
    storage.save(tmp_path / "set", *new, backend, overwrite=True)
    assert_same(storage.load(tmp_path / "set"), new)
    assert list_names(tmp_path) == ["set"]


def test_an_empty_directory_becomes_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    storage.save(tmp_path / "set", *make_set(2))
    assert_same(storage.load(tmp_path / "set"), make_set(2))


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "set")
    storage.save(tmp_path / "link", *make_set(2))
    storage.save(tmp_path / "link", *make_set(3), overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert_same(storage.load(tmp_path / "disk" / "set"), make_set(3))
    assert list_names(tmp_path / "disk") == ["set"]


def save_while(path: Path, intrude: Callable[[], object], *, overwrite: bool = False) -> None:
    """Save two batches, and have something happen between them."""
    images, labels = make_set(6)

    def progress(done: int, _: int) -> None:
        if done == 3:
            intrude()

    storage.save(path, [images[:3], images[3:]], labels, overwrite=overwrite, progress=progress)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_appears_meanwhile_stays(tmp_path: Path, *, overwrite: bool) -> None:
    path = tmp_path / "set"

    def intrude() -> None:
        path.mkdir()
        (path / "thesis.txt").write_text("years")

    with pytest.raises(StoreExistsError, match=r"holds thesis.txt, which storage.save did not write"):
        save_while(path, intrude, overwrite=overwrite)
    assert (path / "thesis.txt").read_text() == "years"
    assert list_names(tmp_path) == ["set"]


def test_a_dataset_that_appears_at_the_last_moment_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(tmp_path / "set", *make_set(4))
    storage.save(tmp_path / "other", *make_set(5))
    real = storage.dataset.replacement.exchange

    def exchange(one: Path, other: Path) -> None:
        if (tmp_path / "other").exists():
            (tmp_path / "set").rename(tmp_path / "elsewhere")
            (tmp_path / "other").rename(tmp_path / "set")
        real(one, other)

    monkeypatch.setattr(storage.dataset.replacement, "exchange", exchange)
    with pytest.raises(StoreExistsError, match="another program put something else there"):
        storage.save(tmp_path / "set", *make_set(6), overwrite=True)
    assert_same(storage.load(tmp_path / "set"), make_set(5))
    assert list_names(tmp_path) == ["elsewhere", "set"]


def test_only_what_was_read_back_replaces_a_dataset_that_appears_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "other", *make_set(5))

    def copy_late(*arguments: Any) -> None:  # noqa: ANN401 - as there
        (tmp_path / "other").rename(tmp_path / "set")
        copy_permissions(*arguments)

    monkeypatch.setattr("storage.dataset.writer.copy_permissions", copy_late)
    with pytest.raises(StoreExistsError, match="it holds a dataset"):
        storage.save(tmp_path / "set", *make_set(6), overwrite=True)
    assert_same(storage.load(tmp_path / "set"), make_set(5))
    assert list_names(tmp_path) == ["set"]


@pytest.mark.parametrize(
    "names", [["manifest.json"], ["index.html", "manifest.json"], ["checksums"], ["notes"]], ids=str
)
def test_a_foreign_folder_is_never_replaced(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in names:
        (tmp_path / "set" / name).write_text("mine")
    with pytest.raises(StoreExistsError, match=r"storage.save did not write: choose"):
        storage.save(tmp_path / "set", *make_set(2), overwrite=True)
    assert list_names(tmp_path) == ["set"]
    assert {path.name: path.read_text() for path in (tmp_path / "set").iterdir()} == dict.fromkeys(names, "mine")


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("mine")
    with pytest.raises(StoreExistsError, match=r"it is a file: choose another path"):
        storage.save(tmp_path / "set", *make_set(2), overwrite=True)
    assert (tmp_path / "set").read_text() == "mine"


def test_a_dataset_with_foreign_files_is_not_replaced(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(2))
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(StoreExistsError, match=r"holds notes.txt"):
        storage.save(tmp_path / "set", *make_set(3), overwrite=True)
    assert (tmp_path / "set" / "notes.txt").read_text() == "mine"


def test_what_a_system_leaves_in_a_dataset_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "set"
    storage.save(path, *make_set(2))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._manifest.json"):
        (path / name).write_bytes(b"of a system")
    (path / "__MACOSX").mkdir()
    assert storage.check(path).is_whole
    storage.append(path, *make_set(2))
    storage.compact(path)
    for name in (".DS_Store", "THUMBS.DB"):
        (path / name).write_bytes(b"of a system")
    storage.save(path, *make_set(3), overwrite=True)
    assert_same(storage.load(path), make_set(3))
    assert list_names(tmp_path) == ["set"]


def test_a_folder_with_nothing_but_what_a_system_left_is_refused_as_it_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".DS_Store").write_bytes(b"of a system")
    with pytest.raises(StoreExistsError, match=r"holds \.DS_Store, which storage\.save did not write"):
        storage.save(tmp_path / "set", *make_set(2), overwrite=True)


def test_a_replacement_keeps_group_and_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(tmp_path / "set", *make_set(2))
    (tmp_path / "set").chmod(0o2710)
    storage.save(tmp_path / "set", *make_set(3), overwrite=True)
    assert (tmp_path / "set").stat().st_mode & 0o7777 == 0o2710

    monkeypatch.setattr(os, "chown", Mock(side_effect=PermissionError))  # a group that this user is not in
    storage.save(tmp_path / "set", *make_set(4), overwrite=True)
    assert (tmp_path / "set").stat().st_mode & 0o7777 == 0o2710


def test_a_stage_is_safe_from_other_writers_even_if_the_lock_is_deleted(tmp_path: Path) -> None:
    def intrude() -> None:
        (tmp_path / ".set.lock").unlink()
        storage.save(tmp_path / "set", *make_set(4))

    with pytest.raises(StoreExistsError, match="holds a dataset"):
        save_while(tmp_path / "set", intrude)
    assert_same(storage.load(tmp_path / "set"), make_set(4))
