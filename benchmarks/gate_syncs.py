"""A program whose system calls the gate traces: ``python -m benchmarks.gate_syncs FOLDER NAME,NAME,...``.

It stores a few images with each backend, all if none are named. Before each operation it asks for a file that doesn't
exist, whose name says which operation begins; so the trace shows what belongs to which.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.options import add_modules
from storage import BACKENDS, Backend, save

MARK = "gate:"
IMAGES = 100


def store_all(name: str, backend: Backend, folder: Path) -> None:
    """Store with one backend in every way, each in its own directory."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    labels = np.arange(IMAGES)
    operations: dict[str, Callable[[Path], object]] = {
        "store_single": lambda store: backend.store_single(store, images[0], 0),
        "store_many": lambda store: backend.store_many(store, images, labels),
        "save": partial(save, images=images, labels=labels, backend=name, durable=False),
        "durable save": partial(save, images=images, labels=labels, backend=name, durable=True),
    }
    for operation, store in operations.items():
        directory = folder / f"{operation}-{name}"
        if not operation.endswith("save"):
            directory.mkdir()
        Path(f"{MARK}{operation}[{name}]").exists()
        store(directory)
        Path(MARK).exists()


if __name__ == "__main__":
    asked = sys.argv[2].split(",") if sys.argv[2] else list(BACKENDS)
    add_modules(asked)
    for chosen in asked:
        if chosen in BACKENDS:
            with suppress(Exception):  # its cells say why it fails
                store_all(chosen, BACKENDS[chosen], Path(sys.argv[1]))
