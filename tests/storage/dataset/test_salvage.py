"""Salvage: of a part whose structure is damaged, all that can be read and proved."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import storage
from storage import BACKENDS, StorageError
from storage.dataset import report as salvage
from storage.dataset.manifest import read_manifest
from storage.dataset.opening import open_dataset
from tests.support.backends import EXAMPLE, need_backend
from tests.support.datasets import flip_bit
from tests.support.image_sets import make_set
from tests.support.open_files import count_open

COUNT = 300


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Save three hundred images, and flip a bit of the structure, where it stands first."""
    path = tmp_path / "set"
    storage.save(path, *make_set(COUNT), EXAMPLE)
    name, structure = next(iter(read_manifest(path).structure.items()))
    flip_bit(path / name, structure.ranges[0][0])
    return path


def put_in_place_of_opening(backend: str, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Have a backend do something else where it should open a store."""

    def open_reader(store: Path) -> object:
        do()
        raise StorageError("after that", store=store)

    monkeypatch.setattr(BACKENDS[backend], "open_reader", open_reader)


@need_backend("lmdb")
def test_one_bit_of_lmdbs_tree_costs_no_more_than_the_records_that_it_leads_to(tmp_path: Path) -> None:
    images, labels = make_set(COUNT, 8, 8)
    storage.save(tmp_path / "set", images, labels, "lmdb")
    path = tmp_path / "set" / "part-00000" / "data.mdb"
    pixels = images[77].tobytes()
    path.write_bytes(path.read_bytes().replace(pixels, pixels[::-1]))
    report = storage.check(tmp_path / "set")
    assert list(report.files) == ["part-00000/data.mdb"]
    assert report.records == {77: "its pixels or its label are not those that were saved"}
    with storage.open(tmp_path / "set", verify=False) as reader:
        assert (reader.read([76, 78])[0] == images[[76, 78]]).all()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT])
def test_a_library_that_is_killed_by_what_it_reads_kills_nobody_else(
    number: signal.Signals, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place_of_opening(EXAMPLE, monkeypatch, lambda: os.kill(os.getpid(), number))
    report = storage.check(damaged)
    assert sorted(report.records) == list(range(COUNT))
    assert set(report.records.values()) == {"it cannot be read: the process that tried crashed or hung"}
    assert count_open(damaged) == 0


def test_a_library_that_never_ends_is_ended(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "TIMEOUT", 0.1)
    put_in_place_of_opening(EXAMPLE, monkeypatch, lambda: time.sleep(600))
    assert len(storage.check(damaged).records) == COUNT


def test_what_its_backend_refuses_is_reported_with_the_reason(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place_of_opening(EXAMPLE, monkeypatch, lambda: None)
    report = storage.check(damaged)
    assert sorted(report.records) == list(range(COUNT))
    assert set(report.records.values()) == {"part-00000: after that"}


def test_without_checksums_nothing_is_read_of_a_damaged_structure(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[None] = []
    put_in_place_of_opening(EXAMPLE, monkeypatch, lambda: opened.append(None))
    (damaged / "checksums").unlink()
    report = storage.check(damaged)
    assert len(report.files) == 2
    assert len(report.records) == COUNT
    assert not opened


@need_backend("png")
@pytest.mark.parametrize("refusal", ["", "refused"])
def test_the_process_of_its_own_answers_with_what_it_found(
    refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", *make_set(3), "png")
    (tmp_path / "set" / "part-00000" / "00000001.png").unlink()
    if refusal:
        put_in_place_of_opening("png", monkeypatch, lambda: None)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr("faulthandler.disable", lambda: None)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with open_dataset(tmp_path / "set", verify=True) as dataset:
        salvage._send_damage(dataset, 0, sender)  # noqa: SLF001 - what the child does
    answer = json.loads(receiver.recv_bytes())
    if refusal:
        assert answer == "part-00000: after that"
    else:
        assert [index for index, _ in answer] == [1]
    assert ended == [0]
