"""Files that hold all images as one array: .npy, .npz, HDF5 and IDX."""

import fcntl
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import storage
from storage import arrays, limits
from storage.dataset.conversion import convert
from storage.errors import CorruptStoreError, InvalidInputError, StorageError
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


NUMBERS = np.arange(COUNT) % 3
CLASSES = ["cat", "dög", "horse"]
PATHS = [f"a/{number}.png" for number in range(COUNT)]


def write_texts(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write arrays and strings as .npz or HDF5; bytes have a fixed size there."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with pytest.importorskip("h5py").File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("is_fixed", [False, True])
def test_strings_name_images_or_classes(ending: str, tmp_path: Path, *, is_fixed: bool) -> None:
    texts: dict[str, Any] = {"names": PATHS, "a": CLASSES}
    if is_fixed:
        texts = {name: np.array([text.encode() for text in values]) for name, values in texts.items()}
    path = tmp_path / f"set.{ending}"
    for chosen, classes, names in (("names", (), PATHS), ("a", tuple(CLASSES), None), ("both", tuple(CLASSES), PATHS)):
        some = texts if chosen == "both" else {chosen: texts[chosen]}
        with open_source(write_texts(path, {"images": IMAGES, "labels": NUMBERS, **some})) as source:
            assert (source.classes, source.names and list(source.names)) == (classes, names)
            assert source.labels.tolist() == NUMBERS.tolist()


def test_names_and_classes_of_an_hdf5_file_are_those_of_the_dataset(tmp_path: Path) -> None:
    arrays = {"images": IMAGES, "labels": NUMBERS, "names": PATHS, "classes": CLASSES}
    with open_source(write_texts(tmp_path / "set.h5", arrays)) as source:
        convert(source, tmp_path / "set", "npy", overwrite=False, progress=lambda *_: None)
    with storage.open(tmp_path / "set") as reader:
        assert (list(reader.names), list(reader.classes)) == (PATHS, CLASSES)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": ["a", "b", "a"], "labels": NUMBERS}, r"the strings x \(3,\) name neither the images nor the classes"),
        ({"x": ["a", "b"]}, r"the strings x \(2,\) name neither"),
        ({"x": CLASSES, "y": CLASSES, "labels": NUMBERS}, r"the strings y \(3,\) name neither"),
        ({"x": CLASSES, "labels": NUMBERS - 1}, r"the strings x \(3,\) name neither"),
        ({"x": PATHS, "labels": np.arange(COUNT)}, r"the strings x \(20,\) may name both images and classes"),
        ({"x": [["a", "b"]] * 10, "labels": NUMBERS}, r"x \(10, 2\) strings"),
        ({"x": ["a"] * COUNT, "labels": NUMBERS}, r"the strings x \(20,\) name neither"),
    ],
    ids=["twice", "no labels", "two", "negative", "either", "two axes", "equal"],
)
@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_strings_that_name_nothing_for_sure_are_refused(
    arrays: dict[str, Any], reason: str, ending: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        read(write_texts(tmp_path / f"set.{ending}", {"images": IMAGES, **arrays}))


def test_strings_in_chunks_are_refused(tmp_path: Path) -> None:
    with pytest.importorskip("h5py").File(tmp_path / "set.h5", "w") as file:
        file["images"] = IMAGES
        file.create_dataset("names", data=PATHS, chunks=(5,))
    with pytest.raises(InvalidInputError, match="the strings names are in chunks, or nowhere: save them at once"):
        read(tmp_path / "set.h5")


def test_an_empty_string_and_one_of_c_are_read(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "set.h5", {"images": IMAGES, "labels": LABELS * 0, "classes": ["", "night"]})
    path.write_bytes(path.read_bytes().replace(b"night", b"nig\0t"))
    with open_source(path) as source:
        assert source.classes == ("", "nig")


HEAP = b"GCOL\1\0\0\0"


@pytest.mark.parametrize(
    ("place", "content", "reason"),
    [
        (0, b"COLD", "there is no heap at byte"),
        (4, b"\2", "there is no heap at byte"),
        (8, b"\xff" * 8, "there is no heap at byte"),
        (8, b"\x28\0", "a string isn't in its heap at byte"),
        (16, b"\7", "a string isn't in its heap at byte"),
        (24, b"\xff" * 8, "a string has 18,446,744,073,709,551,615 bytes"),
        (-12, b"\xff" * 8, "a place of its strings has"),
    ],
    ids=["magic", "version", "size", "cut short", "number", "length", "address"],
)
def test_damaged_strings_of_an_hdf5_file_are_refused(place: int, content: bytes, reason: str, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "set.h5", {"images": IMAGES, "names": PATHS})
    before = path.read_bytes()
    heap = before.index(HEAP)
    if place < 0:  # the reference to the first string
        heap = before.index(struct.pack("<IQ", len(PATHS[0]), heap)) + 16
    path.write_bytes(before[: heap + place] + content + before[heap + place + len(content) :])
    with pytest.raises(CorruptStoreError, match=reason):
        read(path)


def test_strings_may_not_take_far_more_memory_than_their_file_has_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_texts(tmp_path / "set.h5", {"images": IMAGES, "names": PATHS})
    monkeypatch.setattr(limits, "MAX_MEMORY", 1_000 - 10 * path.stat().st_size)
    with pytest.raises(StorageError, match="the list of its strings takes 2,000 bytes of memory"):
        read(path)
    monkeypatch.setattr(limits, "MAX_MEMORY", 2_050 - 10 * path.stat().st_size)
    with pytest.raises(StorageError, match=r"the list of its strings takes 2,0[5-9]\d bytes of memory"):
        read(path)


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
