"""The manifest: one JSON file that describes a dataset and verifies itself.

Its first line holds the XXH3 (64 bits) of all bytes after that line, so damage is always found. The manifest is written
last: a folder without one isn't a dataset.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_hexdigest

from ..errors import CorruptStoreError, StorageError, StoreNotFoundError, reading
from ..limits import MAX_EXPANSION, measure_content
from ..paths import open_regular
from ..registry import PACKAGE

FILE = "manifest.json"
FORMAT = 1
FIRST_LINE = re.compile(rb'\{"manifest_checksum": "([0-9a-f]{16})",\n')
NAME = re.compile(r"part-\d{5,}(/(?!\.\.?(/|$))[^/\0]+)+")
CHECKSUM = re.compile(r"[0-9a-f]{16}")
OWN_NAMES = re.compile(r"manifest\.json(\.new)?|progress\.json(\.new)?|checksums|part-\d{5,}")
MAX_BYTES, LINE = 1 << 30, 64  # of a manifest, and of a bit more than its first line
MAX_HOLES = 1 << 20  # bytes that may be missing on the disk
MAX_NUMBER = 1 << 62  # NumPy can count with it


@dataclass(frozen=True)
class Structure:
    """The bytes of a file that hold no pixels: where each range starts and ends, and XXH3 (64 bits) of all of them."""

    ranges: tuple[tuple[int, int], ...]
    checksum: str


@dataclass(frozen=True)
class Manifest:
    """The description of a dataset."""

    backend: str  # that wrote the parts
    height: int
    width: int
    parts: tuple[int, ...] = ()  # how many images each has
    sizes: Mapping[str, int] = field(
        default_factory=dict
    )  # bytes of each file of the parts, by its path in the dataset
    structure: Mapping[str, Structure] = field(default_factory=dict)  # of the files with more than pixels and labels
    checksum: str = ""  # XXH3 (64 bits) of the file of checksums
    classes: tuple[str, ...] = ()  # the names of the labels 0, 1, ..., if they are known
    source: str = ""  # identifies what is being converted; empty in a finished dataset

    @property
    def count(self) -> int:
        """The number of images."""
        return sum(self.parts)

    @cached_property
    def starts(self) -> list[int]:
        """The index of the first image of each part, then the number of images."""
        return list(accumulate(self.parts, initial=0))


def name_part(number: int) -> str:
    """Name the folder of a part."""
    return f"part-{number:05}"


def write_manifest(folder: Path, manifest: Manifest, name: str = FILE, key: bytes = b"") -> None:
    """Write a manifest; readers never see half of it. With a key, only who has it can write a valid one."""
    content = {
        "format": FORMAT,
        "backend": manifest.backend,
        "count": manifest.count,
        "shape": [manifest.height, manifest.width, 3],
        "dtype": "uint8",
        **{key: value for key, value in asdict(manifest).items() if key not in {"backend", "height", "width"}},
    }
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    rest = (",\n".join(lines) + "\n}\n").encode()
    first = f'{{"manifest_checksum": "{_hash(rest, key)}",\n'.encode()
    new = folder / f"{name}.new"
    new.write_bytes(first + rest)
    new.rename(folder / name)


def read_manifest(folder: Path, name: str = FILE, key: bytes = b"") -> Manifest:
    """Read a manifest; refuse one that is missing, damaged, of a later version, or written with another key."""
    with reading(folder):
        try:
            content = _read_content(folder / name)
        except FileNotFoundError:
            raise _explain_absence(folder, name) from None
    first = FIRST_LINE.match(content)
    if first is None or first[1].decode() != _hash(memoryview(content)[first.end() :], key):
        raise _damaged(folder, f"{name} is damaged")
    try:
        return _parse(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"{name} is whole, but not understood ({error})",
            store=folder,
            hint="a later version of this program wrote it: use that version",
        ) from None


def is_manifest(folder: Path) -> bool:
    """Check whether a folder has a manifest of ours, whole or damaged after its first line."""
    try:
        return FIRST_LINE.match(_read_content(folder / FILE, LINE)) is not None
    except (OSError, CorruptStoreError):
        return False


def _hash(content: bytes | memoryview, key: bytes) -> str:
    return blake2b(content, digest_size=8, key=key).hexdigest() if key else xxh3_64_hexdigest(content)


def _read_content(path: Path, size: int = -1) -> bytes:
    """Read a file, or `size` bytes of it; one that is far too large, or consists of holes, reads as empty."""
    descriptor, status = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        limit = min(MAX_BYTES, MAX_HOLES + MAX_EXPANSION * measure_content(descriptor, status))
        return file.read(size) if status.st_size <= limit else b""


def _damaged(folder: Path, problem: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"{problem}, so the images cannot be verified",
        store=folder,
        hint="restore it from a copy; the parts are plain stores, which their backend's read_many may still read",
    )


def _explain_absence(folder: Path, name: str) -> StorageError:
    if not any(folder.iterdir()):
        return StoreNotFoundError("it is empty", store=folder, hint="save images there first")
    if any(path.name.startswith("part-") for path in folder.iterdir()):
        return _damaged(folder, f"{name} is missing")
    return StoreNotFoundError(
        f"it has no {name}, so {PACKAGE}.save did not write it",
        store=folder,
        hint="read a plain store with its backend, or convert it: "
        f"python -m {PACKAGE} convert SOURCE DESTINATION --backend NAME",
    )


def _parse(content: dict[str, Any]) -> Manifest:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}")
    height, width, _ = content["shape"]
    known = {entry.name for entry in fields(Manifest)} - {"height", "width"}
    values = {name: content[name] for name in known}
    values["parts"], values["classes"] = tuple(values["parts"]), tuple(values["classes"])
    values["structure"] = {
        name: Structure(tuple((start, end) for start, end in entry["ranges"]), entry["checksum"])
        for name, entry in values["structure"].items()
    }
    manifest = Manifest(height=height, width=width, **values)
    _check(manifest, content["count"])
    return manifest


def _check(manifest: Manifest, count: object) -> None:
    """Refuse a manifest that we never write; above all a file name that leads out of the dataset."""
    numbers = [manifest.height, manifest.width, *manifest.parts, *manifest.sizes.values(), manifest.count]
    if any(type(number) is not int or not 0 <= number < MAX_NUMBER for number in numbers) or count != manifest.count:
        raise ValueError("impossible numbers")
    if not manifest.height or not manifest.width or not manifest.parts:
        raise ValueError("no pixels")
    for name in manifest.sizes:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"a file named {name!r}")
    _check_parts(manifest)
    for name, structure in manifest.structure.items():
        _check_structure(structure, manifest.sizes[name])
    texts = [manifest.backend, manifest.source, *manifest.classes, *manifest.sizes]
    if any(type(text) is not str for text in texts) or CHECKSUM.fullmatch(manifest.checksum) is None:
        raise ValueError("impossible texts")
    os.fsencode("".join(texts))  # raises UnicodeEncodeError, a ValueError


def _check_parts(manifest: Manifest) -> None:
    """Refuse parts without images or files, and files without a part: a short manifest could name millions."""
    if len(manifest.parts) > len(manifest.sizes):
        raise ValueError("parts without files")
    if 0 in manifest.parts and len(manifest.parts) > 1:
        raise ValueError("parts without images")
    folders = {name.partition("/")[0] for name in manifest.sizes}
    if folders != {name_part(number) for number in range(len(manifest.parts))}:
        raise ValueError("parts without files, or files without a part")


def _check_structure(structure: Structure, size: int) -> None:
    places = [place for pair in structure.ranges for place in pair]
    if places != sorted(places) or not all(type(place) is int and 0 <= place <= size for place in places):
        raise ValueError("impossible ranges")
    if CHECKSUM.fullmatch(structure.checksum) is None:
        raise ValueError("an impossible checksum")
