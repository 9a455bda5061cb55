"""Image files for the tests of decoding, made with Pillow."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from storage import Image
from storage.jpeg_parts import find_nvimgcodec
from tests.support.pictures import END, SIGNATURE, make_chunk

DECODERS = ("OpenCV", "simplejpeg", "Pillow")
PART_DECODERS = ("nvImageCodec", *DECODERS)  # of parts of JPEG files
OTHER_COLOURS = ("RGB", "CMYK", "YCCK")  # of JPEG, besides YCbCr and gray
ORIENTATION = 0x0112


def choose_decoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode with simplejpeg, parts with nvImageCodec, and scale with OpenCV or Pillow, or do it all with Pillow."""
    if name == "nvImageCodec":
        require_nvimgcodec()
    else:
        monkeypatch.setattr("storage.jpeg_parts.find_nvimgcodec", lambda: None)
    if name == "Pillow":
        monkeypatch.setattr("storage.decoding.find_simplejpeg", lambda: None)
    else:
        pytest.importorskip("simplejpeg", reason="simplejpeg isn't installed")
    if name in {"nvImageCodec", "OpenCV"}:
        pytest.importorskip("cv2", reason="OpenCV isn't installed")
    else:
        monkeypatch.setattr("storage.scaling.find_opencv", lambda: None)


def require_nvimgcodec() -> Any:  # noqa: ANN401 - a module without types
    """Skip a test where nvImageCodec isn't installed."""
    return find_nvimgcodec() or pytest.skip("nvImageCodec isn't installed")


def make_picture(height: int = 24, width: int = 40) -> Image:
    """Make a smooth picture that is different in every corner."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        [255 * rows // height, 255 * columns // width, 128 * (rows + columns) // (height + width)], 2
    ).astype(np.uint8)


def save(picture: Image | Pillow.Image, kind: str, **options: object) -> bytes:
    """Encode a picture."""
    file = io.BytesIO()
    (Pillow.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, kind, **options)
    return file.getvalue()


def save_colours(picture: Image, colours: str) -> bytes:
    """Encode a picture as JPEG in other colours than usual."""
    if colours == "RGB":
        return save(picture, "JPEG", quality=95, subsampling=0, keep_rgb=True)
    content = bytearray(save(Pillow.fromarray(picture).convert("CMYK"), "JPEG", quality=95))
    content[content.index(b"Adobe") + 11] = 2 if colours == "YCCK" else 0  # how colours are transformed
    return bytes(content)


def damage(content: bytes) -> bytes:
    """Damage a JPEG in the middle, so that libjpeg warns and goes on."""
    changed = bytearray(content)
    middle = changed.index(b"\xff\xda") + 200
    changed[middle : middle + 60] = bytes(60)
    return bytes(changed)


def read_with_pillow(content: bytes) -> Image:
    """Decode a file with Pillow, not upright."""
    with Pillow.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def make_exif(orientation: int) -> bytes:
    """Make the metadata that say how a picture is turned."""
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def make_png(width: int, height: int, depth: int, colour: int, content: bytes) -> bytes:
    """Make a PNG of any depth, which Pillow can't always write; colour 0 is gray, 2 is RGB."""
    header = make_chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
    return b"".join((SIGNATURE, header, make_chunk(b"IDAT", zlib.compress(content, 9)), END))


def make_bomb(side: int) -> bytes:
    """Make a PNG whose bits are all black: a byte holds a few thousand pixels."""
    return make_png(side, side, 1, 0, bytes((1 + (side + 7) // 8) * side))
