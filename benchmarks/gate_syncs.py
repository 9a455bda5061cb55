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

from benchmarks.cell import Content
from benchmarks.options import PIXELS, add_modules, choose_backends
from storage import BACKENDS, Backend, save

MARK = "gate:"
IMAGES = 100


def store_all(name: str, backend: Backend, folder: Path) -> None:
    """Store with one backend in every way, each in its own directory."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    if choose_backends([name], PIXELS):
        store_images(name, name, backend, folder, pixels)
    if choose_backends([name], ["encoded"]):
        from storage import Encoded  # noqa: PLC0415 - older commits have none

        store_images(name, f"{name}-encoded", backend, folder, Encoded.join(map(bytes, pixels)))


def store_images(name: str, title: str, backend: Backend, folder: Path, images: Content) -> None:
    """Store images of one kind in every way."""
    labels = np.arange(IMAGES)
    operations: dict[str, Callable[[Path], object]] = {
        "store_single": lambda store: backend.store_single(store, images[0], 0),
        "store_many": lambda store: backend.store_many(store, images, labels),
        "save": partial(save, images=images, labels=labels, backend=name, durable=False),
        "durable save": partial(save, images=images, labels=labels, backend=name, durable=True),
    }
    for operation, store in operations.items():
        directory = folder / f"{operation}-{title}"
        if not operation.endswith("save"):
            directory.mkdir()
        Path(f"{MARK}{operation}[{title}]").exists()
        store(directory)
        Path(MARK).exists()


if __name__ == "__main__":
    asked = sys.argv[2].split(",") if sys.argv[2] else list(BACKENDS)
    add_modules(asked)
    for chosen in asked:
        if chosen in BACKENDS:
            with suppress(Exception):  # its cells say why it fails
                store_all(chosen, BACKENDS[chosen], Path(sys.argv[1]))
