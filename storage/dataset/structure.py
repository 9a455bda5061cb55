"""Structure: the bytes of a store that say where the pixels are.

Damage to pixels gives wrong pixels, which the checksums of the records show. Damage to a file's structure can do
anything: a library that follows a page number into the wild kills the process. So these bytes are hashed when a store
is saved, and checked before a backend opens it.

A backend with a function ``find_pixels`` says which bytes are no structure. It takes a store that was just written and
returns, by the file's path below the store, the ranges of bytes that hold nothing but pixels, labels and padding. All
other files count as structure from beginning to end: that is always right, and costs a read of the file at each
opening. A file that is mapped into memory is never all pixels: what has no structure is not looked at before it is
read.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from xxhash import xxh3_64

from ..contract import Backend
from ..errors import CorruptStoreError
from .files import check_size
from .manifest import Manifest, Structure

Pixels: TypeAlias = Mapping[str, Sequence[range]]
CHUNK = 1 << 20  # bytes read at once


def find_structure(module: Backend, part: Path, sizes: Mapping[str, int]) -> dict[str, Structure]:
    """Find the structure of a store that was just written, and hash it.

    Parameters
    ----------
    module : Backend
        Which wrote the store.
    part : Path
        The store.
    sizes : mapping of str to int
        Bytes of its files, by their path below the store.

    Returns
    -------
    dict of str to Structure
        Of the files that have any.
    """
    pixels = module.find_pixels(part)
    found = {}
    for name, size in sizes.items():
        ranges = tuple(_find_gaps(pixels.get(name, ()), size))
        if ranges or not size:  # a file may say something by being there
            found[name] = Structure(ranges, _hash_ranges(part / name, ranges))
    return found


def check_file(folder: Path, manifest: Manifest, name: str) -> None:
    """Refuse a file whose size or structure is not what was saved.

    Parameters
    ----------
    folder : Path
        The dataset.
    manifest : Manifest
    name : str
        The file's path below the dataset.

    Raises
    ------
    CorruptStoreError
        It is damaged, missing, or no file.
    """
    check_size(folder, name, manifest.sizes[name])
    structure = manifest.structure.get(name)
    if structure is not None and _hash_ranges(folder / name, structure.ranges) != structure.checksum:
        raise CorruptStoreError(
            f"{folder}: {name} is damaged where it says where its images are, or is a file of another store: "
            "restore it from a copy"
        )


def _find_gaps(ranges: Iterable[range], size: int) -> Iterable[tuple[int, int]]:
    start = 0
    for part in sorted(ranges, key=lambda part: part.start):
        if start < part.start:
            yield start, part.start
        start = max(start, part.stop)
    if start < size:
        yield start, size


def _hash_ranges(path: Path, ranges: Iterable[tuple[int, int]]) -> str:
    digest = xxh3_64()
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for start, end in ranges:
            for place in range(start, end, CHUNK):
                digest.update(os.pread(descriptor, min(CHUNK, end - place), place))
    finally:
        os.close(descriptor)
    return digest.hexdigest()
