"""Failed opens: they leave no descriptor, no map and no memory behind."""

import gc
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import storage
from storage.contract import Kind
from storage.reader import read_stored
from tests.faults.children import run_child
from tests.faults.damages import DAMAGES
from tests.faults.findings import GUILTY, Findings
from tests.faults.judge import make_sets, prepare, save_template
from tests.support.open_files import count_maps_left

SEED = 6666
WARM_UP = 1 / 3  # of the opens: then the process has nearly all the memory that it goes on using
PARTS = 4  # of the opens behind them: what leaks grows in most, where an allocator takes a megabyte for good in one
COUNTS = 6  # in a part, of which the least counts: Go's heap takes and gives back a megabyte again and again
SLACK = 1 << 18  # bytes a part
LEAK = 2048  # bytes an open: half a page; what leaks takes more
PAGE = 4096
LONGER = 8  # times as many opens, once some seem to leave something: a leak grows with them, a heap comes and goes
ATTEMPTS = 30  # to damage a store so that it is refused: not every bit of it matters


def fail_to_open(backend: str, folder: Path, *, cases: int, variants: int = 4, kind: Kind = "pixels") -> Findings:
    """Open damaged and absent stores again and again, in one child."""
    sets = make_sets(10, 32, kind)
    template = save_template(folder, sets, backend)
    storage.save(folder / "another", *sets.new, backend)
    named = [(name, [SEED, number, variant]) for number, name in enumerate(DAMAGES) for variant in range(variants)]
    damaged = run_child(partial(_damage_all, folder, template, named), patience=600).describe()
    if not damaged.startswith("["):
        return [("all opens", f"{GUILTY}{damaged}")]
    paths = [folder / "absent", *map(Path, json.loads(damaged))]
    for number in (cases, LONGER * cases):
        told = run_child(partial(_open_all, folder, paths, number), patience=600).describe()
        if told.isdigit():
            return [("an open", "refused")] * int(told)
    return [("all opens", f"{GUILTY}{told}")]


def _damage_all(folder: Path, template: Path, named: Sequence[tuple[str, list[int]]]) -> str:
    found = []
    for name, seed in named:
        own = folder / "-".join(map(str, seed))
        own.mkdir()
        found += _damage(own, template, name, seed)
    return json.dumps([str(path) for path in found])


def _damage(own: Path, template: Path, name: str, seed: list[int]) -> list[Path]:
    """Damage a copy so that it is refused; return nothing if whoever saves without care doesn't notice this damage."""
    for attempt in range(ATTEMPTS):
        path = prepare(own, template)
        DAMAGES[name](path, own.parent / "another", np.random.default_rng([*seed, attempt]))
        if _try_to_open(path):
            return [path]
    return []


def _open_all(folder: Path, paths: list[Path], cases: int) -> str:
    marks = np.linspace(WARM_UP * cases, cases, (PARTS + 1) * COUNTS).astype(int).tolist()
    refused, tried = 0, 0
    counts: list[tuple[int, int, int]] = []
    while len(counts) < len(marks):
        refused += _try_to_open(paths[tried % len(paths)])
        tried += 1
        if tried > 10 * cases:
            return f"only {refused} of {tried} opens are refused"
        if refused >= marks[len(counts)]:
            counts.append(_count(folder))
    (files, maps, _), *_, (more_files, more_maps, _) = counts
    files, maps = more_files - files, more_maps - maps
    least = np.array([memory for _, _, memory in counts]).reshape(-1, COUNTS).min(axis=1)
    memory = int(np.median(np.diff(least)))
    number = marks[-1] - marks[0]
    if files or maps or memory > LEAK * number / (PARTS + 1) + SLACK:
        return f"{number} failed opens leave {files} descriptors, {maps} maps and {memory * (PARTS + 1)} bytes behind"
    return str(refused)


def _try_to_open(path: Path) -> bool:
    """Open, and read everything; return whether that was refused."""
    try:
        with storage.open(path) as reader:
            read_stored(reader, range(len(reader)))
        storage.load(path)
    except storage.StorageError:
        return True
    return False


def _count(folder: Path) -> tuple[int, int, int]:
    """Count open files, maps of files of the stores, and bytes of memory."""
    gc.collect()
    maps = count_maps_left(folder)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return len(list(Path("/proc/self/fd").iterdir())), maps, pages * PAGE
