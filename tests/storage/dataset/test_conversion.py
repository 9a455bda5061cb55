"""Conversions: whole or absent, and behind the last finished part after whatever ended them."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import storage
from storage import Images, StoreExistsError, StoreLockedError
from storage.dataset import replacement, writer
from storage.dataset.conversion import convert
from storage.errors import InvalidInputError, UnfinishedConversionError
from storage.sources.image_source import ArraySource, ImageSource
from storage.sources.opening import open_source
from tests.support.backends import need_backend
from tests.support.image_sets import assert_same, make_set

pytestmark = need_backend("hdf5")

COUNT, PER_PART = 34, 10
IMAGES, LABELS = make_set(COUNT, 5, 7)
MINE = ArraySource(IMAGES, LABELS, ("cat", "dog"), "mine")


@dataclass(frozen=True)
class Faulty(ArraySource):
    """Images in batches of four; reading fails behind the first `healthy` ones."""

    healthy: int
    error: BaseException

    def read(self, start: int) -> Iterator[Images]:
        """Read batches, then fail."""
        for first in range(start, self.healthy, 4):
            yield self.images[first : min(first + 4, self.healthy)]
        raise self.error


class Watched:
    """A source that notes where reading begins."""

    def __init__(self, source: ArraySource) -> None:
        self.labels, self.classes, self.identity = source.labels, source.classes, source.identity
        self.starts: list[int] = []
        self._source = source

    def read(self, start: int) -> Iterator[Images]:
        """Note the start, then read."""
        self.starts.append(start)
        return self._source.read(start)

    def identify(self) -> str:
        """Say the same as before."""
        return self.identity


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART", PER_PART * IMAGES[0].nbytes)


def save(source: ImageSource, path: Path, backend: str = "hdf5", *, overwrite: bool = False) -> int:
    """Convert without looking at the progress."""
    return convert(source, path, backend, overwrite=overwrite, progress=lambda *_: None)


def interrupt(path: Path, healthy: int, error: BaseException | None = None) -> None:
    """Convert as many images, then fail."""
    error = error or InvalidInputError("a made-up fault")
    with pytest.raises((UnfinishedConversionError, type(error))):
        save(Faulty(IMAGES, LABELS, MINE.classes, MINE.identity, healthy, error), path)


def list_names(folder: Path) -> list[str]:
    """List what is in a folder, without locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_source_becomes_a_dataset_of_any_backend_with_its_classes(backend: str, tmp_path: Path) -> None:
    taken: list[tuple[int, int]] = []
    done = convert(MINE, tmp_path / "set", backend, overwrite=False, progress=lambda *now: taken.append(now))
    assert done == 0
    assert taken == [(0, COUNT), (COUNT, COUNT)]
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    with storage.open(tmp_path / "set") as reader:
        assert reader.classes == ("cat", "dog")
    assert list_names(tmp_path) == ["set"]


def test_a_set_without_images_keeps_their_size(tmp_path: Path) -> None:
    images, labels = make_set(0, 5, 7)
    save(ArraySource(images, labels, (), "none"), tmp_path / "set")
    assert_same(storage.load(tmp_path / "set"), (images, labels))


@pytest.mark.parametrize(
    "error", [InvalidInputError("a made-up fault"), KeyboardInterrupt(), RuntimeError("the caller's")], ids=type
)
def test_after_an_error_the_same_conversion_goes_on_behind_the_last_finished_part(
    error: BaseException, tmp_path: Path
) -> None:
    interrupt(tmp_path / "set", 27, error)
    assert not (tmp_path / "set").exists()
    watched = Watched(MINE)
    assert save(watched, tmp_path / "set") == 20
    assert watched.starts == [20]
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    assert storage.check(tmp_path / "set").is_whole
    assert list_names(tmp_path) == ["set"]


def test_an_error_in_the_middle_says_what_is_kept_and_where(tmp_path: Path) -> None:
    fault = Faulty(IMAGES, LABELS, (), "mine", 27, InvalidInputError("a made-up fault"))
    with pytest.raises(
        UnfinishedConversionError, match=r"^a made-up fault: 20 images are kept in \.set\.tmp-\* next to"
    ):
        save(fault, tmp_path / "set")
    (name,) = list_names(tmp_path)
    assert name.startswith(".set.tmp-")


def test_a_conversion_may_be_ended_again_and_again(backend: str, tmp_path: Path) -> None:
    for healthy in (13, 15, 33, COUNT):
        fault = Faulty(IMAGES, LABELS, MINE.classes, MINE.identity, healthy, InvalidInputError("a made-up fault"))
        with pytest.raises(UnfinishedConversionError):
            save(fault, tmp_path / "set", backend)
    assert save(MINE, tmp_path / "set", backend) == COUNT
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


