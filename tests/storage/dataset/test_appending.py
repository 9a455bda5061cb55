"""Appending publishes all new images at once or none; compacting changes no image."""

import errno
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import storage
from storage import (
    BACKENDS,
    CorruptStoreError,
    ForkedWriterError,
    Images,
    InvalidInputError,
    StorageError,
    StoreFullError,
    StoreLockedError,
    StoreNotFoundError,
)
from storage.dataset import appending, writer
from storage.dataset.manifest import read_manifest
from storage.dataset.opening import Dataset
from tests.support.datasets import find_beside, find_part, flip_bit, list_parts, rewrite_details, write_format1
from tests.support.encoded_sets import assert_same_files, make_files
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import count_open, list_names

COUNT = 12
IMAGES, LABELS = make_set(COUNT, 5, 7)
FILES, FILE_LABELS = make_files(COUNT)
NAMES = [f"{number}.png" for number in range(COUNT)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Save five images with names."""
    storage.save(tmp_path / "set", IMAGES[:5], LABELS[:5], "npy", names=NAMES[:5])
    return tmp_path / "set"


def test_what_is_appended_follows_what_was_there(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "set"
    storage.save(path, IMAGES[:5], LABELS[:5], backend)
    storage.append(path, IMAGES[5:6], LABELS[5:6])
    storage.append(path, (IMAGES[start : start + 3] for start in (6, 9)), LABELS[6:])
    assert_same(storage.load(path), (IMAGES, LABELS))
    assert storage.check(path).is_whole
    assert [part.count for part in read_manifest(path).parts] == [5, 1, 6]
    with storage.open(path) as reader:
        assert_same(reader.read([11, 0, 5]), (IMAGES[[11, 0, 5]], LABELS[[11, 0, 5]]))
        np.testing.assert_array_equal(reader.read_labels(), LABELS)
        checksum = reader.checksum
    storage.compact(path)
    assert [part.count for part in read_manifest(path).parts] == [12]
    assert_same(storage.load(path), (IMAGES, LABELS))
    with storage.open(path) as reader:
        assert reader.checksum == checksum
    assert list_names(tmp_path) == ["set"]


def test_image_files_are_appended_and_compacted_with_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set"
    storage.save(path, FILES[:5], FILE_LABELS[:5], "npy", names=NAMES[:5])
    for start in range(5, COUNT):
        storage.append(path, FILES[start : start + 1], FILE_LABELS[start : start + 1], names=NAMES[start : start + 1])
    for parts in (8, 2):
        assert len(list_parts(path)) == parts
        assert_same_files(storage.load(path), (FILES, FILE_LABELS))
        with storage.open(path) as reader:
            assert list(reader.names) == NAMES
            assert reader.index("7.png") == 7
        monkeypatch.setattr(writer, "PART", 74_000)
        storage.compact(path)


def test_an_open_reader_keeps_what_it_opened(saved: Path) -> None:
    with storage.open(saved) as reader:
        pickled = pickle.dumps(reader)
        storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
        with pickle.loads(pickled) as copy:  # noqa: S301 - our own
            for each in (reader, copy):
                assert_same(each.read(range(len(each))), (IMAGES[:5], LABELS[:5]))
                np.testing.assert_array_equal(each.read_labels(), LABELS[:5])
                assert list(each.names) == NAMES[:5]
        storage.compact(saved)
        assert_same(reader.read(range(5)), (IMAGES[:5], LABELS[:5]))
        with pytest.raises(StoreNotFoundError, match="was replaced since the reader was pickled"):
            pickle.loads(pickled)  # noqa: S301 - our own


def test_appending_nothing_changes_nothing(saved: Path) -> None:
    before = list_names(saved)
    for images in (IMAGES[:0], [], [IMAGES[:0]]):
        storage.append(saved, images, LABELS[:0])
    assert list_names(saved) == before


def test_an_empty_dataset_can_be_appended_to_and_compacted(tmp_path: Path) -> None:
    path = tmp_path / "set"
    storage.save(path, IMAGES[:0], LABELS[:0], "npy")
    storage.compact(path)
    with pytest.raises(InvalidInputError, match="another size or kind"):
        storage.append(path, make_set(3)[0], LABELS[:3])
    storage.append(path, IMAGES, LABELS, names=NAMES)
    assert_same(storage.load(path), (IMAGES, LABELS))
    with storage.open(path) as reader:
        assert list(reader.names) == NAMES
        assert_same(reader.read([0, 11]), (IMAGES[[0, 11]], LABELS[[0, 11]]))
    assert storage.check(path).is_whole


@pytest.mark.parametrize("known", [{"names": []}, {"metadata": {"a": []}}], ids=["names", "metadata"])
def test_what_an_empty_dataset_knew_binds_no_images_that_are_appended(known: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "set"
    storage.save(path, IMAGES[:0], LABELS[:0], "npy", **known)
    storage.append(path, IMAGES[:2], LABELS[:2])
    assert storage.check(path).is_whole
    storage.compact(path)
    with storage.open(path) as reader:
        assert (list(reader.names), reader.metadata) == ([], {})
        assert_same(reader.read([0, 1]), (IMAGES[:2], LABELS[:2]))


CLASSES: dict[str, tuple[list[int], list[str] | None, list[int], tuple[str, ...]]] = {
    "none": ([1, -1], None, [1, -1], ("cat", "dog")),
    "the same": ([1, 0], ["cat", "dog"], [1, 0], ("cat", "dog")),
    "more": ([2, 0], ["cat", "dog", "ant"], [2, 0], ("cat", "dog", "ant")),
    "in another order": ([0, 1, 2], ["dog", "ant", "cat"], [1, 2, 0], ("cat", "dog", "ant")),
    "only a new one": ([0, 0], ["ant"], [2, 2], ("cat", "dog", "ant")),
    "of which one has no image": ([0, -7], ["dog", "ant"], [1, -7], ("cat", "dog", "ant")),
    "without any image": ([], ["ant"], [], ("cat", "dog", "ant")),
}


@pytest.mark.parametrize(("labels", "classes", "numbers", "all_classes"), CLASSES.values(), ids=CLASSES)
def test_classes_are_found_by_name_and_new_ones_follow(
    labels: list[int], classes: list[str] | None, numbers: list[int], all_classes: tuple[str, ...], tmp_path: Path
) -> None:
    storage.save(tmp_path / "set", IMAGES[:2], [0, 1], "npy", classes=["cat", "dog"])
    storage.append(tmp_path / "set", IMAGES[: len(labels)], labels, classes=classes)
    storage.compact(tmp_path / "set")
    with storage.open(tmp_path / "set") as reader:
        assert reader.targets == [0, 1, *numbers]
        assert reader.classes == all_classes
        assert reader.class_to_idx == {name: number for number, name in enumerate(all_classes)}


def test_an_empty_dataset_takes_the_classes_of_what_is_appended(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES[:0], LABELS[:0], "npy")
    storage.append(tmp_path / "set", IMAGES[:1], [1], classes=["cat", "dog"])
    with storage.open(tmp_path / "set") as reader:
        assert (reader.targets, reader.classes) == ([1], ("cat", "dog"))


def test_nothing_but_new_parts_and_the_last_details_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set"
    storage.save(path, IMAGES[:1], [0], "npy", classes=["cat"], names=["a"], metadata={"b": [1]})
    storage.append(path, IMAGES[:1], [0], names=["c"], metadata={"b": [2]})
    read = Mock(side_effect=AssertionError("names, labels or metadata that were there were read"))
    monkeypatch.setattr(Dataset, "make_lazy", read)
    monkeypatch.setattr(Dataset, "read_beside", read)
    storage.append(path, IMAGES[:1], [0], names=["d"], metadata={"b": [3]}, classes=["dog"])
    monkeypatch.undo()
    with storage.open(path) as reader:
        assert (reader.targets, list(reader.names), reader.metadata) == ([0, 0, 1], ["a", "c", "d"], {"b": [1, 2, 3]})


def test_an_open_reader_keeps_its_classes(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES[:1], [0], "npy", classes=["cat"])
    with storage.open(tmp_path / "set") as reader:
        storage.append(tmp_path / "set", IMAGES[:1], [0], classes=["ant"])
        assert reader.classes == ("cat",)


@pytest.mark.parametrize(
    ("saved", "classes", "label", "reason"),
    [
        (["cat"], None, 1, "a label is 1, and there are 1 classes: name those of the new images: storage.append"),
        (["cat"], ["ant", "bee"], 2, "a label is 2, and there are 2 classes"),
        ([], ["ant"], 0, "it has the label 0, and names of 0 classes: leave the classes out"),
        ([], ["ant", "ant"], 0, "two classes have one name"),
    ],
    ids=["no class", "more labels than classes", "no names", "twice"],
)
def test_labels_of_no_class_are_not_appended(
    saved: list[str], classes: list[str] | None, label: int, reason: str, tmp_path: Path
) -> None:
    storage.save(tmp_path / "set", IMAGES[:1], [0], "npy", classes=saved)
    with pytest.raises(InvalidInputError, match=reason):
        storage.append(tmp_path / "set", IMAGES[:1], [label], classes=classes)
    with storage.open(tmp_path / "set") as reader:
        assert (reader.targets, reader.classes) == ([0], tuple(saved))


@pytest.mark.parametrize("is_new", [True, False], ids=["with a summary", "of an earlier version"])
def test_a_new_class_never_names_a_label_that_was_there(tmp_path: Path, *, is_new: bool) -> None:
    storage.save(tmp_path / "set", IMAGES[:2], [0, 1], "npy", classes=["cat"])
    storage.append(tmp_path / "set", IMAGES[:1], [0], classes=["cat"])
    if not is_new:
        rewrite_details(tmp_path / "set", 1, summary=None)
    with pytest.raises(InvalidInputError, match="it has the label 1, and names of 1 classes"):
        storage.append(tmp_path / "set", IMAGES[:1], [0], classes=["ant"])


OTHERS, OTHER_LABELS = make_set(3)
INVALID: dict[str, tuple[Any, Any, Any, str]] = {
    "size": (OTHERS, OTHER_LABELS, NAMES[5:8], "another size or kind"),
    "kind": (FILES, FILE_LABELS, [f"new {name}" for name in NAMES], "another size or kind"),
    "labels": (IMAGES[:3], LABELS[:2], NAMES[5:8], "3 images and 2 labels"),
    "batches": ([IMAGES[:3]], LABELS[:2], NAMES[5:7], "3 images so far, and 2 labels"),
    "fewer": ([IMAGES[:3]], LABELS[:4], NAMES[5:9], "3 images and 4 labels; nothing was saved"),
    "no names": (IMAGES[:3], LABELS[:3], None, "set: its images have names: give each new image a name, too"),
    "same name": (IMAGES[:3], LABELS[:3], NAMES[4:7], r"set: it has an image named '4\.png'"),
    "number": (7, LABELS[:3], NAMES[5:8], "images is a int"),
}


@pytest.mark.parametrize("case", INVALID)
@pytest.mark.parametrize("part", [1, writer.PART], ids=["a part per image", "one part"])
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    case: str, part: int, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PART", part)
    before = list_names(saved)
    images, labels, names, message = INVALID[case]
    with pytest.raises(InvalidInputError, match=message):
        storage.append(saved, images, labels, names=names)
    assert list_names(saved) == before
    assert_same(storage.load(saved), (IMAGES[:5], LABELS[:5]))


def test_names_are_refused_where_there_are_none(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy")
    with pytest.raises(InvalidInputError, match="set: its images have no names: leave the names out, or save"):
        storage.append(tmp_path / "set", IMAGES, LABELS, names=NAMES)
    storage.save(tmp_path / "png", IMAGES, LABELS, "png")
    with pytest.raises(InvalidInputError, match="png can't store image files"):
        storage.append(tmp_path / "png", FILES, FILE_LABELS)


def test_a_dataset_of_format_1_is_compacted_before_anything_is_appended(saved: Path) -> None:
    write_format1(saved)
    with pytest.raises(StorageError, match=r"dataset of format 1: storage\.compact\(PATH\) brings it to the current"):
        storage.append(saved, IMAGES[5:], LABELS[5:])
    storage.compact(saved)
    storage.append(saved, IMAGES[5:], LABELS[5:])
    assert_same(storage.load(saved), (IMAGES, LABELS))


def test_what_is_no_dataset_cannot_be_appended_to(tmp_path: Path) -> None:
    BACKENDS["npy"].store_many(tmp_path / "plain", IMAGES, LABELS)
    for name in ("absent", "plain", "nowhere/set", "null\0"):
        for call in (lambda path: storage.append(path, IMAGES, LABELS), storage.compact):
            with pytest.raises(StoreNotFoundError):
                call(tmp_path / name)


def leave_behind(saved: Path) -> list[Path]:
    """Leave what a killed writer leaves."""
    part = saved / "part-00001-0123abcd"
    part.mkdir()
    (part / "images.npy").write_bytes(b"half")
    (saved / f"{part.name}.labels").write_bytes(b"half")
    (saved / "part-00007-0123abcd").symlink_to(find_part(saved))
    (saved / "manifest.json.new").write_bytes(b"half")
    return [part, saved / f"{part.name}.labels", saved / "part-00007-0123abcd"]


def test_the_next_append_removes_what_a_killed_one_left(saved: Path) -> None:
    left = leave_behind(saved)
    assert_same(storage.load(saved), (IMAGES[:5], LABELS[:5]))
    assert storage.check(saved).is_whole
    storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
    assert not any(path.exists() or path.is_symlink() for path in left)
    assert not (saved / "manifest.json.new").exists()
    assert_same(storage.load(saved), (IMAGES, LABELS))


def test_what_another_user_left_stays(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = leave_behind(saved)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
    assert all(path.exists() for path in left)
    assert storage.check(saved).is_whole


def test_an_append_that_fails_removes_its_parts(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list_names(saved)
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    with pytest.raises(StorageError, match=r"set: nothing was saved, and what was there is untouched \(.*Input/output"):
        storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
    storage.append(saved, IMAGES[5:6], LABELS[5:6], names=NAMES[5:6], durable=False)
    monkeypatch.undo()
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
    with pytest.raises(StoreFullError):
        storage.append(saved, IMAGES[6:], LABELS[6:], names=NAMES[6:])
    assert len(list_names(saved)) == 2 * len(before) - 1
    assert_same(storage.load(saved), (IMAGES[:6], LABELS[:6]))
    assert count_open(saved) == 0


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("place", ["manifest.json.new", "set"])
def test_an_append_that_fails_in_its_last_step_is_undone(
    error: BaseException, place: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_names(saved)

    def sync(path: Path) -> None:
        if Path(os.path.realpath(path)).name == place:
            raise error

    monkeypatch.setattr("storage.dataset.manifest.sync", sync)
    with pytest.raises((StorageError, KeyboardInterrupt)):
        storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
    assert list_names(saved) == sorted({*before, *(["manifest.json.new"] if place != "set" else [])})
    assert_same(storage.load(saved), (IMAGES[:5], LABELS[:5]))
    monkeypatch.undo()
    storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
    assert_same(storage.load(saved), (IMAGES, LABELS))


def test_an_append_that_cannot_tidy_up_raises_its_first_error(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def yield_batches() -> Iterator[Images]:
        yield IMAGES[5:7]
        monkeypatch.setattr(
            appending, "remove_unreferenced", Mock(side_effect=OSError(errno.EIO, "Input/output error"))
        )
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.append(saved, yield_batches(), LABELS[5:], names=NAMES[5:])
    assert_same(storage.load(saved), (IMAGES[:5], LABELS[:5]))


def test_a_second_writer_is_refused_while_something_is_appended(saved: Path) -> None:
    def yield_batches() -> Iterator[Images]:
        calls: list[Callable[[], object]] = [
            lambda: storage.append(saved, IMAGES[:1], LABELS[:1], names=["x"]),
            lambda: storage.save(saved, IMAGES, LABELS, "npy", overwrite=True),
            lambda: storage.compact(saved),
        ]
        for call in calls:
            with pytest.raises(StoreLockedError):
                call()
        yield IMAGES[5:]

    storage.append(saved, yield_batches(), LABELS[5:], names=NAMES[5:])
    assert_same(storage.load(saved), (IMAGES, LABELS))


def test_a_dataset_that_is_replaced_although_it_is_locked_is_not_appended_to(saved: Path) -> None:
    def yield_batches() -> Iterator[Images]:
        (saved.parent / ".set.lock").unlink()
        storage.save(saved, IMAGES[:2], LABELS[:2], "npy", overwrite=True)
        yield IMAGES[5:]

    with pytest.raises(StoreLockedError, match="another program replaced it meanwhile"):
        storage.append(saved, yield_batches(), LABELS[5:], names=NAMES[5:])
    assert_same(storage.load(saved), (IMAGES[:2], LABELS[:2]))
    assert storage.check(saved).is_whole


@pytest.mark.parametrize("suffix", ["manifest.json", "part-*.json"])
def test_nothing_can_be_appended_to_a_damaged_dataset(saved: Path, suffix: str) -> None:
    (path,) = saved.glob(suffix)
    flip_bit(path, path.stat().st_size - 20)
    with pytest.raises(CorruptStoreError, match=r"json is damaged.*restore it from a copy") as damaged:
        storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
    assert "delete" not in str(damaged.value)


def test_a_forked_writer_appends_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def yield_batches() -> Iterator[Images]:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        yield IMAGES[5:]

    with pytest.raises(ForkedWriterError):
        storage.append(saved, yield_batches(), LABELS[5:], names=NAMES[5:])
    assert_same(storage.load(saved), (IMAGES[:5], LABELS[:5]))


def test_a_dataset_that_changes_before_it_is_compacted_is_left_alone(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = writer.Writer.__enter__

    def append_and_enter(self: writer.Writer) -> writer.Writer:
        storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
        return enter(self)

    monkeypatch.setattr(writer.Writer, "__enter__", append_and_enter)
    with pytest.raises(StorageError, match="another program changed it meanwhile: compact it again"):
        storage.compact(saved)
    assert_same(storage.load(saved), (IMAGES, LABELS))
    assert list_names(saved.parent) == ["set"]


def test_a_damaged_dataset_is_not_compacted(saved: Path) -> None:
    storage.append(saved, IMAGES[5:], LABELS[5:], names=NAMES[5:])
    flip_bit(find_part(saved, 1) / "images.npy", 128 + 3 * IMAGES[0].nbytes)
    with pytest.raises(CorruptStoreError, match=r"record 8 \(8\.png\): it is damaged"):
        storage.compact(saved)
    flip_bit(find_part(saved, 1) / "images.npy", 128 + 3 * IMAGES[0].nbytes)
    flip_bit(find_beside(saved, "labels", 1), 0)
    with pytest.raises(CorruptStoreError, match=r"\.labels is damaged"):
        storage.compact(saved)
    assert list_names(saved.parent) == ["set"]
