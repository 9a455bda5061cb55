"""Views of image files: memoryviews of the memory map of a store, valid for as long as they are used."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import Backend, Encoded
from storage.reader import Reader
from tests.support.encoded_sets import make_files
from tests.support.open_files import count_maps, count_maps_left, count_open

FILES, LABELS = make_files(40)
VIEWING = {"npy", "hdf5", "feather", "tar", "lmdb_packed"}

pytestmark = pytest.mark.kinds("encoded")


@pytest.fixture
def store(module: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store forty files, some of them empty, in several records or shards where there are any."""
    if "encoded" not in module.INFO.kinds:
        pytest.skip("it stores pixels only")
    if hasattr(module, "RECORD"):
        monkeypatch.setattr(module, "RECORD", FILES.content.nbytes // 7)
    module.store_many(tmp_path / "store", FILES, LABELS)
    return tmp_path / "store"


@pytest.fixture
def viewed(module: Backend) -> Backend:
    """Skip backends that can't view files."""
    if module.__name__.rpartition(".")[2] not in VIEWING:
        pytest.skip("this backend can't view its files")
    return module


def view_files(reader: Reader) -> Sequence[memoryview]:
    """View the files of a store."""
    view: Any = reader.view()
    assert isinstance(view, Sequence)
    return view


def test_backends_that_keep_files_as_they_are_in_a_map_can_view_them(module: Backend, store: Path) -> None:
    name = module.__name__.rpartition(".")[2]
    with module.open_reader(store) as reader:
        if name in VIEWING:
            assert len(reader.view()) == len(FILES)
        else:
            with pytest.raises(storage.StorageError, match="can't be viewed"):
                reader.view()
    with pytest.raises(storage.ReaderClosedError):
        reader.view()


def test_a_view_has_all_files_and_copies_at_most_those_that_records_share(viewed: Backend, store: Path) -> None:
    with viewed.open_reader(store) as reader:
        view = view_files(reader)
        again = view_files(reader)
        copied = [
            index
            for index, file in enumerate(view)
            if len(file) and not np.shares_memory(np.frombuffer(file, np.uint8), np.frombuffer(again[index], np.uint8))
        ]
        assert [bytes(file) for file in view] == [bytes(file) for file in FILES]
        assert len(copied) <= (7 if hasattr(viewed, "RECORD") else 0)


def test_a_viewed_file_is_read_only_and_found_by_its_index(viewed: Backend, store: Path) -> None:
    with viewed.open_reader(store) as reader:
        view = view_files(reader)
        for index in (0, 7, 39, -1, -40):
            assert view[index].readonly
            assert view[index] == FILES[index]
        for index in (40, -41):
            with pytest.raises(IndexError):
                view[index]


def test_a_view_of_no_files_is_empty(viewed: Backend, tmp_path: Path) -> None:
    viewed.store_many(tmp_path / "empty", Encoded.join(()), LABELS[:0])
    with viewed.open_reader(tmp_path / "empty") as reader:
        assert list(view_files(reader)) == []


@pytest.mark.parametrize("held", ["view", "file", "part"])
def test_the_map_lives_exactly_as_long_as_its_views(viewed: Backend, store: Path, held: str) -> None:
    index = int(FILES.lengths.argmin() + 1)
    reader = viewed.open_reader(store)
    view: Any = view_files(reader)
    kept: Any = {"view": view, "file": view[index], "part": view[index][1:3]}[held]
    del view
    reader.close()
    del reader
    gc.collect()
    assert count_maps(store) >= 1
    expected = {"view": list(FILES), "file": FILES[index], "part": FILES[index][1:3]}[held]
    assert (list(kept) if held == "view" else kept) == expected
    del kept
    gc.collect()
    assert (count_maps_left(store), count_open(store)) == (0, 0)