def test_before_a_part_is_finished_nothing_is_left(tmp_path: Path) -> None:
    interrupt(tmp_path / "set", 9)
    assert list_names(tmp_path) == []


@pytest.mark.parametrize(
    "other",
    [
        replace(MINE, identity="another"),
        replace(MINE, labels=LABELS[::-1].copy()),
        replace(MINE, classes=("dog", "cat")),
        replace(MINE, images=IMAGES[:-1], labels=LABELS[:-1]),
    ],
    ids=["identity", "labels", "classes", "fewer"],
)
def test_another_source_starts_anew(other: ArraySource, tmp_path: Path) -> None:
    interrupt(tmp_path / "set", 27)
    watched = Watched(other)
    assert save(watched, tmp_path / "set") == 0
    assert watched.starts == [0]
    assert_same(storage.load(tmp_path / "set"), (other.images, other.labels))
    assert list_names(tmp_path) == ["set"]


@need_backend("lmdb")
def test_another_backend_starts_anew(tmp_path: Path) -> None:
    interrupt(tmp_path / "set", 27)
    assert save(MINE, tmp_path / "set", "lmdb") == 0
    assert storage.check(tmp_path / "set").backend == "lmdb"
    assert list_names(tmp_path) == ["set"]


@need_backend("lmdb_packed")
def test_a_dataset_is_replaced_only_where_that_was_asked_for_and_only_at_the_end(tmp_path: Path) -> None:
    old = make_set(3)
    storage.save(tmp_path / "set", *old)
    with pytest.raises(StoreExistsError):
        save(MINE, tmp_path / "set")
    fault = Faulty(IMAGES, LABELS, MINE.classes, MINE.identity, 27, InvalidInputError("a made-up fault"))
    with pytest.raises(UnfinishedConversionError):
        save(fault, tmp_path / "set", overwrite=True)
    assert_same(storage.load(tmp_path / "set"), old)
    assert save(MINE, tmp_path / "set", overwrite=True) == 20
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    assert list_names(tmp_path) == ["set"]


def test_a_dataset_may_be_converted_where_it_is(backend: str, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", [IMAGES], LABELS, backend)
    with open_source(tmp_path / "set") as source:
        save(source, tmp_path / "set", "png_stored", overwrite=True)
        assert list_names(tmp_path) == ["set"]
    assert storage.check(tmp_path / "set").backend == "png_stored"
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


@need_backend("lmdb_packed")
def test_another_writer_is_not_disturbed(tmp_path: Path) -> None:
    def make_batches() -> Iterator[Images]:
        with pytest.raises(StoreLockedError):
            save(MINE, tmp_path / "set")
        yield IMAGES

    storage.save(tmp_path / "set", make_batches(), LABELS)
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


def test_a_disk_that_fills_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_space(stage: Path) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=0 if (stage / "part-00001").exists() else 1 << 20, f_frsize=4096)

    monkeypatch.setattr(os, "statvfs", find_space)
    with pytest.raises(UnfinishedConversionError, match=r"0 bytes are free.*free some space.*resumes after them"):
        save(MINE, tmp_path / "set")
    monkeypatch.undo()
    assert save(MINE, tmp_path / "set") == 20
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


@need_backend("lmdb_packed")
def test_a_last_step_that_fails_keeps_all_that_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(tmp_path / "set", *make_set(3))

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(replacement, "exchange", refuse)
    with pytest.raises(UnfinishedConversionError, match="Input/output error"):
        save(MINE, tmp_path / "set", overwrite=True)
    assert_same(storage.load(tmp_path / "set"), make_set(3))
    monkeypatch.undo()
    assert save(MINE, tmp_path / "set", overwrite=True) == COUNT
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    assert list_names(tmp_path) == ["set"]


def test_a_dataset_does_not_say_how_its_conversion_went_on(tmp_path: Path) -> None:
    interrupt(tmp_path / "set", 27)
    save(MINE, tmp_path / "set")
    parts = [f"part-{number:05}" for number in range(4)]
    assert list_names(tmp_path / "set") == ["checksums", "manifest.json", *parts]
    assert "mine" not in (tmp_path / "set" / "manifest.json").read_text()


def test_a_damaged_stage_does_not_replace_the_only_copy(tmp_path: Path) -> None:
    storage.save(tmp_path / "only", [IMAGES], LABELS, "hdf5")

    def stop(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with open_source(tmp_path / "only") as source, pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "only", "png", overwrite=True, progress=stop)
    (stage,) = tmp_path.glob(".only.tmp-*")
    (stage / "part-00001" / "00000004.png").unlink()
    with open_source(tmp_path / "only") as source:
        assert save(source, tmp_path / "only", "png", overwrite=True) == 0
    assert storage.check(tmp_path / "only").is_whole
    assert_same(storage.load(tmp_path / "only"), (IMAGES, LABELS))
    assert list_names(tmp_path) == ["only"]
