"""The manifest: a small JSON file that describes a dataset and verifies itself.

Its first line holds the XXH3 (64 bits) of all bytes after that line, so damage is always found. It lists the parts;
what is known about each is beside it (see `details`), and the manifest has the checksum of that. It is written last and
replaced in one step: a folder without one isn't a dataset. Datasets of format 1 can still be read; see `format1`.
"""

import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_hexdigest

from ..arrays import DTYPES, NAMES
from ..contract import Encoded, Images, Kind
from ..durability import sync
from ..errors import CorruptStoreError, StorageError, StoreNotFoundError, reading
from ..lazy import LazyProperty
from ..limits import MAX_EXPANSION, measure_content
from ..paths import open_regular
from ..pictures import check_losses
from ..registry import PACKAGE
from ..urls import ANSWER_HINT, Location, Url
from . import format1
from .checksums import format_sum
from .details import Details, check_counts, check_texts

FILE = "manifest.json"
FORMAT = 2
Form = tuple[Kind, tuple[int, ...] | None, str]  # kind of images, and shape and dtype of each
FILES: Form = "encoded", None, "uint8"
KINDS: tuple[Kind, ...] = ("pixels", "encoded")
FIRST_LINE = re.compile(rb'\{"manifest_checksum": "([0-9a-f]{16})",\n')
PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<[!?a-zA-Z]")  # whatever type a proxy says that it has
PART = re.compile(r"part-\d{5,}-[0-9a-f]{8}")
CHECKSUM = re.compile(r"[0-9a-f]{16}")
OWN_NAMES = re.compile(r"manifest\.json(\.new)?|progress\.json(\.new)?|part-\d{5,}-[0-9a-f]{8}(\.[a-z]+)?")
FORMER_NAMES = re.compile(r"checksums|part-\d{5,}")  # of format 1, which other programs use, too
MAX_BYTES, LINE = 1 << 30, 64  # of a manifest, and of a bit more than its first line
MAX_HOLES = 1 << 20  # bytes that may be missing on the disk
PENDING = f"{0:016x}"  # in the place of a checksum


@dataclass(frozen=True)
class Part:
    """A part: a store of the backend."""

    name: str  # of its folder, the same as that of no other part of any dataset
    count: int  # of images
    records: str  # the sum of the checksums of its records
    details: str  # XXH3 (64 bits) of the file of its details

    @property
    def is_pending(self) -> bool:
        """Whether it is in the place of one that isn't written yet, in an unfinished dataset."""
        return self.details == PENDING


@dataclass(frozen=True)
class Manifest:
    """The description of a dataset."""

    backend: str  # that wrote the parts
    kind: Kind = "pixels"
    shape: tuple[int, ...] | None = None  # of each image; None if they are encoded
    parts: tuple[Part, ...] = ()
    classes: tuple[str, ...] = ()  # the names of the labels 0, 1, ..., if they are known
    source: str = ""  # identifies what is being converted; empty in a finished dataset
    former: tuple[str, tuple[Details, ...]] | None = None  # of format 1: checksum of the checksums; details of parts
    losses: tuple[str, ...] = ()  # that decoding may cause, or has caused
    dtype: str = "uint8"  # of pixels

    @property
    def form(self) -> Form:
        """What all images have in common."""
        return self.kind, self.shape, self.dtype

    @property
    def image_size(self) -> int:
        """The bytes of an image's pixels; 0 if images are encoded."""
        return 0 if self.shape is None else math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def count(self) -> int:
        """The number of images."""
        return self.starts[-1]

    @LazyProperty
    def starts(self) -> list[int]:
        """The index of the first image of each part, then the number of images."""
        return list(accumulate((part.count for part in self.parts), initial=0))

    @property
    def checksum(self) -> str:
        """The checksum of all records, whatever the backend and the parts."""
        return self.former[0] if self.former else format_sum(sum(int(part.records, 16) for part in self.parts))


def find_form(images: Images | Encoded) -> Form:
    """Find out what images have in common."""
    if isinstance(images, Encoded):
        return FILES
    return "pixels", images.shape[1:], NAMES[images.dtype]


def name_part(number: int) -> str:
    """Make the name of a part that no other part has, in this dataset or another."""
    return f"part-{number:05}-{secrets.token_hex(4)}"


