"""Folders of small photos, made with Pillow."""

import io
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tests.support.image_files import ORIENTATION, make_picture

TURNED = 6  # EXIF orientation: a quarter turn
COUNT = 6  # usable ones
UNUSABLE = {"ant/broken.jpg", "notes.txt"}


def make_photo(number: int) -> bytes:
    """Make a JPEG or PNG file with a size of its own; every third one must be turned."""
    picture = Pillow.fromarray(np.roll(make_picture(40 + number, 56 - number), number, axis=2))
    file, exif = io.BytesIO(), Pillow.Exif()
    exif[ORIENTATION] = TURNED if number % 3 == 0 else 1
    picture.save(file, "PNG" if number == 1 else "JPEG", exif=exif)
    return file.getvalue()


def write_photos(folder: Path) -> Path:
    """Write photos of two classes, a broken one, one outside of the classes, and a system's file."""
    for number in range(COUNT):
        path = folder / ("ant", "bee")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_photo(number))
    (folder / "ant" / "broken.jpg").write_bytes(make_photo(2)[:300])
    (folder / "notes.txt").write_text("no image")
    (folder / "Thumbs.db").write_bytes(b"of a system")
    return folder
