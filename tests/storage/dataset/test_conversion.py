"""Conversions: atomic, resumed after an interruption, and never a mixture of old and new images."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import BACKENDS, Images, StoreExistsError, arrays
from storage.__main__ import main
from storage.dataset import replacement, writer
from storage.dataset.conversion import ImageSource, convert
from storage.errors import InvalidInputError, StorageError, UnfinishedConversionError
from storage.sources.examination import examine
from storage.sources.memory import ArraySource
from storage.sources.opening import open_source
from storage.sources.payload import Payload
from tests.support.backends import need_backend
from tests.support.datasets import find_part, list_parts, shorten
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import list_names
from tests.support.suite import ROOT

pytestmark = need_backend("hdf5")

COUNT, PER_PART = 34, 10
IMAGES, LABELS = make_set(COUNT, 5, 7)
OTHERS = 255 - IMAGES
MINE = ArraySource(IMAGES, LABELS, ("cat", "dog"), "mine")
FAULT = InvalidInputError("a made-up fault")


@dataclass(frozen=True)
class Faulty(ArraySource):
    """Images in batches of four; reading fails after the first `healthy` ones."""

    healthy: int = 0
    error: BaseException = FAULT

    def read(self, start: int) -> Generator[Images]:
        """Read batches, then fail."""
        for first in range(start, self.healthy, 4):
            yield self.images[first : min(first + 4, self.healthy)]
        raise self.error


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART", PER_PART * IMAGES[0].nbytes)
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4 * IMAGES[0].nbytes)


def save(source: ImageSource, path: Path, backend: str = "hdf5", *, overwrite: bool = False) -> int:
    return convert(source, path, backend, overwrite=overwrite, progress=lambda *_: None)


def interrupt(
    path: Path, healthy: int, error: BaseException = FAULT, backend: str = "hdf5", *, overwrite: bool = False
) -> None:
    with pytest.raises((UnfinishedConversionError, type(error))):
        save(
            Faulty(IMAGES, LABELS, MINE.classes, "mine", healthy=healthy, error=error),
            path,
            backend,
            overwrite=overwrite,
        )


def test_a_source_becomes_a_dataset_of_any_backend_with_its_classes(backend: str, tmp_path: Path) -> None:
    taken: list[tuple[int, int]] = []
    done = convert(MINE, tmp_path / "set", backend, overwrite=False, progress=lambda *now: taken.append(now))
    assert done == 0
    assert taken == [(0, COUNT), (COUNT, COUNT)]
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    with storage.open(tmp_path / "set") as reader:
        assert reader.classes == ("cat", "dog")
    assert list_names(tmp_path) == ["set"]


def test_an_empty_set_keeps_the_size_of_its_images(tmp_path: Path) -> None:
    save(ArraySource(IMAGES[:0], LABELS[:0], (), "none"), tmp_path / "set")
    assert_same(storage.load(tmp_path / "set"), (IMAGES[:0], LABELS[:0]))


@pytest.mark.parametrize("error", [FAULT, KeyboardInterrupt(), RuntimeError("the caller's")], ids=type)
def test_the_same_conversion_resumes_after_the_last_finished_part(error: BaseException, tmp_path: Path) -> None:
    interrupt(tmp_path / "set", 27, error)
    assert not (tmp_path / "set").exists()
    assert save(MINE, tmp_path / "set") == 20
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    assert storage.check(tmp_path / "set").is_whole
    assert list_names(tmp_path) == ["set"]
    found = [shorten(name) for name in list_names(tmp_path / "set")]
    parts = [f"part-{number:05}{end}" for number in range(4) for end in ("", ".checksums", ".json", ".labels")]
    assert found == ["manifest.json", *parts], "a trace of the conversion is left"
    assert "mine" not in (tmp_path / "set" / "manifest.json").read_text()


def test_a_conversion_can_be_interrupted_repeatedly(backend: str, tmp_path: Path) -> None:
    for healthy in (13, 15, 33, COUNT):
        interrupt(tmp_path / "set", healthy, backend=backend)
    assert save(MINE, tmp_path / "set", backend) == COUNT
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


def test_only_finished_parts_are_kept_and_the_error_says_where(tmp_path: Path) -> None:
    interrupt(tmp_path / "set", 9)
    assert list_names(tmp_path) == []
    with pytest.raises(UnfinishedConversionError, match=r"^a made-up fault: 20 images are kept in \.set\.tmp-\* next"):
        save(Faulty(IMAGES, LABELS, (), "mine", healthy=27, error=FAULT), tmp_path / "set")
    (name,) = list_names(tmp_path)
    assert name.startswith(".set.tmp-")


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (replace(MINE, identity="another"), "hdf5"),
        (replace(MINE, labels=LABELS[::-1].copy()), "hdf5"),
        (replace(MINE, classes=("dog", "cat")), "hdf5"),
        (replace(MINE, images=IMAGES[:-1], labels=LABELS[:-1]), "hdf5"),
        (MINE, "npy"),
    ],
    ids=["identity", "labels", "classes", "fewer", "backend"],
)
def test_another_source_or_backend_starts_from_the_beginning(other: ArraySource, name: str, tmp_path: Path) -> None:
    interrupt(tmp_path / "set", 27)
    assert save(other, tmp_path / "set", name) == 0
    assert_same(storage.load(tmp_path / "set"), (other.images, other.labels))
    assert list_names(tmp_path) == ["set"]


@need_backend("lmdb_packed")
def test_a_conversion_replaces_a_dataset_only_with_overwrite_and_only_at_the_end(tmp_path: Path) -> None:
    old = make_set(3)
    storage.save(tmp_path / "set", *old)
    with pytest.raises(StoreExistsError):
        save(MINE, tmp_path / "set")
    interrupt(tmp_path / "set", 27, overwrite=True)
    assert_same(storage.load(tmp_path / "set"), old)
    assert save(MINE, tmp_path / "set", overwrite=True) == 20
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    assert list_names(tmp_path) == ["set"]


def test_a_dataset_can_be_converted_in_place(backend: str, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", [IMAGES], LABELS, backend)
    with open_source(tmp_path / "set") as source:
        save(source, tmp_path / "set", "png_stored", overwrite=True)
        assert list_names(tmp_path) == ["set"]
    assert storage.check(tmp_path / "set").backend == "png_stored"
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


def test_nothing_is_converted_in_place_if_it_was_appended_to_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "set"
    storage.save(path, IMAGES, LABELS, "png")
    with open_source(path) as source:
        storage.append(path, IMAGES[:1], LABELS[:1])
        with pytest.raises(StorageError, match="set: another program changed it meanwhile: convert it again"):
            save(source, path, "png_stored", overwrite=True)
        assert save(source, tmp_path / "elsewhere", "png_stored") == 0
    assert len(storage.load(path)[1]) == len(LABELS) + 1
    assert_same(storage.load(tmp_path / "elsewhere"), (IMAGES, LABELS))


def test_finished_parts_are_kept_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_space(stage: Path) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=0 if (len(list_parts(stage)) == 2) else 1 << 20, f_frsize=4096)

    monkeypatch.setattr(os, "statvfs", find_space)
    with pytest.raises(UnfinishedConversionError, match=r"0 bytes are free.*free some space.*resumes after them"):
        save(MINE, tmp_path / "set")
    monkeypatch.undo()
    assert save(MINE, tmp_path / "set") == 20
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


@need_backend("lmdb_packed")
def test_finished_parts_are_kept_if_the_last_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(tmp_path / "set", *make_set(3))
    with monkeypatch.context() as patch:
        patch.setattr(replacement, "exchange", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        with pytest.raises(UnfinishedConversionError, match="Input/output error"):
            save(MINE, tmp_path / "set", overwrite=True)
    assert_same(storage.load(tmp_path / "set"), make_set(3))
    assert save(MINE, tmp_path / "set", overwrite=True) == COUNT
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    assert list_names(tmp_path) == ["set"]


def test_a_damaged_stage_does_not_replace_the_only_copy(tmp_path: Path) -> None:
    storage.save(tmp_path / "only", [IMAGES], LABELS, "hdf5")

    def stop(done: int, _: int) -> None:
        if done == COUNT:
            raise KeyboardInterrupt

    with open_source(tmp_path / "only") as source, pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "only", "png", overwrite=True, progress=stop)
    (stage,) = tmp_path.glob(".only.tmp-*")
    (find_part(stage, 1) / "00000004.png").unlink()
    with open_source(tmp_path / "only") as source:
        assert save(source, tmp_path / "only", "png", overwrite=True) == 0
    assert storage.check(tmp_path / "only").is_whole
    assert_same(storage.load(tmp_path / "only"), (IMAGES, LABELS))
    assert list_names(tmp_path) == ["only"]


def write_store(path: Path, *, new: bool) -> None:
    """Write a plain store; the new one file by file over the old one, with other pixels and the same labels."""
    written = path.with_name("written") if new else path
    BACKENDS["png"].store_many(written, OTHERS if new else IMAGES, LABELS)
    if new:
        shutil.copytree(written, path, dirs_exist_ok=True)


def write_tree(path: Path, *, new: bool) -> None:
    shutil.rmtree(path, ignore_errors=True)
    (path / "cat").mkdir(parents=True)
    for index, image in enumerate(OTHERS if new else IMAGES):
        Pillow.fromarray(image).save(path / "cat" / f"{index}.png")


@contextmanager
def open_pixels(path: Path) -> Iterator[ImageSource]:
    """Open a source; examine image files, and have them decoded."""
    with open_source(path) as source:
        yield source if source.kind == "pixels" else examine(source, Payload("pixels"), lambda *_: None)


@pytest.mark.parametrize("write", [write_store, write_tree])
def test_a_source_that_changes_meanwhile_is_refused_and_then_converted_from_the_beginning(
    write: Callable[..., None], tmp_path: Path
) -> None:
    path, destination = tmp_path / "source", tmp_path / "set"
    write(path, new=False)

    def change(done: int, _: int) -> None:
        if done == 12:
            write(path, new=True)

    with (
        open_pixels(path) as source,
        pytest.raises(UnfinishedConversionError, match=r"set: nothing was saved, as the source was changed .* again"),
    ):
        convert(source, destination, "hdf5", overwrite=False, progress=change)
    assert not destination.exists()
    with open_pixels(path) as source:
        assert save(source, destination) == 0
    assert_same(storage.load(destination), (OTHERS, source.labels))
    assert not list(tmp_path.glob(".set.tmp-*"))


@pytest.mark.parametrize("write", [write_store, write_tree])
def test_a_source_that_disappears_meanwhile_is_refused(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "source", new=False)

    def remove(done: int, total: int) -> None:
        if done == total:
            shutil.rmtree(tmp_path / "source")

    with open_pixels(tmp_path / "source") as source, pytest.raises(UnfinishedConversionError):
        convert(source, tmp_path / "set", "hdf5", overwrite=False, progress=remove)
    assert not (tmp_path / "set").exists()


def test_a_dataset_that_is_replaced_meanwhile_is_converted_as_it_was(tmp_path: Path) -> None:
    storage.save(tmp_path / "source", IMAGES, LABELS, "png")

    def change(done: int, _: int) -> None:
        if done == 12:
            storage.save(tmp_path / "source", OTHERS, LABELS, "png", overwrite=True)

    with open_source(tmp_path / "source") as source:
        convert(source, tmp_path / "set", "hdf5", overwrite=False, progress=change)
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


KILLED = """
import os, signal, sys
from storage.__main__ import main
from storage.dataset import parts, writer

