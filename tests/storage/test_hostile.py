"""Hostile stores cost little: 64 MB and ten times their size of memory, five seconds, and an error of this package."""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.format import write_array_header_1_0

import storage
from storage import BACKENDS
from storage.contract import Kind
from tests.support.foreign import Change, both, cut, write
from tests.support.hostile import COUNT, HEIGHT, SET_NUMBERS, WIDTH, find_excess, find_excesses, make_store

HUGE = 1 << 40  # bytes, or images
KINDS: tuple[Kind, ...] = ("pixels", "encoded")
MANY = 1 << 33  # images


def claim(backend: str, count: int, height: int = HEIGHT, width: int = WIDTH) -> Change:
    """Have a store claim to hold other images."""
    return lambda store: SET_NUMBERS[backend](store, count, height, width)


def claim_one_pixel(backend: str, sizes: dict[str, int]) -> Change:
    """Have a store claim to hold 2**33 images of one pixel, and make its files as large as that, with a hole."""

    def change(store: Path) -> None:
        SET_NUMBERS[backend](store, MANY, 1, 1)
        for name, size in sizes.items():
            os.truncate(store / name, size)

    return change


def claim_one_file(store: Path) -> None:
    """Replace a NumPy store by one of a file of 1 GiB, which is a hole."""
    (store / "images.npy").unlink()
    np.save(store / "labels", np.zeros(1, np.int64))
    np.save(store / "offsets", np.array([0, 1 << 30]))
    with (store / "content.npy").open("xb") as file:
        write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 30,)})
        file.truncate(file.tell() + (1 << 30))


def fill_hdf5(store: Path, **options: Any) -> None:  # noqa: ANN401 - of h5py
    """Replace an HDF5 file by one with images that were never written."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(store / "images.h5", "w") as file:
        file.create_dataset("images", (MANY, 1, 1, 3), "u1", **options)
        file.create_dataset("labels", (MANY,), "<i8", **options)


def compress_chunk(store: Path) -> None:
    """Replace an HDF5 file by one with a chunk of 100 MB that is far smaller in the file."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(store / "images.h5", "w") as file:
        images = file.create_dataset(
            "images", (2, 1, 1, 3), "u1", chunks=(1 << 25, 1, 1, 3), maxshape=(None, 1, 1, 3), compression=9
        )
        images.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(3 << 25)))
        file["labels"] = np.zeros(2, "<i8")


def link_hdf5(store: Path) -> None:
    """Replace an HDF5 file by one that links to a named pipe."""
    h5py = pytest.importorskip("h5py")
    os.mkfifo(store / "pipe")
    with h5py.File(store / "images.h5", "w") as file:
        file["images"] = h5py.ExternalLink("pipe", "/images")
        file["labels"] = h5py.SoftLink("/images")


