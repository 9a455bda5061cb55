"""Records of a tar archive: an image and its label as two members, laid out alike, so that many are built at once."""

from functools import lru_cache
from tarfile import BLOCKSIZE, GNU_FORMAT, RECORDSIZE, TarInfo
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import CHANNELS

DIGITS = 12  # of a name
TEXT = np.dtype("S20")  # a label of 64 bits at most
SIZE, CHECKSUM = 133, 148  # where a header of tar has the last two digits of the size, and the six of the checksum
PICTURE = 2 * BLOCKSIZE  # where the header of the picture begins in a record
DECIMAL = np.array([b"%04d" % number for number in range(10_000)])
OCTAL = np.array([b"%06o" % number for number in range(10_000)])  # no checksum of ours is as large
SUMS = DECIMAL.view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int64) - 4 * ord("0")


class Layout(NamedTuple):
    """What the header of the index says, and where that puts things, in bytes."""

    images: int
    height: int
    width: int
    images_per_shard: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all images."""
        return self.images, self.height, self.width, CHANNELS

    @property
    def text(self) -> bytes:
        """What stands before the pixels in the picture itself."""
        return b"P6\n%d %d\n255\n" % (self.width, self.height)

    @property
    def start(self) -> int:
        """Where the pixels begin in a record."""
        return PICTURE + BLOCKSIZE + len(self.text)

    @property
    def end(self) -> int:
        """Where the pixels end in a record."""
        return self.start + self.height * self.width * CHANNELS

    @property
    def record(self) -> int:
        """Size of a record: an image and all that belongs to it."""
        return _round_up(self.end, BLOCKSIZE)

    @property
    def shards(self) -> range:
        """Numbers of the shards."""
        return range(-(-self.images // self.images_per_shard))

    def find_images(self, shard: int) -> range:
        """Find the images of a shard."""
        first = shard * self.images_per_shard
        return range(first, min(first + self.images_per_shard, self.images))

    def measure_shard(self, shard: int) -> int:
        """Measure a shard: two blocks of zeros end an archive, and its size is a multiple of tar's ``RECORDSIZE``."""
        return _round_up(len(self.find_images(shard)) * self.record + 2 * BLOCKSIZE, RECORDSIZE)


@lru_cache(maxsize=8)
def make_head(layout: Layout) -> bytes:
    """Make what stands before the pixels of image 0, with an empty label."""
    label, picture = TarInfo("0" * DIGITS + ".cls"), TarInfo("0" * DIGITS + ".ppm")
    picture.size = layout.end - layout.start + len(layout.text)
    headers = [member.tobuf(GNU_FORMAT) for member in (label, picture)]  # a form that has room for 8 GiB and more
    return headers[0] + bytes(BLOCKSIZE) + headers[1] + layout.text


def fill_heads(layout: Layout, records: NDArray[np.uint8], index: int, labels: NDArray[np.bytes_]) -> None:
    """Fill in what differs between records: names, labels, the sizes of those, checksums.

    Parameters
    ----------
    layout : Layout
    records : ndarray of uint8, shape (n, bytes)
        Each begins with what `make_head` makes, whatever was filled in before.
    index : int
        Of the first image.
    labels : ndarray of bytes, shape (n,)
        In decimal, of dtype `TEXT`.
    """
    rest, low = np.divmod(np.arange(index, index + len(records)), 10_000)
    high, middle = np.divmod(rest, 10_000)
    names = np.stack([DECIMAL[group] for group in (high, middle, low)], axis=1).view(f"S{DIGITS}")[:, 0]
    added = SUMS[high] + SUMS[middle] + SUMS[low]  # to the checksum of a name of zeros
    eights, ones = np.divmod(np.strings.str_len(labels), 8)
    _put(records, BLOCKSIZE, labels)
    records[:, SIZE], records[:, SIZE + 1] = eights + ord("0"), ones + ord("0")
    for start, sums in ((0, added + eights + ones), (PICTURE, added)):
        place = start + CHECKSUM
        _put(records, start, names)
        _put(records, place, OCTAL[sums + int(make_head(layout)[place : place + OCTAL.itemsize], 8)])


def _put(records: NDArray[np.uint8], place: int, texts: NDArray[np.bytes_]) -> None:
    """Put a text into each record."""
    records[:, place : place + texts.itemsize].view(texts.dtype)[:, 0] = texts


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
