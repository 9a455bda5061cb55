"""Checksums of records: what proves that an image, its label and its place are those that were saved.

The checksum of a record is XXH3 (64 bits) of its pixels, exclusive or a number in which its index, its label, its
height and its width are mixed: so a record that was swapped with another one, or has another one's label, is found too.
Small records are also hashed a block at a time, which takes a third of the time where many are read:
their pixels, exclusive or their labels with the first index as seed, exclusive or height and width.

Sources: XXH3, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md; the numbers are mixed as SplitMix64 does
it, https://prng.di.unimi.it/splitmix64.c.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ..contract import Image, Images, Labels

Checksums = NDArray[np.uint64]

DTYPE = np.dtype("<u8")
BLOCK = 1 << 20  # bytes of pixels that are hashed at once: xxhash lets other threads run meanwhile
MOST_THREADS, FEWEST_BLOCKS = 4, 4  # at once, and for each: a thread costs as much as a block
BITS = (1 << 64) - 1
INDEX, LABEL = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95  # odd, so that no two indices or labels are taken for one


def count_per_block(height: int, width: int) -> int:
    """Count the records of a block: 1 where a record is as large as a block should be."""
    return max(1, BLOCK // (height * width * 3))


def hash_record(image: Image, label: int, index: int) -> int:
    """Hash one record.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        C-contiguous.
    label : int
    index : int
        In the whole set.

    Returns
    -------
    int
        Of 64 bits.
    """
    place: int = _mix(_start(image.shape[0], image.shape[1]) + index * INDEX + label * LABEL)
    return xxh3_64_intdigest(image.data) ^ place


def hash_records(images: Images, labels: Labels, indices: NDArray[np.integer]) -> Checksums:
    """Hash records, each alone.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        C-contiguous.
    labels : ndarray of int64, shape (N,)
    indices : ndarray of int, shape (N,)
        Of the records in the whole set.

    Returns
    -------
    ndarray of uint64, shape (N,)
    """
    checksums = np.fromiter(map(xxh3_64_intdigest, images), np.uint64, len(images))
    return np.bitwise_xor(checksums, _mix_places(images.shape, labels, indices), out=checksums)


def hash_blocks(images: Images, labels: Labels, start: int) -> Checksums:
    """Hash blocks of records, in several threads where there are processors for them.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        C-contiguous.
    labels : ndarray of int64, shape (N,)
    start : int
        Index of the first record in the whole set; the others follow.

    Returns
    -------
    ndarray of uint64, shape (ceil(N / records of a block),)
    """
    size = count_per_block(*images.shape[1:3])
    starts = range(0, len(images), size)
    place = _start(*images.shape[1:3])
    mixed = [xxh3_64_intdigest(labels[first : first + size].data, start + first) ^ place for first in starts]
    return np.array(mixed, np.uint64) ^ _hash_all([images[first : first + size] for first in starts])


def _mix_places(shape: tuple[int, ...], labels: Labels, indices: NDArray[np.integer]) -> Checksums:
    places = indices.astype(np.uint64) * np.uint64(INDEX)
    places += labels.view(np.uint64) * np.uint64(LABEL)
    places += np.uint64(_start(shape[1], shape[2]))
    mixed: Checksums = _mix(places)
    return mixed


def _start(height: int, width: int) -> int:
    start: int = _mix(height << 32 | width)
    return start


def _mix(number: Any) -> Any:  # noqa: ANN401 - an int, or an array of uint64
    number = number & BITS
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & BITS
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & BITS
    return number ^ (number >> 31)


def _hash_all(blocks: Sequence[NDArray[np.uint8]]) -> Checksums:
    threads = min(len(os.sched_getaffinity(0)), MOST_THREADS, len(blocks) // FEWEST_BLOCKS)
    checksums: list[int | None] = [None] * len(blocks)  # no array takes a None that a failed thread left
    numbers = iter(range(len(blocks)))

    def hash_rest() -> None:
        for number in numbers:
            checksums[number] = xxh3_64_intdigest(blocks[number].data)

    others = [Thread(target=hash_rest) for _ in range(threads - 1)]
    with suppress(RuntimeError):  # no more threads: those that there are do all
        for thread in others:
            thread.start()
    hash_rest()
    for thread in others:
        if thread.ident is not None:
            thread.join()
    return np.array(checksums, np.uint64)
