"""Runs for tests: the JSON that the suite writes, with times such as machines show."""

import json
import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IMAGE_BYTES = 32 * 32 * 3 + 8  # pixels and label

# Microseconds an image to store and to read, microseconds that any call costs, bytes an image: apparent, allocated.
_COSTS = {
    "png": (107.0, 60.0, 300.0, 2260, 4123),
    "lmdb": (6.0, 3.0, 500.0, 4118, 4118),
    "hdf5": (1.0, 0.3, 1000.0, 3100, 3104),
}
_LAYOUTS = {
    "png": "PNG: one ordinary file an image.",
    "lmdb": "LMDB: one record an image in a memory-mapped B+ tree.",
    "hdf5": "HDF5: one file with two datasets.",
}
_OTHER_COSTS = (20.0, 9.0, 400.0, 3000, 3500)


def make_cell(
    operation: str, backend: str, images: int, store_images: int | None = None, **params: str | float
) -> dict[str, Any]:
    """Make one entry of `benchmarks`: five rounds at most 4 % apart, and disk use where something is stored.

    `params` become params. The statistics beside the rounds are wrong on purpose: nobody should read them.
    """
    stores = operation.startswith("store")
    count = images if store_images is None else store_images
    costs = _COSTS.get(backend, _OTHER_COSTS)
    words = "".join(f"-{value}" for value in params.values() if value not in {"buffered", "warm"})
    cell = f"benchmarks/test_suite.py::test_{operation}[{backend}-{count}{words}]"
    chance = random.Random(ascii(cell))  # noqa: S311 - repeatable rounds, no secret
    seconds = 1e-6 * (costs[2] * (4 if "durable" in params.values() else 1) + images * costs[0 if stores else 1])
    facts = {"operation": operation, "backend": backend, "images": images, "store_images": count}
    facts |= {"bytes": images * IMAGE_BYTES, "images_per_second": images / seconds}
    facts["definition"] = "0123456789abcdef"
    if stores:
        facts |= {"durability": params.get("durability", "buffered"), "files": 1}
        facts |= {"apparent_bytes": 8192 + count * costs[3], "allocated_bytes": 12288 + count * costs[4]}
    rounds = [seconds * (1 + 0.04 * chance.random()) for _ in range(5)]
    return {
        "group": operation,
        "name": cell.partition("::")[2],
        "fullname": cell,
        "params": {"backend": backend, "cutoff": count, **params},
        "extra_info": facts,
        "stats": {"median": -1.0, "q1": -1.0, "q3": -1.0, "iqr": -1.0, "rounds": 5, "data": rounds},
    }


def make_reference(name: str, seconds: float = 0.001) -> dict[str, Any]:
    """Make the entry of a reference cell: five rounds alike."""
    return {
        "group": "reference",
        "name": f"test_{name}",
        "fullname": f"benchmarks/test_reference.py::test_{name}",
        "params": None,
        "extra_info": {"reference": True, "definition": "0123456789abcdef"},
        "stats": {"median": -1.0, "rounds": 5, "data": [seconds] * 5},
    }


def make_run(
    backends: Sequence[str] = ("png", "lmdb", "hdf5"),
    cutoffs: Sequence[int] = (10, 100, 1000),
    *,
    durable: bool = False,
    cold: bool = False,
    workers: Sequence[int] = (),
) -> dict[str, Any]:
    """Make the JSON of a run that measured every operation; with `cold`, cells that read say their cache."""
    cells = []
    caches: list[dict[str, Any]] = [{"cache": cache} for cache in ("warm", "cold")] if cold else [{}]
    for backend in backends:
        for durability in ("buffered", "durable") if durable else ("buffered",):
            cells.append(make_cell("store_single", backend, 1, durability=durability))
            cells += [make_cell("store_many", backend, count, durability=durability) for count in cutoffs]
        for params in caches:
            for count in cutoffs:
                cells.append(make_cell("read_single", backend, 1, store_images=count, **params))
                cells += [make_cell(operation, backend, count, **params) for operation in ("read_many", "read_epoch")]
            cells += [
                make_cell("read_epoch_workers", backend, max(cutoffs), workers=count, start=start, **params)
                for count in workers
                for start in ("fork", "spawn")
            ]
    return run_of(cells)