def claim_large_pictures(store: Path) -> None:
    """Have PNG files be pictures of 13,000 x 13,000 pixels, 500 MB, in 20 kB."""
    side = 13_000
    SET_NUMBERS["png"](store, COUNT, side, side)
    content = b"\x89PNG\r\n\x1a\n"
    header, pixels = struct.pack(">2I5B", side, side, 1, 0, 0, 0, 0), zlib.compress(bytes(side * (side // 8 + 1)))
    for kind, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    (store / "00000000.png").write_bytes(content)


def point_outside(store: Path) -> None:
    """Have LevelDB's CURRENT name a MANIFEST in another folder."""
    (manifest,) = store.glob("MANIFEST-*")
    manifest.rename(store.parent / manifest.name)
    (store / "CURRENT").write_text(f"../{manifest.name}\n")


def grow_manifest(store: Path) -> None:
    """Make LevelDB's MANIFEST a file of 1 TiB with a hole."""
    (manifest,) = store.glob("MANIFEST-*")
    os.truncate(manifest, HUGE)


def repeat_values(store: Path) -> None:
    """Replace a Parquet file by one that holds one image and label ten million times, in few bytes."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    count = 10_000_000
    pixels = pa.Array.from_buffers(pa.binary(3), count, [None, pa.py_buffer(bytes(3 * count))])
    numbers = {"images": str(count), "height": "1", "width": "1"}
    fields = [pa.field("image", pa.binary(3), nullable=False), pa.field("label", pa.int64(), nullable=False)]
    table = pa.table([pixels, pa.array(np.zeros(count, np.int64))], pa.schema(fields, numbers))
    parquet.write_table(table, store / "images.parquet", row_group_size=count, compression="zstd")


HOSTILE: dict[str, dict[str, Change]] = {
    "npy": {
        "2**33 images in a hole": claim_one_pixel("npy", {"images.npy": 256 + 3 * MANY, "labels.npy": 256 + 8 * MANY}),
        "a file of 1 GiB in a hole": claim_one_file,
        "a header of 64 KiB": write("images.npy", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 0xFFFF),
    },
    "hdf5": {
        "2**33 images never written": fill_hdf5,
        "2**33 images in a hole": partial(fill_hdf5, chunks=None),
        "2**33 images in chunks never written": partial(fill_hdf5, chunks=True),
        "a chunk that unpacks to 100 MB": compress_chunk,
        "a link to a named pipe": link_hdf5,
    },
    "png": {
        "pictures of 169 million pixels": claim_large_pictures,
        "10**9 x 10**9 pixels": claim("png", COUNT, 999_999_999, 999_999_999),
        "10**12 labels in a hole": both(claim("png", 999_999_999_999), cut("labels.csv", HUGE)),
    },
    "png_stored": {"10**9 x 10**9 pixels": claim("png_stored", COUNT, 999_999_999, 999_999_999)},
    "tar": {
        "2**33 images in a hole": claim_one_pixel("tar", {"index.bin": 40 + 8 * MANY, "000000.tar": HUGE}),
        "2**62 images": claim("tar", 1 << 62),
    },
    "sqlite": {"2**63 - 1 images": claim("sqlite", (1 << 63) - 1), "2**40 images": claim("sqlite", HUGE, 1, 1)},
    "leveldb": {
        "a CURRENT of 1 TiB": cut("CURRENT", HUGE),
        "a MANIFEST of 1 TiB": grow_manifest,
        "a CURRENT that points outside": point_outside,
        "2**40 images": claim("leveldb", HUGE, 1, 1021),
    },
    "zarr": {"10**12 chunks": claim("zarr", 10**12), "2**62 rows": claim("zarr", COUNT, 1 << 62)},
    "parquet": {"ten million images in few bytes": repeat_values},
}
CASES = [
    pytest.param(backend, change, id=f"{backend}-{name}")
    for backend, changes in HOSTILE.items()
    if backend in BACKENDS
    for name, change in changes.items()
]


def find_different(store: Path) -> list[Path]:
    """Find what is in a store, of several files whose names differ in digits only one."""
    return sorted({re.sub("[0-9]", "", str(path)): path for path in sorted(store.rglob("*"))}.values())


@pytest.mark.parametrize(("name", "change"), CASES)
def test_a_hostile_store_costs_little(name: str, change: Change, tmp_path: Path) -> None:
    module = make_store(name, tmp_path / "store")
    change(tmp_path / "store")
    assert not find_excess(module, tmp_path / "store")


@pytest.mark.kinds("pixels", "encoded")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_large_hole_costs_little(backend: str, kind: Kind, tmp_path: Path) -> None:
    store = tmp_path / "store"
    module = make_store(backend, store, kind)

    @contextmanager
    def widen(path: Path) -> Iterator[None]:
        kept = path.read_bytes()
        os.truncate(path, HUGE)
        yield
        path.write_bytes(kept)

    assert not find_excesses(module, store, [path for path in find_different(store) if path.is_file()], widen)


@pytest.mark.kinds("pixels", "encoded")
@pytest.mark.parametrize("kind", KINDS)
def test_a_link_in_a_store_is_refused(backend: str, kind: Kind, tmp_path: Path) -> None:
    store = tmp_path / "store"
    module = make_store(backend, store, kind)

    @contextmanager
    def link(path: Path) -> Iterator[None]:
        path.rename(tmp_path / "kept")
        for target in (tmp_path / "kept", Path("/dev/zero")):
            path.unlink(missing_ok=True)
            path.symlink_to(target)
            with pytest.raises(storage.StorageError):
                module.read_many(store)
        yield
        path.unlink()
        (tmp_path / "kept").rename(path)

    assert not find_excesses(module, store, find_different(store), link)
