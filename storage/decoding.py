"""How an image file becomes pixels: upright, RGB, 8 bits. Nothing else decodes files.

JPEG files in YCbCr or gray go through simplejpeg if it is installed, in its strict mode; everything else goes through
Pillow. Pixels of full size are the same either way. Without simplejpeg, corruption that libjpeg only warns about isn't
noticed. Colour profiles are ignored, gray and CMYK become RGB, and an alpha channel that is opaque everywhere is
dropped. What would be lost silently is refused: transparency, more than 8 bits a channel, channels beside colour and
alpha, more than one frame. The number of pixels is checked before memory is allocated for them. Pillow's own limit
applies to WebP and TIFF only. What Pillow warns about, such as broken EXIF, stays a warning.

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
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arrays import Image, Images
from .encoded import Content, Encoded, view_file
from .errors import BackendUnavailableError, DecodingError, InvalidInputError, StorageError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 1 << 28  # of an image; a caller can raise it
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TIFF", "WEBP", "TGA")
JPEG_FORMATS = {"JPEG", "MPO"}
PREFIX = 16  # bytes by which Pillow recognizes a format
JPEG_EXPANSION = 512  # pixels of JPEG that a byte can hold: a bit for each block of 8 x 8
JPEG_BASE = 1 << 24  # pixels of JPEG that are decoded even if the file seems too small
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
PNG_METADATA = re.compile(rb"eXIf|iTXt|tEXt|zTXt")  # the chunks that EXIF or XMP may be in
SGI_BYTES = 3  # where SGI has the bytes of a channel
BITS_PER_SAMPLE, EXTRA_SAMPLES = 258, 338  # tags of TIFF
JPEG2000_SIZES = re.compile(
    rb"\xff\x4f\xff\x51.{36}(..)", re.DOTALL
)  # the number of components; three bytes each follow
AV1_CONFIGURATION = re.compile(rb"av1C..(.)", re.DOTALL)  # with a flag for 10 or 12 bits
SEGMENT = re.compile(rb"\xff+([^\xda\xff])(..)", re.DOTALL)  # of JPEG before the first scan: a marker and a length
APP1 = b"\xe1"


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
    InvalidInputError
        `content` isn't bytes.
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
    view = view_file(content)
    with _explaining():
        return np.require(_decode(view, None, max_pixels), requirements=("C", "W"))


def measure(content: Content, *, max_pixels: int = MAX_PIXELS) -> Size:
    """Find the height and width of an upright image, and refuse what `decode` refuses, but for damaged pixels.

    Pixels are read only of an image that may be transparent, or may say how it is turned after its pixels.
    """
    view = view_file(content)
    with _explaining(), _open_picture(view) as picture:
        whole, orientation = _inspect(picture, view, max_pixels)
        if picture.has_transparency_data:
            _convert(picture)
    return Size(whole.width, whole.height) if orientation in EXCHANGED else whole


def decode_batch(
    files: Encoded, size: Size, out: Images, *, threads: int | None = None, max_pixels: int = MAX_PIXELS
) -> None:
    """Decode files into `out`, each scaled and cropped to `size`.

    `threads` is how many decode at once; None: as many as there are processors. An error has the number of the file as
    its record: the first one that can't be decoded, however many threads there are.
    """

    def fill(number: int) -> None:
        try:
            with _explaining():
                out[number] = _decode(files[number], size, max_pixels)
        except StorageError as error:
            raise error.replace(record=number) from error

    count = min(len(files), threads or len(os.sched_getaffinity(0)))
    if count > 1:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(fill, range(len(files))))
    else:
        list(map(fill, range(len(files))))


def check_size(size: object) -> Size:
    """Refuse what isn't the height and width of images to make."""
    if isinstance(size, Sequence | np.ndarray) and len(size) == len(Size._fields) and all(map(_is_positive, size)):
        return Size(*map(int, size))
    raise InvalidInputError(f"a size of {size} for image files", hint="give height and width, such as (224, 224)")


