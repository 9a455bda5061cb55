"""JPEG files as simplejpeg decodes them: in its strict mode, so corruption that libjpeg only warns about is an error.

Library: simplejpeg (https://gitlab.com/jfolz/simplejpeg).
"""

import re
import threading
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .arrays import BYTE, CHANNELS, Image
from .pictures import Size, get_orientation, open_picture

START = b"\xff\xd8"
SEGMENT = re.compile(rb"\xff+([^\xda\xff])(..)", re.DOTALL)  # before the first scan: a marker and a length
APP1 = b"\xe1"
SAME_PIXELS = {"YCbCr", "Gray"}  # colours of which simplejpeg makes the pixels that Pillow makes
STRICT_COLOURS = {"RGB": "RGB", "CMYK": "CMYK", "YCCK": "CMYK"}  # others, and what it can decode them to
SCRATCH = 16 << 20  # bytes of a decoded image for which a thread keeps memory
MAX_FACTOR = 8  # by which libjpeg scales down; it reads all of the file even so


class JpegHeader(NamedTuple):
    """What is known of a JPEG file before it is decoded."""

    size: Size
    colours: str


class _Scratch(threading.local):
    """Memory of a thread for the image that it decodes, and scales at once."""

    def __init__(self) -> None:
        self.memory = np.empty(SCRATCH, BYTE)  # the kernel gives what is touched


_scratch = _Scratch()


@cache
def find_simplejpeg() -> Any:  # noqa: ANN401 - a module without types, or None
    """Import simplejpeg, if it is installed."""
    try:
        import simplejpeg  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return simplejpeg


def read_header(simplejpeg: ModuleType, content: memoryview) -> JpegHeader | None:
    """Read the header of a JPEG file that simplejpeg knows how to decode; None: leave the file to Pillow."""
    if bytes(content[:2]) != START:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)  # decoding will be strict
    except (
        ValueError,
        KeyError,
    ):  # no JPEG, one that ends in its header, or sampled in a way that simplejpeg doesn't know
        return None
    return JpegHeader(Size(height, width), colours) if colours in {*SAME_PIXELS, *STRICT_COLOURS} else None


def decode_least(
    simplejpeg: ModuleType, content: memoryview, whole: Size, least: Size, *, strict: bool = True
) -> Image:
    """Decode a file at `least` its size or more, to be scaled: the next call of this thread uses the memory again.

    The kernel would clear new memory, which takes a sixth of the time.
    """
    buffer = _scratch.memory if whole.height * whole.width * CHANNELS <= SCRATCH else None
    image: Image = simplejpeg.decode_jpeg(
        content, "RGB", min_height=least.height, min_width=least.width, buffer=buffer, strict=strict
    )
    return image


def verify(simplejpeg: ModuleType, content: memoryview, colours: str) -> None:
    """Decode a file at its smallest, so that corruption raises an error; Pillow makes the pixels."""
    simplejpeg.decode_jpeg(content, STRICT_COLOURS[colours], min_factor=MAX_FACTOR)


def read_orientation(content: memoryview, size: Size) -> int:
    """Read the orientation of a JPEG file; only where it has a segment for metadata, as Pillow takes its time."""
    if not _has_metadata(content):
        return 1
    with open_picture(content, size.height * size.width) as picture:
        return get_orientation(picture, content)


def _has_metadata(content: memoryview) -> bool:
    """Look for an APP1 segment, which holds EXIF or XMP."""
    return any(segment[1] == APP1 for segment in find_segments(content))


def find_segments(content: memoryview) -> Iterator[re.Match[bytes]]:
    """Find the segments before the first scan."""
    start = 2
    while segment := SEGMENT.match(content, start):
        yield segment
        start = segment.end() - 2 + int.from_bytes(segment[2], "big")