def format_manifest(manifest: Manifest, name: str = FILE, key: bytes = b"") -> bytes:
    """Write a manifest as JSON that reads back as the same; with a key, only who has it can write a valid one."""
    content = {
        "format": FORMAT,
        "backend": manifest.backend,
        "kind": manifest.kind,
        "count": manifest.count,
        "shape": manifest.shape,
        "dtype": None if manifest.shape is None else manifest.dtype,
        "classes": manifest.classes,
        **({"losses": manifest.losses} if manifest.losses else {}),
        "source": manifest.source,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    parts = ",\n".join(json.dumps(vars(part)) for part in manifest.parts)
    rest = ",\n".join([*lines, f'"parts": [\n{parts}\n]\n}}\n']).encode()
    formatted = f'{{"manifest_checksum": "{_hash(rest, key)}",\n'.encode() + rest
    if parse_manifest(formatted, None, name, key) != manifest:
        raise StorageError(f"{name} can't be read back")
    return formatted


def put_manifest(folder: Path, manifest: Manifest, name: str = FILE, key: bytes = b"", *, durable: bool) -> None:
    """Write a manifest, read it back, and replace the old one with it in one step."""
    content, new = format_manifest(manifest, name, key), folder / f"{name}.new"
    new.write_bytes(content)
    if _read_content(new) != content:
        raise StorageError(f"{name} can't be read back", store=folder)
    if durable:
        sync(new)
    new.rename(folder / name)
    if durable:
        sync(folder)


def read_manifest(folder: Path, name: str = FILE, key: bytes = b"") -> Manifest:
    """Read a manifest; refuse one that is missing, damaged, of a later version, or written with another key."""
    with reading(folder):
        try:
            content = _read_content(folder / name)
        except FileNotFoundError:
            raise _explain_absence(folder, name) from None
    return parse_manifest(content, folder, name, key)


def parse_manifest(content: bytes, store: Location | None, name: str = FILE, key: bytes = b"") -> Manifest:
    """Parse the content of a manifest; `store` is for errors, which are those of `read_manifest`."""
    first = FIRST_LINE.match(content)
    if first is None or first[1].decode() != _hash(memoryview(content)[first.end() :], key):
        if isinstance(store, Url) and PAGE.match(content):
            raise StorageError(f"a web page came in place of {name}", store=store, hint=ANSWER_HINT)
        raise _damaged(store, f"{name} is damaged")
    try:
        return _parse(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"{name} is whole, but not understood ({error})",
            store=store,
            hint="a later version of this program wrote it: use that version",
        ) from None


def is_manifest(folder: Path) -> bool:
    """Check whether a folder has a manifest of ours, whole or damaged after its first line."""
    try:
        return FIRST_LINE.match(_read_content(folder / FILE, LINE)) is not None
    except (OSError, CorruptStoreError):
        return False


def is_own(name: str, *, former: bool) -> bool:
    """Whether a file or folder is one of a dataset, by its name; if `former`, it may be one of format 1."""
    return bool(OWN_NAMES.fullmatch(name) or (former and FORMER_NAMES.fullmatch(name)))


def is_dataset(folder: Path) -> bool:
    """Check whether a folder is a dataset, or what is left of one: it has a manifest, or the first part."""
    with suppress(FileNotFoundError, NotADirectoryError):
        names = [path.name for path in folder.iterdir()]
        return FILE in names or any(name.startswith("part-00000") and is_own(name, former=True) for name in names)
    return False


def _hash(content: bytes | memoryview, key: bytes) -> str:
    return blake2b(content, digest_size=8, key=key).hexdigest() if key else xxh3_64_hexdigest(content)


def _read_content(path: Path, size: int = -1) -> bytes:
    """Read a file, or `size` bytes of it; one that is far too large, or consists of holes, reads as empty."""
    descriptor, status = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        limit = min(MAX_BYTES, MAX_HOLES + MAX_EXPANSION * measure_content(descriptor, status))
        return file.read(size) if status.st_size <= limit else b""


def _damaged(store: Location | None, problem: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"{problem}, so the images cannot be verified",
        store=store,
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


def _parse(content: Mapping[str, Any]) -> Manifest:
    if content["format"] == format1.FORMAT:
        return _parse_former(content)
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}")
    manifest = Manifest(
        content["backend"],
        content["kind"],
        None if content["shape"] is None else tuple(content["shape"]),
        tuple(Part(**part) for part in content["parts"]),
        _parse_classes(content["classes"]),
        content["source"],
        dtype="uint8" if content["dtype"] is None else content["dtype"],
        losses=tuple(sorted(check_losses(content.get("losses", ())))),
    )
    if manifest.kind not in KINDS or (manifest.shape is None) != (content["dtype"] is None):
        raise ValueError(f"images of kind {manifest.kind}, shape {manifest.shape}, dtype {content['dtype']}")
    if manifest.dtype not in DTYPES:
        raise ValueError(f"pixels of dtype {manifest.dtype}")
    _check(manifest, content["count"])
    for part in manifest.parts:
        if PART.fullmatch(part.name) is None:
            raise ValueError(f"a part named {part.name!r}")
        if CHECKSUM.fullmatch(part.records) is None or CHECKSUM.fullmatch(part.details) is None:
            raise ValueError("an impossible checksum")
    if len({part.name for part in manifest.parts}) != len(manifest.parts):
        raise ValueError("two parts of one name")
    return manifest


def _parse_classes(classes: object) -> tuple[str, ...]:
    if not isinstance(classes, list) or len(set(classes)) != len(classes):
        raise ValueError("classes that aren't a list of distinct names")
    return tuple(classes)


def _parse_former(content: Mapping[str, Any]) -> Manifest:
    details, names = format1.parse(content), (f"part-{number:05}" for number in range(len(content["parts"])))
    parts = tuple(Part(name, count, "", "") for name, count in zip(names, content["parts"], strict=True))
    shape = tuple(content["shape"])
    former = content["checksum"], details
    manifest = Manifest(content["backend"], "pixels", shape, parts, _parse_classes(content["classes"]), former=former)
    if CHECKSUM.fullmatch(manifest.checksum) is None:
        raise ValueError("an impossible checksum")
    _check(manifest, content["count"])
    return manifest


def _check(manifest: Manifest, count: object) -> None:
    """Refuse a manifest that we never write."""
    check_texts([manifest.backend, manifest.source, *manifest.classes])
    check_counts([part.count for part in manifest.parts])
    check_counts([manifest.count])
    if count != manifest.count:
        raise ValueError("impossible numbers")
    if not manifest.parts:
        raise ValueError("no parts")
    if (manifest.shape is None) != (manifest.kind == "encoded"):
        raise ValueError(f"images of kind {manifest.kind}, shape {manifest.shape}")
    if manifest.shape is not None:
        check_counts(manifest.shape)
        if len(manifest.shape) not in {len("HW"), len("HWC")} or not all(manifest.shape):
            raise ValueError(f"images of shape {manifest.shape}")
