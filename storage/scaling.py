"""An image is scaled, antialiased, until it covers a size, and its centre is cropped.

OpenCV scales what simplejpeg decoded, if it is installed; otherwise Pillow does. It only makes images smaller: by means
of areas, or where they become at most a quarter smaller, by interpolation, which is as close to what Pillow makes. Up
to a size it works in the thread that calls it: for larger ones it starts threads of its own, which would compete with
ours, and their number is a global of the process. It crops whole pixels only, which shows in tiny images.

Libraries: Pillow (https://pillow.readthedocs.io), OpenCV (https://docs.opencv.org).
"""

import math
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arrays import CHANNELS, Image
from .augmentation import Crop, View
from .pictures import Size, import_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

EXCHANGED = {5, 6, 7, 8}  # orientations that exchange height and width
MIN_SIDE, MAX_PIXELS = 64, 1 << 16  # of what OpenCV makes
MAX_LINEAR = 4 / 3  # how far it makes an image smaller by interpolation, which then is as precise as means of areas
VERSION = 2  # of the pixels: raised when the same libraries make other ones
Box = tuple[float, float, float, float]  # left, top, right and bottom of a part, as Pillow has them
EIGHTHS, SLOW_EIGHTHS = 8, 7  # of its size at which JPEG can be decoded; 7 of them take longer than all


class Plan(NamedTuple):
    """What is made of an image: its size, turned as the file is; from how many pixels at least; and of which part."""

    target: Size | None
    least: Size
    crop: Crop | None


@cache
def find_opencv() -> Any:  # noqa: ANN401 - a module without types, or None
    """Import OpenCV, if it is installed."""
    try:
        import cv2  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return cv2


def plan(whole: Size, size: Size | None, orientation: int, view: View | None = None) -> Plan:
    """Turn `size` as the file is, and choose from how few pixels an image can be scaled to it."""
    if size is None:
        return Plan(None, whole, None)
    target = Size(size.width, size.height) if orientation in EXCHANGED else size
    crop = None if view is None else view.find_crop(whole)
    scale = find_scale(whole if crop is None else Size(crop.height, crop.width), target)
    return Plan(target, Size(math.ceil(whole.height * scale), math.ceil(whole.width * scale)), crop)


def find_scale(part: Size, target: Size) -> float:
    """Find how far an image can be scaled down before it is too small."""
    return min(1.0, max(target.height / part.height, target.width / part.width))


def choose_eighths(crop: Crop, target: Size) -> int:
    """Choose at how many eighths of its size a JPEG file is decoded, of which a part is scaled to `target`."""
    eighths = math.ceil(EIGHTHS * find_scale(Size(crop.height, crop.width), target))
    return eighths if eighths < SLOW_EIGHTHS else EIGHTHS


def find_box(crop: Crop | None, scale: float) -> Box | None:
    """Find where a part is in an image that was scaled; None: the whole is wanted."""
    if crop is None:
        return None
    left, top = crop.left * scale, crop.top * scale
    return left, top, left + crop.width * scale, top + crop.height * scale


def mirror(image: Image) -> Image:
    """Exchange left and right, each channel by itself, which is several times as fast as all at once."""
    mirrored = np.empty(image.shape, image.dtype)
    for channel in range(CHANNELS):
        mirrored[..., channel] = image[:, ::-1, channel]
    return mirrored


def fit_array(image: Image, size: Size | None, box: Box | None = None) -> Image:
    """Scale and crop an array of 8-bit RGB, if there is a size and it has another; with a box, a part of it."""
    whole, opencv = Size(*image.shape[:2]), find_opencv()
    if size is None or (box is None and size == whole):
        return image
    is_smaller = size.height <= whole.height and size.width <= whole.width
    if opencv is None or (box is None and not is_smaller) or not _is_for_opencv(size):
        return fit_picture(import_pillow().fromarray(image), size, box)
    if box is not None:
        left, top, right, bottom = map(round, box)
        return _scale_part(opencv, image[top:bottom, left:right], size)
    scale = min(whole.height / size.height, whole.width / size.width)
    top, left = round((whole.height - size.height * scale) / 2), round((whole.width - size.width * scale) / 2)
    crop = image[top : whole.height - top, left : whole.width - left]  # its centre stays where it is
    return _scale(opencv, crop, size)


def _scale_part(opencv: ModuleType, part: Image, size: Size) -> Image:
    """Make an array smaller, then larger, in the direction where it must be."""
    smaller = Size(min(size.height, part.shape[0]), min(size.width, part.shape[1]))
    part = _scale(opencv, part, smaller)
    return part if smaller == size else _scale(opencv, part, size)


def _scale(opencv: ModuleType, image: Image, size: Size) -> Image:
    """Interpolate, in a third of the time, unless an image becomes so small that pixels would be left out."""
    ratio = max(image.shape[0] / size.height, image.shape[1] / size.width)
    method = opencv.INTER_LINEAR if ratio <= MAX_LINEAR else opencv.INTER_AREA
    scaled: Image = opencv.resize(image, (size.width, size.height), interpolation=method)
    return scaled


def _is_for_opencv(size: Size) -> bool:
    return min(size) >= MIN_SIDE and size.height * size.width <= MAX_PIXELS


def fit_picture(picture: "Picture", size: Size | None, box: Box | None = None) -> Image:
    """Do what `fit_array` does with Pillow, which also makes whole images larger."""
    width, height = picture.size
    if size is not None and (box is not None or size != (height, width)):
        if box is None:
            scale = min(height / size.height, width / size.width)
            left, top = max(0.0, (width - size.width * scale) / 2), max(0.0, (height - size.height * scale) / 2)
            box = left, top, left + size.width * scale, top + size.height * scale
        box = *box[:2], min(width, box[2]), min(height, box[3])
        picture = picture.resize((size.width, size.height), import_pillow().Resampling.BILINEAR, box=box)
    return np.asarray(picture)
