"""PNG: an ordinary file for each image.

On disk: ``00000000.png``, ``00000001.png``, ... hold the pixels: RGB or RGBA, 8 bits a channel, or gray, 8 or 16 bits.
``labels.csv`` has one label per line, in the order of the images; lines are padded with blanks to one length, so a
single label is found without reading the others. Its header, ``label,images=10,height=32,width=32,characters=1``,
describes the store; unless it holds RGB, ``channels=0,dtype=uint16`` for example, where 0 is gray, stands before the
last of these numbers. It is written last, so a store without it isn't complete.

Why it is fast for small images: files are opened by name in an open directory, and read and written with one call each.
This module checks the checksums of a file's chunks itself, then passes the compressed pixels to the decoder of
`PIL.Image.frombytes`, which skips the parsing that Pillow would do to learn what the store already says. Large images
gain nothing, because decoding takes the time there. Any other kind of PNG is left to Pillow. zlib runs at level 1 and
looks for runs only: an image of CIFAR-10 takes one block of 4 KiB with any setting.

Library: Pillow (https://pillow.readthedocs.io); the format is the W3C's (https://www.w3.org/TR/png-3/).
"""

import os
import struct
import zlib
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import features
from PIL.PngImagePlugin import PngImageFile

from ..arrays import check_images, make_array, make_result
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import CorruptStoreError, reading
from ..paths import write_file
from ..reader import Description, Reader
from ._png import (
    SAMPLES,
    check_size,
    create_folder,
    find_lines,
    open_folder,
    read_file,
    read_label,
    read_labels,
    write_labels,
)

INFO = BackendInfo(
    {"pillow": PIL.__version__, "zlib": features.version("zlib") or "unknown"},
    "the Pillow contributors",
    "MIT-CMU",
    compresses=True,
    dtypes={"uint8": (0, 3, 4), "uint16": (0,)},
)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNK = struct.Struct(">I4s")  # length and kind; the content and its CRC-32 follow


def store_many(store: Path, images: Images, labels: Labels, *, compress_level: int = 1) -> None:
    """Store an image set; see `storage.Backend`.

    Parameters
    ----------
    store, images, labels
        See `storage.Backend`.
    compress_level : int
        zlib's level, 0 to 9.
    """
    images, labels = check_images(images, labels, INFO.dtypes)
    check_size(images)
    with create_folder(store) as folder:
        for index, image in enumerate(images):
            content = BytesIO()
            Pillow.fromarray(image).save(content, "PNG", compress_level=compress_level, compress_type=zlib.Z_RLE)
            write_file(folder, f"{index:08}.png", content.getvalue())
        write_labels(folder, images, labels)


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with open_folder(store) as folder:
        table, position, label = read_label(store, folder, index)
        image = make_array(store, table.shape[1:], table.dtype)
        read_image(store, folder, position, image)
        return image, label


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with open_folder(store) as folder:
        table, labels = read_labels(store, folder)
        images = make_result(store, table.shape, out, table.dtype)
        for index, image in enumerate(images):
            read_image(store, folder, index, image)
        return images, labels


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the files of images, and the lines of labels; see `storage.Backend`."""
    with open_folder(store) as folder:
        names = [name for name in os.listdir(folder) if name.endswith(".png")]  # noqa: PTH208 - an open folder
        return {name: [range(os.stat(name, dir_fd=folder).st_size)] for name in names} | find_lines(store, folder)


class PngReader(Reader):
    """Keeps the labels and an open directory; opens a file for each image."""

    def _open(self) -> Description:
        with ExitStack() as stack:
            self._folder = stack.enter_context(open_folder(self.store))
            table, self._labels = read_labels(self.store, self._folder)
            self._resources = stack.pop_all()
        return Description(table.images, table.shape[1:], table.dtype)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        with reading(self.store, SyntaxError):
            for position, image in zip(positions.tolist(), images, strict=True):
                read_image(self.store, self._folder, position, image)
        return images, self._labels[positions]

    def _read_labels(self) -> Labels:
        return self._labels.copy()

    def _close(self) -> None:
        del self._labels
        self._resources.close()


open_reader = PngReader


def read_image(store: Path, folder: int, index: int, image: Image) -> None:
    """Fill `image` from the file of index `index`."""
    mode, raw, header = SAMPLES[image.shape[2:], image.itemsize]
    content = read_file(store, folder, index, image.nbytes)
    size = image.shape[1::-1]
    pixels = _join_pixels(content, size, header)
    if pixels is not None:
        image[...] = np.asarray(Pillow.frombytes(mode, size, pixels, "zip", raw))
        return
    with PngImageFile(BytesIO(content)) as picture:
        if picture.mode != mode or picture.size != size:
            raise CorruptStoreError(
                f"{index:08}.png is {picture.mode} of size {picture.size}, not {mode} of {size}: another program wrote "
                "it",
                store=store,
                record=index,
            )
        image[...] = np.asarray(picture)


def _join_pixels(content: bytes, size: tuple[int, int], samples: bytes) -> bytes | None:
    """Check a file's chunks and join its compressed pixels; None unless it has this size and no more than pixels."""
    if not content.startswith(SIGNATURE):
        return None
    view, kinds, chunks, start = memoryview(content), [b""], [], len(SIGNATURE)
    while start < len(content):
        length, kind = CHUNK.unpack_from(content, start)
        end = start + CHUNK.size + length
        chunk = view[start + 4 : end]
        if content[end : end + 4] != zlib.crc32(chunk).to_bytes(4, "big"):
            raise SyntaxError(f"wrong checksum of chunk {kind!r}")
        kinds.append(kind)
        chunks.append(chunk)
        start = end + 4
    if kinds[-1] != b"IEND":
        raise SyntaxError(f"the last chunk is {kinds[-1]!r}: the file was cut short")
    header = CHUNK.pack(8 + len(samples), b"IHDR") + struct.pack(">2I", *size) + samples
    if not content.startswith(header, len(SIGNATURE)) or set(kinds[2:-1]) != {b"IDAT"}:
        return None
    return b"".join([chunk[4:] for chunk in chunks[1:-1]])  # the decoder ignores what follows the last pixel
