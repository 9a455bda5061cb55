"""The NumPy backend: the files are those of numpy.save, and other arrays and damaged headers are refused."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import storage
from tests.support.backends import take_backend
from tests.support.encoded_sets import make_files
from tests.support.foreign import Case, Change, append, both, cut, write
from tests.support.image_sets import check_reads, make_set

npy = take_backend("npy")
IMAGES, LABELS = make_set(10)
FILES, FILE_LABELS = make_files(10)


def save(images: NDArray[Any] = IMAGES, labels: NDArray[Any] = LABELS) -> Change:
    def change(store: Path) -> None:
        np.save(store / "images.npy", images)
        np.save(store / "labels.npy", labels)

    return change


def write_header(header: bytes, version: bytes = b"\1\0", values: bytes = IMAGES.tobytes()) -> Change:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return write("images.npy", b"\x93NUMPY" + version + size + header + values)


def save_files(content: NDArray[Any] = FILES.content, offsets: NDArray[Any] = FILES.offsets) -> Change:
    def change(store: Path) -> None:
        for name, array in (("content", content), ("offsets", offsets), ("labels", FILE_LABELS)):
            np.save(store / f"{name}.npy", array)

    return change


HEADER = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s, 32, 32, 3), }"
HUGE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (0, %d, %d, 3), }" % (2**40, 2**40)
FOREIGN = {
    "rank 2": Case(save(IMAGES[:, 0, :, 0]), "not images"),
    "rank 5": Case(save(IMAGES[..., np.newaxis]), "not images"),
    "0 channels": Case(save(IMAGES[..., :0]), "32 x 32 x 0 pixels"),
    "columns first": Case(save(np.asfortranarray(IMAGES)), "C order"),
    "no pixels": Case(save(np.zeros((10, 0, 32, 3), np.uint8))),
    **{f"images {kind}": Case(save(IMAGES.astype(kind)), "uint8") for kind in ("i1", "u4", "?", ">u2", "f8", "O")},
    **{f"labels {kind}": Case(save(labels=LABELS.astype(kind)), "labels.npy") for kind in (">i8", "u8", "i4")},
    "labels of rank 2": Case(save(labels=LABELS[:, np.newaxis]), "labels.npy"),
    "fewer labels": Case(save(labels=LABELS[:-1]), "labels.npy"),
    "files in two axes": Case(save_files(FILES.content[:70_000].reshape(2, -1)), "aren't image files"),
    "offsets in two axes": Case(save_files(offsets=FILES.offsets[:, np.newaxis]), "aren't image files"),
    "offsets that go down": Case(save_files(offsets=np.sort(FILES.offsets)[::-1].copy())),
    "named fields": Case(save(labels=LABELS.view([("label", "<i8")])), "labels.npy"),
    "version 2": Case(write_header(HEADER % b"10", b"\2\0")),
    "a header without a dictionary": Case(write_header(b"(10, 32, 32, 3)")),
    "a header with a call": Case(write_header(HEADER % b"__import__('os').getpid()")),
    "objects": Case(write_header((HEADER % b"10").replace(b"|u1", b"|O"))),
    "a negative number of images": Case(write_header(HEADER % b"-10")),
    "True as the number of images": Case(write_header(HEADER % b"True", values=IMAGES[:1].tobytes())),
    "a number of 70 bits": Case(write_header(HEADER % str(2**70).encode())),
    "a header nested too deep": Case(write_header(b"(" * 9000)),
    "a header too long": Case(write_header(HEADER % b"10" + b" " * 20_000)),
    "a header of more images": Case(write_header(HEADER % b"11"), "bytes"),
    "no image, of a shape beyond memory": Case(
        both(save(labels=LABELS[:0]), write_header(HUGE, values=b"")), error=storage.StorageError
    ),
    **{f"{name} cut to {size}": Case(cut(name, size)) for name in ("images.npy", "labels.npy") for size in (0, 5, 99)},
    "images cut short": Case(cut("images.npy", -1), "bytes"),
    "labels cut short": Case(cut("labels.npy", -1), "bytes"),
    "images too long": Case(append("images.npy", b"\0"), "bytes"),
    "labels too long": Case(append("labels.npy", b"\0"), "bytes"),
}


@pytest.mark.parametrize("count", [0, 1, 10])
def test_the_files_are_those_that_numpy_saves(tmp_path: Path, count: int) -> None:
    npy.store_many(tmp_path / "store", IMAGES[:count], LABELS[:count])
    for name, array in (("images", IMAGES), ("labels", LABELS)):
        np.save(tmp_path / name, array[:count])
        assert (tmp_path / "store" / f"{name}.npy").read_bytes() == (tmp_path / f"{name}.npy").read_bytes()


@pytest.mark.parametrize("count", [0, 1, len(FILE_LABELS)])
def test_files_of_images_are_those_that_numpy_saves(tmp_path: Path, count: int) -> None:
    files = FILES[:count]
    npy.store_many(tmp_path / "store", files, FILE_LABELS[:count])
    content = np.frombuffer(b"".join(files), np.uint8)
    offsets = np.cumsum([0, *map(len, files)], dtype=np.int64)
    for name, array in (("content", content), ("offsets", offsets), ("labels", FILE_LABELS[:count])):
        np.save(tmp_path / name, array)
        assert (tmp_path / "store" / f"{name}.npy").read_bytes() == (tmp_path / f"{name}.npy").read_bytes()
    assert len(list((tmp_path / "store").iterdir())) == 3


def test_files_of_numpy_are_a_store(tmp_path: Path) -> None:
    save()(tmp_path)
    check_reads(npy, tmp_path, (IMAGES, LABELS))


def test_all_bytes_after_the_headers_are_pixels_or_labels(tmp_path: Path) -> None:
    npy.store_many(tmp_path, IMAGES, LABELS)
    assert npy.find_pixels(tmp_path) == {
        "images.npy": [range(128, 128 + IMAGES.nbytes)],
        "labels.npy": [range(128, 128 + LABELS.nbytes)],
    }


def test_a_file_gets_its_header_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = os.pwrite, list[int]()

    def write_some(descriptor: int, content: bytes, offset: int) -> int:
        if done:
            raise OSError(5, "Input/output error")
        done.append(offset)
        return real(descriptor, content[: len(content) // 2], offset)

    monkeypatch.setattr(os, "pwrite", write_some)
    with pytest.raises(storage.StorageError, match="Input/output") as caught:
        npy.store_many(tmp_path, IMAGES, LABELS)
    assert type(caught.value) is storage.StorageError
    monkeypatch.undo()
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(storage.CorruptStoreError, match="magic"):
        npy.read_many(tmp_path)
