"""Reports: everything that is damaged is listed, and nothing else."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import storage
from storage import BACKENDS, CorruptStoreError, StorageError
from storage.dataset import report as report_module
from storage.dataset import writer
from storage.dataset.opening import open_dataset
from tests.support.backends import EXAMPLE, need_backend
from tests.support.datasets import (
    find_beside,
    find_part,
    flip_bit,
    list_sizes,
    list_structure,
    require_pixels,
    shorten,
)
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import count_open

COUNT, MANY = 30, 300


@pytest.fixture
def saved(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save thirty images in three parts."""
    images, labels = make_set(COUNT)
    monkeypatch.setattr(writer, "PART", 10 * images[0].nbytes)
    storage.save(tmp_path / "set", [images], labels, backend)
    return tmp_path / "set"


def test_a_whole_dataset_has_an_empty_report(backend: str, saved: Path) -> None:
    report = storage.check(saved)
    assert report.is_whole
    assert (report.path, report.backend, report.count) == (saved, backend, COUNT)
    assert not any((report.files, report.records, report.unread_files, report.unread_records))


def test_every_changed_record_is_listed_and_the_others_can_be_read(backend: str, saved: Path) -> None:
    images, labels = make_set(COUNT)
    for index in (3, 4, 17):
        pixels = images[index].tobytes()
        paths = [path for path in saved.rglob("part-*/**/*") if path.is_file() and pixels in path.read_bytes()]
        if not paths:
            pytest.skip(f"{backend} keeps no image as it is in memory")
        flip_bit(paths[0], paths[0].read_bytes().index(pixels) + 700)
    report = storage.check(saved)
    assert report.records.keys() >= {3, 4, 17}
    require_pixels(backend, saved)
    others = {reason for index, reason in report.records.items() if index not in {3, 4, 17}}
    assert all("at least one" in reason for reason in others), "only those that share a checksum of the backend"
    assert not report.files
    with storage.open(saved) as reader:
        good = [index for index in range(COUNT) if index not in report.records]
        assert_same(reader.read(good), (images[good], labels[good]))


def test_damaged_structure_affects_its_own_part_only(backend: str, saved: Path) -> None:
    structure = list_structure(saved)
    name = next(name for name in structure if name.startswith("part-00001-"))
    flip_bit(saved / name, structure[name].ranges[0][0])
    report = storage.check(saved)
    assert list(report.files) == [name]
    assert report.records.keys() <= set(range(10, 20)), backend


def test_damaged_details_affect_their_own_part_only(backend: str, saved: Path) -> None:
    path = find_beside(saved, "json", 1)
    flip_bit(path, 9)
    report = storage.check(saved)
    assert list(report.files) == [path.name]
    assert report.records == dict.fromkeys(range(10, 20), f"{path.name} is damaged")
    for verify in (True, False):
        with pytest.raises(
            CorruptStoreError, match=rf"set: the file {path.name} is damaged: restore it from a copy; the"
        ):
            storage.load(saved, verify=verify)
    images, labels = make_set(COUNT)
    assert_same(BACKENDS[backend].read_many(find_part(saved, 1)), (images[10:20], labels[10:20]))


def test_damaged_labels_are_listed_and_affect_no_record(saved: Path) -> None:
    path = find_beside(saved, "labels", 1)
    flip_bit(path, 9)
    report = storage.check(saved)
    assert list(report.files) == [path.name]
    assert (report.outcome, len(report.records)) == ("damaged", 0)
    assert_same(storage.load(saved), make_set(COUNT))


