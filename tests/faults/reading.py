"""Reading a damaged store in every way: each image is right or refused, and a check finds what is refused."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import storage
from storage.contract import Kind
from storage.reader import read_stored
from tests.faults.children import run_child, spread
from tests.faults.damages import DAMAGES
from tests.faults.findings import GUILTY, Findings
from tests.faults.judge import ImageSet, is_same, make_sets, prepare, save_template, take
from tests.faults.mixups import MIXUPS, make_others
from tests.support.memory import Peak, limit_addresses, measure_files

SEED = 66
COUNT = 30  # images
SINGLE, BATCHES = 12, 4  # reads through one reader
ALL = {**DAMAGES, **MIXUPS}
PLACE = re.compile(r"\b(record|image)s? \d|\bpart-\d{5,}-[0-9a-f]{8}\b")  # records, or a part


class GuiltyError(Exception):
    """An outcome that must not happen; the message says which."""


def damage_and_read(
    backend: str, folder: Path, damages: Iterable[str], *, cases: int, kind: Kind = "pixels"
) -> dict[str, Findings]:
    """Damage a store again and again, and read it each time in a child."""
    sets = make_sets(COUNT, 32, kind)
    expected, another = sets.old, sets.new
    template = save_template(folder, sets, backend)
    storage.save(folder / "another", *another, backend)
    others = make_others(folder / "others", COUNT, partial(_save, backend), kind)
    files = {path.name for path in folder.rglob("*") if path.is_file()}

    def run(case: tuple[str, int], own: Path) -> str:
        damage, number = case
        draw = np.random.default_rng([SEED, list(ALL).index(damage), number])
        path = prepare(own, template)
        other = folder / "another" if damage in DAMAGES else others
        if damage == "two records swapped":
            other = own / "swapped"
            storage.save(other, *_swap(expected, draw), backend, durable=False)
        changed = ALL[damage](path, other, draw).relative_to(own)
        ending = run_child(partial(_look, Look(path, files, expected), draw, measure_files(path)))
        if ending.told in {"refused", "right"}:
            return ending.told
        return f"{GUILTY}{changed}: {ending.describe().removeprefix('GuiltyError: ').removeprefix(GUILTY)}"

    all_cases = [(damage, number) for damage in damages for number in range(cases)]
    found: dict[str, Findings] = {}
    for (damage, number), outcome in zip(all_cases, spread(all_cases, run, folder), strict=True):
        found.setdefault(damage, []).append((f"{damage}, case {number} of seed {SEED}", outcome))
    return found


def _save(backend: str, path: Path, image_set: ImageSet) -> None:
    storage.save(path, *image_set, backend, durable=False)


def _look(look: "Look", draw: np.random.Generator, size: int) -> str:
    """Be the child: read within the bounds of memory that are promised."""
    limit_addresses()
    peak = Peak()
    told = look.read(draw)
    excess = peak.describe_excess(size)
    return f"{GUILTY}it takes {excess}" if excess else told


def _swap(image_set: ImageSet, draw: np.random.Generator) -> ImageSet:
    """Exchange two records: images and labels, images alone, or labels alone."""
    order, labels = np.arange(len(image_set[1])), image_set[1].copy()
    one, other = draw.choice(len(labels), 2, replace=False)
    what = draw.integers(3)
    if what != 1 or labels[one] == labels[other]:
        order[[one, other]] = order[[other, one]]
    if what != 0:
        labels[[one, other]] = labels[[other, one]]
    return take(image_set, order)[0], labels


class Look:
    """One look at a damaged store, in every way."""

    def __init__(self, path: Path, files: set[str], expected: ImageSet) -> None:
        self._path, self._files, self._expected = path, files, expected
        self._refused: set[int] = set()  # records that errors name

    def read(self, draw: np.random.Generator) -> str:
        """Load, read single images and batches, and check; return ``refused`` or ``right``."""
        everything = np.arange(len(self._expected[1]))
        loaded = self._try("load", everything, lambda: storage.load(self._path))
        read = self._open(draw, everything)
        if loaded and read:
            return "right"
        self._check()
        return "refused"

    def _open(self, draw: np.random.Generator, everything: NDArray[np.intp]) -> bool:
        try:
            reader = storage.open(self._path)
        except storage.StorageError as error:
            self._judge("open", error)
            return False
        with reader:
            single = draw.choice(everything, SINGLE)
            right = [self._try("a reader", index[None], partial(_read_one, reader, index)) for index in single]
            batches = np.array_split(draw.permutation(everything), BATCHES)
            right += [self._try("a reader", order, partial(read_stored, reader, order)) for order in batches]
        return all(right)

    def _try(self, name: str, order: NDArray[np.intp], read: Callable[[], ImageSet]) -> bool:
        try:
            found = read()
        except storage.StorageError as error:
            self._judge(name, error)
            return False
        if not is_same(found, take(self._expected, order)):
            raise GuiltyError(f"{name} returns wrong pixels or labels")
        return True

    def _judge(self, name: str, error: storage.StorageError) -> None:
        """See that a message says where the store is, and which record or file of it is damaged."""
        text = str(error)
        if error.record is not None:
            self._refused.add(error.record)
        if str(self._path) not in text or "/proc/self" in text:
            raise GuiltyError(f"{name} does not say where the store is: {text}")
        text = text.replace(str(self._path), "")
        if not PLACE.search(text) and not any(each in text for each in self._files):
            raise GuiltyError(f"{name} names no record, no part and no file: {text}")

    def _check(self) -> None:
        try:
            report = storage.check(self._path)
        except storage.StorageError as error:
            self._judge("check", error)
            return
        if report.is_whole or not self._refused <= set(report.records):
            raise GuiltyError("check does not list what load or a reader refuses")


def _read_one(reader: storage.Reader, index: int) -> ImageSet:
    if reader.kind == "encoded":
        return reader.read_encoded([int(index)])
    image, label = reader[int(index)]
    return image[np.newaxis], np.array([label])
