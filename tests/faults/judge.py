"""The judge: what is at a path is the old set, the new one or nothing, and the next save works with no cleaning."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

import storage
from storage import Encoded, Labels
from storage.contract import Kind
from storage.reader import read_stored
from tests.faults.children import run_child
from tests.faults.findings import GUILTY
from tests.support.encoded_sets import make_files
from tests.support.image_sets import make_set

ImageSet: TypeAlias = tuple[Any, Labels]  # of pixels or files

STORE = "store"  # the name of the path that is saved to
STATES = ("old", "new", "absent")
READ = 20  # images that are read through a reader, too
NEXT = 3  # images of the save after the fault


class Sets(NamedTuple):
    """The set that is there before a save, the one that is saved, and the one that is saved after the fault."""

    old: ImageSet
    new: ImageSet
    next: ImageSet


def make_sets(count: int, size: int = 16, kind: Kind = "pixels") -> Sets:
    """Make sets of `count` images, which have none in common but empty files; pixels are `size` x `size`."""
    every: Any = make_set(2 * count + NEXT, size, size) if kind == "pixels" else make_files(2 * count + NEXT)
    parts = (slice(count), slice(count, 2 * count), slice(2 * count, None))
    return Sets(*((every[0][part], every[1][part]) for part in parts))


def is_same(found: tuple[Any, Any], expected: ImageSet) -> bool:
    """Compare pixels or files, and labels."""
    images, others = found[0], expected[0]
    if isinstance(others, Encoded):
        return isinstance(images, Encoded) and list(images) == list(others) and np.array_equal(found[1], expected[1])
    return np.array_equal(images, others) and np.array_equal(found[1], expected[1])


def take(image_set: ImageSet, order: NDArray[np.intp]) -> ImageSet:
    """Take some images of a set."""
    images, labels = image_set
    return images.take(order) if isinstance(images, Encoded) else images[order], labels[order]


def save(path: Path, image_set: ImageSet, backend: str, *, overwrite: bool) -> str:
    """Save a set; return nothing, as the work of a child that is traced."""
    storage.save(path, *image_set, backend, overwrite=overwrite)
    return ""


def append(path: Path, added: ImageSet) -> str:
    """Append a set; return nothing, as the work of a child that is traced."""
    storage.append(path, *added)
    return ""


def join_sets(sets: Sets) -> Sets:
    """Expect the old set and the new one after it, as they are when the new one was appended."""
    if isinstance(sets.old[0], Encoded):
        files = Encoded.join([*sets.old[0], *sets.new[0]])
        return sets._replace(new=(files, np.concatenate([sets.old[1], sets.new[1]])))
    images = np.concatenate([sets.old[0], sets.new[0]])
    return sets._replace(new=(images, np.concatenate([sets.old[1], sets.new[1]])))


def save_template(folder: Path, sets: Sets, backend: str) -> Path:
    """Save the old set where it is copied from; whatever a first save and load import is imported then."""
    path = folder / "template"
    storage.save(path, *sets.old, backend)
    storage.load(path)
    return path


def prepare(own: Path, template: Path | None, copy: Callable[[str, str], object] = shutil.copy2) -> Path:
    """Empty a folder; copy a store into it, if there is one; return its path."""
    shutil.rmtree(own)
    own.mkdir()
    path = own / STORE
    if template is not None:
        shutil.copytree(template, path, copy_function=copy)
    return path


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what the manifest of a store says that is the same for the same images.

    Names of parts and files are not, which are drawn, nor are the checksums of structure, which may hold the time.
    """
    try:
        content: dict[str, Any] = json.loads((path / "manifest.json").read_bytes())
    except (FileNotFoundError, ValueError):  # whoever saves without care leaves half of one
        return {}
    details = [json.loads(each.read_bytes()) for each in sorted(path.glob("part-*.json"))]
    structure = [sorted(entry["ranges"] for entry in each["structure"].values()) for each in details]
    beside = [each["beside"] for each in details]
    sizes = [sorted(each["sizes"].values()) for each in details]
    parts = [{"count": part["count"], "records": part["records"]} for part in content.get("parts", ())]
    described = {"structure": structure, "sizes": sizes, "beside": beside, "parts": parts}
    return content | described | {"manifest_checksum": ""}


def inspect(path: Path, sets: Sets, backend: str) -> str:
    """Find out, in a child, what a fault has left."""
    ending = run_child(partial(_inspect, path, sets, backend))
    return ending.told if ending.told in STATES else f"{GUILTY}{ending.describe()}"


def find_state(path: Path, sets: Sets) -> str:
    """Find out what is at `path`, by loading and by opening it."""
    try:
        loaded = storage.load(path)
    except storage.StoreNotFoundError as error:
        return f"it is there, but: {error}" if path.exists() else "absent"
    except storage.StorageError as error:
        return f"it cannot be loaded: {error}"
    order = np.random.default_rng(0).permutation(len(loaded[1]))[:READ]
    with storage.open(path) as reader:
        read = read_stored(reader, order)
    for name, expected in (("old", sets.old), ("new", sets.new)):
        if is_same(loaded, expected):
            alike = is_same(read, take(expected, order))
            return name if alike else f"a reader has not the {name} set"
    return "neither the old set nor the new one"


def _inspect(path: Path, sets: Sets, backend: str) -> str:
    state = find_state(path, sets)
    if state not in STATES:
        return state
    try:
        storage.save(path, *sets.next, backend, overwrite=state != "absent")
    except storage.StorageError as error:
        return f"{state}, but the next save fails: {type(error).__name__}: {error}"
    if not is_same(storage.load(path), sets.next):
        return f"{state}, but the next save saves something else"
    left = sorted({each.name for each in path.parent.iterdir()} - {path.name, f".{path.name}.lock"})
    return f"{state}, but the next save leaves {left}" if left else state
