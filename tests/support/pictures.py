"""PNG files as other programs may write them, built by hand where Pillow writes no such file."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
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


def interlace(image: Image) -> bytes:
    """Write the rows of seven passes, each of every so many rows and columns."""
    passes = [image[top::down, left::right] for top, left, down, right in ADAM7]
    return b"".join(filter_rows(part) for part in passes if part.size)


def join(image: Image, pixels: bytes, *before: bytes, interlace: int = 0) -> bytes:
    return b"".join((SIGNATURE, make_header(image, interlace), *before, make_chunk(b"IDAT", pixels), END))


def split_pixels(image: Image) -> bytes:
    """Write a picture with its pixels in two chunks, one of them not long enough for a header of zlib."""
    pixels = zlib.compress(filter_rows(image), 0)
    return join(image, pixels[1:], make_chunk(b"IDAT", pixels[:1]))


PROGRAMS: dict[str, Callable[[Image], bytes]] = {
    "as Pillow does": compress,
    "filtered and stored": lambda image: join(image, zlib.compress(filter_rows(image, 1), 0)),
    "differences to the row above": lambda image: join(image, zlib.compress(filter_rows(image, 2))),
    "interlaced": lambda image: join(image, zlib.compress(interlace(image)), interlace=1),
    "with a comment": lambda image: join(
        image, zlib.compress(filter_rows(image)), make_chunk(b"tEXt", b"Comment\0by another program")
    ),
    "pixels in two chunks": split_pixels,
}


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
