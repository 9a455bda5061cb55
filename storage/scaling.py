"""An image is scaled, antialiased, until it covers a size, and its centre is cropped.

OpenCV scales what simplejpeg decoded, if it is installed; otherwise Pillow does. It only makes images smaller. Up to a
size it works in the thread that calls it: for larger ones it starts threads of its own, which would compete with ours,
and their number is a global of the process. It crops whole pixels only, which shows in tiny images.

Libraries: Pillow (https://pillow.readthedocs.io), OpenCV (https://docs.opencv.org).
"""

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Image
from .pictures import Size, import_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

EXCHANGED = {5, 6, 7, 8}  # orientations that exchange height and width
MIN_SIDE, MAX_PIXELS = 64, 1 << 16  # of what OpenCV makes


@cache
def find_opencv() -> Any:  # noqa: ANN401 - a module without types, or None
    """Import OpenCV, if it is installed."""
    try:
        import cv2  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return cv2


def plan(whole: Size, size: Size | None, orientation: int) -> tuple[Size | None, Size]:
    """Turn `size` as the file is, and choose from how few pixels an image can be scaled to it."""
    if size is None:
        return None, whole
    target = Size(size.width, size.height) if orientation in EXCHANGED else size
    scale = min(1.0, max(target.height / whole.height, target.width / whole.width))
    return target, Size(math.ceil(whole.height * scale), math.ceil(whole.width * scale))


def fit_array(image: Image, size: Size | None) -> Image:
    """Scale and crop an array of 8-bit RGB, if there is a size and it has another."""
    whole, opencv = Size(*image.shape[:2]), find_opencv()
    if size in {None, whole}:
        return image
    if opencv is None or not _is_for_opencv(whole, size):
        return fit_picture(import_pillow().fromarray(image), size)
    scale = min(whole.height / size.height, whole.width / size.width)
    top, left = round((whole.height - size.height * scale) / 2), round((whole.width - size.width * scale) / 2)
    crop = image[top : whole.height - top, left : whole.width - left]  # its centre stays where it is
    scaled: Image = opencv.resize(crop, (size.width, size.height), interpolation=opencv.INTER_AREA)
    return scaled


def _is_for_opencv(whole: Size, size: Size) -> bool:
    is_smaller = size.height <= whole.height and size.width <= whole.width
    return is_smaller and min(size) >= MIN_SIDE and size.height * size.width <= MAX_PIXELS


def fit_picture(picture: "Picture", size: Size | None) -> Image:
    """Do what `fit_array` does with Pillow, which also makes images larger."""
    width, height = picture.size
    if size not in {None, (height, width)}:
        scale = min(height / size.height, width / size.width)
        left, top = max(0.0, (width - size.width * scale) / 2), max(0.0, (height - size.height * scale) / 2)
        box = left, top, min(width, left + size.width * scale), min(height, top + size.height * scale)
        picture = picture.resize((size.width, size.height), import_pillow().Resampling.BILINEAR, box=box)
    return np.asarray(picture)
