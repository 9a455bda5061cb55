"""How an image file becomes pixels: upright, RGB, 8 bits. Nothing else decodes files.

JPEG files in YCbCr or gray go through simplejpeg if it is installed, in its strict mode; everything else goes through
Pillow. Pixels of full size are the same either way. Without simplejpeg, corruption that libjpeg only warns about isn't
noticed. Colour profiles are ignored, gray and CMYK become RGB, and an alpha channel that is opaque everywhere is
dropped. What would be lost silently is refused: transparency, more than 8 bits a channel, more than one frame. The
number of pixels is checked before memory is allocated for them.

Libraries: Pillow (https://pillow.readthedocs.io), simplejpeg (https://gitlab.com/jfolz/simplejpeg).
"""

import io
import math
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arrays import Image, Images
from .encoded import Content
from .errors import BackendUnavailableError, DecodingError, StorageError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 1 << 28  # of an image; a caller can raise it
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TIFF", "WEBP", "TGA")
PREFIX = 16  # bytes by which Pillow recognizes a format
HEADERS = 1 << 16  # bytes in which the headers of a file are looked for
ORIENTATION = 0x0112  # tag of EXIF
TURNS: Mapping[int, Callable[[Image], Image]] = {  # by EXIF orientation
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}
EXCHANGED = {5, 6, 7, 8}  # orientations that exchange height and width
DEEP_MODES = ("I", "F")  # modes of Pillow that begin with these have more than 8 bits
MAX_DEPTH = 8  # bits a channel
PNG_DEPTH = 24  # where the byte is
BITS_PER_SAMPLE = 258  # tag of TIFF
JPEG2000_SIZES = re.compile(rb"\xff\x4f\xff\x51.{38}(.)", re.DOTALL)  # the depth of the first component
AV1_CONFIGURATION = re.compile(rb"av1C..(.)", re.DOTALL)  # with a flag for 10 or 12 bits
SEGMENT = re.compile(rb"\xff+([^\xda\xff])(..)", re.DOTALL)  # of JPEG before the first scan: a marker and a length
APP1 = b"\xe1"
PPM_HEADER = re.compile(rb"P[2356](?:\s+#[^\n]*)*\s+\d+(?:\s+#[^\n]*)*\s+\d+(?:\s+#[^\n]*)*\s+(\d+)")


class Size(NamedTuple):
    """Height and width of an image in pixels."""

    height: int
    width: int


def decode(content: Content, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file.

    Parameters
    ----------
    content : bytes-like
        The file: JPEG, PNG, WebP, GIF, TIFF, AVIF, JPEG 2000, BMP and other formats.
    max_pixels : int
        Refuse an image with more pixels before memory is allocated for them.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB, upright by the file's EXIF orientation, in fresh memory.

    Raises
    ------
    DecodingError
        It is no image, is damaged, has too many pixels, or has what 8-bit RGB can't hold.
    BackendUnavailableError
        Pillow isn't installed.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> import storage
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 3), 7).save(file, "PNG")
    >>> image = storage.decode(file.getvalue())
    >>> image.shape, image[0, 0]
    ((3, 4, 3), array([7, 7, 7], dtype=uint8))
    """
    with _explaining():
        return np.ascontiguousarray(_decode(content, None, max_pixels))


def decode_batch(
    files: Sequence[Content], size: Size, out: Images, *, threads: int | None, max_pixels: int = MAX_PIXELS
) -> None:
    """Decode files into `out`, each scaled and cropped to `size`; an error has the number of the file as its record.

    `threads` is how many decode at once; None: as many as there are processors.
    """

    def fill(number: int) -> None:
        try:
            with _explaining():
                out[number] = _fit(_decode(files[number], size, max_pixels), size)
        except StorageError as error:
            raise error.replace(record=number) from error

    count = min(len(files), threads or len(os.sched_getaffinity(0)))
    if count > 1:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(fill, range(len(files))))
    else:
        list(map(fill, range(len(files))))


def _decode(content: Content, size: Size | None, max_pixels: int) -> Image:
    """Decode a file; with a size, to no fewer pixels than scaling to it needs."""
    simplejpeg = _find_simplejpeg()
    if simplejpeg is not None and bytes(content[:2]) == b"\xff\xd8":
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours in {"YCbCr", "Gray"}:
            _check_pixels(Size(height, width), max_pixels)
            orientation = _read_orientation(content)
            least = _choose_least(Size(height, width), size, orientation)
            return _turn(simplejpeg.decode_jpeg(content, "RGB", min_height=least[0], min_width=least[1]), orientation)
    with _open_picture(content) as picture:
        _check_pixels(Size(picture.height, picture.width), max_pixels)
        _check_picture(picture, content)
        orientation = picture.getexif().get(ORIENTATION, 1)
        if size is not None:
            least = _choose_least(Size(picture.height, picture.width), size, orientation)
            picture.draft("RGB", (least.width, least.height))  # of JPEG, in steps of 1/8
        return _turn(_convert(picture), orientation)


def _choose_least(whole: Size, size: Size | None, orientation: int) -> Size:
    """Choose the least height and width from which an image can be scaled to `size` without enlarging it."""
    if size is None:
        return whole
    height, width = size[::-1] if orientation in EXCHANGED else size
    scale = min(1.0, max(height / whole.height, width / whole.width))
    return Size(math.ceil(whole.height * scale), math.ceil(whole.width * scale))


def _turn(image: Image, orientation: int) -> Image:
    return TURNS[orientation](image) if orientation in TURNS else image


def _fit(image: Image, size: Size) -> Image:
    """Scale an image, antialiased, and crop its centre to `size`."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    scale = min(height / size.height, width / size.width)
    left, top = max(0.0, (width - size.width * scale) / 2), max(0.0, (height - size.height * scale) / 2)
    box = left, top, min(width, left + size.width * scale), min(height, top + size.height * scale)
    pillow = _import_pillow()
    picture = pillow.fromarray(np.ascontiguousarray(image))
    fitted: Image = np.asarray(picture.resize((size.width, size.height), pillow.Resampling.BILINEAR, box=box))
    return fitted