def check_threads(threads: object) -> None:
    """Refuse what isn't a number of threads, or None."""
    if threads is not None and not _is_positive(threads):
        raise InvalidInputError(f"threads is {threads!r}", hint="give how many files are decoded at once, such as 4")


def _is_positive(number: object) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool) and int(number) > 0


def _decode(content: memoryview, size: Size | None, max_pixels: int) -> Image:
    """Decode a file, scaled and cropped to `size` if there is one; the array may be a view, or read-only."""
    simplejpeg = find_simplejpeg()
    if simplejpeg is not None and (header := _read_jpeg_header(simplejpeg, content)) is not None:
        _check_pixels(header, content, max_pixels)
        orientation = _read_orientation(content)
        target, least = _plan(header, size, orientation)
        image = simplejpeg.decode_jpeg(content, "RGB", min_height=least.height, min_width=least.width)
        if target not in {None, image.shape[:2]}:
            image = _fit(_import_pillow().fromarray(image), target)
        return _turn(image, orientation)
    with _open_picture(content) as picture:
        whole, orientation = _inspect(picture, content, max_pixels)
        target, least = _plan(whole, size, orientation)
        if size is not None:
            picture.draft("RGB", (least.width, least.height))  # of JPEG, in steps of 1/8
        return _turn(_fit(_convert(picture), target), orientation)


def _read_jpeg_header(simplejpeg: ModuleType, content: memoryview) -> Size | None:
    """Read the size of a JPEG file that simplejpeg decodes as Pillow does; None: leave the file to Pillow."""
    if bytes(content[:2]) != b"\xff\xd8":
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)  # decoding will be strict
    except ValueError:  # no JPEG, or sampled in a way that simplejpeg doesn't know
        return None
    return Size(height, width) if colours in {"YCbCr", "Gray"} else None


def _inspect(picture: "ImageFile", content: memoryview, max_pixels: int) -> tuple[Size, int]:
    """Refuse a picture that is too large, or of which a part would be lost; return its size and orientation."""
    whole = Size(picture.height, picture.width)
    _check_pixels(whole, content if picture.format in JPEG_FORMATS else None, max_pixels)
    _check_picture(picture, content)
    return whole, _get_orientation(picture, content)


def _plan(whole: Size, size: Size | None, orientation: int) -> tuple[Size | None, Size]:
    """Turn `size` as the file is, and choose from how few pixels an image can be scaled to it."""
    if size is None:
        return None, whole
    target = Size(size.width, size.height) if orientation in EXCHANGED else size
    scale = min(1.0, max(target.height / whole.height, target.width / whole.width))
    return target, Size(math.ceil(whole.height * scale), math.ceil(whole.width * scale))


def _turn(image: Image, orientation: int) -> Image:
    return TURNS[orientation](image) if orientation in TURNS else image


def _fit(picture: "Picture", size: Size | None) -> Image:
    """Scale a picture, antialiased, and crop its centre to `size`, if there is one and it has another."""
    width, height = picture.size
    if size not in {None, (height, width)}:
        scale = min(height / size.height, width / size.width)
        left, top = max(0.0, (width - size.width * scale) / 2), max(0.0, (height - size.height * scale) / 2)
        box = left, top, min(width, left + size.width * scale), min(height, top + size.height * scale)
        picture = picture.resize((size.width, size.height), _import_pillow().Resampling.BILINEAR, box=box)
    return np.asarray(picture)


def _read_orientation(content: memoryview) -> int:
    """Read the orientation of a JPEG file; only where it has a segment for metadata, as Pillow takes its time."""
    if not _has_metadata(content):
        return 1
    with _open_picture(content) as picture:
        return _get_orientation(picture, content)


