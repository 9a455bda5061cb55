"""Archives of image files: a ``.zip``, a ``.tar``, packed or not, or a folder of ``.tar`` shards, as for webdataset.

Images are in the order of the archive. Their classes are the top-level folders in it, as in a folder, or those in the
one folder that holds all, unless there are labels: files that have the name of an image up to its first dot belong to
it. ``000123.cls`` holds the label of ``000123.jpg`` as a decimal number; ``000123.json`` and ``000123.txt`` become the
columns ``json`` and ``txt`` of the metadata, as text. Nothing is extracted.

Such files are a sample of webdataset, of which one image is read: what else is in it, such as ``000123.seg.png``, is
left out. In a tar archive that has images only, it may be meant as an image, so it is a problem. The format:
https://github.com/webdataset/webdataset.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays import LABEL
from ..contract import Labels
from ..dataset.annotations import Problem
from ..encoded import Content
from ..errors import InvalidInputError, StorageError
from ..lazy import LazyProperty
from ..limits import check_memory
from ..pictures import PREFIX, is_picture_name
from .base import Source
from .folder import UNCLASSED, begins_as_picture, find_classes
from .pixels import identify_files
from .tree import Listing, is_ignored, order_naturally

CLASS = "cls"
TEXTS = ("json", "txt")
MAX_TEXT = 1 << 20  # bytes
TOO_LONG = f"it has more than {MAX_TEXT:,} bytes"
MAX_DIGITS = 20
SECOND = "it is in the sample of another image, as webdataset would read it"
NO_IMAGE = "its sample has no image, or several"
MEMBER = 1_000  # bytes of memory that a file takes in the list


class Member(NamedTuple):
    """A file in an archive: its name, its bytes, and where it is."""

    name: str
    size: int
    place: Any


class Archive(Protocol):
    """A file that holds other files."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def is_webdataset(self) -> bool:
        """Whether webdataset could read it, so that files may belong together."""

    def list_members(self) -> Iterator[Member | Problem]:
        """List the regular files, and what else has a name but isn't one."""

    def read_members(self, members: Iterable[Member]) -> Iterator[bytes | StorageError]:
        """Read files in the order of the archive; in place of one that can't be read, yield the reason."""


class Found(NamedTuple):
    """A member, the number of its archive, and its name in all archives."""

    archive: int
    member: Member
    name: str

    def split(self) -> tuple[str, str]:
        """Split the name at the first dot behind the folder; what follows is in lower case."""
        folder, slash, file = self.name.rpartition("/")
        stem, _, ending = file.partition(".")
        return f"{folder}{slash}{stem}", ending.lower()


@dataclass(frozen=True)
class ArchiveSource(Source):
    """Image files in archives."""

    archives: Sequence[Archive]
    found: Sequence[Found] = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    identity: str
    metadata: dict[str, list[str | None]] | None = field(repr=False)
    problems: tuple[Problem, ...] = field(repr=False)
    left_out: Mapping[str, int] = field(repr=False)  # files that belong to images and aren't read, by their endings
    is_labelled: bool  # by files beside the images, not by folders
    kind: Literal["encoded"] = "encoded"
    losses: tuple[str, ...] = ()

    @LazyProperty
    def names(self) -> list[str]:
        """The names in the archive, after that of the archive if there are several."""
        return [found.name for found in self.found]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each file."""
        return np.array([found.member.size for found in self.found], np.int64)

    def identify(self) -> str:
        """Look at the archives again."""
        return identify_files([archive.path for archive in self.archives])

    def list_left_out(self) -> Iterator[str]:
        """Say which files aren't read."""
        for ending, count in self.left_out.items():
            files = "1 file" if count == 1 else f"{count:,} files"
            yield f".{ending} is left out ({files}): of a sample, one image is read, and .{CLASS}, .json and .txt"

    def read_files(self, indices: Iterable[int]) -> Iterator[Content | StorageError]:
        """Read files one by one; in place of one that can't be read, yield the reason."""
        return _read(self.archives, map(self.found.__getitem__, indices))