def _read_orientation(content: Content) -> int:
    """Read the orientation of a JPEG file; only where it has a segment for metadata, as Pillow takes its time."""
    if not _has_metadata(memoryview(content)):
        return 1
    with _open_picture(content) as picture:
        return int(picture.getexif().get(ORIENTATION, 1))


def _has_metadata(content: memoryview) -> bool:
    """Look for an APP1 segment, which holds EXIF or XMP, among the segments before the first scan."""
    start = 2
    while segment := SEGMENT.match(content, start):
        if segment[1] == APP1:
            return True
        start = segment.end() - 2 + int.from_bytes(segment[2], "big")
    return False


def _open_picture(content: Content) -> "ImageFile":
    """Do what Pillow's `open` does, for `FORMATS` only, and without its own limit of pixels."""
    pillow = _import_pillow()
    pillow.init()
    prefix = bytes(content[:PREFIX])
    for factory, accept in (pillow.OPEN[name] for name in FORMATS if name in pillow.OPEN):  # its builds differ
        if accept is None or accept(prefix) is True:
            try:
                picture: ImageFile = factory(io.BytesIO(content), "")
            except (
                SyntaxError,
                LookupError,
                TypeError,
                ValueError,
                struct.error,
            ):  # how Pillow's plugins say that it isn't theirs
                continue
            return picture
    raise DecodingError(f"it is none of {', '.join(FORMATS)}", hint="repair it, or leave it out")


def _check_pixels(size: Size, max_pixels: int) -> None:
    pixels = size.height * size.width
    if pixels > max_pixels:
        raise DecodingError(
            f"it has {pixels:,} pixels, more than the limit of {max_pixels:,}",
            hint="if that is right, raise max_pixels",
        )


def _check_picture(picture: "ImageFile", content: Content) -> None:
    """Refuse a picture of which a part would be lost; a phone's MPO has a second picture that isn't shown."""
    if _find_depth(picture, bytes(content[:HEADERS])) > MAX_DEPTH:
        raise DecodingError("it has more than 8 bits per channel", hint="convert it to 8 bits, or leave it out")
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise DecodingError("it has more than one frame or page", hint="save each as a file, or leave it out")


def _find_depth(picture: Any, header: bytes) -> int:  # noqa: ANN401 - a TIFF has attributes of its own
    """Find the bits of a channel, which Pillow's mode doesn't always tell."""
    depth = 16 if picture.mode.startswith(DEEP_MODES) else 8
    match picture.format:
        case "PNG":
            depth = header[PNG_DEPTH]
        case "TIFF":
            depth = max(depth, *picture.tag_v2.get(BITS_PER_SAMPLE, (1,)))
        case "PPM" if found := PPM_HEADER.match(header):
            depth = int(found[1]).bit_length()
        case "JPEG2000" if found := JPEG2000_SIZES.search(header):
            depth = (found[1][0] & 0x7F) + 1
        case "AVIF" if found := AV1_CONFIGURATION.search(header):
            depth = 10 if found[1][0] & 0x40 else 8
    return depth


def _convert(picture: "ImageFile") -> Image:
    if picture.has_transparency_data:
        with_alpha = picture.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (0xFF, 0xFF):
            raise DecodingError("it is transparent in places, which RGB can't hold", hint="give it a background")
        return np.array(with_alpha)[..., :3]
    return np.array(picture.convert("RGB"))


@contextmanager
def _explaining() -> Iterator[None]:
    """Turn what a decoder raises into an error of this package."""
    try:
        yield
    except StorageError:
        raise
    except MemoryError as error:
        raise StorageError("too little memory to decode it", hint="free some, or lower max_pixels") from error
    except Exception as error:
        raise DecodingError(f"it can't be decoded ({str(error) or type(error).__name__})") from error


@cache
def _find_simplejpeg() -> ModuleType | None:
    try:
        return import_module("simplejpeg")
    except ImportError:
        return None


def _import_pillow() -> Any:  # noqa: ANN401 - a module, whose registry of formats isn't typed
    try:
        return import_module("PIL.Image")
    except ModuleNotFoundError as error:
        hint = "python -m pip install pillow"
        raise BackendUnavailableError("decoding image files needs Pillow", hint=hint) from error
