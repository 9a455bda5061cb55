"""CIFAR-10 and CIFAR-100 as published for Python: pickled batches, in a folder or in a ``.tar.gz``.

Every file goes through `safe_pickle`, official or not, so nothing in it can run. Only the training images are read.
CIFAR-100 has its fine labels.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import hashlib
import itertools
import os
from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import Images, Labels  # the gate reads CIFAR-10 with this file, even beside a storage without contract.py
from ..errors import InvalidInputError, StoreNotFoundError
from .files import open_input
from .memory import ArraySource
from .packed_tar import MAX_BYTES, read_members
from .safe_pickle import Call, Name, load

SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"  # of the official CIFAR-10 archive
PIXELS = 3 * 32 * 32  # bytes of one image: a red, a green and a blue plane of 32 rows of 32
HINT = "nothing in it was run; take the official files (https://www.cs.toronto.edu/~kriz/cifar.html)"


class UnsafeInputError(InvalidInputError):
    """A file isn't an honest CIFAR file. Nothing in it was run."""


class ImageSetNotFoundError(StoreNotFoundError):
    """The path doesn't exist, or holds no CIFAR batches."""


@dataclass(frozen=True)
class Edition:
    """The files of CIFAR-10 or CIFAR-100, and the keys of their dictionaries."""

    folder: str
    batches: tuple[str, ...]
    meta: str
    labels: str
    names: str
    classes: int

    @property
    def members(self) -> list[str]:
        """Names of the batches in an archive."""
        return [f"{self.folder}/{name}" for name in self.batches]


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR10 = Edition("cifar-10-batches-py", BATCHES, "batches.meta", "labels", "label_names", 10)
CIFAR100 = Edition("cifar-100-python", ("train",), "meta", "fine_labels", "fine_label_names", 100)
EDITIONS = (CIFAR10, CIFAR100)


class Part(NamedTuple):
    """One batch: the checksum of its file as "algorithm:digest", and how many images it has."""

    checksum: str
    images: int


OFFICIAL = (
    Part("md5:c99cafc152244af753f735de768cd75f", 10_000),
    Part("md5:d4bba439e000b95fd0a9bffe97cbabec", 10_000),
    Part("md5:54ebc095f3ab1f0389bbae665268c751", 10_000),
    Part("md5:634d18415352ddfa80567beed471001a", 10_000),
    Part("md5:482c414d41f54cd18b22e5b47cb7c3cb", 10_000),
)


@dataclass(frozen=True)
class Batches:
    """The training batches of a folder or an archive, described but not yet loaded.

    `name` is ``cifar10`` for the official CIFAR-10 files, ``custom`` for all others. `sha256` is that of the official
    archive, or of all batches in order.
    """

    path: Path
    name: str
    sha256: str
    parts: tuple[Part, ...] = field(repr=False)
    edition: Edition = field(default=CIFAR10, repr=False)

    @property
    def count(self) -> int:
        """How many images all batches have together."""
        return sum(part.images for part in self.parts)

    def fill(self, images: Images, labels: Labels) -> None:
        """Write the first N images, shape (N, 32, 32, 3), and labels; read only the batches needed, one at a time."""
        starts = list(itertools.accumulate((part.images for part in self.parts), initial=0))
        wanted = [index for index in range(len(self.parts)) if starts[index] < len(labels)]
        with closing(_read_files(self.path, self.edition, wanted)) as files:
            for index, raw in itertools.islice(files, len(wanted)):
                place = slice(starts[index], starts[index + 1])
                self._write(index, raw, images[place], labels[place])
                del raw  # before the next one is read

    def _write(self, index: int, raw: bytes, images: Images, labels: Labels) -> None:
        file = self.path / self.edition.batches[index]
        checksum = self.parts[index].checksum
        if _digest(raw, checksum.partition(":")[0]) != checksum:
            raise UnsafeInputError("it has changed since it was described", store=file, hint="start again")
        planes, found = read_batch(raw, file, self.edition)
        for channel in range(3):  # takes a third of the time of one transposed copy
            images[..., channel] = planes[: len(images), channel]
        labels[:] = found[: len(labels)]


def is_cifar(path: Path) -> bool:
    """Whether a path is meant as CIFAR: a file, or a folder with batches."""
    return path.is_file() or _find_folder(path) is not None


def locate(path: Path) -> tuple[Path, Edition]:
    """Find the folder that holds the batches, which may be inside `path`, or the archive."""
    found = _find_folder(path)
    if found is not None:
        return found
    if not path.is_file():
        accepted = f"{BATCHES[0]} to {BATCHES[-1]}, a folder that contains {CIFAR10.folder}/, or a .tar.gz"
        raise ImageSetNotFoundError(
            "no CIFAR batches there", store=path.absolute(), hint=f"name a folder with {accepted}"
        )
    members = {name: edition for edition in EDITIONS for name in edition.members}
    with closing(_read_archive(path, members, ())) as batches:
        return path, next((members[name] for name, _ in batches), CIFAR10)


def describe(path: Path) -> Batches:
    """Find the training batches of a folder or an archive, verify them, and name the set."""
    path, edition = locate(path)
    if edition is CIFAR10 and _is_official(path):
        return Batches(path, "cifar10", SHA256, OFFICIAL)
    parts: list[Part] = []
    whole = hashlib.sha256()
    count = len(edition.batches)
    while len(parts) < count:  # an archive is read again for each batch that comes before its predecessor
        for index, raw in _read_files(path, edition, range(len(parts), count)):
            if index == len(parts):
                whole.update(raw)
                images = len(read_batch(raw, path / edition.batches[index], edition)[1])
                parts.append(Part(_digest(raw, "sha256"), images))
            del raw  # before the next one is read
    return Batches(path, "custom", whole.hexdigest(), tuple(parts), edition)


