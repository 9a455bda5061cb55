"""Files that hold all images as one array: .npy, .npz, HDF5 and IDX."""

import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import storage
from storage import arrays
from storage.dataset.conversion import convert
from storage.errors import CorruptStoreError, InvalidInputError
from storage.sources.opening import open_source
from storage.sources.pixels import PixelSource
from tests.support.image_sets import assert_same, make_set
from tests.support.source_files import WRITERS, write_npy

COUNT = 20
IMAGES, LABELS = make_set(COUNT, 5, 7)
LABELS = LABELS.astype(np.int16)


@pytest.fixture(params=WRITERS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    labels = LABELS.astype(np.int32) if "idx" in request.param else LABELS
    return WRITERS[request.param](tmp_path, IMAGES, labels)


def read(path: Path, start: int = 0) -> tuple[NDArray[Any], NDArray[np.int64]]:
    with open_source(path) as source:
        return np.concatenate(list(source.read(start))), source.labels


@pytest.mark.parametrize("first", [0, 7, COUNT - 1])
def test_pixels_are_read_from_any_image_to_the_end_in_small_batches(
    path: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4 * IMAGES[0].nbytes)
    with open_source(path) as source:
        batches: list[Any] = list(source.read(first))
        assert all(len(batch) <= 4 for batch in batches)
        assert_same((np.concatenate(batches), source.labels), (IMAGES[first:], LABELS.astype(np.int64)))
        assert (source.kind, source.names, source.classes, source.skipped) == ("pixels", None, (), ())
        assert list(source.read(COUNT)) == []


def test_the_identity_changes_with_each_file(path: Path) -> None:
    for file in path.parent.iterdir():
        with open_source(path) as source:
            assert source.identify() == source.identity
            os.utime(file, ns=(0, 0))
            assert source.identify() != source.identity


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_without_images_yields_one_empty_batch(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, IMAGES[:0], LABELS[:0].astype(np.int32))
    with open_source(path) as source:
        assert [batch.shape for batch in source.read(0) if isinstance(batch, np.ndarray)] == [(0, 5, 7, 3)]
        assert len(source.labels) == 0


def test_a_file_that_is_cut_short_while_it_is_read_is_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4 * IMAGES[0].nbytes)
    with open_source(path) as source:
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(CorruptStoreError, match=path.name):
            list(source.read(0))


@pytest.mark.parametrize("extra", [b"\0", b"more"])
def test_bytes_that_are_added_while_a_file_is_read_are_noticed(extra: bytes, tmp_path: Path) -> None:
    with open_source(write_npy(tmp_path, IMAGES, LABELS)) as source:
        with (tmp_path / "images.npy").open("ab") as file:
            file.write(extra)
        with pytest.raises(CorruptStoreError, match="more follows after 2,228 bytes"):
            list(source.read(3))


def test_pixels_become_a_dataset(path: Path, tmp_path: Path) -> None:
    with open_source(path) as source:
        assert isinstance(source, PixelSource)
        convert(source, tmp_path / "set", "npy", overwrite=False, progress=lambda *_: None)
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS.astype(np.int64)))


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (IMAGES[0], LABELS[:5], r"an array of shape \(5, 7, 3\), which is a single image"),
        (IMAGES[0, 0], LABELS, r"shape \(7, 3\) and dtype uint8, which isn't of images"),
        (IMAGES.astype(bool), LABELS, r"dtype bool: give masks as 0 and 1: images.astype\(numpy.uint8\)"),
        (IMAGES.astype(complex), LABELS, "dtype complex128, which isn't of images"),
        (IMAGES[:, :0], LABELS, r"images\.npy: .* no pixels"),
        (IMAGES.astype(float), LABELS, r"images\.npy: images has dtype float64"),
        (IMAGES, LABELS[:3], r"labels of shape \(3,\) and dtype int16, for 20 images"),
        (IMAGES, LABELS.astype(float), "dtype float64, for 20 images"),
        (IMAGES, np.full(COUNT, 1 << 63, np.uint64), "a label doesn't fit in 64 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_set_is_refused(
    images: NDArray[Any], labels: NDArray[Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        read(write_npy(tmp_path, images, labels))


def test_of_an_enumeration_the_numbers_are_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, dtype=h5py.enum_dtype({"dark": 0, "bright": 255}, "u1"))
    with open_source(tmp_path / "set.h5") as source:
        assert isinstance(source, PixelSource)
        convert(source, tmp_path / "set", "npy", overwrite=False, progress=lambda *_: None)
    np.testing.assert_array_equal(storage.load(tmp_path / "set")[0], IMAGES)


def test_an_hdf5_file_that_another_program_has_locked_is_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("images", data=IMAGES)
        file.create_dataset("labels", data=LABELS)
    with (tmp_path / "set.h5").open("rb") as locked, open_source(tmp_path / "set.h5") as source:
        fcntl.flock(locked, fcntl.LOCK_EX)
        first, second = source.read(0), source.read(0)  # the file is open twice
        np.testing.assert_array_equal(next(first), next(second))


@pytest.mark.parametrize("name", ["npy", "npz", "hdf5"])
def test_labels_may_be_a_column(name: str, tmp_path: Path) -> None:
    assert_same(read(WRITERS[name](tmp_path, IMAGES, LABELS[:, None])), (IMAGES, LABELS.astype(np.int64)))


def test_a_wrong_array_is_shown_as_it_is(tmp_path: Path) -> None:
    path = write_npy(tmp_path, np.zeros((COUNT, 3, 8, 9), np.uint8), LABELS)
    with (
        pytest.raises(InvalidInputError, match=r"images.npy: images of shape \(20, 3, 8, 9\) seem to be"),
        open_source(path),
    ):
        pass
