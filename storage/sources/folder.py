"""Folder trees of images: one folder a class, whose name is the class's, with nothing but images of one size.

Classes and files stand in natural order of their names: 2 before 10. Names that begin with a dot are passed over; all
else that is no image is refused, so that nothing is left out without a word. So are links that lead out of the tree,
and what RGB of 8 bits cannot hold: more bits, transparency (also where all is opaque), more than one frame or page.
What an image says of being turned (EXIF) is not looked at.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from xxhash import xxh3_64

from ..arrays import CHANNELS, cut_indices
from ..contract import Image, Images, Labels
from ..errors import CorruptStoreError, InvalidInputError, reading

DEEP = ("I", "F")  # how the names of Pillow's modes of more than 8 bits begin


@dataclass(frozen=True)
class FolderSource:
    """Images of a folder tree; see `storage.sources.source.Source`.

    Attributes
    ----------
    root : Path
    names : list of str
        Of the files, below the root, in order.
    size : tuple of int
        Height and width, pixels.
    """

    root: Path
    names: list[str] = field(repr=False)
    size: tuple[int, int]
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    identity: str

    def identify(self) -> str:
        """Look at its files again; see `storage.sources.source.Source`."""
        return _list_files(self.root)[2]

    def read(self, start: int) -> Iterator[Images]:
        """Read batches of 8 MiB; see `storage.sources.source.Source`."""
        height, width = self.size
        for indices in cut_indices(start, len(self.names), height, width):
            images = np.empty((len(indices), height, width, CHANNELS), np.uint8)
            for image, index in zip(images, indices.tolist(), strict=True):
                image[...] = self._read_image(self.root / self.names[index])
            yield images

    def _read_image(self, path: Path) -> Image:
        try:
            with _open_image(path) as picture:
                image = np.asarray(picture.convert("RGB"))
        except InvalidInputError as error:
            raise CorruptStoreError(str(error)) from error
        if image.shape[:2] != self.size:
            raise CorruptStoreError(f"{path} has another size than before: another program changes it")
        return image


def read_folder(root: Path) -> FolderSource | None:
    """Find the images of a folder tree; look at the size of each, and at no pixels.

    Parameters
    ----------
    root : Path

    Returns
    -------
    FolderSource or None
        None if there are no folders in it.

    Raises
    ------
    InvalidInputError
        A file is no image, or of another size than the first, or where none should be; or there is none at all.
    StorageError
        The operating system refused.
    """
    counts, names, identity = _list_files(root)
    if not counts:
        return None
    size = _find_size(root, names)
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), list(counts.values()))
    return FolderSource(root, names, size, labels, tuple(counts), identity)


def _list_files(root: Path) -> tuple[dict[str, int], list[str], str]:
    """Count the files of each class, name them all in order, and hash their names, sizes and times."""
    counts, names, digest = {}, [], xxh3_64()
    with reading(root):
        entries = _list_entries(root, root) if root.is_dir() else []
        for folder in entries if any(entry.is_dir() for entry in entries) else []:
            if not folder.is_dir():
                raise InvalidInputError(
                    f"{folder.path} is beside the folders of the classes: move it elsewhere; if this is the folder of "
                    "a store, it is damaged"
                )
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
            raise InvalidInputError(f"{entry.path} is a link that leads out of {root}: copy what it names there")
    return sorted(shown, key=_order_naturally)


def _order_naturally(entry: os.DirEntry[str]) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", entry.name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], entry.name


def _check_file(file: os.DirEntry[str]) -> None:
    if file.is_dir():
        raise InvalidInputError(
            f"{file.path} is a folder in the folder of a class: name the folder whose folders are the classes"
        )
    if not file.is_file():
        raise InvalidInputError(f"{file.path} is no regular file: move it elsewhere")


def _find_size(root: Path, names: list[str]) -> tuple[int, int]:
    size = None
    for name in names:
        with _open_image(root / name) as picture:
            found = picture.height, picture.width
        size = size or found
        if found != size:
            raise InvalidInputError(
                f"{root / name} has {found[0]} x {found[1]} pixels (height x width), and {root / names[0]} "
                f"{size[0]} x {size[1]}: bring all to one size"
            )
    if size is None:
        raise InvalidInputError(f"{root} holds folders, but no images: name the folder whose folders are the classes")
    return size


@contextmanager
def _open_image(path: Path) -> Iterator[Pillow.Image]:
    try:
        with Pillow.open(path) as picture:
            _check_picture(picture)
            yield picture
    except Exception as error:
        raise InvalidInputError(
            f"{path} cannot be read as an image ({error}): mend it, or move it elsewhere"
        ) from error


def _check_picture(picture: Pillow.Image) -> None:
    """Refuse an image of which a part would be lost."""
    if picture.mode.startswith(DEEP):
        raise ValueError(f"it has more than 8 bits a channel, mode {picture.mode}")
    if picture.has_transparency_data:
        raise ValueError(f"it may be transparent, mode {picture.mode}, which RGB cannot hold: save it without alpha")
    if getattr(picture, "is_animated", False):  # what a format with one frame only does not have
        raise ValueError("it has more than one frame or page: save each as a file")
