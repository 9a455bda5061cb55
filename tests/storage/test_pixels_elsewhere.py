"""Pixels that aren't 8-bit RGB are read with each format's own library, by what the store itself says about them."""

import io
import sqlite3
import struct
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from storage import BACKENDS
from tests.support.backends import PIXELS
from tests.support.image_sets import FORMS, make_form, view_content

Found = tuple[Any, Any]  # images and labels
COUNT = 5


def parse(layout: bytes, content: bytes) -> Any:  # noqa: ANN401 - an array
    """Make an array of pixels as the record ``layout`` of a key-value store describes them."""
    count, height, width, *_ = struct.unpack_from("<3Q", layout)
    channels, dtype = struct.unpack("<Q8s", layout[-16:])
    shape = (count, height, width, channels) if channels else (count, height, width)
    return np.frombuffer(content, dtype.rstrip(b"\0").decode()).reshape(shape)


def parse_records(layout: bytes, records: list[bytes]) -> Found:
    """Do the same for records that end with a label."""
    labels = np.frombuffer(b"".join(record[-8:] for record in records), "<i8")
    return parse(layout, b"".join(record[:-8] for record in records)), labels


def read_npy(store: Path) -> Found:
    return np.load(store / "images.npy"), np.load(store / "labels.npy")


def read_hdf5(store: Path) -> Found:
    h5py = pytest.importorskip("h5py")
    with h5py.File(store / "images.h5") as file:
        return file["images"][:], file["labels"][:]


def read_feather(store: Path) -> Found:
    feather = pytest.importorskip("pyarrow.feather")
    table = feather.read_table(store / "images.arrow")
    return table["image"].combine_chunks().to_numpy_ndarray(), table["label"].to_numpy()


def read_parquet(store: Path) -> Found:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(store / "images.parquet")
    facts = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    shape = [int(facts[name]) for name in ("images", "height", "width", "channels") if facts[name] != "0"]
    content = b"".join(table["image"].to_pylist())
    return np.frombuffer(content, facts["dtype"]).reshape(shape), table["label"].to_numpy()


def read_zarr(store: Path) -> Found:
    group = pytest.importorskip("zarr").open_group(store, mode="r")
    return group["images"][:], group["labels"][:]


def read_tiledb(store: Path) -> Found:
    tiledb = pytest.importorskip("tiledb")
    context = tiledb.Ctx({"sm.enable_signal_handlers": "false"})
    with tiledb.Group(str(store), ctx=context) as group:
        facts = dict(group.meta.items())
    with (
        tiledb.open(str(store / "images"), ctx=context) as images,
        tiledb.open(f"{store}/labels", ctx=context) as labels,
    ):
        shape = [facts[name] for name in ("count", "height", "width", "channels") if facts[name]]
        return np.frombuffer(images[:]["pixels"].tobytes(), facts["dtype"]).reshape(shape), labels[:]["label"]


def read_tar(store: Path) -> Found:
    with tarfile.open(store / "000000.tar") as file:
        contents = {name: file.extractfile(name).read() for name in file.getnames()}  # type: ignore[union-attr] # files
    images = [np.load(io.BytesIO(contents[name])) for name in sorted(contents) if name.endswith(".npy")]
    return np.stack(images), [int(contents[name]) for name in sorted(contents) if name.endswith(".cls")]


def read_lmdb(store: Path) -> Found:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(store), readonly=True, lock=False) as environment, environment.begin() as transaction:
        records = dict(transaction.cursor())
    labels = np.frombuffer(records.pop(b"labels"), "<i8")
    return parse(records.pop(b"layout"), b"".join(records.values())), labels


def read_leveldb(store: Path) -> Found:
    with closing(pytest.importorskip("plyvel").DB(str(store))) as database:
        *records, (key, layout) = database
    assert key == b"layout"
    return parse_records(layout, [value for _, value in records])


def read_sqlite(store: Path) -> Found:
    with closing(sqlite3.connect(store / "images.sqlite")) as connection:
        count, height, width, channels, dtype = connection.execute("SELECT * FROM layout").fetchone()
        labels, pixels = zip(*connection.execute("SELECT label, pixels FROM images ORDER BY id"), strict=True)
    shape = (count, height, width, channels) if channels else (count, height, width)
    return np.frombuffer(b"".join(pixels), dtype).reshape(shape), labels


def read_png(store: Path) -> Found:
    images = [np.asarray(Pillow.open(path)) for path in sorted(store.glob("*.png"))]
    return np.stack(images), np.loadtxt(store / "labels.csv", np.int64, skiprows=1)


READERS: dict[str, Callable[[Path], Found]] = {
    "npy": read_npy,
    "hdf5": read_hdf5,
    "hdf5_chunked": read_hdf5,
    "hdf5_gzip": read_hdf5,
    "feather": read_feather,
    "feather_lz4": read_feather,
    "parquet": read_parquet,
    "zarr": read_zarr,
    "tiledb": read_tiledb,
    "tar": read_tar,
    "lmdb": read_lmdb,
    "lmdb_packed": read_lmdb,
    "leveldb": read_leveldb,
    "sqlite": read_sqlite,
    "png": read_png,
    "png_stored": read_png,
}
NO_LIBRARY = {"badger", "bolt"}  # for Python; their bridge reads them as it does 8-bit RGB


@pytest.mark.parametrize("form", ["16-bit gray", "floats", "spectra"])
@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype):DeprecationWarning")  # TileDB-Py; NumPy 2.5
def test_the_formats_own_library_reads_the_pixels(backend: str, form: str, tmp_path: Path) -> None:
    if backend not in READERS:
        pytest.skip(f"no library of Python reads {backend}")
    images, labels = make_form(form, COUNT)
    if FORMS[form][0] not in BACKENDS[backend].INFO.dtypes:
        pytest.skip(f"{backend} stores no {form}")
    BACKENDS[backend].store_many(tmp_path / "store", images, labels)
    found, found_labels = READERS[backend](tmp_path / "store")
    assert (found.dtype, found.shape) == (images.dtype, images.shape)
    np.testing.assert_array_equal(view_content(found), view_content(images))
    np.testing.assert_array_equal(found_labels, labels)


def test_every_format_has_its_own_library_tried() -> None:
    assert READERS.keys() | NO_LIBRARY >= set(PIXELS) - {"raw"}
