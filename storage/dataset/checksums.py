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
import os
from _thread import start_new_thread
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ..arrays import BYTE, CHANNELS, find_address
from ..contract import Encoded, Image, Images, Labels

Checksums = NDArray[np.uint64]

DTYPE = np.dtype("<u8")
BLOCK = 1 << 20  # bytes of pixels that are hashed at once: xxhash lets other threads run meanwhile
MAX_THREADS, MIN_BLOCKS = 4, 4  # threads at once, and blocks for each: starting a thread costs as much as a block
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
        offsets = images.offsets.tolist()
        contents = map(images.content.data.__getitem__, map(slice, offsets, offsets[1:]))
        checksums = np.fromiter(map(xxh3_64_intdigest, contents), np.uint64, len(images))
        size = _mix(images.lengths.astype(np.uint64))
    else:
        checksums = np.fromiter(map(xxh3_64_intdigest, images), np.uint64, len(images))
        size = np.uint64(_mix_form(images.shape[1:], images.dtype))
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
        with PixelHashing(images) as hashing:
            pixels = hashing.finish()
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
    """Hashes the blocks of an image set, as they are filled; in this thread and others, if there are processors.

    It is a context manager that has the other threads end. They are no `Thread`, whose `start` waits until it runs.
    """

    def __init__(self, images: Images) -> None:
        size = count_per_block(math.prod(images.shape[1:]) * images.itemsize)
        self._blocks = [images[first : first + size] for first in range(0, len(images), size)]
        self._checksums: list[int | None] = [None] * len(self._blocks)  # which no array accepts, should a thread fail
        self._filled: SimpleQueue[range | None] = SimpleQueue()  # the numbers of blocks; None: there are no more
        self._queued, self._bytes, self._images = 0, 0, images
        self._running, self._ended = 0, SimpleQueue[None]()

    def __enter__(self) -> Self:
        """Start the other threads."""
        threads = min(len(os.sched_getaffinity(0)), MAX_THREADS, len(self._blocks) // MIN_BLOCKS)
        with suppress(RuntimeError):  # no more threads: the others hash everything
            while self._running < threads - 1:
                start_new_thread(self._work, ())
                self._running += 1
        return self

    def notice(self, piece: NDArray[Any]) -> None:
        """Have the blocks hashed that are filled by a piece, if it follows the one before."""
        if find_address(piece) - find_address(self._images) == self._bytes < self._images.nbytes:
            self._bytes += piece.nbytes
            filled = range(self._queued, self._bytes // self._blocks[0].nbytes)
            if len(filled) >= MIN_BLOCKS:
                self._filled.put(filled)
                self._queued = filled.stop

    def finish(self) -> Checksums:
        """Hash the other blocks, as all are filled now."""
        for number in range(self._queued, len(self._blocks)):
            self._filled.put(range(number, number + 1))
        self._filled.put(None)
        self._hash()
        self.__exit__()
        return np.array(self._checksums, np.uint64)

    def __exit__(self, *exception: object) -> None:
        """Wait for the other threads."""
        self._filled.put(None)
        while self._running:
            self._ended.get()
            self._running -= 1

    def _work(self) -> None:  # pragma: no cover - in threads that coverage doesn't see
        try:
            self._hash()
        finally:
            self._ended.put(None)

    def _hash(self) -> None:
        while (numbers := self._filled.get()) is not None:
            for number in numbers:
                self._checksums[number] = xxh3_64_intdigest(self._blocks[number].data)
        self._filled.put(None)  # for the others
