"""Batches of an epoch: each image once, read ahead, and nothing left over however the loop ends."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import BACKENDS, Backend, DecodingError, Encoded, InvalidInputError, ReaderClosedError, StorageError
from storage.batches import QUEUE
from storage.epoch_order import EpochOrder
from storage.read_ahead import Outcomes, ReadAhead
from tests.faults.children import Ending, run_child
from tests.support.backends import need_backend
from tests.support.encoded_sets import make_pictures
from tests.support.image_sets import FORMS, assert_same, make_form, make_set
from tests.support.suite import ROOT
from tests.support.threads import TIMEOUT, NewThreads

COUNT = 50
IMAGES, LABELS = make_set(COUNT, 8, 6)[0], np.arange(COUNT)  # a label is the place of its image


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[storage.Reader]:
    BACKENDS["npy"].store_many(tmp_path / "store", IMAGES, LABELS)
    with BACKENDS["npy"].open_reader(tmp_path / "store") as reader:
        yield reader


def check_epoch(batches: Any, images: Any = IMAGES, labels: Any = LABELS) -> list[int]:  # noqa: ANN401 - arrays
    """Check that each image comes with its label; return the places of the images."""
    order = []
    for some, their_labels in batches:
        assert_same((some, their_labels), (images[their_labels], labels[their_labels]))
        order += their_labels.tolist()
    return order


def test_every_backend_reads_each_image_once_in_the_same_order(module: Backend, tmp_path: Path) -> None:
    module.store_many(tmp_path / "store", IMAGES, LABELS)
    with module.open_reader(tmp_path / "store") as reader:
        order = check_epoch(reader.batches(8, seed=3, threads=2))
    assert order[:10] == [39, 40, 33, 21, 14, 31, 13, 1, 36, 19]
    assert sorted(order) == LABELS.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_pixels_of_any_dtype_and_shape_are_read_as_they_were_stored(form: str, tmp_path: Path) -> None:
    images = make_form(form, 9)[0]
    BACKENDS["npy"].store_many(tmp_path / "store", images, np.arange(9))
    with BACKENDS["npy"].open_reader(tmp_path / "store") as reader:
        assert len(check_epoch(reader.batches(4, seed=0), images, np.arange(9))) == 9


@need_backend("lmdb")
@pytest.mark.parametrize("name", ["npy", "lmdb"])
@pytest.mark.parametrize("at_once", [1, 3, None])
def test_image_files_are_decoded_as_read_decodes_them(name: str, at_once: int | None, tmp_path: Path) -> None:
    files, labels, _ = make_pictures(9)
    storage.save(tmp_path / "photos", files[:5], labels[:5], name)
    storage.append(tmp_path / "photos", files[5:], labels[5:])
    with storage.open(tmp_path / "photos") as reader:
        expected, _ = reader.read(range(9), size=(7, 5))
        batches = reader.batches(4, seed=0, image_size=(7, 5), threads=at_once)
        assert sorted(check_epoch(batches, expected, labels)) == labels.tolist()


def test_an_epoch_of_no_images_has_no_batches(tmp_path: Path) -> None:
    BACKENDS["npy"].store_many(tmp_path / "store", IMAGES[:0], LABELS[:0])
    with BACKENDS["npy"].open_reader(tmp_path / "store") as reader:
        assert list(reader.batches(4, seed=0)) == []


def test_another_epoch_and_another_seed_have_other_orders(reader: storage.Reader) -> None:
    orders = {tuple(check_epoch(reader.batches(8, seed=seed, epoch=epoch))) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_the_number_of_threads_and_the_size_do_not_change_the_order(reader: storage.Reader) -> None:
    epochs = [reader.batches(size, seed=0, threads=threads) for size in (1, 8, 60) for threads in (1, 2, 9)]
    orders = {tuple(check_epoch(epoch)) for epoch in epochs}
    assert len(orders) == 1


def test_the_length_is_how_many_batches_are_left(reader: storage.Reader) -> None:
    batches = reader.batches(8, seed=0)
    assert [len(batches), *(len(batches) for _ in batches)] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert next(batches, None) is None
    assert len(reader.batches(8, seed=0, drop_last=True)) == 6


def test_batches_may_be_kept(reader: storage.Reader) -> None:
    kept = list(reader.batches(8, seed=0))
    parts = [images[1:3, ::2] for images, _ in reader.batches(8, seed=0)]
    for (images, labels), part in zip(kept, parts, strict=True):
        np.testing.assert_array_equal(images, IMAGES[labels])
        np.testing.assert_array_equal(part, IMAGES[labels][1:3, ::2])


def test_memory_that_nothing_refers_to_is_used_again(reader: storage.Reader) -> None:
    addresses = {images.ctypes.data for epoch in range(3) for images, _ in reader.batches(1, seed=0, epoch=epoch)}
    assert len(addresses) <= QUEUE + 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_arrays_of_the_caller_are_filled_in_turn(count: int, reader: storage.Reader) -> None:
    outs = [np.full((8, 8, 6, 3), 7, np.uint8) for _ in range(count)]
    for number, (images, labels) in enumerate(reader.batches(8, seed=0, out=outs if count > 1 else outs[0])):
        out = outs[number % count]
        assert images is out if len(labels) == 8 else images.base is out
        np.testing.assert_array_equal(images, IMAGES[labels])


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        (np.empty((7, 8, 6, 3), np.uint8), r"shape \(7, 8, 6, 3\)"),
        (np.empty((8, 8, 6, 3), np.int8), "dtype int8"),
        ([], "out holds None, or nothing"),
        ([np.empty((8, 8, 6, 3), np.uint8)] * 2, "the same memory twice"),
        ([None], "out holds None"),
    ],
)
def test_arrays_that_cannot_hold_batches_are_refused(reader: storage.Reader, out: Any, problem: str) -> None:  # noqa: ANN401
    with pytest.raises(InvalidInputError, match=problem):
        reader.batches(8, seed=0, out=out)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"size": 0}, "size is 0: give 1 or more"),
        ({"size": 2.0}, r"size is 2\.0"),
        ({"size": True}, "size is True"),
        ({"seed": -1}, "seed is -1: give 0 or more"),
        ({"seed": None}, "seed is None"),
        ({"epoch": "1"}, "epoch is '1'"),
        ({"threads": 0}, "threads is 0"),
        ({"world_size": 0}, "world_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2: give a number from 0 to 1"),
        ({"rank": -1}, "rank is -1"),
        (
            {"image_size": (4, 4)},
            r"aren't scaled to \(4, 4\): leave size \(in batches: image_size\) out",
        ),
    ],
)
def test_impossible_arguments_are_refused_at_once(
    reader: storage.Reader, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        reader.batches(**{"size": 8, "seed": 0} | options)


def test_image_files_need_a_size(tmp_path: Path) -> None:
    BACKENDS["npy"].store_many(tmp_path / "store", *make_pictures(3)[:2])
    with (
        BACKENDS["npy"].open_reader(tmp_path / "store") as reader,
        pytest.raises(InvalidInputError, match="in batches image_size="),
    ):
        reader.batches(2, seed=0)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_an_error_names_the_image_and_comes_after_the_batches_before_it(
    at_once: int, tmp_path: Path, new_threads: NewThreads
) -> None:
    files, labels, _ = make_pictures(20)
    bad = {4, 11}
    content = [b"no image" if number in bad else file for number, file in enumerate(files)]
    names = [f"{number}.png" for number in range(20)]
    storage.save(tmp_path / "photos", Encoded.join(content), labels, "npy", names=names)
    with storage.open(tmp_path / "photos") as reader:
        order = EpochOrder(20, seed=0, epoch=0).find(np.arange(20)).tolist()
        first = min(bad, key=order.index)
        batches = reader.batches(2, seed=0, image_size=(4, 4), threads=at_once)
        for _ in range(2):  # asking again reads it again
            with pytest.raises(DecodingError) as caught:
                for _ in batches:
                    pass
            assert (caught.value.record, caught.value.name) == (first, f"{first}.png")
            assert batches.state_dict()["position"] == order.index(first) // 2 * 2
            assert not new_threads.find()


def test_threads_end_when_the_loop_is_left(reader: storage.Reader, new_threads: NewThreads) -> None:
    for _ in reader.batches(8, seed=0):
        assert new_threads.find()
        break
    new_threads.wait_for_end()


def test_no_python_code_runs_when_batches_and_their_iterator_are_dropped(
    reader: storage.Reader, new_threads: NewThreads
) -> None:
    batches = reader.batches(8, seed=0, threads=2)
    images, _ = next(batches)
    assert images is not None
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_qualname) if event == "call" else None)
    del images
    del batches
    sys.setprofile(None)
    new_threads.wait_for_end()
    assert calls == [], "a Ctrl-C that met this code would be lost"


def test_batches_wait_for_those_that_were_dropped(reader: storage.Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    read, begun, released, asked, done = reader._read, threading.Event(), threading.Event(), count(), []  # noqa: SLF001

    def read_late(positions: Any, out: Any) -> Any:  # noqa: ANN401 - as _read
        number = next(asked)
        if number == 1:
            begun.set()
            released.wait(TIMEOUT)
        done.append(number)
        return read(positions, out)

    monkeypatch.setattr(reader, "_read", read_late)
    dropped = reader.batches(8, seed=0, threads=1)
    next(dropped)
    begun.wait(TIMEOUT)
    del dropped
    threading.Timer(0.1, released.set).start()
    next(reader.batches(8, seed=0, threads=1))
    assert done[:3] == [0, 1, 2], "two threads may have written into the same array"


@pytest.fixture
def slow_thread(
    reader: storage.Reader,
    new_threads: NewThreads,  # noqa: ARG001 - counts those that start here
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[threading.Event]:
    """Have Ctrl-C come while a thread reads, which goes on until the event is set."""
    begun, released = threading.Event(), threading.Event()

    def read_slowly(positions: Any, _: Any) -> Any:  # noqa: ANN401 - as _read
        begun.set()
        released.wait(TIMEOUT)
        return IMAGES[positions], LABELS[positions]

    def interrupt(_: Outcomes) -> None:
        assert begun.wait(TIMEOUT)
        raise KeyboardInterrupt

    monkeypatch.setattr("storage.read_ahead.LINGER", 0.01)
    monkeypatch.setattr(reader, "_read", read_slowly)
    monkeypatch.setattr(Outcomes, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(reader.batches(8, seed=0, threads=1))
    yield released
    released.set()


@pytest.mark.parametrize("is_over", [False, True], ids=["while it reads", "after it has ended"])
def test_a_store_that_a_thread_reads_after_ctrl_c_is_not_closed(
    reader: storage.Reader,
    slow_thread: threading.Event,
    new_threads: NewThreads,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_over: bool,
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(reader, "_close", lambda: closed.append(True))
    if is_over:
        slow_thread.set()
        new_threads.wait_for_end()
    reader.close()
    assert closed == ([True] if is_over else []), "a map that is closed while a thread reads it kills the process"


def test_all_that_decodes_is_imported_before_threads_start() -> None:
    program = (
        "from storage import decoding as d; d.import_decoders(of_parts=True); "
        "print(d.import_pillow()._initialized, d.find_nvimgcodec.cache_info().currsize)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "2 1\n", "a fork while a thread imports a plugin leaves the child a lock that nobody opens"


def test_a_batch_that_ctrl_c_takes_away_comes_again(reader: storage.Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, take = reader.batches(8, seed=0), ReadAhead.take

    def take_in_vain(ahead: ReadAhead) -> None:
        take(ahead)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ReadAhead, "take", take_in_vain)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    assert sorted(check_epoch(batches)) == list(range(COUNT))


def test_a_batch_larger_than_the_set_takes_no_more_memory_than_it(reader: storage.Reader) -> None:
    ((images, labels),) = reader.batches(10**13, seed=0)
    assert images.shape == IMAGES.shape
    np.testing.assert_array_equal(images, IMAGES[labels])
    out = np.empty((COUNT + 3, 8, 6, 3), np.uint8)
    ((images, labels),) = reader.batches(COUNT + 3, seed=0, out=out)
    np.testing.assert_array_equal(out[:COUNT], IMAGES[labels])


def test_threads_end_with_an_error_in_the_loop(reader: storage.Reader, new_threads: NewThreads) -> None:
    batches = reader.batches(8, seed=0)
    with pytest.raises(ZeroDivisionError), batches:
        assert 1 / (len(next(batches)[1]) - 8)
    assert not new_threads.find()


def test_threads_end_when_the_reader_is_closed(reader: storage.Reader, new_threads: NewThreads) -> None:
    batches = reader.batches(8, seed=0)
    next(batches)
    reader.close()
    assert not new_threads.find()
    with pytest.raises(ReaderClosedError):
        next(batches)
    with pytest.raises(ReaderClosedError):
        reader.batches(8, seed=0)


def test_ctrl_c_in_a_wait_for_a_batch_loses_none(
    reader: storage.Reader, monkeypatch: pytest.MonkeyPatch, new_threads: NewThreads
) -> None:
    expected, asked, take = check_epoch(reader.batches(8, seed=0)), [], ReadAhead.take

    def interrupt(ahead: ReadAhead) -> Any:  # noqa: ANN401 - as take
        batch = take(ahead)
        asked.append(batch)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return batch

    monkeypatch.setattr(ReadAhead, "take", interrupt)
    batches = reader.batches(8, seed=0, threads=2)
    order = next(batches)[1].tolist()
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    assert not new_threads.find()
    assert order + check_epoch(batches) == expected


def test_threads_end_when_the_interpreter_does(reader: storage.Reader) -> None:
    script = f"""
import storage
batches = storage.BACKENDS["npy"].open_reader({str(reader.store)!r}).batches(8, seed=0)
print(len(next(batches)[1]))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "8\n", "")


@need_backend("lmdb")
@need_backend("sqlite")
@pytest.mark.parametrize("name", ["npy", "lmdb", "sqlite"])
def test_a_forked_child_goes_on_with_threads_of_its_own(name: str, tmp_path: Path) -> None:
    storage.save(tmp_path / "photos", IMAGES, LABELS, name)

    def read_on() -> str:
        rest = check_epoch(batches)
        batches.close()
        reader.close()
        return str(rest)

    with storage.open(tmp_path / "photos") as reader:
        order = check_epoch(reader.batches(8, seed=0, threads=2))
        batches = reader.batches(8, seed=0, threads=2)
        next(batches)
        endings = {run_child(read_on, TIMEOUT) for _ in range(3)}
        assert check_epoch(batches) == order[8:]
    assert endings == {Ending(0, str(order[8:]))}


def test_that_no_thread_can_be_started_is_reported(reader: storage.Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(StorageError, match="too little memory, or too many threads"):
        next(reader.batches(8, seed=0))
