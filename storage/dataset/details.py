"""The details of a part: the sizes and the structure of its files, and the files beside it. A JSON file next to it.

Structure is every byte of a store that says where the images are. Damage to images gives wrong images, which the
checksums of the records find. Damage to structure can do anything: a library that follows a wrong page number kills
the process. So the structure is hashed when a store is saved, and verified before a backend opens it; or meanwhile, if
the backend survives any damage (`BackendInfo`).

A backend's ``find_pixels`` returns the ranges of bytes that hold only images, labels and padding. All other files are
structure from beginning to end, which is always right, and costs a read of the file at each opening. A file without
structure isn't looked at before it is read, so a file that is mapped into memory must have some.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

CHECKSUM = re.compile(r"[0-9a-f]{16}")
NAME = re.compile(r"(?!\.\.?(/|$))[^/\0]+(/(?!\.\.?(/|$))[^/\0]+)*")
BESIDE = re.compile(r"[a-z]+")
MAX_NUMBER = 1 << 62  # NumPy can count with it
MAX_LABEL = (1 << 63) - 1


@dataclass(frozen=True)
class Structure:
    """The bytes of a file that hold no images: where each range starts and ends, and XXH3 (64 bits) of all of them."""

    ranges: tuple[tuple[int, int], ...]
    checksum: str


@dataclass(frozen=True)
class Beside:
    """A file beside a part: how many bytes it has, and XXH3 (64 bits) of them."""

    size: int
    checksum: str


@dataclass(frozen=True)
class Summary:
    """What an append must know of all images that are there already."""

    max_label: int | None  # None if there are no images
    columns: Mapping[str, str | None]  # of metadata, with the type of their values; None if they have none


@dataclass(frozen=True)
class Details:
    """What is known about a part."""

    sizes: Mapping[str, int]  # bytes of each of its files, by its path in the store
    structure: Mapping[str, Structure]  # of the files with more than images and labels
    beside: Mapping[str, Beside]  # by the suffix of the file, such as "checksums"
    summary: Summary | None = None  # of all images up to those of this part; earlier versions wrote none


def format_details(details: Details) -> bytes:
    """Write details as JSON."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in asdict(details).items())
    return ("{" + ",\n".join(lines) + "\n}\n").encode()


def parse_details(content: Mapping[str, Any]) -> Details:
    """Check details that were read from JSON; raise ValueError or the like for some that we never write."""
    structure = {
        name: Structure(tuple((start, end) for start, end in entry["ranges"]), entry["checksum"])
        for name, entry in content["structure"].items()
    }
    beside = {suffix: Beside(**entry) for suffix, entry in content["beside"].items()}
    summary = content.get("summary")
    details = Details(content["sizes"], structure, beside, None if summary is None else _parse_summary(**summary))
    check_counts([*details.sizes.values(), *(entry.size for entry in beside.values())])
    check_texts(details.sizes)
    for name in details.sizes:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"a file named {name!r}")
    for name, entry in structure.items():
        _check_structure(entry, details.sizes[name])
    for suffix, file in beside.items():
        if BESIDE.fullmatch(suffix) is None or CHECKSUM.fullmatch(file.checksum) is None:
            raise ValueError(f"an impossible file beside it, {suffix!r}")
    return details


def _parse_summary(max_label: Any, columns: Mapping[str, Any]) -> Summary:  # noqa: ANN401 - whatever is there
    check_texts([*columns, *(kind for kind in columns.values() if kind is not None)])
    if max_label is not None and not (type(max_label) is int and -MAX_LABEL - 1 <= max_label <= MAX_LABEL):
        raise ValueError("an impossible label")
    return Summary(max_label, columns)


def check_counts(numbers: Iterable[object]) -> None:
    """Refuse what can't be a number of images or bytes."""
    if any(type(number) is not int or not 0 <= number < MAX_NUMBER for number in numbers):
        raise ValueError("impossible numbers")


def check_texts(texts: Iterable[object]) -> None:
    """Refuse what isn't text, or can't be the name of a file."""
    for text in texts:
        if type(text) is not str:
            raise ValueError("impossible texts")
        os.fsencode(text)  # raises UnicodeEncodeError, a ValueError


def _check_structure(structure: Structure, size: int) -> None:
    places = [place for pair in structure.ranges for place in pair]
    if places != sorted(places) or not all(type(place) is int and 0 <= place <= size for place in places):
        raise ValueError("impossible ranges")
    if CHECKSUM.fullmatch(structure.checksum) is None:
        raise ValueError("an impossible checksum")
