"""What only the PNG backend has: files that others can read, and others' files that it must not misread."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import png

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), np.uint8)
LABELS = np.array([3, -20, 100, 7], np.int64)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store of four images."""
    png.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_any_viewer_can_open_the_files(store: Path) -> None:
    for index, image in enumerate(IMAGES):
        with Pillow.open(store / f"{index:08}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)


def test_the_labels_are_a_table_with_lines_of_one_length(store: Path) -> None:
    assert (store / "labels.csv").read_text() == ("label,images=4,height=5,width=7,characters=3\n  3\n-20\n100\n  7\n")


@pytest.mark.parametrize("level", [0, 9])
def test_the_compression_level_changes_no_pixel(tmp_path: Path, level: int) -> None:
    png.store_many(tmp_path / "many", IMAGES, LABELS, compress_level=level)
    np.testing.assert_array_equal(png.read_many(tmp_path / "many")[0], IMAGES)
    png.store_single(tmp_path / "single", IMAGES[0], 1, compress_level=level)
    np.testing.assert_array_equal(png.read_single(tmp_path / "single", 0)[0], IMAGES[0])


def save(mode: str, size: tuple[int, int] = (7, 5)) -> Callable[[Path], None]:
    """Make a function that puts a file of another kind in a PNG file's place."""
    return lambda path: Pillow.new(mode, size).save(path, "PNG")


FOREIGN: dict[str, Callable[[Path], None]] = {
    "grey": save("L"),
    "palette": save("P"),
    "alpha": save("RGBA"),
    "16 bits": save("I;16"),
    "other size": save("RGB", (5, 7)),
    "JPEG": lambda path: Pillow.new("RGB", (7, 5)).save(path, "JPEG"),
    "empty": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("replace", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_another_kind_is_refused(store: Path, replace: Callable[[Path], None]) -> None:
    replace(store / "00000002.png")
    for read in (png.read_many, lambda path: png.read_single(path, 2), lambda path: png.open_reader(path)[2]):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)
    np.testing.assert_array_equal(png.read_single(store, 1)[0], IMAGES[1])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "label\n3\n-20\n",
        "label,images=4,height=5,width=7,characters=3\n  3\n-20\n100\n",
        "label,images=5,height=5,width=7,characters=3\n  3\n-20\n100\n  7\n",
        "label,images=4,height=5,width=7,characters=3\n  x\n-20\n100\n  7\n",
        "label,images=4,height=5,width=7,characters=3\n  3\n-20\n\n00\n  7\n",
        "label,images=1,height=5,width=7,characters=20\n99999999999999999999\n",
    ],
    ids=["empty", "header of another program", "cut", "too many", "no number", "other lines", "65 bits"],
)
def test_a_damaged_table_of_labels_is_refused(store: Path, content: str) -> None:
    (store / "labels.csv").write_text(content)
    for read in (png.read_many, png.open_reader):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


@pytest.mark.parametrize("width", [7, 999_999_999])
def test_a_shape_that_fits_no_memory_is_an_error_of_ours(store: Path, width: int) -> None:
    header = f"label,images=4,height=999999999,width={width},characters=3\n"
    (store / "labels.csv").write_text(header + "  3\n-20\n100\n  7\n")
    for read in (png.read_many, lambda path: png.read_single(path, 2), lambda path: png.open_reader(path)[2]):
        with pytest.raises(storage.StorageError, match=str(store)):
            read(store)


def test_a_missing_file_is_named(store: Path) -> None:
    (store / "00000003.png").unlink()
    with pytest.raises(storage.CorruptStoreError, match=r"00000003\.png is missing"):
        png.read_many(store)


def test_a_flipped_bit_in_the_pixels_is_right_or_refused(store: Path) -> None:
    path = store / "00000001.png"
    content = path.read_bytes()
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            image, label = png.read_single(store, 1)
        except storage.StorageError as error:
            assert str(store) in str(error)  # noqa: PT017 - either is right
        else:
            assert image.shape == (5, 7, 3)
            assert label == -20