def read_archives(root: Path, archives: Sequence[Archive], class_depth: int = 1) -> ArchiveSource:
    """Find the image files in archives, and what belongs to them. `class_depth` as in `find_classes`."""
    identity = identify_files([archive.path for archive in archives])
    size = sum(archive.path.stat().st_size for archive in archives)
    found, listing = _list(root, archives, size)
    images, beside = _separate(found)
    check_memory(root, sum(min(each.member.size, MAX_TEXT) for each in beside), size, "what lies beside its images")
    texts = _read_beside(archives, beside, listing.problems)
    if not any(map(_is_picture, images, _read(archives, images))):
        raise InvalidInputError(_explain(found, listing.problems), store=root)
    left_out = Counter[str]()
    if beside or any(archive.is_webdataset for archive in archives):
        images, others = _choose(images, {each.split()[0] for each in beside}, listing.problems)
        if beside:
            left_out.update(each.split()[1] for each in others)
        else:
            listing.problems += [Problem(each.name, SECOND) for each in others]
    is_labelled = CLASS in texts
    if is_labelled:
        classes: Sequence[str] = ()
        images, labels = _label(images, texts.pop(CLASS), listing.problems)
    else:
        top = _find_top(found)
        images, labels, classes = _classify(images, top, class_depth, top or root.stem, listing.problems)
    metadata = {ending: [values.get(image.split()[0]) for image in images] for ending, values in texts.items()}
    described = np.array(labels, np.int64), tuple(classes), identity, metadata or None, tuple(listing.problems)
    return ArchiveSource(archives, images, *described, left_out, is_labelled)


def _explain(found: Sequence[Found], problems: Sequence[Problem]) -> str:
    """Say that there are no images; where there are no files either, why not."""
    if found or not problems:
        return f"none of its {len(found):,} files is an image"
    return f"none of its {len(problems):,} files can be read: {problems[0].name}: {problems[0].reason}"


def _is_picture(found: Found, content: Content | StorageError) -> bool:
    return not isinstance(content, StorageError) and begins_as_picture(found.name, bytes(content[:PREFIX]))


def _list(root: Path, archives: Sequence[Archive], size: int) -> tuple[list[Found], Listing]:
    """List the files of archives; a name that leads elsewhere, or is there twice, is a problem."""
    found, listing, names = [], Listing(), set[str]()
    for number, archive in enumerate(archives):
        prefix = f"{archive.path.name}/" if len(archives) > 1 else ""
        for each in archive.list_members():
            parts = each.name.removeprefix("./").split("/")
            if any(map(is_ignored, set(parts) - {"..", "."})):
                continue
            inner = "/".join(parts)
            name = prefix + inner
            if isinstance(each, Problem):
                listing.problems.append(Problem(name, each.reason))
            elif {"", ".", ".."} & set(parts):
                listing.problems.append(Problem(name, "its name leads out of the archive"))
            elif name in names:
                listing.problems.append(Problem(name, "it is there twice"))
            else:
                check_memory(root, MEMBER * len(names), size, "the list of its files")
                names.add(name)
                found.append(Found(number, each._replace(name=inner), name))
    return found, listing


def _separate(found: Sequence[Found]) -> tuple[list[Found], list[Found]]:
    """Separate images, which are yet to be examined, from the files that belong to them."""
    endings = {CLASS, *TEXTS}
    stems = {stem for stem, ending in map(Found.split, found) if ending not in endings}
    images, beside = list[Found](), list[Found]()
    for each in found:
        stem, ending = each.split()
        (beside if ending in endings and stem in stems else images).append(each)
    return images, beside


