"""The files of a dataset: how large they are, and what the one with the checksums says."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_64_hexdigest

from ..errors import CorruptStoreError, reading
from ..paths import walk_files
from .checksums import DTYPE, Checksums, count_per_block
from .manifest import Manifest

CHECKSUMS = "checksums"


class PartChecksums(NamedTuple):
    """The checksums of a part: one a record, and one a block of records."""

    records: Checksums
    blocks: Checksums


def measure_files(folder: Path) -> dict[str, int]:
    """Measure all files below a folder, bytes, by their path below it."""
    paths = sorted(place / name for place, names in walk_files(folder) for name in names)
    return {str(path.relative_to(folder)): path.stat().st_size for path in paths}


def check_size(folder: Path, name: str, size: int) -> None:
    """Refuse a file that is not as large as it was.

    Parameters
    ----------
    folder : Path
        The dataset.
    name : str
        The file's path below it.
    size : int
        Bytes.

    Raises
    ------
    CorruptStoreError
        It is missing, cut short, longer than it was, or no file; the message names it.
    """
    with reading(folder / name):
        try:
            status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a Path takes longer
        except (FileNotFoundError, NotADirectoryError):
            raise CorruptStoreError(f"{folder}: {name} is missing: restore it from a copy") from None
    if not stat.S_ISREG(status.st_mode):
        raise CorruptStoreError(f"{folder}: {name} is no regular file: restore it from a copy")
    if status.st_size != size:
        raise CorruptStoreError(
            f"{folder}: {name} has {status.st_size:,} bytes instead of {size:,}: it was cut short, or is a file of "
            "another store: restore it from a copy"
        )


def count_checksums(manifest: Manifest) -> list[tuple[int, int]]:
    """Count the checksums of each part: of its records, and of its blocks."""
    per_block = count_per_block(manifest.height, manifest.width)
    return [(count, -(-count // per_block)) for count in manifest.parts]


def read_checksums(folder: Path, manifest: Manifest) -> list[PartChecksums]:
    """Read the checksums of each part.

    Parameters
    ----------
    folder : Path
        The dataset.
    manifest : Manifest

    Returns
    -------
    list of PartChecksums

    Raises
    ------
    CorruptStoreError
        Their file is damaged or missing.
    """
    counts = count_checksums(manifest)
    check_size(folder, CHECKSUMS, sum(map(sum, counts)) * DTYPE.itemsize)
    with reading(folder):
        content = (folder / CHECKSUMS).read_bytes()
    if xxh3_64_hexdigest(content) != manifest.checksum:
        raise CorruptStoreError(
            f"{folder}: the file {CHECKSUMS} is damaged, so nothing proves the images: restore it from a copy, or read "
            "them unproved with verify=False"
        )
    checksums, found = np.frombuffer(content, DTYPE), []
    for records, blocks in counts:
        found.append(PartChecksums(checksums[:records], checksums[records : records + blocks]))
        checksums = checksums[records + blocks :]
    return found
