"""The manifest: one JSON file that says what a dataset holds, and proves it.

Its first line holds the XXH3 (64 bits) of all bytes behind that line, so a manifest is whole or refused. It is written
last: a folder without it is no dataset.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_hexdigest

from ..errors import CorruptStoreError, StorageError, StoreNotFoundError, reading

FILE = "manifest.json"
FORMAT = 1
FIRST_LINE = re.compile(rb'\{"manifest_checksum": "([0-9a-f]{16})",\n')
NAME = re.compile(r"part-\d{5,}(/(?!\.\.?(/|$))[^/\0]+)+")
CHECKSUM = re.compile(r"[0-9a-f]{16}")
OURS = re.compile(r"manifest\.json(\.new)?|progress\.json(\.new)?|checksums|part-\d{5,}")  # names in a dataset
MOST_BYTES, LINE = 1 << 30, 64  # of a manifest, and more than its first line has
LARGEST = 1 << 62  # number in a manifest, so that NumPy can count with it


@dataclass(frozen=True)
class Structure:
    """The bytes of a file that hold no pixels, checked before a backend opens it.

    Attributes
    ----------
    ranges : tuple of (int, int)
        Start and end of each, in order.
    checksum : str
        XXH3 (64 bits) of all of them.
    """

    ranges: tuple[tuple[int, int], ...]
    checksum: str


@dataclass(frozen=True)
class Manifest:
    """What a dataset holds.

    Attributes
    ----------
    backend : str
        The name of the backend that wrote the parts.
    height, width : int
        Pixels.
    parts : tuple of int
        Images of each part.
    sizes : mapping of str to int
        Bytes of every file of the parts, by its path below the dataset.
    structure : mapping of str to Structure
        Of the files that have bytes beside pixels and labels.
    checksum : str
        XXH3 (64 bits) of the file of checksums.
    classes : tuple of str
        What the labels 0, 1, ... stand for, where that is known.
    source : str
        Tells what is being converted from everything else; empty otherwise.
    """

    backend: str
    height: int
    width: int
    parts: tuple[int, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    structure: Mapping[str, Structure] = field(default_factory=dict)
    checksum: str = ""
    classes: tuple[str, ...] = ()
    source: str = ""

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(self.parts)

    @property
    def starts(self) -> list[int]:
        """Index of the first image of each part, and at the end the number of all images."""
        return list(accumulate(self.parts, initial=0))


def name_part(number: int) -> str:
    """Name the folder of a part."""
    return f"part-{number:05}"


def write_manifest(folder: Path, manifest: Manifest, name: str = FILE) -> None:
    """Write a manifest; nobody sees half of it.

    Parameters
    ----------
    folder : Path
        The dataset.
    manifest : Manifest
    name : str
        Of the file.
    """
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
    first = f'{{"manifest_checksum": "{xxh3_64_hexdigest(rest)}",\n'.encode()
    new = folder / f"{name}.new"
    new.write_bytes(first + rest)
    new.rename(folder / name)


def read_manifest(folder: Path, name: str = FILE) -> Manifest:
    """Read a manifest.

    Parameters
    ----------
    folder : Path
        The dataset.
    name : str
        Of the file.

    Returns
    -------
    Manifest

    Raises
    ------
    StoreNotFoundError
        The folder has none.
    CorruptStoreError
        It is damaged.
    StorageError
        It is of a later version.
    """
    with reading(folder):
        try:
            content = _read_content(folder / name)
        except FileNotFoundError:
            raise _explain_absence(folder, name) from None
    first = FIRST_LINE.match(content)
    if first is None or first[1].decode() != xxh3_64_hexdigest(content[first.end() :]):
        raise _make_error(folder, f"{name} is damaged")
    try:
        return _parse(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"{folder}: {name} is whole, but not understood ({error}): a later version of this program wrote it"
        ) from None


def is_manifest(folder: Path) -> bool:
    """Tell whether a folder has a manifest of ours, whole or damaged behind its first line."""
    try:
        return FIRST_LINE.match(_read_content(folder / FILE, LINE)) is not None
    except OSError:
        return False


def _read_content(path: Path, size: int = -1) -> bytes:
    """Read a file, or so many bytes of it; what is none, such as a pipe, or far too large, reads as empty."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        return file.read(size) if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES else b""


def _make_error(folder: Path, reason: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"{folder}: {reason}, so nothing proves the images: restore it from a copy; the parts are plain stores, which "
        "their backend's read_many may still read"
    )


def _explain_absence(folder: Path, name: str) -> StorageError:
    if not any(folder.iterdir()):
        return StoreNotFoundError(f"{folder} is empty: save images there first")
    if any(folder.glob("part-*")):
        return _make_error(folder, f"{name} is missing")
    return StoreNotFoundError(
        f"{folder} has no {name}: storage.save did not write it; read a plain store with its backend, or convert it: "
        "python -m storage convert SOURCE DESTINATION"
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
    """Refuse what no program of ours writes; above all a file's name that leads out of the dataset."""
    numbers = [manifest.height, manifest.width, *manifest.parts, *manifest.sizes.values()]
    if any(type(number) is not int or not 0 <= number < LARGEST for number in numbers) or count != manifest.count:
        raise ValueError("numbers that cannot be")
    if not manifest.height or not manifest.width or not manifest.parts:
        raise ValueError("no pixels")
    for name in manifest.sizes:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"a file named {name!r}")
    for name, structure in manifest.structure.items():
        _check_structure(structure, manifest.sizes[name])
    texts = [manifest.backend, manifest.source, *manifest.classes]
    if any(type(text) is not str for text in texts) or CHECKSUM.fullmatch(manifest.checksum) is None:
        raise ValueError("other text than ours")


def _check_structure(structure: Structure, size: int) -> None:
    places = [place for pair in structure.ranges for place in pair]
    if places != sorted(places) or not all(type(place) is int and 0 <= place <= size for place in places):
        raise ValueError("ranges that cannot be")
    if CHECKSUM.fullmatch(structure.checksum) is None:
        raise ValueError("a checksum that is none")
