"""What only the PNG backend has: files that others can read, labels in a table, a choice of compression."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from tests.support.backends import take_backend

png = take_backend("png")


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


def test_pixels_in_many_chunks_come_back(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (1, 300, 400, 3), np.uint8)
    png.store_many(tmp_path, images, LABELS[:1])
    assert (tmp_path / "00000000.png").read_bytes().count(b"IDAT") > 3
    np.testing.assert_array_equal(png.read_single(tmp_path, 0)[0], images[0])
