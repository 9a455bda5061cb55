"""What others do to a dataset and its path: nothing of theirs is lost, and nothing of theirs is taken for a dataset."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from xxhash import xxh3_64_hexdigest

import storage
from storage import BACKENDS, CorruptStoreError, StorageError, StoreExistsError, StoreFullError, StoreNotFoundError
from storage.dataset import checksums
from storage.errors import InvalidInputError
from tests.support.backends import need_backend
from tests.support.datasets import rewrite_manifest
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import list_names

pytestmark = need_backend("lmdb_packed")


def save_while(path: Path, intrude: Callable[[], object], *, overwrite: bool = False) -> None:
    """Save two batches, and have something happen between them."""
    images, labels = make_set(6)

    def progress(done: int, _: int) -> None:
        if done == 3:
            intrude()

    storage.save(path, [images[:3], images[3:]], labels, overwrite=overwrite, progress=progress)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_came_to_the_path_meanwhile_stays(tmp_path: Path, *, overwrite: bool) -> None:
    path = tmp_path / "set"

    def intrude() -> None:
        path.mkdir()
        (path / "thesis.txt").write_text("years")

    with pytest.raises(StoreExistsError, match=r"holds thesis.txt, which storage.save did not write"):
        save_while(path, intrude, overwrite=overwrite)
    assert (path / "thesis.txt").read_text() == "years"
    assert list_names(tmp_path) == ["set"]


def test_a_dataset_that_came_to_the_path_meanwhile_stays(tmp_path: Path) -> None:
    storage.save(tmp_path / "other", *make_set(4))
    with pytest.raises(StoreExistsError, match="holds a dataset"):
        save_while(tmp_path / "set", lambda: (tmp_path / "other").rename(tmp_path / "set"))
    assert_same(storage.load(tmp_path / "set"), make_set(4))


def test_what_comes_to_the_path_at_the_last_moment_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(
    "files",
    [{"manifest.json": "{}"}, {"manifest.json": "{}", "index.html": ""}, {"checksums": ""}, {"notes": ""}],
    ids=["manifest", "manifest and page", "checksums", "notes"],
)
def test_a_folder_that_only_looks_like_a_dataset_is_never_replaced(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, text in files.items():
        (tmp_path / "set" / name).write_text(text)
    with pytest.raises(StoreExistsError, match=r"which storage.save did not write"):
        storage.save(tmp_path / "set", *make_set(2), overwrite=True)
    assert {path.name: path.read_text() for path in (tmp_path / "set").iterdir()} == files


def test_a_dataset_that_others_put_files_into_is_not_replaced(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(2))
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(StoreExistsError, match=r"holds notes.txt"):
        storage.save(tmp_path / "set", *make_set(3), overwrite=True)
    assert (tmp_path / "set" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_text("x"), str], ids=["gone", "changed", "none"]
)
def test_a_damaged_dataset_can_be_replaced(damage: Callable[[Path], object], tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(2))
    damage(tmp_path / "set" / "manifest.json")
    storage.save(tmp_path / "set", *make_set(3), overwrite=True)
    assert_same(storage.load(tmp_path / "set"), make_set(3))


def test_a_replacement_keeps_the_permissions_of_what_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", *make_set(2))
    (tmp_path / "set").chmod(0o2710)
    storage.save(tmp_path / "set", *make_set(3), overwrite=True)
    assert (tmp_path / "set").stat().st_mode & 0o7777 == 0o2710

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)  # a group that this user is not in
    storage.save(tmp_path / "set", *make_set(4), overwrite=True)
    assert (tmp_path / "set").stat().st_mode & 0o7777 == 0o2710


def test_a_stage_stays_with_its_writer_even_if_somebody_deletes_the_lock(tmp_path: Path) -> None:
    def intrude() -> None:
        (tmp_path / ".set.lock").unlink()
        storage.save(tmp_path / "set", *make_set(4))

    with pytest.raises(StoreExistsError, match="holds a dataset"):
        save_while(tmp_path / "set", intrude)
    assert_same(storage.load(tmp_path / "set"), make_set(4))


def test_a_lock_that_may_not_be_opened_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(StorageError, match=r"its lock cannot be opened .*writable for you"):
        storage.save(tmp_path / "set", *make_set(4))


def test_a_pickled_reader_opens_no_other_dataset(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(4))
    with storage.open(tmp_path / "set") as reader:
        pickled = pickle.dumps(reader)
    storage.save(tmp_path / "set", *make_set(5), overwrite=True)
    with pytest.raises(StoreNotFoundError, match="was replaced since the reader was pickled"):
        pickle.loads(pickled)  # noqa: S301 - our own


@need_backend("hdf5")
@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [0, 32, 3]},
        {"parts": [], "count": 0},
        {"parts": [10**30], "count": 10**30},
        {"sizes": [1]},
        {"structure": [1]},
        {"structure": {"part-00000/images.h5": 1}},
    ],
    ids=str,
)
def test_a_manifest_of_other_kinds_of_values_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(4), "hdf5")
    rewrite_manifest(tmp_path / "set", **changes)
    for read in (storage.load, storage.open, storage.check):
        with pytest.raises(StorageError, match=r"manifest.json is whole, but not understood"):
            read(tmp_path / "set")


def test_a_manifest_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(4))
    rest = b'"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    first = f'{{"manifest_checksum": "{xxh3_64_hexdigest(rest)}",\n'.encode()
    (tmp_path / "set" / "manifest.json").write_bytes(first + rest)
    with pytest.raises(StorageError, match="not understood"):
        storage.load(tmp_path / "set")


@pytest.mark.parametrize(
    "changes", [{"parts": [3], "count": 3}, {"parts": [0], "count": 0}, {"shape": [16, 64, 3]}], ids=str
)
def test_parts_that_hold_something_else_than_the_manifest_says_are_refused(
    changes: dict[str, object], backend: str, tmp_path: Path
) -> None:
    storage.save(tmp_path / "set", *make_set(4), backend)
    rewrite_manifest(tmp_path / "set", **changes)
    for verify in (True, False):
        with pytest.raises(CorruptStoreError):
            storage.load(tmp_path / "set", verify=verify)
    assert not storage.check(tmp_path / "set").is_whole


@pytest.mark.parametrize("size", [None, (1 << 30) + 1])
def test_a_manifest_that_is_a_pipe_or_far_too_large_is_damaged(size: int | None, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(4))
    path = tmp_path / "set" / "manifest.json"
    path.unlink()
    if size is None:
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, size)
    for read in (storage.load, storage.open, storage.check):
        with pytest.raises(CorruptStoreError, match=r"manifest.json is damaged"):
            read(tmp_path / "set")


@pytest.mark.parametrize("images", [None, 5])
def test_what_is_no_array_and_no_batches_is_named(images: object, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"images is a .*give an array, or batches of arrays"):
        storage.save(tmp_path / "set", images, make_set(2)[1])  # type: ignore[arg-type]
    assert list_names(tmp_path) == []


def test_a_name_that_no_file_can_have_is_no_damage(tmp_path: Path) -> None:
    for name in ("null\0", "\ud800"):
        for call in (storage.load, storage.open, storage.check, lambda path: storage.save(path, *make_set(2))):
            with pytest.raises(StoreNotFoundError):
                call(tmp_path / name)


def test_a_file_of_an_image_that_became_a_link_to_itself_is_one_damaged_record(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(4), "png")
    path = tmp_path / "set" / "part-00000" / "00000002.png"
    path.unlink()
    path.symlink_to(path)
    report = storage.check(tmp_path / "set")
    assert list(report.files) == ["part-00000/00000002.png"]
    assert list(report.records) == [2]
    with pytest.raises(StorageError, match="record 2: it cannot be read"):
        storage.load(tmp_path / "set")
    with storage.open(tmp_path / "set") as reader, pytest.raises(StorageError, match="record 2: it cannot be read"):
        reader.read([1, 2])


def test_a_store_that_may_be_small_is_tried_on_a_disk_that_seems_too_small(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
    if BACKENDS[backend].INFO.compresses:
        storage.save(tmp_path / "set", *make_set(4), backend)
        assert_same(storage.load(tmp_path / "set"), make_set(4))
    else:
        with pytest.raises(StoreFullError):
            storage.save(tmp_path / "set", *make_set(4), backend)


@pytest.mark.parametrize("more", [0, 1])
def test_where_no_thread_can_be_started_those_that_there_are_hash(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 2 * 8 * 8 * 3)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4))
    images, labels = make_set(40, 8, 8)
    expected = checksums.hash_blocks(images, labels, 0)
    real, started = Thread.start, list[Thread]()

    def start(thread: Thread) -> None:
        if len(started) == more:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        real(thread)

    monkeypatch.setattr(Thread, "start", start)
    np.testing.assert_array_equal(checksums.hash_blocks(images, labels, 0), expected)
    assert len(started) == more
