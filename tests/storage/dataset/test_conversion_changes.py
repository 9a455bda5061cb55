"""Conversions of sources that change while they are read: no mixture of old and new images is saved."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pillow

import storage
from storage import BACKENDS, arrays
from storage.dataset import writer
from storage.dataset.conversion import convert
from storage.errors import UnfinishedConversionError
from storage.sources.opening import open_source
from tests.support.backends import need_backend
from tests.support.image_sets import assert_same, make_set

pytestmark = need_backend("hdf5")

IMAGES, LABELS = make_set(30, 5, 7)
OTHERS = 255 - IMAGES


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART", 10 * IMAGES[0].nbytes)
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4 * IMAGES[0].nbytes)


def write_store(path: Path, *, new: bool) -> None:
    """Write a plain store; the new one file by file over the old one, with other pixels and the same labels."""
    written = path.with_name("written") if new else path
    BACKENDS["png"].store_many(written, OTHERS if new else IMAGES, LABELS)
    if new:
        shutil.copytree(written, path, dirs_exist_ok=True)


def write_tree(path: Path, *, new: bool) -> None:
    """Write a folder tree."""
    shutil.rmtree(path, ignore_errors=True)
    (path / "cat").mkdir(parents=True)
    for index, image in enumerate(OTHERS if new else IMAGES):
        Pillow.fromarray(image).save(path / "cat" / f"{index}.png")


@pytest.mark.parametrize("write", [write_store, write_tree])
def test_a_source_that_changes_in_the_middle_is_refused_and_then_converted_from_the_beginning(
    write: Callable[..., None], tmp_path: Path
) -> None:
    path, destination = tmp_path / "source", tmp_path / "set"
    write(path, new=False)

    def change(done: int, _: int) -> None:
        if done == 12:
            write(path, new=True)

    with (
        open_source(path) as source,
        pytest.raises(UnfinishedConversionError, match=r"set: nothing was saved, as the source was changed .* again"),
    ):
        convert(source, destination, "hdf5", overwrite=False, progress=change)
    assert not destination.exists()
    with open_source(path) as source:
        assert convert(source, destination, "hdf5", overwrite=False, progress=lambda *_: None) == 0
    assert_same(storage.load(destination), (OTHERS, source.labels))
    assert not list(tmp_path.glob(".set.tmp-*"))


@pytest.mark.parametrize("write", [write_store, write_tree])
def test_a_source_that_is_gone_at_the_end_is_refused(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "source", new=False)

    def remove(done: int, total: int) -> None:
        if done == total:
            shutil.rmtree(tmp_path / "source")

    with open_source(tmp_path / "source") as source, pytest.raises(UnfinishedConversionError):
        convert(source, tmp_path / "set", "hdf5", overwrite=False, progress=remove)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("write", [write_store, write_tree])
def test_a_change_before_the_first_image_is_noticed_too(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "source", new=False)
    with open_source(tmp_path / "source") as source:
        assert source.identify() == source.identity
        write(tmp_path / "source", new=True)
        assert source.identify() != source.identity


def test_a_dataset_that_is_replaced_in_the_middle_is_converted_as_it_was(tmp_path: Path) -> None:
    storage.save(tmp_path / "source", IMAGES, LABELS, "png")

    def change(done: int, _: int) -> None:
        if done == 12:
            storage.save(tmp_path / "source", OTHERS, LABELS, "png", overwrite=True)

    with open_source(tmp_path / "source") as source:
        convert(source, tmp_path / "set", "hdf5", overwrite=False, progress=change)
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
