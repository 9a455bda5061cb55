"""Folders of image files, made with Pillow."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image as Pillow

from storage import Images
from tests.support.image_sets import make_set

NAMES = ("cat/1.png", "cat/2.png", "cat/10.bmp", "dog/a.png", "dog/b.png")


def write_images(root: Path, names: Iterable[str] = NAMES) -> Images:
    """Write an image of 5 x 7 pixels under each name; return them."""
    images, _ = make_set(len(list(names)), 5, 7)
    for name, image in zip(names, images, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(image).save(root / name)
    return images
