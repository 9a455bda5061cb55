"""The files of a dataset: their sizes, their structure, and the file of checksums.

Structure is every byte of a store that says where the pixels are. Damage to pixels gives wrong pixels, which the
checksums of the records find. Damage to structure can do anything: a library that follows a wrong page number kills
the process. So the structure is hashed when a store is saved, and verified before a backend opens it.

A backend's ``find_pixels`` returns the ranges of bytes that hold only pixels, labels and padding. All other files are
structure from beginning to end, which is always right, and costs a read of the file at each opening. A file without
structure isn't looked at before it is read, so a file that is mapped into memory must have some.
"""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_64, xxh3_64_hexdigest

from ..contract import Backend
from ..errors import CorruptStoreError, reading
from ..limits import MAX_EXPANSION, check_amount, measure_content
from ..paths import open_regular
from .checksums import DTYPE, Checksums, count_per_block
from .manifest import Manifest, Structure

CHECKSUMS = "checksums"
CHUNK = 1 << 20  # bytes read at once
MAX_HOLES = 16 << 20  # bytes of structure that any file may have in holes; each byte on the disk allows ten more


class PartChecksums(NamedTuple):
    """The checksums of a part: one per record, and one per block of records."""

    records: Checksums
    blocks: Checksums


def check_file(folder: Path, manifest: Manifest, name: str) -> None:
    """Refuse a file whose size or structure is not what was saved."""
    check_size(folder, name, manifest.sizes[name])
    structure = manifest.structure.get(name)
    if structure is None:
        return
    with reading(folder):
        found = _hash_ranges(folder, name, structure.ranges)
    if found != structure.checksum:
        raise CorruptStoreError(f"{name} is damaged outside its pixels, or is a file of another store", store=folder)


def check_size(folder: Path, name: str, size: int) -> None:
    """Refuse a file that is missing, a link or another special file, or of another size than it was."""
    with reading(folder):
        try:
            status = os.lstat(f"{folder}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            raise CorruptStoreError(f"{name} is missing", store=folder) from None
    if not stat.S_ISREG(status.st_mode):
        raise CorruptStoreError(f"{name} is not a regular file", store=folder)
    if status.st_size != size:
        raise CorruptStoreError(
            f"{name} has {status.st_size:,} bytes instead of {size:,}; it was cut short, or is a file of another store",
            store=folder,
        )


def find_structure(module: Backend, part: Path, sizes: Mapping[str, int]) -> dict[str, Structure]:
    """Find the structure of a store that was just written, by file; `sizes` are those of its files."""
    pixels = module.find_pixels(part)
    found = {}
    for name, size in sizes.items():
        ranges = tuple(_find_gaps(pixels.get(name, ()), size))
        if ranges or not size:  # that an empty file exists may mean something
            found[name] = Structure(ranges, _hash_ranges(part, name, ranges))
    return found


def _find_gaps(ranges: Iterable[range], size: int) -> Iterable[tuple[int, int]]:
    start = 0
    for part in sorted(ranges, key=lambda part: part.start):
        if start < part.start:
            yield start, part.start
        start = max(start, part.stop)
    if start < size:
        yield start, size


def _hash_ranges(folder: Path, name: str, ranges: Sequence[tuple[int, int]]) -> str:
    digest = xxh3_64()
    descriptor, status = open_regular(folder / name)
    try:
        content = measure_content(descriptor, status)
        what = f"{name}, of which {content:,} bytes are on the disk,"
        needed = sum(end - start for start, end in ranges)
        check_amount(what, needed, store=folder, limit=MAX_HOLES + MAX_EXPANSION * content)
        for start, end in ranges:
            for place in range(start, end, CHUNK):
                digest.update(os.pread(descriptor, min(CHUNK, end - place), place))
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def count_checksums(manifest: Manifest) -> list[tuple[int, int]]:
    """Count the checksums of each part: of its records, and of its blocks."""
    per_block = count_per_block(manifest.height, manifest.width)
    return [(count, -(-count // per_block)) for count in manifest.parts]


def read_checksums(folder: Path, manifest: Manifest) -> list[PartChecksums]:
    """Read the checksums of each part; refuse their file if it is damaged or missing."""
    counts = count_checksums(manifest)
    check_size(folder, CHECKSUMS, size := sum(map(sum, counts)) * DTYPE.itemsize)
    with reading(folder):
        descriptor, status = open_regular(folder / CHECKSUMS)
        with os.fdopen(descriptor, "rb") as file:
            check_amount(CHECKSUMS, size, measure_content(descriptor, status), store=folder)
            content = file.read(size)
    if xxh3_64_hexdigest(content) != manifest.checksum:
        raise CorruptStoreError(
            f"the file {CHECKSUMS} is damaged, so the images cannot be verified",
            store=folder,
            hint="restore it from a copy, or read the images unverified, with verify=False",
        )
    checksums, found = np.frombuffer(content, DTYPE), []
    for records, blocks in counts:
        found.append(PartChecksums(checksums[:records], checksums[records : records + blocks]))
        checksums = checksums[records + blocks :]
    return found
