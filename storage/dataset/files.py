"""The files of a dataset: verified before they are used, and read no further than their content justifies."""

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_64, xxh3_64_hexdigest

from ..errors import CorruptStoreError, StorageError, reading
from ..limits import MAX_EXPANSION, check_amount, measure_content
from ..paths import open_regular
from . import format1
from .checksums import DTYPE, Checksums, count_per_block
from .details import Beside, Details, Structure, format_details, parse_details
from .manifest import Manifest

DETAILS, CHECKSUMS, LABELS, NAMES, SKIPPED = (
    "json",
    "checksums",
    "labels",
    "names",
    "skipped",
)  # suffixes of files beside a part
CHUNK = 512 << 10  # bytes read at once
MAX_HOLES = 16 << 20  # bytes of structure that any file may have in holes; each byte on the disk allows ten more
CHECKSUMS_HINT = "restore it from a copy, or read the images unverified, with verify=False"
DETAILS_HINT = "restore it from a copy; the part is a plain store, which its backend's read_many may still read"


class PartChecksums(NamedTuple):
    """The checksums of a part: one per record, and one per block of records of pixels."""

    records: Checksums
    blocks: Checksums


def check_file(folder: Path, part: str, details: Details, name: str) -> None:
    """Refuse a file of a part whose size or structure is not what was saved."""
    path = f"{part}/{name}"
    check_size(folder, path, details.sizes[name])
    structure = details.structure.get(name)
    if structure is None:
        return
    with reading(folder):
        found = _hash_ranges(folder, path, structure.ranges)
    if found != structure.checksum:
        raise CorruptStoreError(f"{path} is damaged outside its images, or is a file of another store", store=folder)


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


def find_structure(part: Path, pixels: Mapping[str, Sequence[range]], sizes: Mapping[str, int]) -> dict[str, Structure]:
    """Find the structure of a store that was just written, by file: what isn't pixels.

    `sizes` are those of its files.
    """
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
    digest, buffer = xxh3_64(), np.empty(CHUNK, np.uint8).data  # the kernel would clear new memory for each read
    descriptor, status = open_regular(f"{folder}/{name}")
    try:
        content = measure_content(descriptor, status)
        what = f"{name}, of which {content:,} bytes are on the disk,"
        needed = sum(end - start for start, end in ranges)
        check_amount(what, needed, store=folder, limit=MAX_HOLES + MAX_EXPANSION * content)
        for start, end in ranges:
            for place in range(start, end, CHUNK):
                count = os.preadv(descriptor, [buffer[: end - place]], place)
                digest.update(buffer[:count])
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def write_beside(folder: Path, part: str, suffix: str, content: bytes | memoryview) -> Beside:
    """Write a file beside a part."""
    with (folder / f"{part}.{suffix}").open("xb") as file:
        file.write(content)
    return Beside(memoryview(content).nbytes, xxh3_64_hexdigest(content))


def read_beside(
    folder: Path, name: str, size: int, checksum: str | None, hint: str = CorruptStoreError.usual_hint
) -> bytes:
    """Read a file that was written beside a part, or one like it; without a checksum, it isn't verified."""
    check_size(folder, name, size)
    content = _read_all(folder, name)
    if checksum is not None and xxh3_64_hexdigest(content) != checksum:
        raise CorruptStoreError(f"the file {name} is damaged", store=folder, hint=hint)
    return content


def check_beside(folder: Path, part: str, details: Details, suffix: str) -> bytes:
    """Read a file beside a part; refuse one that isn't what was written."""
    file = details.beside[suffix]
    return read_beside(folder, f"{part}.{suffix}", file.size, file.checksum)


def _read_all(folder: Path, name: str) -> bytes:
    with reading(folder):
        try:
            descriptor, status = open_regular(f"{folder}/{name}")  # a Path takes longer
        except FileNotFoundError:
            raise CorruptStoreError(f"{name} is missing", store=folder) from None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            check_amount(name, status.st_size, measure_content(descriptor, status), store=folder)
            return file.readall()


def write_details(folder: Path, part: str, details: Details) -> str:
    """Write the details of a part; return their checksum."""
    return write_beside(folder, part, DETAILS, format_details(details)).checksum


def read_details(folder: Path, manifest: Manifest, number: int) -> Details:
    """Read the details of a part; refuse them if they are damaged or missing, or never written by us."""
    part = manifest.parts[number]
    content = _read_all(folder, name := f"{part.name}.{DETAILS}")
    if xxh3_64_hexdigest(content) != part.details:
        raise CorruptStoreError(f"the file {name} is damaged", store=folder, hint=DETAILS_HINT)
    try:
        details = parse_details(json.loads(content))
        if not {CHECKSUMS, LABELS} <= details.beside.keys():
            raise ValueError("no checksums or labels")  # noqa: TRY301 - as of what it says
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        hint = "a later version of this program wrote it: use that version"
        raise StorageError(f"{name} is whole, but not understood ({error})", store=folder, hint=hint) from None
    return details


def find_group(manifest: Manifest, number: int) -> range:
    """Find the parts whose checksums are in one file with those of a part: it is alone, but for format 1."""
    return range(len(manifest.parts)) if manifest.former else range(number, number + 1)


def name_checksums(manifest: Manifest, number: int) -> str:
    """Name the file of checksums of a part."""
    return format1.CHECKSUMS if manifest.former else f"{manifest.parts[number].name}.{CHECKSUMS}"


def read_checksums(folder: Path, manifest: Manifest, group: range, details: Details) -> dict[int, PartChecksums]:
    """Read the checksums of a group of parts; refuse their file if it is damaged or missing."""
    counts = {number: _count_checksums(manifest, number) for number in group}
    checksum = manifest.former[0] if manifest.former else details.beside[CHECKSUMS].checksum
    size = sum(map(sum, counts.values())) * DTYPE.itemsize
    content = read_beside(folder, name_checksums(manifest, group.start), size, checksum, CHECKSUMS_HINT)
    checksums, found = np.frombuffer(content, DTYPE), {}
    for number, (records, blocks) in counts.items():
        found[number] = PartChecksums(checksums[:records], checksums[records : records + blocks])
        checksums = checksums[records + blocks :]
    return found


def _count_checksums(manifest: Manifest, number: int) -> tuple[int, int]:
    """Count the checksums of a part: of its records, and of its blocks."""
    count = manifest.parts[number].count
    return count, 0 if manifest.shape is None else -(-count // count_per_block(manifest.image_size))
