"""A damaged plain store is refused or read, rightly or wrongly: no other error comes out, and few are killed."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from storage import CorruptStoreError, Images, Labels
from tests.faults import integrity
from tests.faults.extent import Extent
from tests.faults.findings import PLAIN, Record, count_findings
from tests.faults.integrity import DAMAGES, MORTAL, damage_plain
from tests.faults.judge import ImageSet


def test_damage_of_a_plain_store_lets_no_error_out_that_is_not_ours(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    found = damage_plain(backend, folder, cases=3 if extent.sample else 200)
    count_findings(record_property, backend, {f"{PLAIN}{damage}": findings for damage, findings in found.items()})


def store_array(store: Path, images: Images, _: Labels) -> None:
    """Store the pixels, without any care; all labels are taken to be zero."""
    store.mkdir()
    np.save(store / "images.npy", images)


def read_wrongly(store: Path) -> ImageSet:
    images = np.frombuffer((store / "images.npy").read_bytes()[-3072 * 100 :], np.uint8).reshape(100, 32, 32, 3)
    return images, np.zeros(100, np.int64)


def refuse(store: Path) -> ImageSet:
    raise CorruptStoreError("it is damaged", store=store)


def end(_: Path) -> ImageSet:
    os.kill(os.getpid(), signal.SIGBUS)
    raise AssertionError


def hang(_: Path) -> ImageSet:
    time.sleep(60)
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "read", "outcome"),
    [
        pytest.param("naive", refuse, "refused", id="refused"),
        pytest.param("naive", end, "guilty: killed by SIGBUS", id="killed"),
        pytest.param(next(iter(MORTAL)), end, "killed, by SIGBUS", id="killed_as_it_is_known"),
        pytest.param("naive", hang, "guilty: hung for 1 seconds", id="hung"),
    ],
)
def test_what_damage_does_is_told(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    read: Callable[[Path], ImageSet],
    outcome: str,
) -> None:
    monkeypatch.setattr(integrity, "BACKENDS", {name: SimpleNamespace(store_many=store_array, read_many=read)})
    monkeypatch.setattr(integrity, "PATIENCE", 1)
    found = damage_plain(name, folder, cases=1)
    assert [[told for _, told in findings] for findings in found.values()] == [[outcome]] * len(DAMAGES)


def test_an_error_of_another_kind_is_guilty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(store_many=store_array, read_many=read_wrongly)
    monkeypatch.setattr(integrity, "BACKENDS", {"naive": module})
    found = damage_plain("naive", folder, cases=3)
    assert all(told.startswith("guilty: ValueError") for _, told in found["truncation"])
