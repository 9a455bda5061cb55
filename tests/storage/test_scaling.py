"""Images are scaled and cropped by OpenCV where it is installed and keeps to one thread, and by Pillow otherwise."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

import storage
from storage import Image, jpeg
from storage.decoding import decode_scaled
from storage.pictures import Size
from storage.scaling import choose_least, find_opencv, fit_array
from tests.support.image_files import make_picture, save
from tests.support.suite import ROOT

COUNT_THREADS = """
import os, sys
import numpy as np
import cv2
from storage.scaling import fit_array
from storage.pictures import Size

def count():
    return len(os.listdir("/proc/self/task"))

before = count()
for size in (Size(256, 256), Size(64, 1024), Size(1024, 64), Size(257, 256), Size(512, 512)):
    fit_array(np.zeros((2 * size.height + 1, 2 * size.width + 3, 3), np.uint8), size)
    for quarters in (5, 7):
        fit_array(np.zeros((size.height * quarters // 4, size.width * quarters // 4, 3), np.uint8), size)
    fit_array(np.zeros((512, 512, 3), np.uint8), size, (0, 0, 2 * size.width, size.height // 2))
after = count()
cv2.resize(np.zeros((2048, 2048, 3), np.uint8), (1024, 1024), interpolation=cv2.INTER_AREA)
print(after - before, count() - after, cv2.getNumThreads())
"""


class OpenCV:
    """Notes what it is to scale, and makes it gray."""

    INTER_LINEAR, INTER_AREA = 1, 3

    def __init__(self) -> None:
        self.calls: list[tuple[Image, tuple[int, int], int]] = []
        self.smoothed: list[Image] = []

    def sepFilter2D(self, crop: Image, depth: int, *kernels: NDArray[np.float64]) -> Image:  # noqa: N802 - its name
        """Note what is to be smoothed, and leave it as it is."""
        assert depth == -1
        assert [kernel.sum() for kernel in kernels] == pytest.approx([1, 1])
        self.smoothed.append(crop)
        return crop

    def resize(self, crop: Image, size: tuple[int, int], interpolation: int) -> Image:
        """Do what OpenCV's function does with the sizes."""
        self.calls.append((crop, size, interpolation))
        return np.full((*size[::-1], 3), 128, np.uint8)


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> OpenCV:
    found = OpenCV()
    monkeypatch.setattr("storage.scaling.find_opencv", lambda: found)
    return found


def fit_with_pillow(image: Image, size: Size) -> Image:
    picture = ImageOps.fit(Pillow.fromarray(image), (size.width, size.height), Pillow.Resampling.BILINEAR)
    return np.asarray(picture)


@pytest.mark.parametrize(
    ("size", "rows", "columns", "method"),
    [
        (Size(120, 200), slice(0, 240), slice(0, 400), 1),
        (Size(119, 200), slice(1, 239), slice(0, 400), 1),
        (Size(119, 198), slice(0, 240), slice(0, 400), 3),
        (Size(100, 100), slice(0, 240), slice(80, 320), 3),
        (Size(77, 77), slice(0, 240), slice(80, 320), 3),
        (Size(160, 160), slice(0, 240), slice(80, 320), 1),
        (Size(159, 159), slice(0, 240), slice(80, 320), 1),
        (Size(64, 400), slice(88, 152), slice(0, 400), 1),
        (Size(65, 400), slice(88, 152), slice(0, 400), 1),
        (Size(64, 150), slice(35, 205), slice(0, 400), 3),
    ],
)
def test_opencv_scales_the_centre(size: Size, rows: slice, columns: slice, method: int, opencv: OpenCV) -> None:
    picture = make_picture(240, 400)
    assert (fit_array(picture, size) == 128).all()
    ((crop, made, interpolation),) = opencv.calls
    np.testing.assert_array_equal(crop, picture[rows, columns])
    assert (made, interpolation) == ((size.width, size.height), method)


@pytest.mark.parametrize("size", [Size(241, 64), Size(64, 401), Size(480, 800)])
def test_pillow_makes_images_larger(size: Size, opencv: OpenCV) -> None:
    picture = make_picture(240, 400)
    np.testing.assert_array_equal(fit_array(picture, size), fit_with_pillow(picture, size))
    assert opencv.calls == []


@pytest.mark.parametrize("sides", [(64, 64), (63, 64), (64, 63), (256, 256), (257, 256), (64, 1024), (64, 1025)])
def test_pillow_makes_what_is_tiny_or_what_opencv_would_start_threads_for(
    sides: tuple[int, int], opencv: OpenCV
) -> None:
    picture, size = make_picture(300, 1100), Size(*sides)
    image = fit_array(picture, size)
    if opencv.calls:
        assert sides in {(64, 64), (256, 256), (64, 1024)}
    else:
        assert sides in {(63, 64), (64, 63), (257, 256), (64, 1025)}
        np.testing.assert_array_equal(image, fit_with_pillow(picture, size))


@pytest.mark.parametrize("size", [None, Size(240, 400)])
def test_an_image_of_the_right_size_is_left_alone(size: Size | None, opencv: OpenCV) -> None:
    picture = make_picture(240, 400)
    assert fit_array(picture, size) is picture
    assert opencv.calls == []


@pytest.mark.parametrize(("side", "times"), [(160, 0), (159, 1), (119, 0)])
def test_pixels_are_smoothed_where_interpolation_would_leave_some_out(side: int, times: int, opencv: OpenCV) -> None:
    fit_array(make_picture(240, 240), Size(side, side))
    assert len(opencv.smoothed) == times


@pytest.mark.parametrize(
    ("least", "chosen"),
    [((101, 51), (101, 51)), ((101, 52), (201, 101)), ((202, 90), (401, 201)), ((402, 201), (801, 401))],
)
def test_a_photo_is_decoded_at_a_size_that_libjpeg_is_quick_at(
    least: tuple[int, int], chosen: tuple[int, int], opencv: OpenCV
) -> None:
    whole = Size(801, 401)
    assert choose_least(whole, Size(*least), Size(64, 64)) == chosen
    assert choose_least(whole, Size(*least), Size(10, 10)) == least, "Pillow takes longer for more pixels"
    assert opencv.calls == []


def test_opencv_scales_jpeg_only(opencv: OpenCV) -> None:
    pytest.importorskip("simplejpeg", reason="simplejpeg isn't installed")
    picture = make_picture(240, 400)
    files = {kind: memoryview(save(picture, kind)) for kind in ("JPEG", "PNG")}
    images = {kind: decode_scaled(file, Size(70, 70)) for kind, file in files.items()}
    assert (images["JPEG"] == 128).all()
    np.testing.assert_array_equal(images["PNG"], fit_with_pillow(picture, Size(70, 70)))
    assert len(opencv.calls) == 1


def test_full_size_pixels_never_come_from_opencv(opencv: OpenCV) -> None:
    content = save(make_picture(24, 40), "JPEG")
    assert storage.decode(content).shape == (24, 40, 3)
    assert opencv.calls == []


def test_opencv_makes_means_of_areas() -> None:
    pytest.importorskip("cv2", reason="OpenCV isn't installed")
    picture = np.random.default_rng(0).integers(0, 256, (256, 320, 3), np.uint8)
    expected = picture.reshape(64, 4, 80, 4, 3).mean((1, 3))
    assert np.abs(fit_array(picture, Size(64, 80)) - expected).max() <= 0.5


@pytest.mark.parametrize("sides", [(280, 350), (364, 455), (448, 560)])
def test_smaller_images_are_as_close_to_antialiased_ones_as_means_of_areas(sides: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV isn't installed")
    picture = make_picture(*sides)
    expected = fit_with_pillow(picture, Size(224, 280)).astype(int)
    areas = cv2.resize(picture, (280, 224), interpolation=cv2.INTER_AREA)
    found = fit_array(picture, Size(224, 280))
    assert np.abs(found - expected).mean() <= 1.1 * np.abs(areas - expected).mean() + 0.1


def test_opencv_starts_no_threads() -> None:
    pytest.importorskip("cv2", reason="OpenCV isn't installed")
    command = [sys.executable, "-c", COUNT_THREADS]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ours, its_own, threads = map(int, ended.stdout.split())
    assert ours == 0, "OpenCV started threads, which compete with those that decode"
    assert its_own > 0 or threads == 1, "this test wouldn't notice threads"


def test_opencv_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    stub: Any = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "cv2", stub)
    assert find_opencv.__wrapped__() is stub
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert find_opencv.__wrapped__() is None


@pytest.mark.parametrize("scratch", [jpeg.SCRATCH, 100])
@pytest.mark.parametrize("size", [None, Size(160, 200), Size(80, 100), Size(70, 70)])
def test_an_image_keeps_its_pixels_while_its_thread_decodes_others(
    size: Size | None, scratch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg", reason="simplejpeg isn't installed")
    monkeypatch.setattr(jpeg, "SCRATCH", scratch)
    picture = make_picture(160, 200)
    image = decode_scaled(memoryview(save(picture, "JPEG")), size)
    before = image.copy()
    decode_scaled(memoryview(save(255 - picture, "JPEG")), size)
    np.testing.assert_array_equal(image, before)
