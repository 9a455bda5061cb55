"""Changes to a store that its backend must refuse. `tests/storage/test_foreign.py` tries those of every backend."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from storage import Backend, CorruptStoreError, StorageError
from tests.support.encoded_sets import make_files

Change = Callable[[Path], object]


class Case(NamedTuple):
    """One way to change a store of ten images (`make_set(10)`) in place, and how it must be refused."""

    change: Change
    message: str | None = None  # a regular expression; the message must name the store in any case
    error: type[StorageError] = CorruptStoreError


def both(first: Change, second: Change) -> Change:
    return lambda store: (first(store), second(store))


def store_files(module: Backend, count: int = 10) -> Change:
    """Put a store of image files in its place."""

    def change(store: Path) -> None:
        shutil.rmtree(store)
        module.store_many(store, *make_files(count))

    return change


def write(name: str, content: bytes) -> Change:
    return lambda store: (store / name).write_bytes(content)


def cut(name: str, size: int) -> Change:
    """Cut a file to `size` bytes, or by as many if `size` is negative; a larger size makes it longer, with a hole."""
    return lambda store: os.truncate(store / name, size if size >= 0 else (store / name).stat().st_size + size)


def append(name: str, content: bytes) -> Change:
    return lambda store: (store / name).write_bytes((store / name).read_bytes() + content)


def overwrite(name: str, place: int, content: bytes) -> Change:
    """Overwrite bytes of a file from `place` on."""

    def change(store: Path) -> None:
        with (store / name).open("r+b") as file:
            file.seek(place)
            file.write(content)

    return change


def flip(name: str, place: int) -> Change:
    """Flip one bit of the byte at `place`."""

    def change(store: Path) -> None:
        content = bytearray((store / name).read_bytes())
        content[place] ^= 1
        (store / name).write_bytes(content)

    return change


def delete(name: str) -> Change:
    return lambda store: (store / name).unlink()


def make_folder(name: str) -> Change:
    def change(store: Path) -> None:
        (store / name).unlink()
        (store / name).mkdir()

    return change


def make_endless(name: str) -> Change:
    """Put a device that never ends in a file's place."""

    def change(store: Path) -> None:
        (store / name).unlink()
        (store / name).symlink_to("/dev/zero")

    return change
