"""Image files as Pillow opens them: what they hold, and what 8-bit RGB would lose of it.

What would be lost silently is refused: transparency, more than 8 bits a channel, channels beside colour and alpha, and
more than one frame. A caller can allow some of these losses: an alpha channel is then dropped, the first frame is read,
and of 16 bits the upper 8 are kept. Nothing is done about numbers of 32 bits, whose range isn't known.

Pillow's own limit of pixels is a global of the process: it isn't changed, and doesn't apply here. Ours is checked
before memory is allocated.

Library: Pillow (https://pillow.readthedocs.io).
"""

import io
import re
import struct
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .encoded import Content
from .errors import BackendUnavailableError, DecodingError, InvalidInputError
from .scans import check_work

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

LOSSES = ("transparency", "frames", "depth")  # that a caller can allow
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TIFF", "WEBP", "TGA")
JPEG_FORMATS = {"JPEG", "MPO"}
REFUSALS = (SyntaxError, LookupError, TypeError, ValueError, struct.error)  # how its plugins say: not mine
PREFIX = 16  # bytes by which Pillow recognizes a format
ORIENTATION = 0x0112  # tag of EXIF
SIXTEEN_BITS = {("I", "PNG"), ("I", "PPM")}  # modes and formats besides "I;16" in which pixels have 16 bits
DEEP_MODES = ("I", "F")  # modes of Pillow that begin with these have more than 8 bits
MAX_DEPTH = 8  # bits a channel
PNG_METADATA = re.compile(rb"eXIf|iTXt|tEXt|zTXt")  # the chunks that EXIF or XMP may be in
SGI_BYTES = 3  # where SGI has the bytes of a channel
BITS_PER_SAMPLE, EXTRA_SAMPLES = 258, 338  # tags of TIFF
JPEG2000_SIZES = re.compile(
    rb"\xff\x4f\xff\x51.{36}(..)", re.DOTALL
)  # the number of components; three bytes each follow
WEBP_SIZES = {  # by the first chunk: the bytes of the size, the bits of a side, those before the height, what is added
    b"VP8 ": (slice(26, 30), 14, 16, 0),
    b"VP8L": (slice(21, 25), 14, 14, 1),
    b"VP8X": (slice(24, 30), 24, 24, 1),
}
WEBP_CHUNK = slice(12, PREFIX)
GIF_BLOCKS = 13  # where they begin, or the palette of all frames
GIF_EXTENSION, GIF_CONTROL, GIF_FRAME = 0x21, 0xF9, 0x2C
GIF_DISPOSAL = 0b11100  # what becomes of a frame before the next is shown
TIFF_SIZE = 256, 257  # tags of TIFF: width and height of what is stored, which may have to be turned
AV1_CONFIGURATION = re.compile(rb"av1C..(.)", re.DOTALL)  # with a flag for 10 or 12 bits


class Size(NamedTuple):
    """Height and width of an image in pixels."""

    height: int
    width: int


def check_losses(losses: Iterable[object]) -> frozenset[str]:
    """Refuse what isn't a choice of `LOSSES`."""
    chosen = frozenset([losses] if isinstance(losses, str) else losses)
    unknown = sorted(map(str, chosen.difference(LOSSES)))
    if unknown:
        raise InvalidInputError(f"{unknown[0]!r} can't be allowed", hint=f"choose among {', '.join(LOSSES)}")
    return frozenset(map(str, chosen))


def open_picture(content: Content, max_pixels: int) -> "ImageFile":
    """Do what Pillow's `open` does, for `FORMATS` only, and with another limit of pixels."""
    pillow = import_pillow()
    pillow.init()
    prefix = bytes(content[:PREFIX])
    if prefix[WEBP_CHUNK] in WEBP_SIZES and prefix.startswith(b"RIFF"):
        check_pixels(_read_webp_size(content), None, max_pixels)  # Pillow allocates them when it opens the file
    for name in (name for name in FORMATS if name in pillow.OPEN):  # its builds differ
        factory, accept = pillow.OPEN[name]
        try:
            if accept is None or accept(prefix) is True:
                picture: ImageFile = factory(_present(name, content), "")
                return picture
        except REFUSALS:
            continue
    raise refuse_format()


