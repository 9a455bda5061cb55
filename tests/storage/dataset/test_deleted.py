"""A dataset that was deleted while it was open is reported as deleted, never as damaged, in forked processes too."""

import errno
import os
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import BACKENDS, StorageError, StoreNotFoundError
from storage.dataset.opening import open_dataset
from storage.dataset.verification import CHANGED, name_record
from storage.reader import read_stored
from tests.faults.children import Ending, run_child
from tests.support.encoded_sets import assert_same_files, make_files
from tests.support.image_sets import assert_same, make_set

pytestmark = pytest.mark.kinds("pixels", "encoded")
DELETED = "set: it was deleted while it was open: restore it from a copy"


@pytest.mark.parametrize("kind", ["pixels", "encoded"])
def test_a_deleted_dataset_is_still_read_or_reported_as_deleted(backend: str, kind: str, tmp_path: Path) -> None:
    if kind not in BACKENDS[backend].INFO.kinds:
        pytest.skip(f"{backend} stores no {kind}")
    images, labels = expected = make_set(9) if kind == "pixels" else make_files()
    storage.save(tmp_path / "set", images, labels, backend, names=list("abcdefghi"))
    check: Any = assert_same if kind == "pixels" else assert_same_files

    def read() -> str:
        try:
            found = read_stored(reader, range(9))
        except StoreNotFoundError as error:
            return str(error).removeprefix(f"{tmp_path}/")
        check(found, expected)
        return ""

    with storage.open(tmp_path / "set") as reader:
        reader[0] if kind == "pixels" else reader.read_encoded([0])
        pickled = pickle.dumps(reader)
        shutil.rmtree(tmp_path / "set")
        assert read() in {"", f"{DELETED}, then open it again"}
        assert run_child(read) == Ending(0, f"{DELETED}, then open it again")
        for what in ("names", "targets"):
            with pytest.raises(StoreNotFoundError, match=DELETED):
                list(getattr(reader, what))
    with pytest.raises(StoreNotFoundError, match="set: it doesn't exist"):
        pickle.loads(pickled)  # noqa: S301 - written a few lines above


def test_one_image_of_a_deleted_dataset_is_reported_as_deleted(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(3), "png")
    with storage.open(tmp_path / "set") as reader:
        shutil.rmtree(tmp_path / "set")
        with pytest.raises(StoreNotFoundError, match=DELETED):
            reader[1]
        with pytest.raises(StoreNotFoundError, match=DELETED):
            reader.read_labels()


def test_a_dataset_that_is_there_is_not_called_deleted_because_its_folder_cannot_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", *make_set(3), "png")
    with storage.open(tmp_path / "set") as reader:
        next((tmp_path / "set").glob("part-*/00000001.png")).unlink()

        def refuse(path: Path, **_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

        monkeypatch.setattr(Path, "stat", refuse)
        with pytest.raises(storage.CorruptStoreError, match="record 1: it is damaged"):
            reader[1]


def test_a_forked_reader_that_cannot_open_its_files_again_says_why(tmp_path: Path) -> None:
    images, labels = make_set(3)
    storage.save(tmp_path / "set", images, labels, "npy")

    def read() -> str:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            reader.read([0, 2])
        except StorageError as error:
            return f"{type(error).__name__}: {error}"
        return "nothing was refused"

    with storage.open(tmp_path / "set") as reader:
        told = run_child(read).told
        assert told.startswith(f"StorageError: {tmp_path}/set")
        assert "Too many open files" in told
        np.testing.assert_array_equal(reader.read([0, 2])[0], images[[0, 2]])


def test_no_record_of_a_deleted_dataset_is_called_damaged(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(9), "npy")
    with open_dataset(tmp_path / "set", verify=True) as dataset:
        shutil.rmtree(tmp_path / "set")
        error = name_record(dataset, 3, CHANGED)
    assert isinstance(error, StoreNotFoundError)
    assert str(error) == f"{tmp_path}/{DELETED}, then open it again"
