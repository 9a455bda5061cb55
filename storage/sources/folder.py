"""Folders of image files: any depth, any sizes. The class of an image is the folder that it is in.

A name is the path of a file below the folder. Classes and files are taken in natural order; see `tree`. Files are only
found here; what is no image is found when all are decoded, see `examination`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..contract import Labels
from ..dataset.annotations import Problem
from ..encoded import Content
from ..errors import InvalidInputError, StorageError, reading
from ..pictures import PREFIX, is_picture, refuse_format
from .base import Source
from .files import open_input
from .tree import Listing, explain_refusal, list_tree

TGA = ".tga"  # a format that no first bytes tell
UNCLASSED = "it isn't in the folder of a class"
SOURCES = {".npy", ".npz", ".h5", ".hdf5", ".parquet", ".zip", ".tar", ".tgz", ".gz"}  # which may hold images
MAX_KINDS = 5  # of files that are counted one by one
LARGE = 16 << 20  # bytes of a file that are read before it is known whether it is an image


@dataclass(frozen=True)
class FolderSource(Source):
    """Files of a folder tree. `names` are their paths below `root`."""

    root: Path
    names: list[str] = field(repr=False)
    labels: Labels = field(repr=False)
    sizes: NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]
    identity: str
    kind: Literal["encoded"] = "encoded"
    losses: tuple[str, ...] = ()
    metadata: None = None

    def identify(self) -> str:
        """Look at the files again."""
        return list_tree(self.root).identity

    def read_files(self, indices: Iterable[int]) -> Iterator[Content | StorageError]:
        """Read files one by one; in place of one that can't be read, yield the reason."""
        return (self._read_file(self.root / self.names[index]) for index in indices)

    def _read_file(self, path: Path) -> Content | StorageError:
        with reading(path):
            try:
                with open_input(path) as file:
                    prefix = file.read(LARGE)
                    if len(prefix) == LARGE and not begins_as_picture(path.name, prefix):
                        return refuse_format()  # a film, for one, which may not fit in memory
                    return prefix + file.read()
            except InvalidInputError as error:
                return error
            except OSError as error:
                return StorageError(explain_refusal(error))

    def has_pictures(self) -> bool:
        """Whether a file begins as an image file does, in the folder of a class or not."""
        unclassed = (problem.name for problem in self.problems if problem.reason == UNCLASSED)
        return any(map(self._is_picture, chain(self.names, unclassed)))

    def explain(self) -> InvalidInputError:
        """Say what is in a folder that holds no images."""
        unclassed = [problem.name for problem in self.problems if problem.reason == UNCLASSED]
        others = [problem for problem in self.problems if problem.reason != UNCLASSED]
        files, parts = [*self.names, *unclassed], list[str]()
        if files:
            parts.append(f"{_count(len(files), 'file')}, and none is an image that can be read: {_list_kinds(files)}")
        if others:
            one = others[0]
            parts.append(f"{_count(len(others), 'entry')} that can't be read, such as {one.name}: {one.reason}")
        sources = [name for name in files if PurePosixPath(name).suffix.lower() in SOURCES]
        hint = "name the folder that holds the images"
        if sources:
            hint = f"if the images are in {sources[0]}, name that, or its folder if that holds nothing but shards"
        problem = f"it holds {'; and '.join(parts) or 'no files'}"
        return InvalidInputError(problem, store=self.root, hint=hint)

    def _is_picture(self, name: str) -> bool:
        with suppress(OSError, InvalidInputError), open_input(self.root / name) as file:
            return begins_as_picture(name, file.read(PREFIX))
        return False


def _count(number: int, what: str) -> str:
    plural = {"file": "files", "entry": "entries"}[what]
    return f"{number:,} {what if number == 1 else plural}"


def _list_kinds(names: Sequence[str]) -> str:
    """Count files by their extensions."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without an extension" for name in names)
    listed = [f"{count:,} {kind}" for kind, count in counts.most_common(MAX_KINDS)]
    rest = len(names) - sum(count for _, count in counts.most_common(MAX_KINDS))
    return ", ".join([*listed, f"{rest:,} others"] if rest else listed)


def begins_as_picture(name: str, prefix: bytes) -> bool:
    """Whether a file may be an image by its first bytes, or its name."""
    return is_picture(prefix[:PREFIX]) or name.lower().endswith(TGA)


def read_folder(root: Path, class_depth: int = 1) -> FolderSource | None:
    """Find the files of a folder, and the class of each; None if `root` is no folder."""
    if not root.is_dir():
        return None
    listing = list_tree(root)
    names, labels, classes = find_classes(listing, class_depth, root.name)
    by_name = dict(zip(listing.files, listing.sizes, strict=True))
    sizes = np.array([by_name[name] for name in names], np.int64)
    found = np.array(labels, np.int64), sizes, tuple(classes), tuple(listing.problems)
    return FolderSource(root, names, *found, listing.identity)


def find_classes(listing: Listing, class_depth: int, name: str) -> tuple[list[str], list[int], list[str]]:
    """Find the files that are of a class, the label of each, and the classes; any other file is a problem.

    The classes are the folders `class_depth` levels below the root. If there are none, or the depth is 0, all images
    are of one class, `name`.
    """
    classes = [folder for folder in listing.folders if folder.count("/") == class_depth - 1]
    if not class_depth or (class_depth == 1 and not classes):
        return listing.files, [0] * len(listing.files), [name or "images"]
    return *_classify(listing, classes, class_depth), classes


def _classify(listing: Listing, classes: Sequence[str], class_depth: int) -> tuple[list[str], list[int]]:
    """Find the label of each file; one that isn't in the folder of a class is a problem."""
    names, labels, numbers = [], [], {name: number for number, name in enumerate(classes)}
    for name in listing.files:
        folders = name.split("/")[:-1]
        if len(folders) < class_depth:
            listing.problems.append(Problem(name, UNCLASSED))
        else:
            names.append(name)
            labels.append(numbers["/".join(folders[:class_depth])])
    return names, labels
