"""The index of the names of a part: sorted hashes of the names and of the folders in them, kept beside the part.

An append looks there for its names, and a reader for one, so they needn't read all that there are. Hashes are in blocks
of 4 KiB, each of which ends with a checksum that also depends on the part, the size of the file and the number of the
block. What is missing or damaged may hold any name: then the names themselves are read.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ..errors import StorageError
from ..paths import open_regular
from .names import Names, encode, find_folders

INDEX = "index"  # suffix of the file
HASH = np.dtype("<u8")
BLOCK = 511  # hashes
Hashes = NDArray[np.uint64]
SIZE = (BLOCK + 1) * HASH.itemsize


def format_index(names: Names, records: str) -> bytes:
    """Write the index of a part; `records` is the sum of the checksums of its records."""
    encoded = set(names.split())
    hashes = np.fromiter(_hash_all(encoded, find_folders(encoded)), HASH)
    hashes.sort()
    blocks = [hashes[start : start + BLOCK].tobytes() for start in range(0, len(hashes), BLOCK)]
    size = (len(hashes) + len(blocks)) * HASH.itemsize
    return b"".join(block + _sum(block, records, size, number) for number, block in enumerate(blocks))


def hash_wanted(names: Names) -> Hashes:
    """Hash what the index of a part has if names clash with one of its own: by name, as its folder, or as its file."""
    encoded = set(names.split())
    return np.array(sorted({*_hash_all(encoded | find_folders(encoded), encoded)}), np.uint64)


def hash_name(name: str) -> Hashes:
    """Hash what the index of a part has if one of its images has a name."""
    return np.array([xxh3_64_intdigest(encode(name))], np.uint64)


def may_hold(path: Path, records: str, wanted: Hashes) -> bool:
    """Whether a part may have any of the hashes that are wanted; `path` is that of its index."""
    try:
        descriptor, status = open_regular(path)
    except (OSError, StorageError):
        return True
    try:
        return _Index(descriptor, status.st_size, records).has_any(wanted)
    except (OSError, ValueError):
        return True
    finally:
        os.close(descriptor)


class _Index:
    """An open index; blocks are read and verified as they are needed."""

    def __init__(self, descriptor: int, size: int, records: str) -> None:
        self._descriptor, self._size, self._records = descriptor, size, records
        self._blocks: dict[int, Hashes] = {}

    def has_any(self, wanted: Hashes) -> bool:
        """Look for hashes: in all blocks if that takes no longer than to look for each."""
        count = -(-self._size // SIZE)
        if len(wanted) >= count:
            return _has_any(np.concatenate(list(map(self._read, range(count)))), wanted)
        return any(_has_any(self._find(each, count), np.array([each], np.uint64)) for each in wanted.tolist())

    def _find(self, wanted: int, count: int) -> Hashes:
        """Find the block of a hash: look where it should be if all are as likely, then around."""
        number = wanted * count >> 64
        while number and wanted < self._read(number)[0]:
            number -= 1
        while number + 1 < count and wanted >= self._read(number + 1)[0]:
            number += 1
        return self._read(number)

    def _read(self, number: int) -> Hashes:
        with suppress(KeyError):
            return self._blocks[number]
        content = os.pread(self._descriptor, SIZE, number * SIZE)
        block, checksum = content[: -HASH.itemsize], content[-HASH.itemsize :]
        if not block or checksum != _sum(block, self._records, self._size, number):
            raise ValueError("a damaged block")
        self._blocks[number] = np.frombuffer(block, HASH)
        return self._blocks[number]


def _has_any(hashes: Hashes, wanted: Hashes) -> bool:
    places = np.searchsorted(hashes, wanted)
    return bool((hashes[np.minimum(places, len(hashes) - 1)] == wanted).any())


def _hash_all(names: Iterable[bytes], folders: Iterable[bytes]) -> Iterator[int]:
    yield from map(xxh3_64_intdigest, names)
    yield from (xxh3_64_intdigest(folder + b"/") for folder in folders)


def _sum(block: bytes, records: str, size: int, number: int) -> bytes:
    return xxh3_64_intdigest(f"{records} {size} {number}\0".encode() + block).to_bytes(HASH.itemsize, "little")
