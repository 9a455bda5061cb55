"""Folder trees of image files: one folder per class, named after it, with images of one size and nothing else.

Classes and files are taken in natural order of their names: 2 before 10. Names that begin with a dot are skipped;
anything else that isn't an image is refused, so that nothing is left out silently. So are links that lead out of the
tree, and what `decoding` refuses. Images are upright by their EXIF orientation. The number of pixels is checked before
any is decoded.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from xxhash import xxh3_64

from ..arrays import CHANNELS, cut_indices
from ..contract import Image, Images, Kind, Labels
from ..dataset.conversion import Problem
from ..decoding import MAX_PIXELS, decode, measure
from ..errors import CorruptStoreError, DecodingError, InvalidInputError, StorageError, reading
from .files import open_input

Result_co = TypeVar("Result_co", covariant=True)

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
    kind: Kind = "pixels"
    problems: tuple[Problem, ...] = ()
    metadata: None = None

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
            image = _look_at(path, decode, self.max_pixels)
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
        found = _look_at(root / name, measure, max_pixels)
        size = size or found
        if found != size:
            sizes = f"{found[0]} x {found[1]} pixels (height x width), and {root / names[0]} has {size[0]} x {size[1]}"
            raise InvalidInputError(f"it has {sizes}", store=root / name, hint="scale all images to one size")
    if size is None:
        hint = "name the folder whose folders are the classes"
        raise InvalidInputError("it has folders, but no images", store=root, hint=hint)
    return size


class Look(Protocol[Result_co]):
    """Something that is made of the content of an image file."""

    def __call__(self, content: bytes, *, max_pixels: int) -> Result_co:
        """Make it, if the image has no more pixels."""
        ...


def _look_at(path: Path, look: Look[Result_co], max_pixels: int | None) -> Result_co:
    """Decode or measure an image file; by default it may have fewer pixels if it is small."""
    with reading(path), open_input(path) as file:
        content, status = file.read(), os.fstat(file.fileno())
    allocated = min(status.st_size, status.st_blocks * 512)
    limit = min(MAX_PIXELS, (BASE + EXPANSION * allocated) // CHANNELS) if max_pixels is None else max_pixels
    try:
        return look(content, max_pixels=limit)
    except DecodingError as error:
        problem = f"it can't be read as an image ({error.problem})"
        raise InvalidInputError(problem, store=path, hint=error.hint) from error
    except StorageError as error:
        raise error.replace(store=path) from error
