"""An image is scaled, antialiased, until it covers a size, and its centre is cropped.

OpenCV scales what simplejpeg decoded, if it is installed; otherwise Pillow does. It makes whole images smaller only: by
interpolation, of pixels that were smoothed if they are more than one and a half times as many in a direction, or by
means of areas where they are more than twice as many. Up to a size it works in the thread that calls it: for larger
ones it starts threads of its own, which would compete with ours, and their number is a global of the process. It crops
whole pixels only, which shows in tiny images.

Libraries: Pillow (https://pillow.readthedocs.io), OpenCV (https://docs.opencv.org).
"""

import math
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import CHANNELS, Image
from .augmentation import Crop, View
from .pictures import Size, import_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

EXCHANGED = {5, 6, 7, 8}  # orientations that exchange height and width
MIN_SIDE, MAX_PIXELS = 64, 1 << 16  # of what OpenCV makes
MAX_LINEAR, MAX_SMOOTHED = 1.5, 2  # how far it makes an image smaller by interpolation, alone and after smoothing
VERSION = 3  # of the pixels of a whole image: raised when the same libraries make other ones
Box = tuple[float, float, float, float]  # left, top, right and bottom of a part, as Pillow has them
EIGHTHS = 8  # of its size at which JPEG can be decoded
QUICK_FACTORS = 8, 4, 2, 1  # by which libjpeg makes an image smaller with vector instructions


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
    least = EIGHTHS * find_scale(Size(crop.height, crop.width), target)
    return next(EIGHTHS // factor for factor in QUICK_FACTORS if EIGHTHS // factor >= least)


def choose_least(whole: Size, least: Size, target: Size) -> Size:
    """Choose from how many pixels an image is scaled: more than the least, if decoding and scaling them is faster."""
    if find_opencv() is None or not _is_for_opencv(target):
        return least
    sizes = (Size(*(-(-side // factor) for side in whole)) for factor in QUICK_FACTORS)
    return next(size for size in sizes if size.height >= least.height and size.width >= least.width)


def find_box(crop: Crop | None, across: float, down: float) -> Box | None:
    """Find where a part is in an image that was scaled across and down; None: the whole is wanted."""
    if crop is None:
        return None
    left, top = crop.left * across, crop.top * down
    return left, top, left + crop.width * across, top + crop.height * down


def mirror(image: Image) -> Image:
    """Exchange left and right; NumPy does it channel by channel, which is several times as fast as all at once."""
    if (opencv := find_opencv()) is not None and _is_for_opencv(Size(*image.shape[:2])):
        flipped: Image = opencv.flip(image, 1)
        return flipped
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
    """Make an array smaller, then larger, in the direction where it must be: at once, if interpolation does both."""
    if max(part.shape[1] / size.width, part.shape[0] / size.height) <= MAX_LINEAR:
        return _scale(opencv, part, size)
    smaller = Size(min(size.height, part.shape[0]), min(size.width, part.shape[1]))
    part = _scale(opencv, part, smaller)
    return part if smaller == size else _scale(opencv, part, size)


def _scale(opencv: ModuleType, image: Image, size: Size) -> Image:
    ratios = image.shape[1] / size.width, image.shape[0] / size.height
    method = opencv.INTER_LINEAR if max(ratios) <= MAX_SMOOTHED else opencv.INTER_AREA
    if MAX_LINEAR < max(ratios) <= MAX_SMOOTHED:
        image = opencv.sepFilter2D(image, -1, *map(_make_kernel, ratios))
    scaled: Image = opencv.resize(image, (size.width, size.height), interpolation=method)
    return scaled


def _make_kernel(ratio: float) -> NDArray[np.float64]:
    """Make a kernel that has, together with interpolation, the variance of the triangle that Pillow scales with."""
    beside = max(0.0, (ratio**2 - 1) / 12)
    return np.array([beside, 1 - 2 * beside, beside])


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
