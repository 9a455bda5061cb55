"""PNG files as other programs may write them, built by hand where Pillow writes no such file."""

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from storage import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def make_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def make_header(image: Image, interlace: int = 0) -> bytes:
    height, width, _ = image.shape
    return make_chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, interlace))


def filter_rows(image: Image, kind: int = 0) -> bytes:
    """Put the rows of a picture behind their filter: 0 none, 1 the pixel before, 2 the row above."""
    before = np.zeros_like(image)
    if kind == 1:
        before[:, 1:] = image[:, :-1]
    elif kind == 2:
        before[1:] = image[:-1]
    return b"".join(bytes([kind]) + row.tobytes() for row in image - before)


def compress(image: Image) -> bytes:
    content = BytesIO()
    Pillow.fromarray(image).save(content, "PNG")
    return content.getvalue()


def filter_stored(image: Image) -> bytes:
    """Write a picture whose rows are filtered, in blocks that are not compressed."""
    return SIGNATURE + make_header(image) + make_chunk(b"IDAT", zlib.compress(filter_rows(image, 1), 0)) + END


def filter_above(image: Image) -> bytes:
    return SIGNATURE + make_header(image) + make_chunk(b"IDAT", zlib.compress(filter_rows(image, 2))) + END


def interlace(image: Image) -> bytes:
    """Write an interlaced picture: seven passes, each of every so many rows and columns."""
    passes = [image[top::down, left::right] for top, left, down, right in ADAM7]
    pixels = b"".join(filter_rows(part) for part in passes if part.size)
    return SIGNATURE + make_header(image, interlace=1) + make_chunk(b"IDAT", zlib.compress(pixels)) + END


def add_text(image: Image) -> bytes:
    pixels = make_chunk(b"IDAT", zlib.compress(filter_rows(image), 0))
    return SIGNATURE + make_header(image) + make_chunk(b"tEXt", b"Comment\0by another program") + pixels + END


def split_pixels(image: Image) -> bytes:
    """Write a picture with its pixels in two chunks, one of them not long enough for a header of zlib."""
    pixels = zlib.compress(filter_rows(image), 0)
    chunks = make_chunk(b"IDAT", pixels[:1]) + make_chunk(b"IDAT", pixels[1:])
    return SIGNATURE + make_header(image) + chunks + END


def flip_bits(path: Path) -> Iterator[None]:
    """Flip each bit of a file in turn, and mend it afterwards.

    In place: to write a file anew a thousand times takes longer than to read it so often.
    """
    content = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for place in range(8 * len(content)):
            byte = content[place // 8]
            os.pwrite(file.fileno(), bytes([byte ^ 1 << place % 8]), place // 8)
            yield
            os.pwrite(file.fileno(), bytes([byte]), place // 8)
