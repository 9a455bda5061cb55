"""PNG: one ordinary file an image.

On disk: ``00000000.png``, ``00000001.png``, ... hold the pixels, RGB, 8 bits a channel. ``labels.csv`` holds the
labels, one a line in the order of the images, all lines padded with blanks to one length, so that a single label is
found without reading the others. Its header, ``label,images=10,height=32,width=32,characters=1``, says what the store
holds. It is written last: a store without it is not complete.

Files are compressed at zlib's level 1: an image of CIFAR-10 takes one block of 4 KiB at any level, and the higher
levels cost time only.

Library: Pillow (https://pillow.readthedocs.io); the format is the W3C's (https://www.w3.org/TR/png-3/).
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import features
from PIL.PngImagePlugin import PngImageFile

from storage.checks import (
    CHANNELS,
    Image,
    Images,
    Labels,
    check_image,
    check_images,
    check_index,
    check_shape,
    claim_store,
    find_file,
    make_array,
)
from storage.errors import CorruptStoreError, translate_errors
from storage.reader import Reader

FILE = "labels.csv"
HEADER = re.compile(rb"label,images=(\d{1,12}),height=(\d{1,9}),width=(\d{1,9}),characters=(\d{1,2})\n")
LONGEST_HEADER = 128  # bytes
VERSIONS = {"pillow": PIL.__version__, "zlib": features.version("zlib") or "unknown"}
PNG_ERRORS = (SyntaxError, ValueError)  # what Pillow raises, beside OSError, for a file that is not a whole PNG


class Layout(NamedTuple):
    """What the header of ``labels.csv`` says, and how long the header is."""

    images: int
    height: int
    width: int
    characters: int
    start: int


def store_single(store: Path, image: Image, label: int, *, compress_level: int = 1) -> None:
    """Store one image alone; see `storage.Backend`.

    Parameters
    ----------
    store, image, label
        See `storage.Backend`.
    compress_level : int
        zlib's level, 0 to 9.
    """
    store_many(store, *check_image(image, label), compress_level=compress_level)


def store_many(store: Path, images: Images, labels: Labels, *, compress_level: int = 1) -> None:
    """Store an image set; see `storage.Backend`.

    Parameters
    ----------
    store, images, labels
        See `storage.Backend`.
    compress_level : int
        zlib's level, 0 to 9.
    """
    images, labels = check_images(images, labels)
    folder = claim_store(store)
    with translate_errors(store):
        for index, image in enumerate(images):
            with (folder / f"{index:08}.png").open("xb") as file:
                Pillow.fromarray(image).save(file, "PNG", compress_level=compress_level)
        _write_labels(folder / FILE, images, labels)


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    path = find_file(store, FILE)
    with translate_errors(store, *PNG_ERRORS), path.open("rb") as file:
        layout = _parse_header(path, file.read(LONGEST_HEADER))
        position = check_index(store, index, layout.images)
        file.seek(layout.start + position * (layout.characters + 1))
        label = int(file.read(layout.characters))
        image = make_array(store, (layout.height, layout.width, CHANNELS))
        _read_image(path.parent, position, image)
        return image, label


def read_many(store: Path) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    layout, labels = _read_labels(store)
    images = make_array(store, (layout.images, layout.height, layout.width, CHANNELS))
    with translate_errors(store, *PNG_ERRORS):
        for index, image in enumerate(images):
            _read_image(Path(store), index, image)
    return images, labels


def open_reader(store: Path) -> Reader:
    """Open a store for reading in any order; see `storage.Backend`."""
    return PngReader(store)


class PngReader(Reader):
    """Keeps the labels; opens and closes a file an image."""

    def _open(self) -> tuple[int, int, int]:
        layout, self._labels = _read_labels(self.store)
        return layout.images, layout.height, layout.width

    def _read(self, positions: NDArray[np.intp], images: Images, labels: Labels) -> None:
        with translate_errors(self.store, *PNG_ERRORS):
            for position, image in zip(positions, images, strict=True):
                _read_image(self.store, position, image)
        np.take(self._labels, positions, out=labels)

    def _close(self) -> None:
        del self._labels


def _write_labels(path: Path, images: Images, labels: Labels) -> None:
    lines = [str(label) for label in labels.tolist()]
    characters = max(map(len, lines), default=1)
    count, height, width, _ = images.shape
    header = f"label,images={count},height={height},width={width},characters={characters}\n"
    path.write_text(header + "".join(f"{line:>{characters}}\n" for line in lines), encoding="ascii", newline="\n")


def _parse_header(path: Path, head: bytes) -> Layout:
    match = HEADER.match(head)
    if match is None:
        raise CorruptStoreError(f"{path} has no header of ours: another program wrote it, or it is damaged")
    images, height, width, characters = map(int, match.groups())
    layout = Layout(*check_shape(path.parent, images, height, width), characters, match.end())
    expected = layout.start + layout.images * (layout.characters + 1)
    found = path.stat().st_size
    if found != expected:
        raise CorruptStoreError(f"{path} has {found} bytes, not {expected}: the store was cut short")
    return layout


def _read_labels(store: Path) -> tuple[Layout, Labels]:
    path = find_file(store, FILE)
    with translate_errors(store, ValueError, OverflowError):
        content = path.read_bytes()
        layout = _parse_header(path, content)
        return layout, np.array([int(line) for line in content[layout.start :].splitlines()], np.int64)


def _read_image(folder: Path, index: int, image: Image) -> None:
    path = folder / f"{index:08}.png"
    try:
        with path.open("rb") as file, PngImageFile(file) as picture:
            if picture.mode != "RGB" or picture.size != image.shape[1::-1]:
                raise CorruptStoreError(f"{path} is {picture.mode} of size {picture.size}: another program wrote it")
            image[...] = np.asarray(picture)
    except FileNotFoundError:
        raise CorruptStoreError(f"{path} is missing: the store is not complete: store the images again") from None
