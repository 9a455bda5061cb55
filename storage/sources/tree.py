"""Lists a folder tree as people have them: any depth, links followed, system files ignored, all in natural order.

Natural order is 2 before 10. The tree is the user's own, so a link is followed to any regular file or folder. A link
to a folder around it is refused, and so is one folder more often than `MAX_VISITS`, or links could make a tree that has
no end. What can't be read is listed with the reason, so that one pass finds all of it.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64

from ..dataset.annotations import Problem
from ..errors import reading
from ..paths import is_system_file

MAX_VISITS = 16  # of one folder, through links
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # that aren't about the file


@dataclass
class Listing:
    """What is in a tree, by paths relative to its root, and the bytes of each file."""

    files: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    identity: str = ""


class _Place(NamedTuple):
    """A folder that is being listed: its prefix, what is left of it, and the numbers of it and of those around it."""

    prefix: str
    entries: Iterator[os.DirEntry[str]]
    around: tuple[tuple[int, int], ...]


def list_tree(root: Path) -> Listing:
    """List the files and folders below `root`, and hash the names, sizes and times of the files."""
    listing, digest, visits = Listing(), xxh3_64(), dict[tuple[int, int], int]()
    with reading(root):
        status = root.stat()
        places = [_Place("", _list_entries(root), ((status.st_dev, status.st_ino),))]
        while places:
            place = places[-1]
            entry = next(place.entries, None)
            if entry is None:
                places.pop()
                continue
            name = place.prefix + entry.name
            try:
                status = entry.stat()
                if stat.S_ISDIR(status.st_mode):
                    number = status.st_dev, status.st_ino
                    visits[number] = visits.get(number, 0) + 1
                    if number in place.around:
                        listing.problems.append(Problem(name, "it is a link to a folder that contains it"))
                    elif visits[number] > MAX_VISITS:
                        listing.problems.append(Problem(name, f"more than {MAX_VISITS} links lead to this folder"))
                    else:
                        places.append(_Place(f"{name}/", _list_entries(entry), (*place.around, number)))
                        listing.folders.append(name)
                elif stat.S_ISREG(status.st_mode):
                    listing.files.append(name)
                    listing.sizes.append(status.st_size)
                    digest.update(os.fsencode(f"{name}\0{status.st_size} {status.st_mtime_ns}\n"))
                else:
                    listing.problems.append(Problem(name, "it isn't a regular file"))
            except OSError as error:
                listing.problems.append(Problem(name, explain_refusal(error)))
    listing.identity = f"folder {digest.hexdigest()}"
    return listing


def _list_entries(folder: Path | os.DirEntry[str]) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not is_ignored(entry.name)]
    return iter(sorted(shown, key=lambda entry: order_naturally(entry.name)))


def is_ignored(name: str) -> bool:
    """Whether a file or folder is a system's, or hidden."""
    return name.startswith(".") or is_system_file(name)


def order_naturally(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Make the key by which names are in natural order: numbers in them count, of however many digits."""
    parts = re.split(r"([0-9]+)", name)
    return [_order_digits(part) if number % 2 else part for number, part in enumerate(parts)], name


def _order_digits(digits: str) -> tuple[int, str]:
    digits = digits.lstrip("0")
    return len(digits), digits


def explain_refusal(error: OSError) -> str:
    """Say why the system refused a file; raise the error if it has nothing to do with the file."""
    if error.errno in SHORTAGES:
        raise error
    if error.errno == errno.ENOENT:
        return "it is a link to nothing, or was deleted meanwhile"
    if error.errno == errno.ELOOP:
        return "it is a link that leads back to itself, or through too many others"
    return f"the operating system refused ({error.strerror})"