def _choose(
    images: Sequence[Found], described: Collection[str], problems: list[Problem]
) -> tuple[list[Found], list[Found]]:
    """Choose an image of each sample; return also what else is there. `described` are samples that must have one."""
    samples: dict[str, list[Found]] = {}
    for each in images:
        samples.setdefault(each.split()[0], []).append(each)
    kept, others = set[str](), set[str]()
    for stem, sample in samples.items():
        image = _find_image(sample)
        if image is not None:
            kept.add(image.name)
            others |= {each.name for each in sample} - kept
        elif stem in described:
            problems += [Problem(each.name, NO_IMAGE) for each in sample]
        else:
            kept |= {each.name for each in sample}
    return [each for each in images if each.name in kept], [each for each in images if each.name in others]


def _find_image(sample: Sequence[Found]) -> Found | None:
    """Find the one file that is called as an image is, with nothing before its extension if there are others."""
    pictures = [each for each in sample if is_picture_name(each.name)]
    plain = [each for each in pictures if "." not in each.split()[1]]
    for found in (sample, plain, pictures):
        if len(found) == 1:
            return found[0]
    return None


def _read_beside(
    archives: Sequence[Archive], beside: Sequence[Found], problems: list[Problem]
) -> dict[str, dict[str, str]]:
    """Read the texts that belong to images: by their endings, then by the part of the name that they share."""
    texts: dict[str, dict[str, str]] = {}
    short = [each for each in beside if each.member.size <= MAX_TEXT]
    problems += [Problem(each.name, TOO_LONG) for each in beside if each.member.size > MAX_TEXT]
    for each, content in zip(short, _read(archives, short), strict=True):
        stem, ending = each.split()
        values = texts.setdefault(ending, {})
        if isinstance(content, StorageError):
            problems.append(Problem(each.name, content.problem))
            continue
        try:
            values[stem] = bytes(content).decode()
        except UnicodeDecodeError:
            problems.append(Problem(each.name, "it isn't text in UTF-8"))
    return texts


def _label(images: Iterable[Found], labels: dict[str, str], problems: list[Problem]) -> tuple[list[Found], list[int]]:
    """Find the label of each image; one without is a problem."""
    labelled, values = [], []
    for image in images:
        text = labels.get(image.split()[0], "").strip()
        is_number = text.removeprefix("-").isdecimal() and text.isascii() and len(text) <= MAX_DIGITS
        if is_number and LABEL.min <= int(text) <= LABEL.max:
            labelled.append(image)
            values.append(int(text))
        else:
            problems.append(Problem(image.name, f"it has no label: a file .{CLASS} with a number of 64 bits"))
    return labelled, values


def _find_top(found: Iterable[Found]) -> str:
    """Find the folder that all files are in, as where a folder was packed with its name; "" if there is none."""
    tops = {each.member.name.split("/", 1)[0] if "/" in each.member.name else "" for each in found}
    return tops.pop() if len(tops) == 1 else ""


def _classify(
    images: Iterable[Found], top: str, class_depth: int, name: str, problems: list[Problem]
) -> tuple[list[Found], list[int], list[str]]:
    """Find the classes, as in a folder that is the one at the top; an image in no class is a problem."""
    paths = {image: image.member.name.removeprefix(f"{top}/") for image in images}
    files = list(dict.fromkeys(paths.values()))  # several archives may have a file of one name
    names, numbers, classes = find_classes(Listing(files, folders=_list_folders(files)), class_depth, name)
    label_by_name = dict(zip(names, numbers, strict=True))
    problems += [Problem(image.name, UNCLASSED) for image, path in paths.items() if path not in label_by_name]
    labelled = [image for image, path in paths.items() if path in label_by_name]
    return labelled, [label_by_name[paths[image]] for image in labelled], classes


def _list_folders(names: Iterable[str]) -> list[str]:
    """List the folders in which files are, and those around them, in natural order."""
    folders = set[str]()
    for name in names:
        while (name := name.rpartition("/")[0]) and name not in folders:
            folders.add(name)
    return sorted(folders, key=lambda folder: [order_naturally(part) for part in folder.split("/")])


def _read(archives: Sequence[Archive], found: Iterable[Found]) -> Iterator[Content | StorageError]:
    for number, group in groupby(found, lambda each: each.archive):
        yield from archives[number].read_members(each.member for each in group)
