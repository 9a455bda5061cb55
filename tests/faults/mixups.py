"""Mix-ups of files: holes, swapped files, longer files, older versions, overwritten headers; drawn from one seed.

They happen when a copy is interrupted, a restore is incomplete, or a program writes to the wrong file.
"""

import os
import re
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from storage import BACKENDS, Encoded
from storage.contract import Kind
from storage.dataset.files import CHECKSUMS
from storage.dataset.manifest import FILE
from tests.faults.damages import PAGE, Damage, Draw, choose_file
from tests.faults.judge import ImageSet
from tests.support.encoded_sets import make_files
from tests.support.image_sets import make_set

SMALL = 3 * PAGE  # bytes that are appended at most
HUGE = (1 << 31, 1 << 40)  # bytes that a file is extended to with a hole
HEADER = 512  # bytes at the beginning and the end of a file that are overwritten at most
NUMBERS = (0, 1, 1 << 16, (1 << 31) - 1, 1 << 32, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, (1 << 64) - 1)
STRANGE, STRANGERS = "strange", ("npy", "png", "sqlite", "tar")  # backends that are always here
IDENTITY = (FILE, CHECKSUMS)  # what a dataset is recognized by
VERSIONS = {"images": (0, 32), "count": (-7, 32), "size": (0, 16)}  # what an older version differs in

Save = Callable[[Path, ImageSet], object]


def make_others(folder: Path, count: int, save: Save, kind: Kind = "pixels") -> Path:
    """Save older versions of a store of `count` images, and stores of other formats: files of these get mixed up."""
    folder.mkdir()
    for name, (fewer, width) in VERSIONS.items():
        images, labels = make_set(count + fewer, 32, width)
        files = Encoded.join(file[: len(file) * width // 32] for file in reversed(make_files(count + fewer)[0]))
        save(folder / name, (files if kind == "encoded" else images[::-1].copy(), labels))
    (folder / STRANGE).mkdir()
    for name in STRANGERS:
        BACKENDS[name].store_many(folder / STRANGE / name, *make_set(3))
    return folder


def punch_hole(store: Path, _: Path, draw: Draw) -> Path:
    """Make a hole in a file: at its beginning, at its end, anywhere, or the whole file."""
    path = choose_file(store, draw, least=1)
    size = path.stat().st_size
    start, end = sorted(int(place) for place in draw.integers(0, size, 2, endpoint=True))
    start, end = [(0, end), (start, size), (start, end), (0, size)][draw.integers(4)]
    content = path.read_bytes()
    with path.open("wb") as file:  # what is never written is a hole
        file.write(content[:start])
        file.seek(end)
        file.write(content[end:])
        file.truncate(size)
    return path


def swap_files(store: Path, others: Path, draw: Draw) -> Path:
    """Exchange two files; where there is only one, put a file of another format in its place."""
    path = choose_file(store, draw)
    files = _list_files(store)
    files.remove(path)
    other = files[draw.integers(len(files))] if files else _choose_strange(others, draw)
    kept = path.read_bytes()
    shutil.copyfile(other, path)
    if files:
        other.write_bytes(kept)
    return path


def lengthen(store: Path, _: Path, draw: Draw) -> Path:
    """Append zeros, random bytes, the file's own content, or a hole of gigabytes."""
    path = choose_file(store, draw)
    content = path.read_bytes()
    size = int(draw.integers(1, SMALL))
    tails = [bytes(size), draw.bytes(size), content, content[:size], b""]
    tail = tails[draw.integers(len(tails))]
    path.write_bytes(content + tail)
    if not tail:
        os.truncate(path, HUGE[draw.integers(len(HUGE))])
    return path


def restore_older(store: Path, others: Path, draw: Draw) -> Path:
    """Put files of an older version in the place of some files, or of one file from some page on.

    One of the files that identify a dataset stays: with both, the older dataset would be back.
    """
    older = others / sorted(VERSIONS)[draw.integers(len(VERSIONS))]
    kept = IDENTITY[draw.integers(len(IDENTITY))]
    files, olders = ([path for path in _list_files(each) if path.name != kept] for each in (store, older))
    count = int(draw.integers(1, len(files))) if len(files) > 1 else 0  # not all: that would be the older store
    chosen = [int(number) for number in draw.permutation(len(files))[: max(count, 1)]]
    for number in chosen:
        old = _find_same(files[number], store, older, olders, number)
        start = 0 if count else int(draw.integers(0, files[number].stat().st_size, endpoint=True)) // PAGE * PAGE
        files[number].write_bytes(files[number].read_bytes()[:start] + old.read_bytes()[start:])
    return files[chosen[0]] if len(chosen) == 1 else store


def overwrite_header(store: Path, others: Path, draw: Draw) -> Path:
    """Overwrite the first or the last bytes: with random ones, those of another file, or an absurd number."""
    path = choose_file(store, draw, least=1)
    content = bytearray(path.read_bytes())
    size = min(int(draw.integers(1, HEADER)), len(content))
    start = 0 if draw.random() < 3 / 4 else len(content) - size
    digits = re.sub(rb"\d", b"9", content[start : start + size])
    kind = draw.choice(["random", "another file", "digits" if digits != content[start : start + size] else "number"])
    if kind == "random":
        new = draw.bytes(size)
    elif kind == "another file":
        new, start = _choose_strange(others, draw).read_bytes()[:size], 0
    elif kind == "digits":
        new = digits
    else:
        start += int(draw.integers(size)) // 4 * 4
        number = NUMBERS[draw.integers(len(NUMBERS))]
        new = struct.pack("<Q" if draw.random() < 1 / 2 else ">Q", number)[: len(content) - start]
    content[start : start + len(new)] = new
    path.write_bytes(content)
    return path


def _list_files(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


def _choose_strange(others: Path, draw: Draw) -> Path:
    files = _list_files(others / STRANGE)
    return files[draw.integers(len(files))]


def _find_same(path: Path, store: Path, older: Path, olders: list[Path], number: int) -> Path:
    """Find the file of an older version that has the same name, or at least the same place, if names are random."""
    same = older / path.relative_to(store)
    return same if same.is_file() else olders[number % len(olders)]


MIXUPS: Mapping[str, Damage] = {
    "hole": punch_hole,
    "swapped files": swap_files,
    "longer file": lengthen,
    "older version": restore_older,
    "overwritten header": overwrite_header,
}
