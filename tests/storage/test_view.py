"""Views: images in the memory map of a store, without a copy, valid for as long as they are used."""

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import Backend
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import count_maps, count_maps_left, count_open
from tests.support.suite import ROOT

IMAGES, LABELS = make_set(50)


@pytest.fixture
def viewed(module: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Store fifty images; skip backends that can't view them."""
    if hasattr(module, "RECORD"):
        monkeypatch.setattr(module, "RECORD", 8 * IMAGES[0].nbytes)  # more than one
    module.store_many(tmp_path / "store", IMAGES, LABELS)
    with module.open_reader(tmp_path / "store") as reader:
        try:
            reader.view()
        except storage.StorageError:
            pytest.skip("this backend can't view its images")
    return module


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the path of the store that `viewed` writes."""
    return tmp_path / "store"


def test_a_view_copies_nothing(viewed: Backend, store: Path) -> None:
    with viewed.open_reader(store) as reader:
        view: Any = reader.view()  # an array or a sequence
        assert len(view) == 50
        assert view.shape == IMAGES.shape
        np.testing.assert_array_equal(np.asarray(view), IMAGES)
        for index in (0, 7, 8, 49, -1, -50):
            assert np.shares_memory(view[index], reader.view()[index])
            assert not view[index].flags.owndata
            np.testing.assert_array_equal(view[index], IMAGES[index])
        assert np.shares_memory(view[-1], view[49])
        np.testing.assert_array_equal(list(view), IMAGES)
        for index in (50, -51):
            with pytest.raises(IndexError):
                view[index]
    with pytest.raises(storage.ReaderClosedError):
        reader.view()


def test_a_view_is_read_only(viewed: Backend, store: Path) -> None:
    with viewed.open_reader(store) as reader:
        image: Any = reader.view()[3]
        assert not image.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            image[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            image.flags.writeable = True


def test_reads_return_copies_not_views(viewed: Backend, store: Path) -> None:
    with viewed.open_reader(store) as reader:
        for image in (reader[3][0], reader.read([3])[0][0], viewed.read_single(store, 3)[0]):
            assert not np.shares_memory(image, reader.view()[3])
            image[...] = 0
        assert_same(reader.read(range(50)), (IMAGES, LABELS))


def test_a_view_of_an_empty_set_is_empty(viewed: Backend, tmp_path: Path) -> None:
    viewed.store_many(tmp_path / "empty", IMAGES[:0], LABELS[:0])
    with viewed.open_reader(tmp_path / "empty") as reader:
        assert np.asarray(reader.view()).shape == (0, 32, 32, 3)
        assert list(reader.view()) == []


@pytest.mark.parametrize("held", ["view", "image", "part", "iterator"])
def test_the_map_lives_exactly_as_long_as_its_views(viewed: Backend, store: Path, held: str) -> None:
    reader = viewed.open_reader(store)
    view: Any = reader.view()
    kept = {"view": view, "image": view[9], "part": view[9][4:, 2:], "iterator": iter(view)}[held]
    del view
    reader.close()
    del reader
    gc.collect()
    assert count_maps(store) == 1
    expected = {"view": IMAGES, "image": IMAGES[9], "part": IMAGES[9][4:, 2:], "iterator": IMAGES}[held]
    np.testing.assert_array_equal(list(kept), expected)
    del kept
    assert (count_maps_left(store), count_open(store)) == (0, 0)


START = """
import os, sys
from pathlib import Path
import numpy as np
from storage import BACKENDS

module, store = BACKENDS[sys.argv[1]], Path(sys.argv[2])
reader = module.open_reader(store)
before = module.read_many(store)[0]
view = reader.view()
first = view[0]
"""
ENDS = {
    "a view lives through a fork": """
child = os.fork()
right = np.array_equal(reader.read(range(50))[0], before)
right &= np.array_equal(module.read_many(store)[0], before)
if child == 0:
    reader.close()
right &= np.array_equal(first, before[0]) and np.array_equal(np.asarray(view), before)
if child == 0:
    os._exit(not right)
sys.exit(os.waitpid(child, 0)[1] or not right)
""",
    "a view in a cycle is collected": """
import gc
from tests.support.open_files import count_maps_left
cycle = [reader, view, first]
cycle.append(cycle)
del reader, view, first, cycle
gc.collect()
sys.exit(count_maps_left(store))
""",
    "a view is held when the interpreter ends": """
class Holder:
    reader, view, first, itself = reader, view, first, None
Holder.itself = Holder
sys.keep = view, Holder
""",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_views_survive_their_reader_forks_and_the_interpreter(viewed: Backend, store: Path, end: str) -> None:
    name = viewed.__name__.rpartition(".")[2]
    command = [sys.executable, "-W", "error", "-c", START + end, name, str(store)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
