"""The readers of every backend keep the contract of `storage.Reader`."""

import os
import pickle
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import Backend, Reader
from tests.faults.children import Ending, run_child
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT


def test_a_reader_reads_any_sequence_of_indices(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    with module.open_reader(store) as reader:
        for indices in ([3, 1, 3, -1], range(9, -1, -1), (0,), np.array([7, 2], np.uint8), np.arange(-10, 0)):
            assert_same(reader.read(indices), (images[list(indices)], labels[list(indices)]))
        assert reader.read([])[0].shape == (0, 32, 32, 3)


def test_a_reader_reads_slices(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    with module.open_reader(store) as reader:
        for part in (slice(2, 9), slice(None, None, -3), slice(-3, None), slice(20, 30), slice(5, 2)):
            assert_same(reader[part], (images[part], labels[part]))
            assert_same(reader.read(part), (images[part], labels[part]))


def test_some_indices_select_what_read_returns(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    number: Any = np.int64(3)
    several: list[Any] = [[3, 1], (-1,), range(4), np.array([7, 7]), []]
    with module.open_reader(store) as reader:
        for indices in several:
            assert_same(reader[indices], (images[list(indices)], labels[list(indices)]))
        assert_same(reader[number], (images[3], labels[3]))
        outside: list[Any] = [[0, 10], (-11,)]
        for each in outside:
            with pytest.raises(storage.RecordNotFoundError, match="10 images"):
                reader[each]
        wrong: list[Any] = ["1", [0.5], 1.0, None, [[1]]]
        for each in wrong:
            with pytest.raises(TypeError):
                reader[each]


def test_a_reader_reads_the_labels_alone(module: Backend, store: Path) -> None:
    with module.open_reader(store) as reader:
        labels = reader.read_labels()
        np.testing.assert_array_equal(reader.labels, labels)
        assert_same((make_set(10)[0], labels), make_set(10))
        labels[:] = 7
        np.testing.assert_array_equal(reader.read_labels(), make_set(10)[1])


def test_a_reader_refuses_invalid_indices(module: Backend, store: Path) -> None:
    with module.open_reader(store) as reader:
        for indices in ([0, 10], [-11], np.array([2**40]), [2**64], [1, 2**63], (10**5000,)):
            with pytest.raises(storage.RecordNotFoundError, match="10 images"):
                reader.read(indices)
        for wrong in ([[1], [1, 2]], [0.5], [[1, 2]], "1", [True], np.zeros((1, 0))):
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


def test_a_closed_reader_refuses_to_read(module: Backend, store: Path) -> None:
    reader = module.open_reader(store)
    reader.close()
    reader.close()
    for read in (lambda: reader.read([0]), lambda: reader[0], reader.read_labels):
        with pytest.raises(storage.ReaderClosedError, match="closed"):
            read()


def test_a_reader_that_cannot_reopen_is_closed(module: Backend, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with module.open_reader(store) as reader:
        shutil.rmtree(store)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(storage.StoreNotFoundError):
            reader.read([0])
        with pytest.raises(storage.ReaderClosedError):
            reader.read([0])


def test_readers_and_reads_do_not_disturb_each_other(module: Backend, store: Path) -> None:
    with module.open_reader(store) as one, module.open_reader(store) as two:
        assert_same(module.read_many(store), make_set(10))
        one.close()
        assert_same(two.read(range(10)), make_set(10))


def test_a_pickled_reader_opens_the_store_again(
    module: Backend, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with module.open_reader(Path(store.name)) as reader:
        pickled = pickle.dumps(reader)
    monkeypatch.chdir("/")
    with pickle.loads(pickled) as copy:  # noqa: S301 - written two lines above
        assert_same(copy.read(range(10)), make_set(10))


LEFT_OPEN = """
import sys
from pathlib import Path
from storage import BACKENDS

reader = BACKENDS[sys.argv[1]].open_reader(Path(sys.argv[2]))
image, label = reader[0]
reader.read(range(10))
sys.kept_longest = reader, image
"""


def test_a_reader_left_open_ends_silently_with_the_interpreter(backend: str, store: Path) -> None:
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", LEFT_OPEN, backend, str(store)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def run_at_once(count: int, work: Callable[[], bool]) -> list[bool]:
    """Run the same work in several threads, started together; return what each returned."""
    start = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        return [each.result() for each in [pool.submit(lambda: start.wait() >= 0 and work()) for _ in range(count)]]


def test_threads_share_a_reader_while_others_open_and_close_theirs(module: Backend, store: Path) -> None:
    images, _ = make_set(10)

    def read(reader: Reader) -> bool:
        return all(
            np.array_equal(reader[index][0], images[index])
            and np.array_equal(reader.read([index, 0])[0], images[[index, 0]])
            for index in range(10)
        )

    def open_and_read() -> bool:
        with module.open_reader(store) as other:
            return read(other) and read(shared)

    with module.open_reader(store) as shared:
        assert run_at_once(4, lambda: all(open_and_read() for _ in range(5))) == [True] * 4
        assert read(shared)


def test_a_batch_larger_than_memory_raises_our_error(module: Backend, tmp_path: Path) -> None:
    module.store_many(tmp_path, *make_set(1, 300, 300))
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    size = 1024 * int(status.partition("VmSize:")[2].split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    with module.open_reader(tmp_path) as reader:
        reader.read([0])
        resource.setrlimit(resource.RLIMIT_AS, (size + (256 << 20), before[1]))
        try:
            with pytest.raises(storage.StorageError, match="does not fit in memory"):
                reader.read([0] * 4000)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
        assert len(reader.read([0])[0]) == 1


def test_threads_may_read_at_once_after_a_fork(module: Backend, store: Path) -> None:
    expected = make_set(10)[0]

    def read_at_once() -> str:
        right = run_at_once(8, lambda: np.array_equal(reader.read(range(10))[0], expected))
        return "" if right == [True] * 8 else f"not all threads read right: {right}"

    with module.open_reader(store) as reader:
        assert_same(reader.read(range(10)), make_set(10))
        assert run_child(read_at_once) == Ending(0, "")


def test_indices_may_overlap_the_array_that_is_filled(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    out = np.zeros((3, 32, 32, 3), np.uint8)
    indices = out.reshape(-1).view(np.intp)[:3]
    indices[:] = (7, 0, 7)
    with module.open_reader(store) as reader:
        found = reader.read(indices, out=out)
    assert_same(found, (images[[7, 0, 7]], labels[[7, 0, 7]]))


def test_a_child_closes_nothing_of_its_parent(module: Backend, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with module.open_reader(store) as reader:
        closed: list[Reader] = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            patch.setattr(type(reader), "_close", closed.append)
            reader.close()
        assert not closed
        with pytest.raises(storage.ReaderClosedError):
            reader.read([0])


def test_a_reader_reopens_in_another_process(module: Backend, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with module.open_reader(store) as one, module.open_reader(store) as two:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        for reader in (one, two, one):
            assert_same(reader.read(range(10)), make_set(10))


def test_a_reader_that_was_forked_while_it_reopened_is_not_closed_twice(
    module: Backend, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with module.open_reader(store) as reader:
        reader._close()  # noqa: SLF001 - how far the other thread had come
        monkeypatch.setattr(reader, "_process", 0)
        assert_same(reader.read(range(10)), make_set(10))
