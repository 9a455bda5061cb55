"""Small CIFAR files: batches as Python 2 wrote them, archives, and pickles that run a command when they are loaded."""

import gzip
import io
import itertools
import os
import pickle
import struct
import sys
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storage import Images

IMAGE = 3 * 32 * 32
PUT = b""  # where Python 2 numbers a memo slot
NONE, TRUE, FALSE, MARK, STOP = b"N", b"\x88", b"\x89", b"(", b"."
RECONSTRUCT, ARRAY, DTYPE = b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"


def write_number(number: int) -> bytes:
    if isinstance(number, bool):
        return TRUE if number else FALSE
    return b"K%c" % number if 0 <= number < 256 else b"J" + struct.pack("<i", number)


def write_string(string: bytes) -> bytes:
    return b"U%c" % len(string) + string if len(string) < 256 else b"T" + struct.pack("<i", len(string)) + string


def write_list(items: Sequence[bytes]) -> list[bytes]:
    """Write a list as Python 2 does, in groups of 1,000."""
    groups = [b"".join([MARK, *items[start : start + 1000], b"e"]) for start in range(0, len(items), 1000)]
    return [b"]", PUT, *groups]


def make_batch(
    labels: Sequence[int],
    pixels: bytes,
    *,
    rows: int | None = None,
    columns: int = IMAGE,
    kind: bytes = b"u1",
    order: bytes = b"|",
    fortran: bool = False,
    maker: bytes = RECONSTRUCT,
    without: bytes = b"",
    files: Sequence[bytes] = (b"leptodactylus_pentadactylus_s_000004.png",),
    key: bytes = b"labels",
) -> bytes:
    """Write a batch as Python 2 did, at protocol 2, or one that differs in the arguments given."""
    shape = [write_number(len(labels) if rows is None else rows), write_number(columns), b"\x86", PUT]
    made = [maker, PUT, ARRAY, PUT, write_number(0), b"\x85", PUT, write_string(b"b"), PUT, b"\x87", PUT, b"R", PUT]
    dtype = [DTYPE, PUT, write_string(kind), PUT, write_number(0), write_number(1), b"\x87", PUT, b"R", PUT]
    sizes = [write_number(number) for number in (-1, -1, 0)]
    state = [MARK, write_number(3), write_string(order), PUT, NONE * 3, *sizes, b"t", PUT, b"b"]
    raw = [write_number(fortran), b"T" + struct.pack("<i", len(pixels)) + pixels, PUT]
    entries = {
        b"batch_label": [write_string(b"training batch 1 of 5"), PUT],
        key: write_list([write_number(label) for label in labels]),
        b"data": [*made, MARK, write_number(1), *shape, *dtype, *state, *raw, b"t", PUT, b"b"],
        b"filenames": write_list([write_string(name) for name in files]),
    }
    pieces = [b"\x80\x02}", PUT, MARK]
    for name, value in entries.items():
        pieces += [write_string(name), PUT, *value] if name != without else []
    slots = itertools.count(1)
    numbered = [piece or struct.pack("<cI", b"r", next(slots)) for piece in pieces]
    return b"".join([*numbered, b"u", STOP])


def make_pixels(count: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, count * IMAGE, np.uint8).tobytes()


def arrange(pixels: bytes) -> Images:
    """Arrange pixel bytes as images: each is a red, a green and a blue plane, one after another."""
    planes = [np.array(list(pixels[start : start + 1024]), np.uint8) for start in range(0, len(pixels), 1024)]
    return np.array([np.dstack([p.reshape(32, 32) for p in planes[at : at + 3]]) for at in range(0, len(planes), 3)])


FOLDER = "cifar-10-batches-py"
COUNTS = (3, 2, 4, 1, 2)  # images of each batch
LABELS = [[(7 * batch + index) % 10 for index in range(count)] for batch, count in enumerate(COUNTS, 1)]
ALL_LABELS = [label for labels in LABELS for label in labels]
PIXELS = [make_pixels(count, seed) for seed, count in enumerate(COUNTS)]
FILES = {
    f"data_batch_{number}": make_batch(labels, pixels)
    for number, labels, pixels in zip(range(1, 6), LABELS, PIXELS, strict=True)
}
MEMBERS = [f"{FOLDER}/{name}" for name in FILES]
META = (  # as Python 2 wrote the official one, with fewer classes
    b"\x80\x02}q\x01(U\x13num_cases_per_batchq\x02M\x10'U\x0blabel_namesq\x03]q\x04(U\x08airplaneq\x05U\x03catq\x06e"
    b"U\x07num_visq\x07M\x00\x0cu."
)


def write_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, raw in FILES.items():
        (folder / name).write_bytes(raw)
    return folder


Member = tuple[tarfile.TarInfo, bytes]


def regular(name: str, raw: bytes) -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(raw)
    return member, raw


def honest(order: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Member]:
    return [regular(f"{FOLDER}/data_batch_{number}", FILES[f"data_batch_{number}"]) for number in order]


def join(*members: Member) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def pack(path: Path, members: Iterable[Member]) -> Path:
    path.write_bytes(gzip.compress(join(*members), 1))
    return path


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return the call to write."""
        return self.call


def make_payloads(sentinel: Path) -> list[bytes]:
    """Make pickles of every protocol that create the sentinel file when they are loaded, alone and inside a batch."""
    code = f"__import__('pathlib').Path({str(sentinel)!r}).touch()"
    command = f'"{sys.executable}" -c "{code}"'
    calls = [Call(os.system, command), Call(eval, code), Call(exec, code)]
    array = np.zeros((1, IMAGE), np.uint8)
    batches: list[Any] = [{b"data": array, b"labels": call} for call in calls]
    return [pickle.dumps(payload, protocol) for payload in [*calls, *batches] for protocol in range(6)]
