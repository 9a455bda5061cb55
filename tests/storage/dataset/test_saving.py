"""Saving: the dataset appears when it is complete, and one writer writes at a time."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest

import storage
from storage import (
    BACKENDS,
    Images,
    InvalidInputError,
    Labels,
    StorageError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
)
from storage.dataset import writer
from tests.support.backends import need_backend
from tests.support.datasets import find_part, list_parts, shorten
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import list_names

pytestmark = need_backend("lmdb_packed")


def look(path: Path) -> object:
    """Return what a file holds, or which names a directory has for which files."""
    if path.is_dir():
        return sorted((entry.name, entry.stat().st_ino) for entry in path.iterdir())
    return path.read_bytes()


def watch_syncs(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[Path, object]]:
    """Note of each file and directory, by its number, where it was when it was synced last, and what was in it."""
    synced: dict[int, tuple[Path, object]] = {}

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced[path.stat().st_ino] = path, look(path)

    monkeypatch.setattr(os, "fsync", sync)
    return synced


@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_saved_set_is_loaded_exactly_from_plain_stores(backend: str, count: int, tmp_path: Path) -> None:
    images, labels = make_set(count, 5, 7)
    storage.save(tmp_path / "set", images, labels, backend)
    assert_same(storage.load(tmp_path / "set"), (images, labels))
    assert_same(BACKENDS[backend].read_many(find_part(tmp_path / "set")), (images, labels))
    assert list_names(tmp_path) == ["set"]


def test_batches_of_any_sizes_become_parts(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART", 10 * 5 * 7 * 3)
    images, labels = make_set(34, 5, 7)
    batches = (images[start:end] for start, end in [(0, 3), (3, 3), (3, 25), (25, 26), (26, 34)])
    taken: list[tuple[int, int]] = []
    storage.save(tmp_path / "set", batches, labels, backend, progress=lambda *counts: taken.append(counts))
    assert_same(storage.load(tmp_path / "set"), (images, labels))
    assert taken == [(3, 34), (3, 34), (25, 34), (26, 34), (34, 34)]
    assert [shorten(path.name) for path in list_parts(tmp_path / "set")] == [f"part-0000{n}" for n in range(4)]


def test_the_default_backend_needs_no_extra(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(3))
    assert storage.check(tmp_path / "set").backend == "lmdb_packed"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (make_set(3)[0], make_set(2)[1], "3 images and 2 labels"),
        (make_set(3)[0].astype(float), make_set(3)[1], "images has dtype float64"),
        (make_set(3)[0], {1, 2, 3}, "labels is a set"),
        ([make_set(3)[0], make_set(3)[0]], make_set(5)[1], "6 images so far, and 5 labels"),
        ([make_set(3)[0]], make_set(5)[1], "3 images and 5 labels"),
        ([make_set(3)[0], make_set(2, 8)[0]], make_set(5)[1], "images of another size"),
        (list(make_set(3)[0]), make_set(2)[1], "3 images and 2 labels"),
        (iter(make_set(3)[0][:, 0, 0]), make_set(3)[1], "images has shape"),
        (b"a file", [1, 2], "images is a bytes"),
        ({"a": b"a file"}, [1], "images is a dict"),
        ([], make_set(0)[1], "no batch shows what kind of images there are none of"),
        (None, make_set(2)[1], r"images is a NoneType.*give an array, or a list of images"),
        (5, make_set(2)[1], r"images is a int.*give an array, or a list of images"),
    ],
)
@pytest.mark.parametrize("part", [writer.PART, 1], ids=["one part", "a part per image"])
def test_an_invalid_image_set_leaves_nothing_behind(
    images: Images, labels: Labels, message: str, part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PART", part)
    with pytest.raises(InvalidInputError, match=message):
        storage.save(tmp_path / "set", images, labels)
    assert list_names(tmp_path) == []


def test_saving_without_durable_never_syncs(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    storage.save(tmp_path / "set", *make_set(3), backend, durable=False)
    assert not synced
    storage.save(tmp_path / "set", *make_set(3), backend, overwrite=True)
    assert len(synced) > 5


@pytest.mark.parametrize("there", [False, True], ids=["new", "replacing"])
def test_everything_is_synced_before_it_is_published_and_the_path_afterwards(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    path = tmp_path / "set"
    if there:
        storage.save(path, *make_set(2), backend)
    images, labels = make_set(30, 5, 7)
    monkeypatch.setattr(writer, "PART", 10 * images[0].nbytes)
    synced = watch_syncs(monkeypatch)
    storage.save(path, [images], labels, backend, overwrite=True)
    for each in (path, *path.rglob("*")):
        place, content = synced[each.stat().st_ino]
        stage = tmp_path / place.relative_to(tmp_path).parts[0]
        assert stage.name.startswith(".set.tmp-")
        synced_name = str(place.relative_to(stage)).removesuffix(".new")
        assert (synced_name, content) == (str(each.relative_to(path)), look(each))
    place, names = synced[tmp_path.stat().st_ino]
    assert isinstance(names, list)
    assert (place, ("set", path.stat().st_ino) in names) == (tmp_path, True)


def test_a_second_writer_is_refused_at_once_in_the_same_thread_and_in_another(tmp_path: Path) -> None:
    images, labels = make_set(3)

    def save_again(*, overwrite: bool = False) -> None:
        with pytest.raises(StoreLockedError, match="another writer is saving there"):
            storage.save(tmp_path / "set", images, labels, overwrite=overwrite)

    def make_batches() -> Iterator[Images]:
        save_again()
        yield images[:1]
        save_again(overwrite=True)
        yield images[1:2]
        with ThreadPoolExecutor(1) as pool:
            pool.submit(save_again).result()
        yield images[2:]

    storage.save(tmp_path / "set", make_batches(), labels)
    assert_same(storage.load(tmp_path / "set"), (images, labels))
    assert list_names(tmp_path) == ["set"]


def test_a_faster_writer_is_noticed_before_the_first_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = filelock.FileLock.acquire

    def save_and_acquire(lock: filelock.FileLock) -> object:
        monkeypatch.undo()
        storage.save(tmp_path / "set", *make_set(2))
        return acquire(lock)

    batches = iter([make_set(3)[0]])
    monkeypatch.setattr(filelock.FileLock, "acquire", save_and_acquire)
    with pytest.raises(StoreExistsError, match="overwrite=True"):
        storage.save(tmp_path / "set", batches, make_set(3)[1])
    assert len(list(batches)) == 1
    assert_same(storage.load(tmp_path / "set"), make_set(2))
    assert list_names(tmp_path) == ["set"]


def test_an_impossible_path_or_backend_is_refused(tmp_path: Path) -> None:
    for name in ("null\0", "\ud800", "nowhere/set"):
        for call in (storage.load, storage.open, storage.check, lambda path: storage.save(path, *make_set(2))):
            with pytest.raises(StoreNotFoundError):
                call(tmp_path / name)
    with pytest.raises(StorageError, match="File name too long"):
        storage.save(tmp_path / ("long" * 100), *make_set(2))
    with pytest.raises(InvalidInputError, match=r"'tape' isn't a backend: choose one of .*png"):
        storage.save(tmp_path / "set", *make_set(2), "tape")
    assert list_names(tmp_path) == []
