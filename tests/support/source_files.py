"""Files of pixels as other programs write them, for the tests of sources."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
