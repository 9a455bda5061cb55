"""Folder trees of image files: one folder per class, named after it, with images of one size and nothing else.

Classes and files are taken in natural order of their names: 2 before 10. Names that begin with a dot are skipped;
anything else that isn't an image is refused, so that nothing is left out silently. So are links that lead out of the
tree, and images that 8-bit RGB can't hold: more than 8 bits, transparency (even if fully opaque), more than one frame
or page. EXIF orientation is ignored. The number of pixels is checked before any is decoded.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from xxhash import xxh3_64

from ..arrays import CHANNELS, cut_indices
from ..contract import Image, Images, Labels
from ..errors import BackendUnavailableError, CorruptStoreError, InvalidInputError, StorageError, reading
from .files import open_input

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

DEEP = ("I", "F")  # the modes of Pillow with more than 8 bits begin with these
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP")
MAX_PIXELS = 1 << 27  # of an image; Pillow itself refuses more than `2 * PIL.Image.MAX_IMAGE_PIXELS`
BASE, EXPANSION = 128 << 20, 100  # bytes of pixels that any file may hold, and more for each of its bytes


@dataclass(frozen=True)
class FolderSource:
    """Images of a folder tree. `names` are the files in order, relative to `root`; `size` is height and width."""

    root: Path
    names: list[str] = field(repr=False)
    size: tuple[int, int]
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    identity: str
    max_pixels: int | None = None

    def identify(self) -> str:
        """Look at the files again."""
        return _list_files(self.root)[2]

    def read(self, start: int) -> Iterator[Images]:
        """Read batches of 8 MiB."""
        height, width = self.size
        for indices in cut_indices(start, len(self.names), height, width):
            images = np.empty((len(indices), height, width, CHANNELS), np.uint8)
            for image, index in zip(images, indices.tolist(), strict=True):
                image[...] = self._read_image(self.root / self.names[index])
            yield images

    def _read_image(self, path: Path) -> Image:
        try:
            with _open_image(path, self.max_pixels) as picture:
                image = np.asarray(picture.convert("RGB"))
        except InvalidInputError as error:
            raise CorruptStoreError(error.problem, store=path, hint=error.hint) from error
        if image.shape[:2] != self.size:
            raise CorruptStoreError("its size has changed", store=path, hint="another program is changing the folder")
        return image


def read_folder(root: Path, max_pixels: int | None = None) -> FolderSource | None:
    """Find the images of a folder tree, without reading pixels; None if `root` contains no folders.

    An image may have `max_pixels`; by default `MAX_PIXELS`, or fewer if its file is small.
    """
    counts, names, identity = _list_files(root)
    if not counts:
        return None
    size = _find_size(root, names, max_pixels)
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), list(counts.values()))
    return FolderSource(root, names, size, labels, tuple(counts), identity, max_pixels)


def _list_files(root: Path) -> tuple[dict[str, int], list[str], str]:
    """Count the files of each class, list their names in order, and hash names, sizes and times."""
    counts, names, digest = {}, [], xxh3_64()
    with reading(root):
        entries = _list_entries(root, root) if root.is_dir() else []
        for folder in entries if any(entry.is_dir() for entry in entries) else []:
            if not folder.is_dir():
                hint = "move it elsewhere; if this is the folder of a store, the store is damaged"
                raise InvalidInputError("it is beside the folders of the classes", store=folder.path, hint=hint)
            files = _list_entries(Path(folder), root)
            counts[folder.name] = len(files)
            for file in files:
                _check_file(file)
                names.append(f"{folder.name}/{file.name}")
                digest.update(os.fsencode(f"{names[-1]}\0{file.stat().st_size} {file.stat().st_mtime_ns}\n"))
    return counts, names, f"folder {digest.hexdigest()}"


def _list_entries(folder: Path, root: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in shown:
        if entry.is_symlink() and root.resolve() not in Path(os.path.realpath(entry)).parents:
            hint = "copy its target there instead"
            raise InvalidInputError(f"it is a link that leads out of {root}", store=entry.path, hint=hint)
    return sorted(shown, key=_order_naturally)


def _order_naturally(entry: os.DirEntry[str]) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", entry.name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], entry.name


def _check_file(file: os.DirEntry[str]) -> None:
    if file.is_dir():
        hint = "name the folder whose folders are the classes"
        raise InvalidInputError("it is a folder inside the folder of a class", store=file.path, hint=hint)
    if not file.is_file():
        raise InvalidInputError("it isn't a regular file", store=file.path, hint="move it elsewhere")


def _find_size(root: Path, names: list[str], max_pixels: int | None) -> tuple[int, int]:
    size = None
    for name in names:
        with _open_image(root / name, max_pixels) as picture:
            found = picture.height, picture.width
        size = size or found
        if found != size:
            sizes = f"{found[0]} x {found[1]} pixels (height x width), and {root / names[0]} has {size[0]} x {size[1]}"
            raise InvalidInputError(f"it has {sizes}", store=root / name, hint="scale all images to one size")
    if size is None:
        hint = "name the folder whose folders are the classes"
        raise InvalidInputError("it has folders, but no images", store=root, hint=hint)
    return size


@contextmanager
def _open_image(path: Path, max_pixels: int | None) -> "Iterator[PillowImage]":
    try:
        from PIL import Image as Pillow  # noqa: PLC0415 - optional
        from PIL import UnidentifiedImageError  # noqa: PLC0415 - likewise
    except ModuleNotFoundError as error:
        hint = "python -m pip install pillow"
        raise BackendUnavailableError("reading image files needs Pillow", hint=hint) from error
    Pillow.init()
    formats = [name for name in FORMATS if name in Pillow.OPEN]  # its builds differ
    try:
        with open_input(path) as file:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # the limit is ours
                picture = Pillow.open(file, formats=formats)
            with picture:
                _check_pixels(path, picture, os.fstat(file.fileno()), max_pixels)
                _check_picture(picture)
                yield picture
    except StorageError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            with reading(path):
                raise
        is_unknown = isinstance(error, UnidentifiedImageError)  # whose message shows the object that was read from
        reason = f"it is none of {', '.join(formats)}" if is_unknown else error
        problem = f"it can't be read as an image ({reason})"
        raise InvalidInputError(problem, store=path, hint="repair it, or move it elsewhere") from error


def _check_pixels(path: Path, picture: "PillowImage", status: os.stat_result, max_pixels: int | None) -> None:
    """Refuse an image that has too many pixels, or too many for the size of its file; none is decoded yet."""
    content = min(status.st_size, status.st_blocks * 512)
    limit = min(MAX_PIXELS, (BASE + EXPANSION * content) // CHANNELS) if max_pixels is None else max_pixels
    pixels = picture.width * picture.height
    if pixels > limit:
        problem = f"it has {pixels:,} pixels, and its file {status.st_size:,} bytes: the limit is {limit:,} pixels"
        raise InvalidInputError(problem, store=path, hint="if that is right, raise the limit (--max-pixels)")


def _check_picture(picture: "PillowImage") -> None:
    """Refuse an image of which a part would be lost."""
    if picture.mode.startswith(DEEP):
        raise ValueError(f"it has more than 8 bits per channel, mode {picture.mode}")
    if picture.has_transparency_data:
        raise ValueError(f"it may be transparent, mode {picture.mode}, which RGB can't hold: save it without alpha")
    if getattr(picture, "is_animated", False):  # formats with a single frame don't have it
        raise ValueError("it has more than one frame or page: save each as a file")