def read_cifar(path: Path) -> ArraySource:
    """Read the training images into memory: 50,000 at most, 154 MB."""
    batches = describe(path)
    images, labels = np.empty((batches.count, 32, 32, 3), np.uint8), np.empty(batches.count, np.int64)
    batches.fill(images, labels)
    return ArraySource(images, labels, read_class_names(batches.path, batches.edition), f"cifar10 {batches.sha256}")


def read_class_names(path: Path, edition: Edition = CIFAR10) -> tuple[str, ...]:
    """Read the names of the classes, in the order of their labels; empty if the file with them is missing."""
    file = path / edition.meta
    if path.is_dir():
        raw = _read_file(file) if os.path.lexists(file) else None
    else:
        member = f"{edition.folder}/{edition.meta}"
        with closing(_read_archive(path, [member], [member])) as found:
            raw = next((content for _, content in found), None)
    if raw is None:
        return ()
    try:
        content: Any = load(raw)
        names = [name.decode() if isinstance(name, bytes) else name for name in content[edition.names]]
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a name isn't a string")  # noqa: TRY301 - one handler
        return tuple(names)
    except Exception as error:
        reason = f"it doesn't hold the names of the classes ({type(error).__name__}: {error})"
        raise UnsafeInputError(reason, store=file, hint=f"{HINT}, or remove it: then classes have no names") from error


def read_batch(raw: bytes, file: Path, edition: Edition = CIFAR10) -> tuple[Images, Labels]:
    """Interpret one batch: planes of shape (n, 3, 32, 32) and labels; `file` is named if it isn't an honest one."""
    try:
        content: Any = load(raw)
        if not isinstance(content, dict) or not {"data", edition.labels} <= content.keys():
            raise ValueError(f"it isn't a dictionary with 'data' and '{edition.labels}'")  # noqa: TRY301 - one handler
        planes = _interpret_array(content["data"])
        return planes, _interpret_labels(content[edition.labels], len(planes), edition.classes)
    except Exception as error:
        reason = f"it isn't an honest CIFAR batch ({str(error) or type(error).__name__})"
        hint = f"{HINT}, or write your own with pickle.dump(batch, file, protocol=3)"
        raise UnsafeInputError(reason, store=file, hint=hint) from error


def _interpret_array(array: object) -> Images:
    match array:
        case Call(
            Name("numpy.core.multiarray _reconstruct" | "numpy._core.multiarray _reconstruct"),
            (Name("numpy ndarray"), (0,), b"b"),
            (
                1,
                (int() as rows, int() as columns),
                Call(Name("numpy dtype"), ("u1" | b"u1", 0, 1), (3, "|" | b"|", None, None, None, -1, -1, 0)),
                False,
                bytes() as pixels,
            ),
        ):
            pass
        case _:
            raise ValueError("'data' isn't a two-dimensional NumPy array of uint8 in C order")
    if columns != PIXELS or rows < 1 or len(pixels) != rows * columns:
        raise ValueError(f"'data' has shape ({rows}, {columns}) and {len(pixels)} bytes, not (n, {PIXELS}) with n > 0")
    return np.frombuffer(pixels, np.uint8).reshape(rows, 3, 32, 32)


def _interpret_labels(labels: object, count: int, classes: int) -> Labels:
    if not isinstance(labels, list) or len(labels) != count:
        raise ValueError(f"its labels aren't a list of {count} numbers, one for each image")
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            raise ValueError(f"label {index} isn't a number from 0 to {classes - 1}")
    return np.array(labels, dtype=np.int64)


def _find_folder(path: Path) -> tuple[Path, Edition] | None:
    for edition in EDITIONS:
        for folder in (path, path / edition.folder):
            if any((folder / name).is_file() for name in edition.batches):
                return folder, edition
    return None


def _is_official(path: Path) -> bool:
    if path.is_file():
        with open_input(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == SHA256
    known = zip(CIFAR10.batches, OFFICIAL, strict=True)
    return all(_digest(_read_file(path / name), "md5") == part.checksum for name, part in known)


def _digest(raw: bytes, algorithm: str) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, raw, usedforsecurity=False).hexdigest()}"


def _read_files(path: Path, edition: Edition, wanted: Collection[int]) -> Generator[tuple[int, bytes]]:
    """Read batches by their index: in order from a folder, in its own order from an archive."""
    if path.is_dir():
        for index in wanted:
            yield index, _read_file(path / edition.batches[index])
        return
    missing = edition.members
    with closing(_read_archive(path, edition.members, [edition.members[index] for index in wanted])) as found:
        for name, raw in found:
            missing.remove(name)
            if (index := edition.members.index(name)) in wanted:
                yield index, raw
            del raw  # before the next one is read
    if missing:
        raise ImageSetNotFoundError(f"it has no {missing[0]}", store=path, hint="download it again")


def _read_archive(path: Path, names: Collection[str], wanted: Collection[str]) -> Generator[tuple[str, bytes]]:
    try:
        yield from read_members(path, names, wanted)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the operating system, not of gzip
            raise
        raise UnsafeInputError(
            f"it isn't an honest .tar.gz of CIFAR batches ({error})", store=path, hint=HINT
        ) from error


def _read_file(file: Path) -> bytes:
    try:
        with open_input(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                raise UnsafeInputError(f"it has {size:,} bytes, more than {MAX_BYTES:,}", store=file, hint=HINT)
            return stream.read(size)
    except FileNotFoundError:
        raise ImageSetNotFoundError("it is missing", store=file, hint="put all training batches there") from None
