"""Every backend keeps the contract of `storage.Backend`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import BACKENDS, Backend
from tests.faults.children import run_cases
from tests.support.backends import PIXELS
from tests.support.encoded_sets import store_any
from tests.support.full_disk import limit_file_size
from tests.support.image_sets import LABELS, assert_same, make_set
from tests.support.open_files import count_open_files

TIMEOUT = 20.0  # seconds
READS: dict[str, Callable[[Backend, Path], object]] = {
    "read_single": lambda module, store: module.read_single(store, 0),
    "read_many": lambda module, store: module.read_many(store),
    "open_reader": lambda module, store: module.open_reader(store),
}


@pytest.mark.parametrize(
    ("count", "height", "width"), [(0, 32, 32), (0, 17, 31), (1, 1, 1), (7, 17, 31), (3, 224, 224), (2100, 2, 3)]
)
def test_a_stored_set_comes_back(module: Backend, tmp_path: Path, count: int, height: int, width: int) -> None:
    images, labels = make_set(count, height, width)
    module.store_many(tmp_path, images, labels)
    out = np.zeros_like(images)
    assert module.read_many(tmp_path, out)[0] is out
    with module.open_reader(tmp_path) as reader:
        assert len(reader) == count
        for found in (module.read_many(tmp_path), (out, labels), reader.read(range(count))):
            assert_same(found, (images, labels))


def test_a_single_image_comes_back(module: Backend, tmp_path: Path) -> None:
    image = make_set(1, 17, 31)[0][0]
    for label in LABELS:
        store = tmp_path / str(label)
        module.store_single(store, image, label)
        assert_same(module.read_single(store, 0), (image, label))
        assert isinstance(module.read_single(store, 0)[1], int)


def test_one_image_is_read_out_of_many(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    for index in (0, 3, 9, -1, -10):
        assert_same(module.read_single(store, index), (images[index], labels[index]))


def test_an_index_out_of_range_raises_record_not_found(module: Backend, store: Path) -> None:
    for index in (10, -11, 2**40, 2**64, -(10**5000)):
        with pytest.raises(storage.RecordNotFoundError, match="10 images"):
            module.read_single(store, index)


def test_an_impossible_name_is_refused(module: Backend, store: Path, subtests: pytest.Subtests) -> None:
    for name in ("x" * 300, "\ud800", "store\0", "store\0/more", "store/\0"):
        with subtests.test(ascii(name)):
            for read in READS.values():
                with pytest.raises(storage.StorageError):
                    read(module, store.parent / name)
            with pytest.raises(storage.StorageError):
                module.store_many(store.parent / name, *make_set(1))
    assert_same(module.read_many(store), make_set(10))


def test_a_store_may_have_any_name(module: Backend, tmp_path: Path) -> None:
    for name in ("with blank", "Bücher 書", "\udcff"):
        module.store_many(tmp_path / name, *make_set(3))
        assert_same(module.read_many(tmp_path / name), make_set(3))
        with module.open_reader(tmp_path / name) as reader:
            assert_same(reader.read(range(3)), make_set(3))


def test_a_set_that_is_neither_contiguous_nor_writable_comes_back(module: Backend, tmp_path: Path) -> None:
    images, labels = make_set(20)
    images.flags.writeable = labels.flags.writeable = False
    module.store_many(tmp_path, images[::2, ::-1], labels[::2])
    assert_same(module.read_many(tmp_path), (images[::2, ::-1], labels[::2]))


def test_reads_return_fresh_memory(module: Backend, store: Path) -> None:
    for array in module.read_many(store):
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[...] = 7
    assert_same(module.read_many(store), make_set(10))


IMAGES, LABEL_ROW = make_set(2)
BAD_SETS: dict[str, tuple[Any, Any]] = {
    "images of floats": (IMAGES.astype(np.float64), LABEL_ROW),
    "images of complex numbers": (IMAGES.astype(np.complex64), LABEL_ROW),
    "labels of floats": (IMAGES, LABEL_ROW.astype(np.float64)),
    "labels of 65 bits": (IMAGES, [0, 2**64]),
    "images of rank 2": (IMAGES[0, 0], LABEL_ROW),
    "images of rank 5": (IMAGES[np.newaxis], LABEL_ROW[:1]),
    "labels of rank 2": (IMAGES, LABEL_ROW[:, np.newaxis]),
    "0 channels": (np.zeros((2, 4, 4, 0), np.uint8), LABEL_ROW),
    "channels first": (np.zeros((2, 3, 8, 9), np.uint8), LABEL_ROW),
    "fewer labels": (IMAGES, LABEL_ROW[:1]),
    "no pixels": (np.zeros((2, 0, 4, 3), np.uint8), LABEL_ROW),
    "a list": (IMAGES.tolist(), LABEL_ROW),
    "a masked array": (np.ma.array(IMAGES), LABEL_ROW),
    "a list of images of two sizes": ([IMAGES[0], IMAGES[0, 1:]], LABEL_ROW),
    "a text": (IMAGES, "12"),
}


def test_a_bad_image_set_is_refused_and_nothing_written(
    module: Backend, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for name, bad in BAD_SETS.items():
        with subtests.test(name):
            with pytest.raises(storage.InvalidInputError):
                module.store_many(tmp_path / name, *bad)
            assert not (tmp_path / name).exists()


BAD_IMAGES: dict[str, tuple[Any, Any]] = {
    "an image of rank 4": (IMAGES, 1),
    "an image of floats": (IMAGES[0] / 2, 1),
    "no image": (None, 1),
    **{f"a label of {label!s:.9}": (IMAGES[0], label) for label in (2**63, 10**4000, 1.5, "text")},
}


def test_a_bad_image_is_refused_and_nothing_written(module: Backend, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name, bad in BAD_IMAGES.items():
        with subtests.test(name):
            with pytest.raises(storage.InvalidInputError):
                module.store_single(tmp_path / name, *bad)
            assert not (tmp_path / name).exists()


def test_a_store_is_not_overwritten(module: Backend, store: Path) -> None:
    with pytest.raises(storage.StoreExistsError, match="not empty"):
        module.store_many(store, *make_set(1))
    assert_same(module.read_many(store), make_set(10))


def test_a_file_is_not_a_store(module: Backend, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(storage.StoreExistsError, match="it is a file"):
        module.store_single(path, IMAGES[0], 1)
    with pytest.raises(storage.StoreNotFoundError, match="it is a file"):
        module.read_many(path)
    assert path.read_text() == "mine"


def test_a_store_needs_a_parent_folder(module: Backend, tmp_path: Path) -> None:
    with pytest.raises(storage.StoreNotFoundError, match="missing: there is no such folder"):
        module.store_many(tmp_path / "missing" / "store", *make_set(1))


def test_a_missing_store_is_not_found(module: Backend, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        for read in READS.values():
            with pytest.raises(storage.StoreNotFoundError, match=str(path)):
                read(module, path)


@pytest.mark.kinds("pixels", "encoded")
def test_a_store_of_another_family_is_refused(backend: str, module: Backend, tmp_path: Path) -> None:
    for name in (name for name in BACKENDS if name.partition("_")[0] != backend.partition("_")[0]):
        store_any(BACKENDS[name], tmp_path / name)
        for read in READS.values():
            with pytest.raises(storage.StorageError, match=str(tmp_path / name)):
                read(module, tmp_path / name)


def test_a_store_of_a_variant_is_refused_or_read_right(backend: str, module: Backend, tmp_path: Path) -> None:
    for name in (name for name in PIXELS if name.partition("_")[0] == backend.partition("_")[0]):
        BACKENDS[name].store_many(tmp_path / name, *make_set(3))
        try:
            assert_same(module.read_many(tmp_path / name), make_set(3))
        except storage.CorruptStoreError as error:
            assert str(tmp_path / name) in str(error)  # noqa: PT017 - either is right


def test_a_store_without_one_of_its_files_is_refused(module: Backend, store: Path) -> None:
    for path in [path for path in store.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(storage.StorageError, match=str(store)):
            module.read_many(store)
        path.write_bytes(content)


def test_reading_changes_nothing_in_the_store(module: Backend, store: Path) -> None:
    def look() -> list[tuple[str, int, int]]:
        return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in store.rglob("*"))

    before = look()
    module.read_many(store)
    module.read_single(store, 5)
    with module.open_reader(store) as reader:
        reader.read([1, 2])
    assert look() == before


def test_no_file_stays_open(module: Backend, store: Path, tmp_path: Path) -> None:
    before = count_open_files()
    for _ in range(3):
        module.read_many(store)
        module.read_single(store, 0)
        module.open_reader(store).close()
        for index in (10, 11):
            with pytest.raises(storage.RecordNotFoundError):
                module.read_single(store, index)
    module.store_many(tmp_path / "other", *make_set(3))
    assert count_open_files() == before


@pytest.mark.parametrize("limit", [10, 20_000, 200_000])
def test_a_full_disk_raises_store_full(module: Backend, tmp_path: Path, limit: int) -> None:
    images, labels = make_set(4, 300, 300)
    with limit_file_size(limit), pytest.raises(storage.StoreFullError, match=f"{tmp_path}.*no room left"):
        module.store_many(tmp_path / "store", images, labels)


def test_reads_never_wait_for_a_named_pipe_in_a_store(module: Backend, store: Path, tmp_path: Path) -> None:
    def read_batch(module: Backend, store: Path) -> object:
        return module.open_reader(store).read(range(10))

    def read_all(path: Path) -> str:
        path.rename(tmp_path / "kept")
        os.mkfifo(path)
        for read in (*READS.values(), read_batch):
            try:
                read(module, store)
            except storage.StorageError as error:
                assert str(store) in str(error)  # noqa: PT017 - either is right
        path.unlink()
        (tmp_path / "kept").rename(path)
        return ""

    assert run_cases([path for path in store.rglob("*") if path.is_file()], read_all, TIMEOUT) == ""
