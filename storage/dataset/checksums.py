"""Checksums of records: they verify that an image, its label and its index are those that were saved.

The checksum of a record is XXH3 (64 bits) of its pixels, XOR a number that mixes its index, its label, its height and
its width; unless they are 8-bit RGB, its dtype and its shape; of an image file, of its bytes, and its length is mixed
in. So it also finds a record that was swapped with
another one, or has another one's label. Small records of pixels are also hashed a block at a time, which takes a third
of the time if many are read: XXH3 of their pixels, XOR XXH3 of their labels with the first index as seed, XOR the same
of dtype and shape.

Sources: XXH3, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md; the numbers are mixed as in SplitMix64,
https://prng.di.unimi.it/splitmix64.c.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_intdigest

from ..arrays import BYTE, CHANNELS, find_address, view_bytes
from ..contract import Encoded, Image, Images, Labels

Checksums = NDArray[np.uint64]

DTYPE = np.dtype("<u8")
BLOCK = 1 << 20  # bytes of pixels that have one checksum
BITS = (1 << 64) - 1
INDEX, LABEL = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95  # odd, so that no two indices or labels give the same number


def count_per_block(size: int) -> int:
    """Count the records of a block, of `size` bytes each: 1 if a record is as large as a block should be."""
    return max(1, BLOCK // size)


def hash_record(image: Image, label: int, index: int) -> int:
    """Hash one record; `index` is its position in the whole set."""
    mixed: int = _mix(_mix_form(image.shape, image.dtype) + index * INDEX + label * LABEL)
    return xxh3_64_intdigest(image.data) ^ mixed


def hash_records(images: Images | Encoded, labels: Labels, indices: NDArray[np.integer]) -> Checksums:
    """Hash records, each alone."""
    if isinstance(images, Encoded):
        size = _mix(images.lengths.astype(np.uint64))
    else:
        size = np.uint64(_mix_form(images.shape[1:], images.dtype))
    checksums = np.fromiter(map(xxh3_64_intdigest, images), np.uint64, len(images))
    numbers = indices.astype(np.uint64) * np.uint64(INDEX)
    numbers += labels.view(np.uint64) * np.uint64(LABEL)
    numbers += size
    checksums ^= _mix(numbers)
    return checksums


def add_up(records: Checksums) -> str:
    """Sum up the checksums of records, as hexadecimal digits: the same however they are divided into parts."""
    return format_sum(int(_mix(records.astype(np.uint64)).sum(dtype=np.uint64)))


def format_sum(number: int) -> str:
    """Write a sum of checksums as hexadecimal digits."""
    return f"{number & BITS:016x}"


def hash_blocks(images: Images, labels: Labels, start: int, pixels: Checksums | None = None) -> Checksums:
    """Hash consecutive records in blocks; `start` is the index of the first one in the whole set.

    `pixels` are the checksums of their pixels, if these were hashed already.
    """
    size = count_per_block(math.prod(images.shape[1:]) * images.itemsize)
    starts = range(0, len(images), size)
    mixed_form = _mix_form(images.shape[1:], images.dtype)
    mixed = [xxh3_64_intdigest(labels[first : first + size].data, start + first) ^ mixed_form for first in starts]
    if pixels is None:
        pixels = PixelHashing(images).finish()
    checksums: Checksums = np.array(mixed, np.uint64) ^ pixels
    return checksums


@lru_cache(maxsize=8)
def _mix_form(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    if (shape[2:], dtype) != ((CHANNELS,), BYTE):
        return xxh3_64_intdigest(f"{dtype.name} {shape}".encode())
    mixed: int = _mix(shape[0] << 32 | shape[1])
    return mixed


def _mix(number: Any) -> Any:  # noqa: ANN401 - an int, or an array of uint64
    number = number & BITS
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & BITS
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & BITS
    return number ^ (number >> 31)


class PixelHashing:
    """Hashes the blocks of an image set as they are filled, while the processor's cache still has them."""

    def __init__(self, images: Images) -> None:
        size = math.prod(images.shape[1:]) * images.itemsize
        self._content, self._start = view_bytes(images).data, find_address(images)
        self._block = size * count_per_block(size)
        self._digest, self._done = xxh3_64(), 0
        self._checksums: list[int] = []

    def notice(self, piece: NDArray[Any]) -> None:
        """Hash a piece that was filled, if it follows the one before."""
        if find_address(piece) == self._start + self._done:
            self._hash(min(self._done + piece.nbytes, self._content.nbytes))

    def finish(self) -> Checksums:
        """Hash what is left, as all is filled now."""
        self._hash(self._content.nbytes)
        return np.array(self._checksums, np.uint64)

    def _hash(self, end: int) -> None:
        while self._done < end:
            stop = min((len(self._checksums) + 1) * self._block, self._content.nbytes)
            piece = self._content[self._done : min(stop, end)]
            self._digest.update(piece)
            self._done += len(piece)
            if self._done == stop:
                self._checksums.append(self._digest.intdigest())
                self._digest.reset()
