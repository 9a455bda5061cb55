"""The contract of `storage.Reader`, held against the reader of every backend that is found."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import Backend
from tests.image_sets import assert_same, make_set
from tests.suite import ROOT


def test_a_reader_reads_any_sequence_of_indices(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    with module.open_reader(store) as reader:
        for indices in ([3, 1, 3, -1], range(9, -1, -1), (0,), np.array([7, 2], np.uint8), np.arange(-10, 0)):
            assert_same(reader.read(indices), (images[list(indices)], labels[list(indices)]))
        assert reader.read([])[0].shape == (0, 32, 32, 3)


def test_a_reader_refuses_what_is_no_index(module: Backend, store: Path) -> None:
    with module.open_reader(store) as reader:
        for indices in ([0, 10], [-11], np.array([2**40]), [2**64], [1, 2**63], (10**5000,)):
            with pytest.raises(storage.RecordNotFoundError, match="10 images"):
                reader.read(indices)
        for wrong in ([0.5], [[1, 2]], "1", [True], np.zeros((1, 0))):
            with pytest.raises(TypeError, match="sequence of integers"):
                reader.read(wrong)  # type: ignore[arg-type] # on purpose


def test_a_reader_is_a_map_style_dataset(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    with module.open_reader(store) as reader:
        assert_same(reader[4], (images[4], labels[4]))
        assert_same(reader[-1], (images[9], labels[9]))
        batch = reader.__getitems__([5, 0])
        assert [label for _, label in batch] == [labels[5], labels[0]]
        assert_same((np.stack([image for image, _ in reader]), [label for _, label in reader]), (images, labels))
        with pytest.raises(IndexError):
            reader[10]


def test_a_closed_reader_says_so(module: Backend, store: Path) -> None:
    reader = module.open_reader(store)
    reader.close()
    reader.close()
    with pytest.raises(storage.ReaderClosedError, match="closed"):
        reader.read([0])
    with pytest.raises(storage.ReaderClosedError, match="closed"):
        reader[0]


def test_a_reader_that_cannot_open_again_is_closed(
    module: Backend, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with module.open_reader(store) as reader:
        shutil.rmtree(store)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(storage.StoreNotFoundError):
            reader.read([0])
        with pytest.raises(storage.ReaderClosedError):
            reader.read([0])


def test_two_readers_and_a_read_do_not_disturb_each_other(module: Backend, store: Path) -> None:
    with module.open_reader(store) as one, module.open_reader(store) as two:
        assert_same(module.read_many(store), make_set(10))
        one.close()
        assert_same(two.read(range(10)), make_set(10))


def test_a_pickled_reader_opens_the_store_anew(
    module: Backend, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with module.open_reader(Path(store.name)) as reader:
        pickled = pickle.dumps(reader)
    monkeypatch.chdir("/")
    with pickle.loads(pickled) as copy:  # noqa: S301 - written two lines above
        assert_same(copy.read(range(10)), make_set(10))


FORK = """
import os, sys
from pathlib import Path
from storage import BACKENDS

reader, other = (BACKENDS[sys.argv[1]].open_reader(Path(sys.argv[2])) for _ in range(2))
before = reader.read(range(10))[0].tobytes()
child = os.fork()
same = all(each.read(range(10))[0].tobytes() == before for each in (reader, other, reader))
if child == 0:
    reader.close()
    os._exit(0 if same else 1)
status = os.waitpid(child, 0)[1]
sys.exit(status or not same or reader.read(range(10))[0].tobytes() != before)
"""


def test_a_reader_is_safe_after_a_fork(module: Backend, store: Path) -> None:
    name = module.__name__.rpartition(".")[2]
    subprocess.run([sys.executable, "-W", "error", "-c", FORK, name, store], check=True, cwd=ROOT, timeout=60)


def test_a_reader_opens_the_store_anew_in_another_process(
    module: Backend, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with module.open_reader(store) as one, module.open_reader(store) as two:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        for reader in (one, two, one):
            assert_same(reader.read(range(10)), make_set(10))