def test_a_part_that_the_backend_refuses_is_listed(backend: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_reader = BACKENDS[backend].open_reader

    def refuse(store: Path) -> object:
        if store.name.startswith("part-00002-"):
            raise CorruptStoreError("a mood", store=store)
        return open_reader(store)

    monkeypatch.setattr(BACKENDS[backend], "open_reader", refuse)
    report = storage.check(saved)
    assert sorted(report.records) == list(range(20, 30))
    assert set(map(shorten, report.records.values())) == {"part-00002: a mood"}


def test_damaged_files_of_images_are_listed_with_their_records(saved: Path, backend: str) -> None:
    names = sorted(set(list_sizes(saved)) - set(list_structure(saved)))
    if len(names) != COUNT:
        pytest.skip(f"{backend} keeps no file an image")
    (saved / names[4]).unlink()
    (saved / names[24]).write_bytes(b"short")
    report = storage.check(saved)
    assert sorted(report.files) == [names[4], names[24]]
    assert sorted(report.records) == [4, 24]


def test_a_file_that_links_to_itself_is_one_damaged_record(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(4), "png")
    path = find_part(tmp_path / "set") / "00000002.png"
    path.unlink()
    path.symlink_to(path)
    report = storage.check(tmp_path / "set")
    assert list(map(shorten, report.files)) == ["part-00000/00000002.png"]
    assert list(report.records) == [2]
    with pytest.raises(CorruptStoreError, match="record 2: it is damaged"):
        storage.load(tmp_path / "set")
    with storage.open(tmp_path / "set") as reader, pytest.raises(CorruptStoreError, match="record 2: it is damaged"):
        reader.read([1, 2])


@need_backend("png")
def test_a_missing_file_and_missing_checksums_are_told_apart(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(3), "png")
    (find_part(tmp_path / "set") / "00000000.png").unlink()
    find_beside(tmp_path / "set", "checksums").unlink()
    records = storage.check(tmp_path / "set").records
    assert [reason == report_module.UNVERIFIED for reason in records.values()] == [False, True, True]
    assert "00000000.png is missing" in records[0]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Save three hundred images, and flip the first bit of the structure."""
    path = tmp_path / "set"
    storage.save(path, *make_set(MANY), EXAMPLE)
    name, structure = next(iter(list_structure(path).items()))
    flip_bit(path / name, structure.ranges[0][0])
    return path


def replace_open_reader(backend: str, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Have a backend do something else than to open a store."""

    def open_reader(store: Path) -> object:
        do()
        raise StorageError("after that", store=store)

    monkeypatch.setattr(BACKENDS[backend], "open_reader", open_reader)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, None], ids=str)
def test_a_library_that_crashes_or_hangs_on_damage_does_not_stop_check(
    number: signal.Signals | None, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number is None:
        monkeypatch.setattr(report_module, "TIMEOUT", 0.1)
    replace_open_reader(EXAMPLE, monkeypatch, lambda: os.kill(os.getpid(), number) if number else time.sleep(600))
    report = storage.check(damaged)
    assert report.records == dict.fromkeys(range(MANY), "it cannot be read: the process that tried crashed or hung")
    assert count_open(damaged) == 0


def test_a_refusal_in_the_subprocess_is_reported(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_open_reader(EXAMPLE, monkeypatch, lambda: None)
    report = storage.check(damaged)
    assert report.unread_records == dict.fromkeys(range(MANY), f"{find_part(damaged).name}: after that")
    assert not report.records
    assert report.outcome == "damaged", "of the file"


def test_damaged_structure_is_not_opened_without_checksums(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[None] = []
    replace_open_reader(EXAMPLE, monkeypatch, lambda: opened.append(None))
    find_beside(damaged, "checksums").unlink()
    report = storage.check(damaged)
    assert len(report.files) == 2
    assert len(report.records) == MANY
    assert not opened


@need_backend("png")
@pytest.mark.parametrize("refusal", ["", "refused"])
def test_the_subprocess_sends_its_findings(refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(tmp_path / "set", *make_set(3), "png")
    (find_part(tmp_path / "set") / "00000001.png").unlink()
    if refusal:
        replace_open_reader("png", monkeypatch, lambda: None)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr("faulthandler.disable", lambda: None)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with open_dataset(tmp_path / "set", verify=True) as dataset:
        report_module._send_damage(dataset, 0, sender)  # noqa: SLF001 - what the child does
    answer = json.loads(receiver.recv_bytes())
    if refusal:
        assert answer == [[0, 3, f"{find_part(tmp_path / 'set').name}: after that", False]]
    else:
        ((start, stop, _, is_damage),) = answer
        assert (start, stop, is_damage) == (1, 2, True)
    assert ended == [0]
