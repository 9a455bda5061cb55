"""What only the NumPy backend has: files as numpy.save writes them, and headers that it does not believe."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same, make_set

npy = take_backend("npy")
IMAGES, LABELS = make_set(20, 5, 7)
READS: dict[str, Callable[[Path], object]] = {
    "read_single": lambda path: npy.read_single(path, 0),
    "read_many": npy.read_many,
    "open_reader": npy.open_reader,
}


@pytest.mark.parametrize("count", [0, 1, 20])
def test_the_files_are_those_that_numpy_saves(tmp_path: Path, count: int) -> None:
    npy.store_many(tmp_path / "store", IMAGES[:count], LABELS[:count])
    for name, array in (("images", IMAGES), ("labels", LABELS)):
        np.save(tmp_path / name, array[:count])
        assert (tmp_path / "store" / f"{name}.npy").read_bytes() == (tmp_path / f"{name}.npy").read_bytes()


def test_files_of_numpy_are_a_store(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "labels.npy", LABELS)
    assert_same(npy.read_many(tmp_path), (IMAGES, LABELS))
    with npy.open_reader(tmp_path) as reader:
        assert_same(reader.read([3, 19, 3]), (IMAGES[[3, 19, 3]], LABELS[[3, 19, 3]]))


def test_the_pixels_are_what_stands_behind_the_headers(tmp_path: Path) -> None:
    npy.store_many(tmp_path, IMAGES, LABELS)
    assert npy.find_pixels(tmp_path) == {
        "images.npy": [range(128, 128 + IMAGES.nbytes)],
        "labels.npy": [range(128, 128 + LABELS.nbytes)],
    }


FOREIGN: dict[str, tuple[Any, Any]] = {
    "grey": (IMAGES[..., 0], LABELS),
    "alpha": (np.zeros((20, 5, 7, 4), np.uint8), LABELS),
    "columns first": (np.asfortranarray(IMAGES), LABELS),
    "no pixels": (np.zeros((20, 0, 7, 3), np.uint8), LABELS),
    "images with sign": (IMAGES.astype(np.int8), LABELS),
    "images of 16 bits": (IMAGES.astype("<u2"), LABELS),
    "images of truth": (IMAGES > 127, LABELS),
    "labels big-endian": (IMAGES, LABELS.astype(">i8")),
    "labels without sign": (IMAGES, LABELS.astype("<u8")),
    "labels of 32 bits": (IMAGES, LABELS.astype("<i4")),
    "labels of rank 2": (IMAGES, LABELS[:, np.newaxis]),
    "fewer labels": (IMAGES, LABELS[:-1]),
    "named fields": (IMAGES, LABELS.view([("label", "<i8")])),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("arrays", FOREIGN.values(), ids=FOREIGN)
def test_other_arrays_are_refused(tmp_path: Path, arrays: tuple[Any, Any], read: Callable[[Path], object]) -> None:
    np.save(tmp_path / "images.npy", arrays[0])
    np.save(tmp_path / "labels.npy", arrays[1])
    with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
        read(tmp_path)


def write_header(path: Path, header: bytes, *, version: bytes = b"\1\0", values: bytes = b"") -> None:
    """Write a file of NumPy's format with any header."""
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    path.write_bytes(b"\x93NUMPY" + version + size + header + values)


HEADER = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s, 5, 7, 3), }"
DAMAGED: dict[str, dict[str, Any]] = {
    "version 2": {"header": HEADER % b"20", "version": b"\2\0", "values": IMAGES.tobytes()},
    "version 3": {"header": HEADER % b"20", "version": b"\3\0", "values": IMAGES.tobytes()},
    "no dictionary": {"header": b"(20, 5, 7, 3)"},
    "no literal": {"header": HEADER % b"__import__('os').getpid()"},
    "objects": {"header": (HEADER % b"20").replace(b"|u1", b"|O"), "values": IMAGES.tobytes()},
    "of Python 2": {"header": HEADER % b"20L", "values": IMAGES.tobytes()},
    "fewer than none": {"header": HEADER % b"-20"},
    "true": {"header": HEADER % b"True", "values": IMAGES[:1].tobytes()},
    "of 70 bits": {"header": HEADER % str(2**70).encode()},
    "too deep": {"header": b"(" * 9000},
    "too long": {"header": HEADER % b"20" + b" " * 20_000, "values": IMAGES.tobytes()},
    "more images": {"header": HEADER % b"21", "values": IMAGES.tobytes()},
    "fewer images": {"header": HEADER % b"19", "values": IMAGES.tobytes()},
    "none, of a shape beyond memory": {"header": HEADER.replace(b"5, 7", b"%d, %d" % (2**40, 2**40)) % b"0"},
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_header_is_not_believed(tmp_path: Path, damage: dict[str, Any]) -> None:
    write_header(tmp_path / "images.npy", **damage)
    np.save(tmp_path / "labels.npy", LABELS[:0] if b"(0," in damage["header"] else LABELS)
    for read in READS.values():
        with pytest.raises(storage.StorageError, match=str(tmp_path)):
            read(tmp_path)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_a_file_of_another_size_is_refused_before_it_is_mapped(
    tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    npy.store_many(tmp_path, IMAGES, LABELS)
    content = (tmp_path / name).read_bytes()
    for changed in (*(content[:size] for size in range(0, len(content), 97)), content[:-1], content + b"\0"):
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
            read(tmp_path)


def test_until_all_values_are_written_a_file_has_no_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = os.pwrite, list[int]()

    def write_some(descriptor: int, content: bytes, offset: int) -> int:
        if done:
            raise OSError(5, "Input/output error")
        done.append(offset)
        return real(descriptor, content[: len(content) // 2], offset)

    monkeypatch.setattr(os, "pwrite", write_some)
    with pytest.raises(storage.StorageError, match="Input/output"):
        npy.store_many(tmp_path, IMAGES, LABELS)
    monkeypatch.undo()
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(storage.CorruptStoreError, match="magic"):
        npy.read_many(tmp_path)
