"""Files as other programs write them, for the tests of sources: of pixels, and archives of image files."""

import gzip
import json
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.cifar import join, regular

Array = NDArray[Any]
IDX_TYPES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def make_idx(array: Array) -> bytes:
    """Make an IDX file: its values are big-endian."""
    head = struct.pack(f">HBB{array.ndim}I", 0, IDX_TYPES[array.dtype.str[1:]], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_npy(folder: Path, images: Array, labels: Array) -> Path:
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    return folder / "images.npy"


def write_npz(folder: Path, images: Array, labels: Array) -> Path:
    np.savez(folder / "set.npz", x=images, y=labels)
    return folder / "set.npz"


def write_packed_npz(folder: Path, images: Array, labels: Array) -> Path:
    np.savez_compressed(folder / "set.npz", images=images, labels=labels)
    return folder / "set.npz"


def write_hdf5(folder: Path, images: Array, labels: Array) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "set.h5", "w") as file:
        file["images"], file["labels"] = images, labels
    return folder / "set.h5"


def write_chunked_hdf5(folder: Path, images: Array, labels: Array) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "set.h5", "w") as file:
        chunks = (3, *images.shape[1:])
        file.create_dataset(
            "train/pixels", data=images, chunks=chunks, maxshape=(None, *images.shape[1:]), compression=4
        )
        file.create_dataset("train/classes", data=labels)
    return folder / "set.h5"


def write_idx(folder: Path, images: Array, labels: Array) -> Path:
    (folder / "train-images-idx3-ubyte").write_bytes(make_idx(images))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(make_idx(labels), 1))
    return folder / "train-images-idx3-ubyte"


def write_packed_idx(folder: Path, images: Array, labels: Array) -> Path:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(make_idx(images), 1))
    (folder / "train-labels-idx1-ubyte").write_bytes(make_idx(labels))
    return folder / "train-images-idx3-ubyte.gz"


WRITERS: dict[str, Callable[[Path, Array, Array], Path]] = {
    "npy": write_npy,
    "npz": write_npz,
    "packed npz": write_packed_npz,
    "hdf5": write_hdf5,
    "chunked hdf5": write_chunked_hdf5,
    "idx": write_idx,
    "packed idx": write_packed_idx,
}


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    """Write an archive; a mode of ``w:gz`` packs it."""
    path.write_bytes(join(*(regular(name, content) for name, content in files.items())))
    if mode != "w":
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_parquet(path: Path, columns: Mapping[str, Any], features: object = None, **options: Any) -> Path:  # noqa: ANN401 - of pyarrow
    """Write columns, and what the Hugging Face hub says about them."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, path, **options)
    return path


def make_image_column(files: Iterable[bytes | None], paths: Iterable[str | None]) -> Any:  # noqa: ANN401 - of pyarrow
    """Make a column of image files as the Hugging Face hub has them."""
    pyarrow = pytest.importorskip("pyarrow")
    fields = [("bytes", pyarrow.binary()), ("path", pyarrow.string())]
    values = [{"bytes": file, "path": path} for file, path in zip(files, paths, strict=True)]
    return pyarrow.array(values, pyarrow.struct(fields))
