"""How an image file becomes pixels: upright, RGB, 8 bits. Nothing else decodes files.

JPEG files in YCbCr or gray go through simplejpeg if it is installed, in its strict mode; everything else goes through
Pillow. Pixels of full size are the same either way; those that are scaled differ slightly, and once more where OpenCV
scales them. JPEG files in other colours, of which simplejpeg makes other pixels, are verified with it first. Without
simplejpeg, or where a file is sampled in a way that it doesn't know, corruption that libjpeg only warns about isn't
noticed. Colour profiles are ignored, gray and CMYK become RGB, and an alpha channel that is opaque everywhere is
dropped. What would be lost silently is refused unless the caller allows it; see `pictures`. The number of pixels is
checked before memory is allocated for them. What Pillow warns about, such as broken EXIF, stays a warning.
"""

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Condition
from types import ModuleType
from typing import Self, TypeGuard

import numpy as np

from .arrays import Image, Images
from .augmentation import Crop, View
from .encoded import Content, view_file
from .errors import DecodingError, InvalidInputError, StorageError
from .jpeg import SAME_PIXELS, decode_least, find_simplejpeg, read_header, read_orientation, verify
from .jpeg_parts import decode_part, find_nvimgcodec
from .pictures import Size, check_losses, check_pixels, convert, import_pillow, inspect, open_picture
from .scaling import (
    EIGHTHS,
    VERSION,
    choose_eighths,
    choose_least,
    find_box,
    find_opencv,
    fit_array,
    fit_picture,
    mirror,
    plan,
)

