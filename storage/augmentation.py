"""The usual augmentation of photos: a random part of each, scaled to one size, and half of them mirrored.

A part has a random fraction of the area and a random ratio of its sides, as Inception was trained [1]_. SHAKE-256 of
seed, epoch and image gives the random numbers, so they depend on nothing else.

.. [1] Christian Szegedy and others, "Going Deeper with Convolutions" (CVPR 2015).
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from .errors import InvalidInputError
from .pictures import Size

RATIO = 4 / 3  # of the sides of a part, at most, in either direction
TRIES = 10  # of a part that fits
AREA = 2  # numbers that a choice has


class Crop(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class View(NamedTuple):
    """How one image is augmented: random numbers from 0 to 1, and whether a checksum covers what isn't decoded."""

    numbers: tuple[float, ...]
    least: float
    most: float
    is_verified: bool

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return self.numbers[0] < 0.5  # noqa: PLR2004 - half of all

    def find_crop(self, whole: Size) -> Crop:
        """Find the part of an image of this size; the largest one in its centre, if none was found that fits."""
        numbers = iter(self.numbers[1:])
        for area, ratio, top, left in zip(numbers, numbers, numbers, numbers, strict=True):
            pixels = whole.height * whole.width * (self.least + area * (self.most - self.least))
            stretch = math.exp((2 * ratio - 1) * math.log(RATIO))
            height, width = round(math.sqrt(pixels / stretch)), round(math.sqrt(pixels * stretch))
            if 0 < height <= whole.height and 0 < width <= whole.width:
                return Crop(round(top * (whole.height - height)), round(left * (whole.width - width)), height, width)
        height = min(whole.height, round(whole.width * RATIO))
        width = min(whole.width, round(whole.height * RATIO))
        return Crop((whole.height - height) // 2, (whole.width - width) // 2, height, width)


class Augmentation(NamedTuple):
    """How the images of an epoch are augmented; `area` is the least and the most of an image's area that is left."""

    area: tuple[float, float]
    seed: int
    epoch: int

    def view(self, image: int, *, is_verified: bool) -> View:
        """Choose how one image is augmented."""
        digest = hashlib.shake_256(f"{self.seed} {self.epoch} {image}".encode("ascii")).digest(8 * (1 + 4 * TRIES))
        numbers = np.frombuffer(digest, "<u8") / 2**64
        return View(tuple(numbers.tolist()), *self.area, is_verified)


def check_area(area: object) -> tuple[float, float]:
    """Refuse what isn't the least and the most of an image's area."""
    if isinstance(area, tuple | list) and len(area) == AREA and all(isinstance(part, int | float) for part in area):
        least, most = map(float, area)
        if 0 < least <= most <= 1:
            return least, most
    hint = "give the least and the most of an image's area that is left, such as (0.08, 1)"
    raise InvalidInputError(f"augment is {area!r}", hint=hint)