def _get_orientation(picture: "ImageFile", content: memoryview) -> int:
    if picture.format == "TIFF":  # Pillow turns it as it loads it
        return 1
    if picture.format == "PNG" and not PNG_METADATA.search(
        content
    ):  # or Pillow would load it to look behind its pixels
        return 1
    orientation = picture.getexif().get(ORIENTATION)
    return orientation if isinstance(orientation, int) else 1


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
        try:
            if accept is None or accept(prefix) is True:
                picture: ImageFile = factory(io.BytesIO(content), "")
                return picture
        except (SyntaxError, LookupError, TypeError, ValueError, struct.error):  # its plugins' way to say: not mine
            continue
    raise DecodingError(f"it is none of {', '.join(FORMATS)}", hint="repair it, or leave it out")


def _check_pixels(size: Size, jpeg: memoryview | None, max_pixels: int) -> None:
    """Refuse more pixels than the caller wants, or than the content of a JPEG file can hold."""
    pixels = size.height * size.width
    if pixels > max_pixels:
        raise DecodingError(
            f"it has {pixels:,} pixels, more than the limit of {max_pixels:,}",
            hint="if that is right, raise max_pixels",
        )
    if jpeg is not None and pixels > JPEG_BASE + JPEG_EXPANSION * len(jpeg):
        raise DecodingError(f"it claims {pixels:,} pixels, more than a JPEG file of {len(jpeg):,} bytes can hold")


def _check_picture(picture: "ImageFile", content: memoryview) -> None:
    """Refuse a picture of which a part would be lost; a phone's MPO has a second picture that isn't shown."""
    if _find_depth(picture, content) > MAX_DEPTH:
        raise DecodingError("it has more than 8 bits per channel", hint="convert it to 8 bits, or leave it out")
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise DecodingError("it has more than one frame or page", hint="save each as a file, or leave it out")
    if 0 in getattr(picture, "tag_v2", {}).get(EXTRA_SAMPLES, ()):
        raise DecodingError("it has channels beside colour and alpha", hint="save it as RGB, or leave it out")


def _find_depth(picture: Any, content: memoryview) -> int:  # noqa: ANN401 - a TIFF has attributes of its own
    """Find the bits of a channel, which Pillow's mode doesn't always tell."""
    depth = 16 if picture.mode.startswith(DEEP_MODES) else 8
    layout = picture.tile[0].args if picture.tile else ""  # how Pillow decodes it
    match picture.format:
        case "PNG" if layout.endswith(";16B"):
            depth = 16
        case "TIFF":
            depth = max(depth, *picture.tag_v2.get(BITS_PER_SAMPLE, (1,)))
        case "PPM" if isinstance(layout, tuple):
            depth = max(depth, layout[-1].bit_length())
        case "SGI":
            depth = 8 * content[SGI_BYTES]
        case "JPEG2000" if found := JPEG2000_SIZES.search(content):
            count = int.from_bytes(found[1], "big")
            depth = max((each & 0x7F) + 1 for each in content[found.end() : found.end() + 3 * count : 3])
        case "AVIF" if any(found[1][0] & 0x40 for found in AV1_CONFIGURATION.finditer(content)):
            depth = 10
    return depth


def _convert(picture: "Picture") -> "Picture":
    """Convert to RGB what loses nothing by it."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() != (0xFF, 0xFF):
            raise DecodingError("it is transparent in places, which RGB can't hold", hint="give it a background")
    picture.load()
    return picture if picture.mode == "RGB" else picture.convert("RGB")


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
        is_limit = type(error).__name__ == "DecompressionBombError"
        hint = "if that is right, raise PIL.Image.MAX_IMAGE_PIXELS" if is_limit else None
        raise DecodingError(f"it can't be decoded ({str(error) or type(error).__name__})", hint=hint) from error


@cache
def find_simplejpeg() -> Any:  # noqa: ANN401 - a module without types, or None
    """Import simplejpeg, if it is installed."""
    try:
        import simplejpeg  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return simplejpeg


def _import_pillow() -> Any:  # noqa: ANN401 - a module, whose registry of formats isn't typed
    try:
        import PIL.Image  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        hint = "python -m pip install pillow"
        raise BackendUnavailableError("decoding image files needs Pillow", hint=hint) from error
    return PIL.Image