class _SlowStart(io.BytesIO):
    """Returns no more than a prefix at first: too little for Pillow to check the size of a WebP by its own limit."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size if self.tell() else PREFIX)


def _present(name: str, content: Content) -> io.BytesIO:
    """Make a file of which Pillow checks nothing by its own limit when it opens it."""
    if name == "WEBP":
        return _SlowStart(content)
    return io.BytesIO(_make_plain_gif(content) if name == "GIF" else content)


def _read_webp_size(content: Content) -> Size:
    place, bits, shift, added = WEBP_SIZES[bytes(content[WEBP_CHUNK])]
    both, mask = int.from_bytes(content[place], "little"), (1 << bits) - 1
    return Size((both >> shift & mask) + added, (both & mask) + added)


def _make_plain_gif(content: Content) -> bytearray:
    """Make the screen of a GIF as large as its first frame, and let that stay: Pillow would allocate for the next."""
    gif = bytearray(content)
    place = GIF_BLOCKS + (3 << (gif[10] & 7) + 1 if gif[10] & 0x80 else 0)
    while gif[place] == GIF_EXTENSION:
        if gif[place + 1] == GIF_CONTROL:
            gif[place + 3] &= ~GIF_DISPOSAL
        place += 2
        while gif[place]:
            place += 1 + gif[place]
        place += 1
    if gif[place] == GIF_FRAME:
        left, top, width, height = struct.unpack_from("<4H", gif, place + 1)
        screen = struct.unpack_from("<2H", gif, 6)
        struct.pack_into("<2H", gif, 6, max(screen[0], left + width), max(screen[1], top + height))
    return gif


def refuse_format() -> DecodingError:
    """Make the error of a file that is no image."""
    return DecodingError(f"it is none of {', '.join(FORMATS)}", hint="repair it, or leave it out")


def inspect(picture: "ImageFile", content: memoryview, max_pixels: int, losses: Collection[str]) -> tuple[Size, int]:
    """Refuse a picture that is too large, or of which more would be lost than `losses`; return size and orientation."""
    whole = Size(picture.height, picture.width)
    check_pixels(whole, content if picture.format in JPEG_FORMATS else None, max_pixels)
    _check_picture(picture, content, losses)
    return whole, get_orientation(picture, content)


def check_pixels(size: Size, jpeg: memoryview | None, max_pixels: int) -> None:
    """Refuse more pixels than the caller wants, or than the content of a JPEG file can hold."""
    pixels = size.height * size.width
    if pixels > max_pixels:
        raise DecodingError(
            f"it has {pixels:,} pixels, more than the limit of {max_pixels:,}",
            hint="if that is right, raise max_pixels (--max-pixels)",
        )
    if jpeg is not None:
        check_work(pixels, jpeg)


def get_orientation(picture: "ImageFile", content: memoryview) -> int:
    """Read how a picture is turned, by its EXIF or XMP."""
    if picture.format == "TIFF":  # Pillow turns it as it loads it
        return 1
    if picture.format == "PNG" and not PNG_METADATA.search(
        content
    ):  # or Pillow would load it to look behind its pixels
        return 1
    orientation = picture.getexif().get(ORIENTATION)
    return orientation if isinstance(orientation, int) else 1


def _check_picture(picture: "ImageFile", content: memoryview, losses: Collection[str]) -> None:
    """Refuse a picture of which a part would be lost; a phone's MPO has a second picture that isn't shown."""
    if _find_depth(picture, content) > MAX_DEPTH:
        if "depth" not in losses:
            hint = "convert it to 8 bits, allow the loss of depth (--allow=depth), or leave it out"
            raise DecodingError("it has more than 8 bits per channel", hint=hint)
        if picture.mode.startswith(DEEP_MODES) and not _has_16_bits(picture):
            raise DecodingError("it has numbers of 32 bits, whose range isn't known", hint="convert it to 8 bits")
        if "transparency" in picture.info and "transparency" not in losses:
            raise _refuse_transparency()
    if getattr(picture, "is_animated", False) and picture.format != "MPO" and "frames" not in losses:
        hint = "save each as a file, allow the loss of frames (--allow=frames), or leave it out"
        raise DecodingError("it has more than one frame or page", hint=hint)
    if 0 in getattr(picture, "tag_v2", {}).get(EXTRA_SAMPLES, ()):
        raise DecodingError("it has channels beside colour and alpha", hint="save it as RGB, or leave it out")


def _has_16_bits(picture: "ImageFile") -> bool:
    return picture.mode.startswith("I;16") or (picture.mode, picture.format) in SIXTEEN_BITS


def _refuse_transparency() -> DecodingError:
    hint = "give it a background, allow the loss of transparency (--allow=transparency), or leave it out"
    return DecodingError("it is transparent in places, which RGB can't hold", hint=hint)


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


def convert(picture: "ImageFile", losses: Collection[str]) -> "Picture":
    """Convert to RGB what loses nothing by it, or only what was allowed."""
    if picture.format == "TIFF" and picture.tile:
        _allocate(picture)
    if picture.mode.startswith("I"):
        return _reduce(picture).convert("RGB")
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        if "transparency" not in losses and opaque.getchannel("A").getextrema() != (0xFF, 0xFF):
            raise _refuse_transparency()
        return opaque.convert("RGB")
    picture.load()
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _allocate(picture: Any) -> None:  # noqa: ANN401 - likewise
    """Allocate what a TIFF is loaded into, for which Pillow would check its own limit."""
    size = tuple(picture.tag_v2[tag] for tag in TIFF_SIZE)
    picture.im = import_pillow().new(picture.mode, size, None).im


def _reduce(picture: Any) -> "Picture":  # noqa: ANN401 - a TIFF has attributes of its own
    """Keep the upper 8 bits of 16 gray ones; TIFF alone has numbers of 12 bits that weren't scaled to 16."""
    depth = max(picture.tag_v2.get(BITS_PER_SAMPLE, (16,))) if picture.format == "TIFF" else 16
    gray = (np.asarray(picture) >> (depth - MAX_DEPTH)).astype(np.uint8)
    return import_pillow().fromarray(gray)  # type: ignore[no-any-return]


def import_pillow() -> Any:  # noqa: ANN401 - a module, whose registry of formats isn't typed
    """Import Pillow, or say how to install it."""
    try:
        import PIL.Image  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        hint = "python -m pip install pillow"
        raise BackendUnavailableError("decoding image files needs Pillow", hint=hint) from error
    return PIL.Image


def is_picture_name(name: str) -> bool:
    """Whether a file has the extension of one of `FORMATS`."""
    formats = import_pillow().registered_extensions()
    return formats.get(PurePosixPath(name).suffix.lower()) in {*FORMATS, *JPEG_FORMATS}


def is_picture(prefix: bytes) -> bool:
    """Whether a file that begins so may be an image in one of `FORMATS`; TGA alone has nothing to know it by."""
    pillow = import_pillow()
    pillow.init()
    for accept in (pillow.OPEN[name][1] for name in FORMATS if name in pillow.OPEN):
        with suppress(*REFUSALS):
            if accept is not None and accept(prefix) is True:
                return True
    return False
