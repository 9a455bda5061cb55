"""What only the HDF5 backend has: a layout that others can read, and other layouts that it reads or refuses."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import storage
from storage import hdf5

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 5, 7, 3), np.uint8)
LABELS = np.arange(20)
INDICES = [3, 19, 3, 0]


def test_the_datasets_are_contiguous(tmp_path: Path) -> None:
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    with h5py.File(tmp_path / "images.h5") as file:
        for name, dtype in (("images", "uint8"), ("labels", "<i8")):
            assert file[name].chunks is None
            assert file[name].dtype == np.dtype(dtype)
            assert file[name].id.get_offset() is not None


LAYOUTS: dict[str, dict[str, object]] = {
    "chunked": {"chunks": (4, 5, 7, 3)},
    "compressed": {"compression": "gzip"},
    "shuffled and checked": {"shuffle": True, "fletcher32": True},
    "resizable": {"maxshape": (None, 5, 7, 3)},
}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_a_file_that_is_not_contiguous_is_read_all_the_same(tmp_path: Path, options: dict[str, object]) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, **options)
        file.create_dataset("labels", data=LABELS, dtype="<i8")
    np.testing.assert_array_equal(hdf5.read_many(tmp_path)[0], IMAGES)
    np.testing.assert_array_equal(hdf5.read_single(tmp_path, -1)[0], IMAGES[-1])
    with hdf5.open_reader(tmp_path) as reader:
        images, labels = reader.read(INDICES)
        np.testing.assert_array_equal(images, IMAGES[INDICES])
        np.testing.assert_array_equal(labels, INDICES)
        np.testing.assert_array_equal(reader[7][0], IMAGES[7])
        assert len(reader.read([])[0]) == 0


def test_a_shape_that_fits_no_memory_is_an_error_of_ours(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("images", (10**12, 32, 32, 3), np.uint8, chunks=(1, 32, 32, 3))
        file.create_dataset("labels", (10**12,), "<i8", chunks=(1000,))
    with pytest.raises(storage.StorageError, match="does not fit in memory"):
        hdf5.read_many(tmp_path)


def create(**datasets: object) -> Callable[[h5py.File], None]:
    """Make a function that fills a file with these datasets."""

    def fill(file: h5py.File) -> None:
        for name, content in datasets.items():
            file.create_dataset(name, data=content)

    return fill


def create_group(file: h5py.File) -> None:
    """Have a group where the images should be."""
    file.create_group("images")
    file["labels"] = LABELS


def link_outside(file: h5py.File) -> None:
    """Name datasets of another file."""
    file["images"] = h5py.ExternalLink("other.h5", "images")
    file["labels"] = h5py.ExternalLink("other.h5", "labels")


def keep_outside(file: h5py.File) -> None:
    """Keep the pixels in a raw file beside the HDF5 file."""
    file.create_dataset("images", IMAGES.shape, np.uint8, external=[("/etc/passwd", 0, IMAGES.nbytes)])
    file["labels"] = LABELS


def map_outside(file: h5py.File) -> None:
    """Make the pixels a view of another file."""
    layout = h5py.VirtualLayout(IMAGES.shape, np.uint8)
    layout[...] = h5py.VirtualSource("other.h5", "images", IMAGES.shape)
    file.create_virtual_dataset("images", layout)
    file["labels"] = LABELS


FOREIGN: dict[str, Callable[[h5py.File], None]] = {
    "empty": lambda _: None,
    "no labels": create(images=IMAGES),
    "a group": create_group,
    "floats": create(images=IMAGES / 2, labels=LABELS),
    "grey": create(images=IMAGES[..., 0], labels=LABELS),
    "alpha": create(images=np.zeros((20, 5, 7, 4), np.uint8), labels=LABELS),
    "labels of 8 bits": create(images=IMAGES, labels=LABELS.astype(np.uint8)),
    "fewer labels": create(images=IMAGES, labels=LABELS[:-1]),
    "linked": link_outside,
    "external": keep_outside,
    "virtual": map_outside,
}


@pytest.mark.parametrize("fill", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_another_program_is_refused(tmp_path: Path, fill: Callable[[h5py.File], None]) -> None:
    hdf5.store_many(tmp_path / "other", IMAGES, LABELS)
    (tmp_path / "other" / "images.h5").rename(tmp_path / "other.h5")
    (tmp_path / "other").rmdir()
    with h5py.File(tmp_path / "images.h5", "w") as file:
        fill(file)
    for read in (hdf5.read_many, hdf5.open_reader, lambda path: hdf5.read_single(path, 0)):
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
            read(tmp_path)
