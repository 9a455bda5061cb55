"""Forks of a process whose threads are reading: each child reads what was stored, and none hangs."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

import storage
from storage import Reader
from storage.contract import Kind
from storage.reader import read_stored
from tests.faults.children import Child
from tests.faults.findings import GUILTY, PLAIN, Findings, name_fault
from tests.faults.judge import ImageSet, is_same, take
from tests.support.encoded_sets import make_files
from tests.support.image_sets import make_set

THREADS = 8
FAULT = f"forks while {THREADS} threads read"
COUNT = 40  # images
AT_ONCE = 4  # children
PATIENCE = 60.0  # seconds that a child may take
SEED = 23


def fork_while_reading(backend: str, folder: Path, forks: int, kind: Kind) -> dict[str, Findings]:
    """Fork while threads read a plain store, and while they read a dataset."""
    image_set: ImageSet = make_set(COUNT, 16, 16) if kind == "pixels" else make_files(COUNT)
    module = storage.BACKENDS[backend]
    module.store_many(folder / "plain", *image_set)
    storage.save(folder / "saved", *image_set, backend, durable=False)
    return {
        f"{PLAIN}{name_fault(kind, FAULT)}": fork_reader(module.open_reader(folder / "plain"), image_set, forks),
        name_fault(kind, FAULT): fork_reader(storage.open(folder / "saved"), image_set, forks),
    }


def fork_reader(reader: Reader, image_set: ImageSet, forks: int, patience: float = PATIENCE) -> Findings:
    """Fork while threads read through a reader, which each child uses, too."""
    ended = threading.Event()
    findings: Findings = []
    with reader, ThreadPoolExecutor(THREADS) as pool:
        threads = [pool.submit(_read_on, reader, image_set, number, ended) for number in range(THREADS)]
        try:
            for start in range(0, forks, AT_ONCE):
                numbers = range(start, min(start + AT_ONCE, forks))
                children = [Child(partial(_read_and_close, reader, image_set, number)) for number in numbers]
                for child in children:
                    child.release()
                told = [child.wait(patience).describe() for child in children]
                findings += [(f"fork {number}", each) for number, each in zip(numbers, told, strict=True)]
        finally:
            ended.set()
        findings += [("the parent", each) for each in {thread.result() for thread in threads} - {"right"}]
    return [(case, told if told == "right" else f"{GUILTY}{told}") for case, told in findings]


def _read_on(reader: Reader, image_set: ImageSet, number: int, ended: threading.Event) -> str:
    """Be a thread of the parent: read until all children have ended."""
    draw = np.random.default_rng([SEED, number])
    while not ended.is_set():
        if (told := _read(reader, image_set, draw)) != "right":
            return told
    return "right"


def _read_and_close(reader: Reader, image_set: ImageSet, number: int) -> str:
    """Be a child."""
    told = _read(reader, image_set, np.random.default_rng([SEED, THREADS + number]))
    reader.close()
    return told


def _read(reader: Reader, image_set: ImageSet, draw: np.random.Generator) -> str:
    order = draw.integers(COUNT, size=COUNT // 2)
    alike = is_same(read_stored(reader, order), take(image_set, order))
    return "right" if alike else "other images or labels"
