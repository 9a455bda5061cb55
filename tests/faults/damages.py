"""Damage to a saved store: which bytes or files, and how; all places are drawn from one seed."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.support.datasets import list_parts

PAGE = 4096

Draw = np.random.Generator
Damage = Callable[[Path, Path, Draw], Path]  # takes the store, another store, and the dice; returns what it changed


def choose_file(store: Path, draw: Draw, least: int = 0) -> Path:
    """Choose a file that is not too small: half of the time by its size, else by its kind, to hit small ones, too."""
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.stat().st_size >= least)
    if draw.random() < 1 / 2:
        sizes = np.array([path.stat().st_size for path in files])
        return files[draw.choice(len(files), p=sizes / sizes.sum())]
    kind = draw.choice(sorted({path.suffix or path.name for path in files}))
    alike = [path for path in files if kind in {path.suffix, path.name}]
    return alike[draw.integers(len(alike))]


def flip_bit(store: Path, _: Path, draw: Draw) -> Path:
    """Flip one bit of a file."""
    path = choose_file(store, draw, least=1)
    content = bytearray(path.read_bytes())
    content[draw.integers(len(content))] ^= 1 << int(draw.integers(8))
    path.write_bytes(content)
    return path


def truncate(store: Path, _: Path, draw: Draw) -> Path:
    """Cut a file short."""
    path = choose_file(store, draw, least=1)
    with path.open("r+b") as file:
        file.truncate(int(draw.integers(path.stat().st_size)))
    return path


def zero_page(store: Path, _: Path, draw: Draw) -> Path:
    """Overwrite 4 KiB of a file with zeros, or as much as it has: a block of the disk that was never written."""
    path = choose_file(store, draw, least=1)
    content = bytearray(path.read_bytes())
    start = int(draw.integers(0, len(content), endpoint=False)) // PAGE * PAGE
    content[start : start + PAGE] = bytes(len(content[start : start + PAGE]))
    path.write_bytes(content)
    return path


def swap_records(store: Path, other: Path, _: Draw) -> Path:
    """Take the parts of `other`, which was saved with two records exchanged; manifest and checksums stay."""
    for part, swapped in zip(list_parts(store), list_parts(other), strict=True):
        shutil.rmtree(part)
        shutil.copytree(swapped, part)
    return store


def delete_file(store: Path, _: Path, draw: Draw) -> Path:
    """Delete a file."""
    path = choose_file(store, draw)
    path.unlink()
    return path


def exchange_file(store: Path, other: Path, draw: Draw) -> Path:
    """Put the same file of `other`, a set of the same shape, in the place of a file; its name may be drawn anew."""
    path = choose_file(store, draw)
    files, others = (sorted(each for each in folder.rglob("*") if each.is_file()) for folder in (store, other))
    shutil.copyfile(others[files.index(path)], path)
    return path


DAMAGES: Mapping[str, Damage] = {
    "bit flip": flip_bit,
    "truncation": truncate,
    "4 KiB zeroed": zero_page,
    "two records swapped": swap_records,
    "a file deleted": delete_file,
    "a file of another store": exchange_file,
}
