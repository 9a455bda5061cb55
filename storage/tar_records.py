"""Records of a tar archive: an image and its label as two members, laid out alike, so that many are built at once."""

from functools import lru_cache
from tarfile import BLOCKSIZE, GNU_FORMAT, RECORDSIZE, TarInfo
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.checks import CHANNELS, Labels

DIGITS, LETTERS = 12, 20  # of a name, and of a label at most
SIZE, CHECKSUM = 133, 148  # where a header of tar has the last two digits of the size, and the six of the checksum
PICTURE = 2 * BLOCKSIZE  # where the header of the picture begins in a record
FOUR_DIGITS = (np.arange(10_000)[:, np.newaxis] // [1000, 100, 10, 1] % 10 + ord("0")).astype(np.uint8)


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


def write_texts(labels: Labels) -> NDArray[np.uint8]:
    """Write labels in decimal, one a row; behind each are zeros."""
    return labels.astype(f"S{LETTERS}").view(np.uint8).reshape(-1, LETTERS)


@lru_cache(maxsize=8)
def make_head(layout: Layout) -> bytes:
    """Make what stands before the pixels of image 0, with an empty label."""
    label, picture = TarInfo(f"{0:0{DIGITS}}.cls"), TarInfo(f"{0:0{DIGITS}}.ppm")
    picture.size = layout.end - layout.start + len(layout.text)
    headers = [member.tobuf(GNU_FORMAT) for member in (label, picture)]  # a form that has room for 8 GiB and more
    return headers[0] + bytes(BLOCKSIZE) + headers[1] + layout.text


def fill_heads(layout: Layout, records: NDArray[np.uint8], index: int, texts: NDArray[np.uint8]) -> None:
    """Fill in what differs between records: names, labels, the sizes of those, checksums.

    Parameters
    ----------
    layout : Layout
    records : ndarray of uint8, shape (n, bytes)
        Each begins with what `make_head` makes, whatever was filled in before.
    index : int
        Of the first image.
    texts : ndarray of uint8, shape (n, LETTERS)
        From `write_texts`.
    """
    groups = np.arange(index, index + len(records))[:, np.newaxis] // [10**8, 10**4, 1] % 10**4
    names = FOUR_DIGITS[groups].reshape(-1, DIGITS)
    sums = names.sum(axis=1, dtype=np.int64) - DIGITS * ord("0")
    high, low = np.divmod(np.count_nonzero(texts, axis=1), 8)
    records[:, BLOCKSIZE : BLOCKSIZE + LETTERS] = texts
    records[:, SIZE], records[:, SIZE + 1] = high + ord("0"), low + ord("0")
    for start, added in ((0, sums + high + low), (PICTURE, sums)):
        records[:, start : start + DIGITS] = names
        place = start + CHECKSUM
        checksums = added[:, np.newaxis] + int(make_head(layout)[place : place + 6], 8)
        records[:, place : place + 6] = (checksums >> [15, 12, 9, 6, 3, 0] & 7) + ord("0")


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
