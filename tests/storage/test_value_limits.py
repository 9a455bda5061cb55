"""A record that is larger than a library can hold is refused, and one byte less is stored, for both kinds."""

import mmap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import BACKENDS, Encoded
from tests.support.backends import need_backend
from tests.support.encoded_sets import check_file_reads
from tests.support.image_sets import check_reads

LIMITS = {  # where the limit is, the bytes of a record beyond those of its image, and whose limit it is
    "lmdb": ("_lmdb.MAX_VALUE", 0, "a value of LMDB"),
    "lmdb_packed": ("_lmdb.MAX_VALUE", 0, "a value of LMDB"),
    "sqlite": ("sqlite.MAX_IMAGE", 0, "a row of SQLite"),
    "leveldb": ("leveldb.MAX_RECORD", 8, "a value of LevelDB"),
    "badger": ("badger.MAX_VALUE", 8, "a value of Badger"),
    "bolt": ("bolt.MAX_VALUE", 8, "a value of Bolt"),
}
IMAGES = {  # of pixels: where the limit is, the bytes beyond those of an image of one row, and whose limit it is
    "feather": ("feather.MAX_IMAGE", 0, "a list of Arrow"),
    "feather_lz4": ("feather.MAX_IMAGE", 0, "a list of Arrow"),
    "parquet": ("parquet.MAX_IMAGE", 0, "a value of Parquet of fixed size, as Arrow reads it,"),
    "hdf5_chunked": ("hdf5.MAX_CHUNK", 0, "a chunk of HDF5"),
    "hdf5_gzip": ("hdf5.MAX_CHUNK", 0, "a chunk of HDF5"),
    "png_stored": ("png_stored.MAX_CHUNK", 69, "a chunk of PNG"),
}
BIG: dict[str, int] = {  # bytes of the largest image of one row, stored for real where that is cheap
    "parquet": 2**28 - 1,
    "png": 3 * 89_478_478,
    "png_stored": 3 * 89_478_478,
}
REAL = {  # bytes of the largest record, as docs/datasets.md has them, and its kind where the other has no such limit
    "lmdb": (2**31 - 4112, None),
    "lmdb_packed": (2**31 - 4112, "pixels"),
    "sqlite": (999_999_000, None),
    "leveldb": (2**31 - 8200, None),
    "badger": (2**30, None),
    "bolt": (2**29 - 72, None),
    "feather": (2**31 - 1, "pixels"),
    "hdf5_chunked": (2**32 - 1, "pixels"),
    "tar": (2**33 - 1, "encoded"),
}
STORED = ("bolt", "feather", "sqlite")  # for real; the others take more than 3 GB of memory and disk
SIZE = 3 * 300  # bytes of an image
HERE = [name for name in LIMITS if name in BACKENDS]
SETS: dict[str, Callable[[int], tuple[Any, storage.Labels]]] = {
    "pixels": lambda size: (np.ones((2, 1, size // 3, 3), np.uint8), np.arange(2)),
    "encoded": lambda size: (Encoded.join([b"", bytes(size)]), np.arange(2)),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in HERE for kind in SETS if (name, kind) != ("lmdb_packed", "encoded")],  # it cuts files
)
def test_a_record_as_large_as_the_limit_is_stored_and_a_larger_one_is_refused_before_anything_is_written(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, extra, what = LIMITS[name]
    module, attribute = place.split(".")
    limit = SIZE + extra
    monkeypatch.setattr(import_module(f"storage.backends.{module}"), attribute, limit)
    monkeypatch.setattr(BACKENDS[name], "RECORD", 1, raising=False)  # lmdb_packed's: one image
    with pytest.raises(storage.InvalidInputError, match=f"{limit + 3} bytes, and {what} at most {limit}"):
        BACKENDS[name].store_many(tmp_path / "large", *SETS[kind](SIZE + 3))
    assert not (tmp_path / "large").exists()
    BACKENDS[name].store_many(tmp_path / "store", *SETS[kind](SIZE))
    check = check_file_reads if kind == "encoded" else check_reads
    check(BACKENDS[name], tmp_path / "store", SETS[kind](SIZE))


@pytest.mark.parametrize("name", [name for name in HERE if name not in {"sqlite", "leveldb"}])
def test_more_files_than_one_record_of_offsets_or_labels_holds_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, attribute = LIMITS[name][0].split(".")
    monkeypatch.setattr(import_module(f"storage.backends.{module}"), attribute, 800)
    with pytest.raises(storage.InvalidInputError, match=r"8\d\d bytes, and a value of .* at most 800"):
        BACKENDS[name].store_many(tmp_path / "store", Encoded.join([b""] * 101), np.arange(101) + 2**40)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", [name for name in IMAGES if name in BACKENDS])
def test_an_image_as_large_as_the_limit_is_stored_and_a_larger_one_is_refused_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, extra, whose = IMAGES[name]
    module, attribute = place.split(".")
    limit = SIZE + extra
    monkeypatch.setattr(import_module(f"storage.backends.{module}"), attribute, limit)
    with pytest.raises(
        storage.InvalidInputError, match=f"has {limit + 3:,} bytes, and {whose} takes at most {limit:,}"
    ):
        BACKENDS[name].store_many(tmp_path / "large", *SETS["pixels"](SIZE + 3))
    assert not (tmp_path / "large").exists()
    BACKENDS[name].store_many(tmp_path / "store", *SETS["pixels"](SIZE))
    check_reads(BACKENDS[name], tmp_path / "store", SETS["pixels"](SIZE))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("feather", (1, 2**31 // 3 + 1, 3), "2,147,483,649 bytes, and a list of Arrow takes at most 2,147,483,647"),
        ("parquet", (1, 2**28 // 3 + 1, 3), "268,435,458 bytes, and .* Parquet .* takes at most 268,435,455"),
        ("png", (1, 89_478_479, 3), "a row has 89,478,479 pixels, and Pillow takes at most 89,478,478"),
        ("png", (1, 2**28 - 7), "a row has 268,435,449 pixels, and Pillow takes at most 268,435,448"),
        ("png", (10**9, 1, 3), "an image has 1,000,000,000 rows, and labels.csv takes at most 999,999,999"),
        ("png_stored", (2**15, 2**14, 4), "a file has .* bytes, and a chunk of PNG takes at most 2,147,483,647"),
    ],
    ids=str,
)
def test_the_real_limits_of_an_image_are_refused(
    name: str, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    if name not in BACKENDS:
        pytest.skip(f"{name} isn't installed")
    images = np.empty((0, *shape), np.uint8)  # no image, so no memory
    with pytest.raises(storage.InvalidInputError, match=message):
        BACKENDS[name].store_many(tmp_path / "store", images, [])
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name, (_, only) in REAL.items() if name in BACKENDS for kind in SETS if only in {None, kind}],
)
def test_one_byte_more_than_a_record_can_have_is_refused_before_anything_is_written(
    name: str, kind: str, tmp_path: Path
) -> None:
    size = REAL[name][0] + 1
    with (tmp_path / "hole").open("w+b") as file:
        file.truncate(size)
        content = np.frombuffer(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ), np.uint8)
    images = content.reshape(1, 1, size) if kind == "pixels" else Encoded(content, np.array([0, size]))
    with pytest.raises(storage.InvalidInputError, match=r"bytes, (and .* at most|more than the limit of tar,) [\d,]+:"):
        BACKENDS[name].store_many(tmp_path / "store", images, [7])
    assert not (tmp_path / "store").exists()


@pytest.mark.slow  # up to 2 GB on the disk, and 2 GB more of memory
@pytest.mark.parametrize("name", [name for name in STORED if name in BACKENDS])
def test_a_record_as_large_as_can_be_is_stored_and_read_for_real(name: str, tmp_path: Path) -> None:
    images = np.zeros((1, 1, REAL[name][0]), np.uint8)  # in memory that is hardly touched
    marks = [0, 2**28, images.size - 1]
    images[0, 0, marks] = 1, 2, 3
    BACKENDS[name].store_many(tmp_path / "store", images, [7])
    with BACKENDS[name].open_reader(tmp_path / "store") as reader:
        found, labels = reader.read([0])
    assert labels.tolist() == [7]
    assert found.shape == images.shape
    assert found[0, 0, marks].tolist() == [1, 2, 3]
    assert np.count_nonzero(found) == len(marks)


@pytest.mark.slow  # 2 GB on the disk
@need_backend("feather")
def test_feather_holds_more_than_two_to_the_31_bytes_of_pixels(tmp_path: Path) -> None:
    images = np.zeros((33, 1 << 13, 1 << 13), np.uint8)  # in memory that is hardly touched
    images[[0, 31, 32], -1, -1] = 7
    BACKENDS["feather"].store_many(tmp_path / "store", images, range(33))
    with BACKENDS["feather"].open_reader(tmp_path / "store") as reader:
        found, labels = reader.read([32, 31, 1])
    assert labels.tolist() == [32, 31, 1]
    assert np.array_equal(found, images[[32, 31, 1]])


@pytest.mark.slow  # up to a gigabyte, and seconds each
@pytest.mark.parametrize("name", [name for name in BIG if name in BACKENDS])
def test_the_largest_image_is_stored_and_read_for_real(name: str, tmp_path: Path) -> None:
    images = np.zeros((1, 1, BIG[name] // 3, 3), np.uint8)
    images[0, 0, [0, 1, 2**24, -1]] = 7
    BACKENDS[name].store_many(tmp_path / "store", images, [7])
    found, labels = BACKENDS[name].read_many(tmp_path / "store")
    assert labels.tolist() == [7]
    assert np.array_equal(found, images)
