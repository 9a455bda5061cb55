"""A file is recognized by its content, whatever its name; one that isn't a source is called what it is."""

import bz2
import fcntl
import gzip
import lzma
import pickle
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.errors import BackendUnavailableError, InvalidInputError, StorageError, StoreNotFoundError
from storage.sources.opening import open_source
from tests.support.cifar import honest, join
from tests.support.image_files import make_picture, save
from tests.support.image_sets import assert_same, make_set
from tests.support.source_files import WRITERS, make_idx, write_hdf5

IMAGES, LABELS = make_set(4, 5, 7)


def make_database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE images (image)")
        content: bytes = connection.serialize()
    connection.close()
    return content


OTHERS = {
    "an empty file": b"",
    "a single image (png)": save(make_picture(), "png"),
    "a single image (jpg)": save(make_picture(), "jpeg"),
    "an Arrow file": b"ARROW1\0\0",
    "an SQLite database": make_database(),
    "a MATLAB file": b"MATLAB 5.0 MAT-file",
    "a pickle": pickle.dumps([1]),
    "compressed by bzip2": bz2.compress(b"1"),
    "compressed by xz": lzma.compress(b"1"),
    "a text file": b"image,label\r\n1.png,2\r\n",
    "a text file, compressed by gzip": gzip.compress(b"one,two"),
    "of no known kind": b"\0\1\2\3",
    "of no known kind, compressed by gzip": gzip.compress(b"\0\1\2\3"),
    "an empty file, compressed by gzip": gzip.compress(b""),
}


def refuse(path: Path) -> StorageError:
    with pytest.raises(StorageError) as caught, open_source(path):
        pass
    assert caught.value.store == path
    return caught.value


@pytest.mark.parametrize("what", OTHERS)
def test_another_file_is_called_what_it_is(what: str, tmp_path: Path) -> None:
    (tmp_path / "set.h5").write_bytes(OTHERS[what])
    error = refuse(tmp_path / "set.h5")
    assert type(error) is InvalidInputError
    assert error.problem == f"it is {what}, which can't be converted"


@pytest.mark.parametrize("name", WRITERS)
def test_the_name_of_a_file_says_nothing_about_its_kind(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, IMAGES, LABELS.astype(np.int32))
    renamed = path.with_name("train-images.txt")
    path.rename(renamed)
    if name == "idx":
        path.with_name("train-labels-idx1-ubyte.gz").rename(tmp_path / "train-labels.txt.gz")
    if name == "packed idx":
        path.with_name("train-labels-idx1-ubyte").rename(tmp_path / "train-labels.txt")
    with open_source(renamed) as source:
        np.testing.assert_array_equal(np.concatenate(list(source.read(0))), IMAGES)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path, IMAGES, LABELS)
    (tmp_path / "link").symlink_to(path)
    with open_source(tmp_path / "link") as source:
        assert_same((np.concatenate(list(source.read(0))), source.labels), (IMAGES, LABELS))


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("images.npy", "labels.npy"),
        ("train_images.npy", "train_labels.npy"),
        ("image.npy", "label.npy"),
        ("x.npy", "y.npy"),
        ("X_train.npy", "y_train.npy"),
        ("X.npy", "Y.npy"),
        ("test-x.npy", "test-y.npy"),
        ("pixels.npy", None),
        ("boxes.npy", None),
    ],
)
def test_the_labels_of_an_npy_file_are_found_by_its_name(name: str, labels: str | None, tmp_path: Path) -> None:
    np.save(tmp_path / name, IMAGES)
    np.save(tmp_path / (labels or "labels.npy"), LABELS)
    np.save(tmp_path / "boyes.npy", LABELS)
    with open_source(tmp_path / name) as source:
        np.testing.assert_array_equal(source.labels, LABELS if labels else 0)


def test_an_idx_file_needs_its_labels(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(make_idx(LABELS.astype(np.uint8)))
    assert refuse(tmp_path / "labels").problem == "it is an IDX file, as those of MNIST, and holds labels"
    for name in ("images", "other"):
        (tmp_path / name).write_bytes(make_idx(IMAGES))
    (tmp_path / "labels").unlink()
    for name in ("images", "other"):
        error = refuse(tmp_path / name)
        assert isinstance(error, StoreNotFoundError)
        assert error.problem.endswith("there is no file of labels beside it")
    (tmp_path / "labels").write_bytes(b"none")
    with pytest.raises(StorageError, match="labels: it isn't an IDX file"), open_source(tmp_path / "images"):
        pass


def test_hdf5_that_another_program_has_locked_is_read(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path, IMAGES, LABELS)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with open_source(path) as source:
            np.testing.assert_array_equal(np.concatenate(list(source.read(0))), IMAGES)


def test_hdf5_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_hdf5(tmp_path, IMAGES, LABELS)
    monkeypatch.setitem(sys.modules, "h5py", None)
    error = refuse(path)
    assert isinstance(error, BackendUnavailableError)
    assert error.hint == "python -m pip install h5py"


def test_a_file_that_the_system_refuses_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "images.npy", IMAGES)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("storage.sources.numpy_files.read_magic", fail)
    assert refuse(tmp_path / "images.npy").problem == "the operating system refused ([Errno 5] Input/output error)"


def test_a_compressed_archive_of_batches_is_cifar10(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(gzip.compress(join(*honest())))
    with open_source(tmp_path / "set.zip") as source:
        assert source.identity.startswith("cifar10 ")