writer.PART, (*path, step), after = int(sys.argv[1]), sys.argv[2].split("."), int(sys.argv[3])
place = {"writer": writer, "parts": parts}[path[0]]
place = getattr(place, path[1]) if path[1:] else place
original, calls = getattr(place, step), []

def die(*arguments, **options):
    result = original(*arguments, **options)
    calls.append(step)
    if len(calls) == after:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(place, step, die)
main(sys.argv[4:])
"""


@need_backend("lmdb")
@pytest.mark.parametrize(
    ("step", "after", "finished"),
    [
        ("writer.Writer._write", 1, 10),
        pytest.param("parts.PartWriter._write_beside", 2, 10, marks=pytest.mark.slow),
        pytest.param("parts.PartWriter.write", 3, 20, marks=pytest.mark.slow),
        pytest.param("writer.Writer._write", 4, 34, marks=pytest.mark.slow),
        ("writer.put_manifest", 5, 34),
    ],
)
def test_the_same_command_resumes_after_a_kill(
    step: str, after: int, finished: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage.save(tmp_path / "source", [IMAGES], LABELS, "png_stored", durable=False)
    command = ["convert", str(tmp_path / "source"), str(tmp_path / "set"), "--backend", "lmdb"]
    program = [sys.executable, "-c", KILLED, str(writer.PART), step, str(after)]
    killed = subprocess.run([*program, *command], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    assert main(command) == 0
    assert capsys.readouterr().out == (
        f"34 images saved in {tmp_path}/set as lmdb; an earlier conversion had saved the first {finished}\n"
    )
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    assert list_names(tmp_path) == ["set", "source"]


GROWTH = """
import sys
from pathlib import Path
import h5py, numpy, storage
from storage.__main__ import main
from storage.dataset import writer

def read_memory(field):
    status = Path("/proc/self/status").read_text()
    return int(status.partition(field + ":")[2].split()[0]) << 10

writer.PART = 8 << 20
before = read_memory("VmRSS")
assert main(sys.argv[1:]) == 0
print(read_memory("VmHWM") - before)
"""


@need_backend("hdf5")
@need_backend("png_stored")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")
def test_memory_of_a_conversion_does_not_grow_with_the_set(tmp_path: Path) -> None:
    images = np.zeros((512, 256, 256, 3), np.uint8)
    images[:] = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    storage.save(tmp_path / "source", images, np.arange(512), "png_stored", durable=False)
    command = ["convert", str(tmp_path / "source"), str(tmp_path / "set"), "--backend", "hdf5"]
    ended = subprocess.run(
        [sys.executable, "-c", GROWTH, *command], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    growth = int(ended.stdout.splitlines()[-1])
    assert images.nbytes == 96 << 20
    assert growth < 56 << 20, f"{growth:,} bytes for {images.nbytes:,} bytes of images"
    assert len(list_parts(tmp_path / "set")) == 13
