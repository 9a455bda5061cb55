"""What only the HDF5 backend has: a layout that others can read, and other layouts that it reads or refuses."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import storage
from storage import StorageError, StoreFullError
from tests.support.backends import take_backend

hdf5 = take_backend("hdf5")

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
    "labels of 32 bits": create(images=IMAGES, labels=LABELS.astype("<i4")),
    "labels without sign": create(images=IMAGES, labels=LABELS.astype("<u8")),
    "labels big-endian": create(images=IMAGES, labels=LABELS.astype(">i8")),
    "images with sign": create(images=IMAGES.astype(np.int8), labels=LABELS),
    "images of 16 bits": create(images=IMAGES.astype("<u2"), labels=LABELS),
    "images of truth": create(images=IMAGES > 127, labels=LABELS),
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


READS: dict[str, Callable[[Path], object]] = {
    "read_single": lambda path: hdf5.read_single(path, 0),
    "read_many": hdf5.read_many,
    "open_reader": hdf5.open_reader,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_file_cut_short_is_refused_before_it_is_mapped(tmp_path: Path, read: Callable[[Path], object]) -> None:
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    path = tmp_path / "images.h5"
    with h5py.File(path) as file:
        end = max(file[name].id.get_offset() + file[name].nbytes for name in ("images", "labels"))
    content = path.read_bytes()
    for size in [*range(0, end, 97), end - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
            read(tmp_path)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_values_that_lie_behind_the_end_of_the_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    path = tmp_path / "images.h5"
    monkeypatch.setattr(hdf5, "_open_source", shift(hdf5._open_source, path.stat().st_size))  # noqa: SLF001 - as damage would
    with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
        read(tmp_path)


def shift(open_source: Callable[..., Any], offset: int) -> Callable[..., Any]:
    """Let HDF5 say that values begin elsewhere."""
    return lambda *arguments: open_source(*arguments)._replace(offset=offset)


def test_a_contiguous_file_of_another_program_is_read_right(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "images.h5", "w", userblock_size=512, libver="latest") as file:
        file["more"] = np.arange(1000)
        file.create_dataset("labels", data=LABELS, dtype="<i8")
        file.create_dataset("images", data=IMAGES)
    (tmp_path / "notes.txt").write_text("mine")
    np.testing.assert_array_equal(hdf5.read_many(tmp_path)[0], IMAGES)
    np.testing.assert_array_equal(hdf5.read_single(tmp_path, 7)[0], IMAGES[7])
    with hdf5.open_reader(tmp_path) as reader:
        np.testing.assert_array_equal(reader.read(INDICES)[0], IMAGES[INDICES])
        np.testing.assert_array_equal(reader[19][0], IMAGES[19])
        np.testing.assert_array_equal(reader.view(), IMAGES)


def test_a_file_that_was_never_filled_has_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("images", (3, 5, 7, 3), np.uint8)
        file.create_dataset("labels", (3,), "<i8")
    out = np.full((3, 5, 7, 3), 7, np.uint8)
    assert hdf5.read_many(tmp_path, out)[0] is out
    assert not out.any()
    with hdf5.open_reader(tmp_path) as reader:
        out[...] = 7
        assert reader.read([2, 0, 2], out)[0] is out
        assert not out.any()
        assert not reader[1][0].any()


def test_a_chunked_file_fills_the_array_of_the_caller(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(4, 5, 7, 3))
        file.create_dataset("labels", data=LABELS, dtype="<i8")
    out = np.zeros_like(IMAGES)
    assert hdf5.read_many(tmp_path, out)[0] is out
    np.testing.assert_array_equal(out, IMAGES)
    with hdf5.open_reader(tmp_path) as reader:
        assert reader.read(INDICES, out[:4])[0].base is out
        np.testing.assert_array_equal(out[:4], IMAGES[INDICES])


def test_labels_of_a_chunked_file_are_read_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(4, 5, 7, 3))
        file.create_dataset("labels", data=LABELS, dtype="<i8", chunks=(4,))
    with hdf5.open_reader(tmp_path) as reader:
        np.testing.assert_array_equal(reader.read_labels(), LABELS)


def test_a_file_that_a_writer_has_not_made_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images.h5")
    with pytest.raises(storage.CorruptStoreError, match="no regular file"):
        hdf5.read_many(tmp_path)


def test_a_store_can_be_read_while_h5py_has_it_open(tmp_path: Path) -> None:
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    with h5py.File(tmp_path / "images.h5") as file, hdf5.open_reader(tmp_path) as reader:
        np.testing.assert_array_equal(hdf5.read_many(tmp_path)[0], file["images"])
        reader.close()
        np.testing.assert_array_equal(file["labels"], LABELS)


def test_no_time_is_recorded_so_the_same_images_make_the_same_file(tmp_path: Path) -> None:
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    with h5py.File(tmp_path / "images.h5") as file:
        assert [h5py.h5o.get_info(file[name].id).mtime for name in ("/", "images", "labels")] == [0] * 3


@pytest.mark.parametrize(("code", "kind"), [(28, StoreFullError), (5, StorageError)])
def test_an_error_of_the_system_that_hdf5_puts_into_words_is_understood(
    code: int, kind: type[StorageError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"Unable to close (file write failed: errno = {code}, error message = 'some')")

    monkeypatch.setattr("h5py.h5d.create", fail)
    with pytest.raises(StorageError, match=f"errno = {code}") as caught:
        hdf5.store_many(tmp_path, IMAGES, LABELS)
    assert type(caught.value) is kind


def test_a_chunked_file_cannot_be_viewed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(4, 5, 7, 3))
        file.create_dataset("labels", data=LABELS, dtype="<i8")
    with hdf5.open_reader(tmp_path) as reader:
        with pytest.raises(storage.StorageError, match="not contiguous"):
            reader.view()
        np.testing.assert_array_equal(reader.read(range(20))[0], IMAGES)


def test_a_writer_holds_no_lock_that_a_child_could_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = hdf5.write_range

    def look_and_write(descriptor: int, *arguments: Any) -> None:  # noqa: ANN401 - as it is called
        with (tmp_path / "images.h5").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write(descriptor, *arguments)

    monkeypatch.setattr(hdf5, "write_range", look_and_write)
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    np.testing.assert_array_equal(hdf5.read_many(tmp_path)[0], IMAGES)
