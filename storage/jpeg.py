"""JPEG files as simplejpeg decodes them: in its strict mode, so corruption that libjpeg only warns about is an error.

Library: simplejpeg (https://gitlab.com/jfolz/simplejpeg).
"""

import re
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from .pictures import Size, get_orientation, open_picture

START = b"\xff\xd8"
SEGMENT = re.compile(rb"\xff+([^\xda\xff])(..)", re.DOTALL)  # before the first scan: a marker and a length
APP1 = b"\xe1"
SAME_PIXELS = {"YCbCr", "Gray"}  # colours of which simplejpeg makes the pixels that Pillow makes
STRICT_COLOURS = {"RGB": "RGB", "CMYK": "CMYK", "YCCK": "CMYK"}  # others, and what it can decode them to
MAX_FACTOR = 8  # by which libjpeg scales down; it reads all of the file even so


class JpegHeader(NamedTuple):
    """What is known of a JPEG file before it is decoded."""

    size: Size
    colours: str


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
    except ValueError:  # no JPEG, or sampled in a way that simplejpeg doesn't know
        return None
    return JpegHeader(Size(height, width), colours) if colours in {*SAME_PIXELS, *STRICT_COLOURS} else None


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
    """Look for an APP1 segment, which holds EXIF or XMP, among the segments before the first scan."""
    start = 2
    while segment := SEGMENT.match(content, start):
        if segment[1] == APP1:
            return True
        start = segment.end() - 2 + int.from_bytes(segment[2], "big")
    return False
