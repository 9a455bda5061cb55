"""A crowd of readers while a writer replaces the store: each read is all old or all new."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np

import storage
from storage import Labels
from storage.contract import Kind
from storage.reader import read_stored
from tests.faults.children import Child
from tests.faults.findings import GUILTY, Findings
from tests.faults.judge import STORE, ImageSet, is_same, take
from tests.support.encoded_sets import make_files
from tests.support.image_sets import make_set

COUNTS = (20, 20, 31)  # images of the sets that take turns
READERS = 4
READS = 5  # through a reader before it is opened anew
SEED = 666
PATIENCE = 120.0  # seconds that a child may take longer than it should

Loop = Callable[[], str]  # does its work once; returns nothing, or what is wrong


def read_while_writing(kinds: Mapping[str, Kind], folder: Path, seconds: float) -> dict[str, Findings]:
    """Replace the stores of all backends at once, each under four readers, for so many seconds; `kinds` of images."""
    made = {"pixels": _cut(*make_set(sum(COUNTS), 32, 32)), "encoded": _cut(*make_files(sum(COUNTS)))}
    children = {}
    for backend, kind in kinds.items():
        sets = made[kind]
        path = folder / backend / STORE
        path.parent.mkdir()
        storage.save(path, *sets[0], backend)
        loops: dict[str, Loop] = {"saved": partial(_save, path, backend, cycle(sets))}
        for number in range(READERS):
            draw = np.random.default_rng([SEED, number])
            loops[f"read by {number}"] = partial(_load, path, sets) if number % 2 else partial(_read, path, sets, draw)
        children[backend] = {name: Child(partial(_repeat, loop, seconds)) for name, loop in loops.items()}
    for group in children.values():
        for child in group.values():
            child.release()
    findings: dict[str, Findings] = {backend: [] for backend in kinds}
    for backend, group in children.items():
        for name, child in group.items():
            findings[backend] += _collect(name, child.wait(seconds + PATIENCE).describe())
    for backend, found in findings.items():
        found.append(("the save after all", _tidy(folder / backend / STORE, backend, made[kinds[backend]])))
    return findings


def _cut(images: Any, labels: Labels) -> list[ImageSet]:  # noqa: ANN401 - pixels or files
    """Cut a set into those that take turns."""
    ends = np.cumsum(COUNTS).tolist()
    return [(images[start:end], labels[start:end]) for start, end in pairwise([0, *ends])]


def _repeat(loop: Loop, seconds: float) -> str:
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        if wrong := loop():
            return wrong
        count += 1
    return str(count)


def _collect(name: str, told: str) -> Findings:
    if told.isdigit():
        return [(name, name.partition(" ")[0])] * int(told)
    return [(name, f"{GUILTY}{told}")]


def _save(path: Path, backend: str, turns: Iterator[ImageSet]) -> str:
    storage.save(path, *next(turns), backend, overwrite=True, durable=False)
    return ""


def _load(path: Path, sets: Sequence[ImageSet]) -> str:
    loaded = storage.load(path)
    return "" if any(is_same(loaded, each) for each in sets) else "a load is neither old nor new"


def _read(path: Path, sets: Sequence[ImageSet], draw: np.random.Generator) -> str:
    with storage.open(path) as reader:
        reads = [(order, read_stored(reader, order)) for order in (draw.permutation(len(reader)) for _ in range(READS))]
    alike = [each for each in sets if len(each[1]) == len(reader)]
    right = any(all(is_same(read, take(each, order)) for order, read in reads) for each in alike)
    return "" if right else "the reads of one reader are not all of one set"


def _tidy(path: Path, backend: str, sets: Sequence[ImageSet]) -> str:
    _save(path, backend, iter(sets))
    left = sorted({each.name for each in path.parent.iterdir()} - {path.name, f".{path.name}.lock"})
    return f"{GUILTY}it leaves {left}" if left else "saved"