def add_replicates(run: dict[str, Any], count: int = 9, scatter: float = 0.01, seed: int = 0) -> dict[str, Any]:
    """Add reference cells and processes to a run: each cell of each process differs by chance."""
    chance = random.Random(seed)  # noqa: S311 - repeatable rounds, no secret
    run["benchmarks"] += [make_reference(name) for name in ("copy", "write", "read", "hash")]
    run["run"]["replicates"] = [
        {
            cell["fullname"]: [
                seconds * math.exp(chance.gauss(0, scatter)) for seconds in (statistics.median(cell["stats"]["data"]),)
            ]
            for cell in run["benchmarks"]
        }
        for _ in range(count)
    ]
    return run


def run_of(cells: list[dict[str, Any]]) -> dict[str, Any]:
    backends = {cell["extra_info"]["backend"]: None for cell in cells if "backend" in cell["extra_info"]}
    machine = {"machine": "x86_64", "system": "Linux", "release": "6.18.44"}
    return {
        "machine_info": machine | {"cpu": {"brand_raw": "AMD EPYC 9654 96-Core Processor"}},
        "commit_info": {"id": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "benchmarks": cells,
        "datetime": "2026-11-21T06:39:47.354255+00:00",
        "version": "5.3.1",
        "run": {
            "format": 1,
            "image_set": {"name": "standin", "count": 100000, "sha256": "ab12cd34" * 8},
            "libraries": {"python": "3.11.7", "numpy": "2.4.6"},
            "layouts": {name: _LAYOUTS.get(name, f"{name}: one file of its own.") for name in backends},
            "maintainers": {name: f"the keepers of {name}" for name in backends},
            "licences": dict.fromkeys(backends, "MIT"),
            "unavailable": {"tape": 'reel is not installed: python -m pip install -e ".[tape]"'},
            "cpu_count": 2,
            "memory_bytes": 24 * 2**30,
            "store_directory": {"file_system": "ext4", "free_bytes": 80000000000, "free_inodes": 10_000_000},
            "command": "pytest benchmarks --benchmark-only",
            "intended": [cell["fullname"] for cell in cells],
            "failed": {},
            "skipped": {},
            "complete": True,
        },
    }


def find_cell(run: dict[str, Any], name: str) -> dict[str, Any]:
    (cell,) = [cell for cell in run["benchmarks"] if cell["name"] == name]
    return dict[str, Any](cell)


def slow_down(run: dict[str, Any], name: str, factor: float) -> None:
    """Make a cell slower, in all processes."""
    cell = find_cell(run, name)
    for process in ({cell["fullname"]: cell["stats"]["data"]}, *run["run"].get("replicates", [])):
        rounds = process[cell["fullname"]]
        rounds[:] = [factor * seconds for seconds in rounds]


def spoil(part: Any, text: str) -> None:  # noqa: ANN401 - JSON
    """Put a text in the place of every string of a run but its date, and beside every key that isn't fixed."""
    for key in list(part) if isinstance(part, dict) else range(len(part)):
        if isinstance(part[key], dict | list):
            spoil(part[key], text)
        elif isinstance(part[key], str) and key != "datetime":
            part[key] = text
    if isinstance(part, dict) and part and not {"format", "benchmarks", "run"} & part.keys():
        part[text] = 1 if all(isinstance(value, int) for value in part.values()) else text  # counts by name stay counts


def save(run: object, folder: Path) -> Path:
    path = folder / "run.json"
    path.write_text(json.dumps(run, indent=4), encoding="ascii")
    return path