MAX_PIXELS = 1 << 28  # of an image; a caller can raise it
TURNS: Mapping[int, Callable[[Image], Image]] = {  # by EXIF orientation
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


def decode(content: Content, *, max_pixels: int = MAX_PIXELS, losses: Collection[str] = ()) -> Image:
    """Decode an image file.

    Parameters
    ----------
    content : bytes-like
        The file: JPEG, PNG, WebP, GIF, TIFF, AVIF, JPEG 2000, BMP and other formats.
    max_pixels : int
        Refuse an image with more pixels before memory is allocated for them.
    losses : collection of {"transparency", "frames", "depth"}
        What may be lost: an alpha channel is dropped, the first of several frames is read, and of 16 bits a channel
        the upper 8 are kept. Without it, such an image is refused.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB, upright by the file's EXIF orientation, in fresh memory.

    Raises
    ------
    InvalidInputError
        `content` isn't bytes, or there is no such loss.
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
    view, allowed = view_file(content), check_losses(losses)
    return np.require(decode_scaled(view, max_pixels=max_pixels, losses=allowed), requirements=("C", "W"))


class Budget:
    """How many pixels threads may decode at once; an image that has more is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self._pixels, self._used, self._changed = pixels, 0, Condition()

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        """Pickle the number alone: another process has its own."""
        return type(self), (self._pixels,)

    @contextmanager
    def taking(self, pixels: int) -> Iterator[None]:
        """Wait until there are pixels left for one image."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + pixels <= self._pixels)
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()


def decode_scaled(
    content: memoryview,
    size: Size | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    losses: Collection[str] = (),
    budget: Budget | None = None,
    view: View | None = None,
) -> Image:
    """Decode a file, scaled and cropped to `size` if there is one; the array may be a view, or read-only.

    A `view` chooses a part of it and whether it is mirrored.
    """
    with _explaining():
        image = _decode(content, size, max_pixels, losses, budget, view)
        return mirror(image) if view is not None and view.is_mirrored else image


def decode_batch(
    files: Sequence[memoryview],
    size: Size,
    out: Images,
    *,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    losses: Collection[str] = (),
    views: Sequence[View] | None = None,
) -> None:
    """Decode files into `out`, each scaled and cropped to `size`, as its view says if there are views.

    `threads` is how many decode at once; None: as many as there are processors. An error has the number of the file as
    its record: the first one that can't be decoded, however many threads there are.
    """

    def fill(number: int) -> None:
        view = None if views is None else views[number]
        try:
            out[number] = decode_scaled(files[number], size, max_pixels=max_pixels, losses=losses, view=view)
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
    if isinstance(size, Sequence | np.ndarray) and len(size) == len(Size._fields) and all(map(is_positive, size)):
        return Size(*map(int, size))
    hint = "give height and width: size=(224, 224), in batches image_size=(224, 224)"
    raise InvalidInputError(f"a size of {size} for image files", hint=hint)


def check_threads(threads: object) -> None:
    """Refuse what isn't a number of threads, or None."""
    if threads is not None and not is_positive(threads):
        raise InvalidInputError(f"threads is {threads!r}", hint="give how many files are decoded at once, such as 4")


def is_positive(number: object) -> bool:
    """Check whether something is a number above 0."""
    return is_integer(number) and int(number) > 0


def is_integer(number: object) -> TypeGuard[int | np.integer]:
    """Check whether something is an integer, and no bool."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def import_decoders(*, of_parts: bool) -> None:
    """Import all that decodes and scales, since a fork in the middle of an import is dangerous."""
    import_pillow().init()  # its plugins, too
    find_simplejpeg()
    find_opencv()
    if of_parts:
        find_nvimgcodec()


def identify_decoders() -> str:
    """Name the libraries that make pixels of files, with their versions: others make slightly different ones."""
    libraries = import_pillow(), find_simplejpeg(), find_opencv()
    names = [f"{library.__name__} {library.__version__}" for library in libraries if library is not None]
    return " ".join([*names, f"scaling {VERSION}"])


def _decode(
    content: memoryview,
    size: Size | None,
    max_pixels: int,
    losses: Collection[str],
    budget: Budget | None,
    view: View | None,
) -> Image:
    simplejpeg = find_simplejpeg()
    header = None if simplejpeg is None else read_header(simplejpeg, content)
    if header is not None:
        check_pixels(header.size, content, max_pixels)
        if header.colours in SAME_PIXELS:
            return _decode_jpeg(simplejpeg, content, header.size, size, budget, view)
        with _take(budget, header.size):
            verify(simplejpeg, content, header.colours)
    with (
        open_picture(content, max_pixels) as picture,
        _take(budget, Size(picture.height, picture.width)),  # to find out how a PNG is turned may load it
    ):
        whole, orientation = inspect(picture, content, max_pixels, losses)
        target, least, crop = plan(whole, size, orientation, view)
        if size is not None:
            picture.draft("RGB", (least.width, least.height))  # of JPEG, in steps of 1/8
        converted = convert(picture, losses)
        box = find_box(crop, converted.width / whole.width, converted.height / whole.height)
        return _turn(fit_picture(converted, target, box), orientation)


def _decode_jpeg(
    simplejpeg: ModuleType,
    content: memoryview,
    whole: Size,
    size: Size | None,
    budget: Budget | None,
    view: View | None,
) -> Image:
    orientation = read_orientation(content, whole)
    target, least, crop = plan(whole, size, orientation, view)
    if view is not None and target is not None and crop is not None:
        return _turn(_decode_crop(simplejpeg, content, whole, target, crop, may_cut=view.is_verified), orientation)
    if target is None:
        with _take(budget, whole):
            return _turn(simplejpeg.decode_jpeg(content, "RGB"), orientation)
    least = choose_least(whole, least, target)
    with _take(budget, least):
        image = decode_least(simplejpeg, content, whole, least)
        fitted = fit_array(image, target)
        return _turn(fitted.copy() if fitted is image else fitted, orientation)


def _decode_crop(
    simplejpeg: ModuleType, content: memoryview, whole: Size, target: Size, crop: Crop, *, may_cut: bool
) -> Image:
    """Scale a part of a photo; Pillow looks half a pixel of the result beyond it."""
    down, across = (math.ceil(side / made / 2) for side, made in zip((crop.height, crop.width), target, strict=True))
    top, left = max(0, crop.top - down), max(0, crop.left - across)
    bottom, right = min(whole.height, crop.top + crop.height + down), min(whole.width, crop.left + crop.width + across)
    eighths = choose_eighths(crop, target)
    needed = Crop(top, left, bottom - top, right - left)
    image, shown = decode_part(simplejpeg, content, whole, needed, eighths, may_cut=may_cut)
    crop = crop._replace(top=crop.top - shown.top, left=crop.left - shown.left)
    return fit_array(image, target, find_box(crop, eighths / EIGHTHS, eighths / EIGHTHS))


def _take(budget: Budget | None, size: Size) -> AbstractContextManager[None]:
    return nullcontext() if budget is None else budget.taking(size.height * size.width)


def _turn(image: Image, orientation: int) -> Image:
    return TURNS[orientation](image) if orientation in TURNS else image


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
