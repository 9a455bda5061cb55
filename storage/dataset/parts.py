"""Writing one part: a store of the backend, read back, and beside it the files that describe and verify it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import check_form
from ..contract import Backend, Encoded, Images, Labels
from ..durability import make_durable, sync
from ..errors import InvalidInputError, StorageError, StoreFullError, hold_interrupts
from ..paths import walk_files
from ..reader import read_stored
from .annotations import Annotations, format_problems
from .checksums import DTYPE, Checksums, add_up, hash_blocks, hash_records
from .details import Beside, Details, Summary
from .files import CHECKSUMS, DETAILS, LABELS, NAMES, SKIPPED, find_structure, write_beside, write_details
from .manifest import Part, find_form, name_part
from .metadata import format_columns
from .name_index import INDEX, format_index

ANNOTATED = 3 * DTYPE.itemsize  # bytes of each image's checksums and label
SPACE_HINT = "free some space or choose another disk, then save again"
OTHER_HINT = "choose another backend"


@dataclass(frozen=True)
class PartWriter:
    """Writes parts of a dataset into a folder."""

    folder: Path
    module: Backend
    durable: bool

    def write(
        self, number: int, start: int, images: Images | Encoded, annotations: Annotations, summary: Summary
    ) -> Part:
        """Write a part; `start` is the index of its first image, and the summary is of all images."""
        name, labels = name_part(number), annotations.labels
        names, classes = annotations.names, annotations.classes or None
        store = self.folder / name
        self.module.store_many(store, images, labels, names=names, classes=classes)
        pixels = _read_back(self.module, store, images, labels)
        sizes = {
            str(path.relative_to(store)): path.stat().st_size
            for path in sorted(place / file for place, files in walk_files(store) for file in files)
        }
        records = hash_records(images, labels, np.arange(start, start + len(images)))
        beside = self._write_beside(name, images, annotations, records, start)
        structure = find_structure(store, pixels, sizes)
        details = write_details(self.folder, name, Details(sizes, structure, beside, summary))
        if self.durable:
            for suffix in (DETAILS, *beside):
                sync(self.folder / f"{name}.{suffix}")
            make_durable(store)
        return Part(name, len(images), add_up(records), details)

    def _write_beside(
        self, name: str, images: Images | Encoded, annotations: Annotations, records: Checksums, start: int
    ) -> dict[str, Beside]:
        blocks = () if isinstance(images, Encoded) else (hash_blocks(images, annotations.labels, start),)
        contents: dict[str, bytes | memoryview] = {
            CHECKSUMS: np.concatenate([records, *blocks]).astype(DTYPE).data,
            LABELS: annotations.labels.astype("<i8").data,
        }
        if annotations.names is not None:
            contents[NAMES] = annotations.names.content
            contents[INDEX] = format_index(annotations.names, add_up(records))
        if annotations.metadata is not None:
            suffix, content = format_columns(annotations.metadata)
            contents[suffix] = content
        if annotations.skipped:
            contents[SKIPPED] = format_problems(annotations.skipped)
        return {suffix: write_beside(self.folder, name, suffix, content) for suffix, content in contents.items()}


def check_kind(module: Backend, images: object) -> None:
    """Refuse images of a kind, dtype or shape that a backend can't store."""
    kind = "encoded" if isinstance(images, Encoded) else "pixels"
    if kind not in module.INFO.kinds:
        name, what = module.__name__.rpartition(".")[2], {"encoded": "image files", "pixels": "pixels"}
        hint = f"choose a backend whose INFO.kinds has {kind!r}"
        raise InvalidInputError(f"{name} can't store {what[kind]}", hint=hint)
    if kind == "pixels":
        check_form(images, module.INFO.dtypes)


def check_space(folder: Path, module: Backend, images: Images | Encoded, remaining: int) -> None:
    """Refuse before a library meets a full disk: some crash. `remaining` is how many images are still to come."""
    if module.INFO.compresses:
        return  # the size of the store can't be known
    needed = images.nbytes + len(images) * ANNOTATED
    if not isinstance(images, Encoded):
        needed = remaining * (images.nbytes // max(len(images), 1) + ANNOTATED)
    system = os.statvfs(folder)
    free = system.f_bavail * system.f_frsize
    if free < needed:
        raise StoreFullError(f"{free:,} bytes are free, {needed:,} are needed", hint=SPACE_HINT)


def _read_back(module: Backend, store: Path, images: Images | Encoded, labels: Labels) -> Mapping[str, Sequence[range]]:
    """Refuse a part that isn't what was given: some formats accept what they can't read later.

    Return where its pixels are, looked for while the reader is open, so that the library opens and maps a file once.
    """
    places = np.unique([0, len(images) - 1]) if len(images) else np.empty(0, np.intp)
    try:
        with hold_interrupts(), module.open_reader(store) as reader:  # h5py would lose Ctrl-C
            count, (found, found_labels) = len(reader), read_stored(reader, places)
            pixels = module.find_pixels(store)
    except StorageError as error:
        raise StorageError(f"what was written can't be read back ({error.problem})", hint=OTHER_HINT) from None
    if count != len(images) or not (_is_same(found, images, places) and np.array_equal(found_labels, labels[places])):
        raise StorageError("what was read back isn't what was written", hint=OTHER_HINT)
    return pixels


def _is_same(found: Images | Encoded, images: Images | Encoded, places: NDArray[np.intp]) -> bool:
    if find_form(found) != find_form(images):
        return False
    if isinstance(images, Encoded) or isinstance(found, Encoded):
        return list(found) == [images[place] for place in places.tolist()]
    return found.tobytes() == images[places].tobytes()
