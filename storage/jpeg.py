"""JPEG files as simplejpeg decodes them: in its strict mode, so corruption that libjpeg only warns about is an error.

Library: simplejpeg (https://gitlab.com/jfolz/simplejpeg).
"""

import math
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
BASELINE = {b"\xc0", b"\xc1"}  # of the header of a file that has one scan from top to bottom
CONTEXT = 16  # rows below a part that its last rows depend on: colours are interpolated
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
    except ValueError:  # no JPEG, or sampled in a way that simplejpeg doesn't know
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


def decode_part(
    simplejpeg: ModuleType, content: memoryview, whole: Size, end: int, eighths: int, *, may_cut: bool
) -> Image:
    """Decode rows up to `end`, perhaps more, at a number of eighths of their size, as `decode_least` does.

    If it may be cut, a baseline file gets a smaller height in its header, and libjpeg ends there. It can't be strict
    then, as it finds no marker behind those rows.
    """
    size = Size(min(end + CONTEXT, whole.height), whole.width)
    cut = _cut_rows(simplejpeg, content, size) if may_cut and size != whole else None
    given = whole if cut is None else size
    least = Size(*(math.ceil(side * eighths / MAX_FACTOR) for side in given))
    return decode_least(simplejpeg, memoryview(content if cut is None else cut), given, least, strict=cut is None)


def _cut_rows(simplejpeg: ModuleType, content: memoryview, size: Size) -> bytearray | None:
    place = next((segment.end() + 1 for segment in _find_segments(content) if segment[1] in BASELINE), None)
    if place is None:
        return None
    cut = bytearray(content)
    cut[place : place + 2] = size.height.to_bytes(2, "big")
    header = read_header(simplejpeg, memoryview(cut))
    return cut if header is not None and header.size == size else None  # libjpeg found another header


def _has_metadata(content: memoryview) -> bool:
    """Look for an APP1 segment, which holds EXIF or XMP."""
    return any(segment[1] == APP1 for segment in _find_segments(content))


def _find_segments(content: memoryview) -> Iterator[re.Match[bytes]]:
    """Find the segments before the first scan."""
    start = 2
    while segment := SEGMENT.match(content, start):
        yield segment
        start = segment.end() - 2 + int.from_bytes(segment[2], "big")
