"""Each harness finds a careless way of saving guilty; otherwise it would show nothing."""

import mmap
import re
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

import storage
from storage import BACKENDS, Images, Labels
from tests.faults import integrity
from tests.faults.crowd import read_while_writing
from tests.faults.extent import Extent
from tests.faults.failures import fail_at_calls
from tests.faults.findings import Findings, count_findings, find_guilty
from tests.faults.forks import COUNT, fork_reader
from tests.faults.kills import kill_at_calls, kill_at_random
from tests.faults.mounts import find_obstacle
from tests.faults.naive import careless
from tests.faults.opens import PAGE, fail_to_open
from tests.faults.reading import damage_and_read
from tests.faults.shortages import fill_disk, limit_files
from tests.support.image_sets import make_set

__all__ = ["careless"]  # the fixture

BACKEND = "hdf5"
SOME = partial(Extent, sample=False, backends=30)  # four cases of each fault
LOST = "it is there, but|cannot be loaded"
HARNESSES: dict[str, tuple[Callable[[Path], Findings], str]] = {
    "kills_at_calls": (lambda folder: kill_at_calls(BACKEND, folder, SOME(), count=20, replacing=True), LOST),
    "kills_at_random": (lambda folder: kill_at_random(BACKEND, folder, count=5000, cases=20), LOST),
    "failing_calls": (lambda folder: fail_at_calls(BACKEND, folder, SOME(), ["EIO"], count=20)["EIO"], "and then it"),
    "damage": (lambda folder: damage_and_read(BACKEND, folder, ["bit flip"], cases=10)["bit flip"], "wrong pixels"),
    "mixed_up_files": (lambda folder: damage_and_read(BACKEND, folder, ["hole"], cases=10)["hole"], "wrong pixels"),
    "limits_on_files": (lambda folder: limit_files(BACKEND, folder, SOME()), "cannot be loaded"),
    "small_disks": (lambda folder: fill_disk(BACKEND, folder, SOME(), midway=True), LOST),
    "readers": (
        lambda folder: read_while_writing({BACKEND: "pixels"}, folder, 1)[BACKEND],
        "Error|neither old|not all of one",
    ),
    "failed_opens": (lambda folder: fail_to_open(BACKEND, folder, cases=300), "leave 1600 descriptors"),
    "failed_opens_of_files": (
        lambda folder: fail_to_open(BACKEND, folder, cases=300, kind="encoded"),
        "leave 1600 descriptors",
    ),
}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("careless", "traced")]


def assert_guilty(findings: Findings, reason: str) -> None:
    """Check that a harness has found something for this reason, and that it fails a test."""
    assert any(re.search(reason, outcome) for _, outcome in find_guilty(findings)), findings
    with pytest.raises(AssertionError, match="are guilty"):
        count_findings(lambda _name, _value: None, BACKEND, {"a fault": findings})


@pytest.mark.parametrize("name", HARNESSES)
def test_a_harness_finds_carelessness(folder: Path, name: str) -> None:
    if name == "small_disks" and (reason := find_obstacle()):
        pytest.skip(reason)
    run, reason = HARNESSES[name]
    assert_guilty(run(folder), reason)


def test_failed_opens_find_memory_that_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def keep(path: Path) -> None:
        kept.append(mmap.mmap(-1, 2 * PAGE))  # new pages: an allocator may have old ones
        kept[-1].write(bytes(2 * PAGE))
        raise storage.CorruptStoreError("it is damaged", store=path)

    monkeypatch.setattr(storage, "open", keep)
    assert_guilty(fail_to_open(BACKEND, folder, cases=1000), r"leave 0 descriptors, 0 maps and 4\d{7} bytes")


def test_a_plain_backend_that_kills_its_reader_is_guilty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(
        store_many=storage.BACKENDS["npy"].store_many, read_many=lambda _: signal.raise_signal(signal.SIGBUS)
    )
    monkeypatch.setattr(integrity, "BACKENDS", {"naive": module})
    for findings in integrity.damage_plain("naive", folder, cases=1).values():
        assert_guilty(findings, "killed by SIGBUS")


def test_a_plain_backend_that_takes_too_much_memory_is_guilty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = vars(storage.BACKENDS["npy"]) | {"read_many": lambda _: (np.ones(80 << 20, np.uint8), None)}
    monkeypatch.setattr(integrity, "BACKENDS", {"naive": SimpleNamespace(**module)})
    for findings in integrity.damage_plain("naive", folder, cases=1).values():
        assert_guilty(findings, "8.* bytes of memory")


def test_no_backend_that_damage_may_kill_claims_to_survive_it() -> None:
    damaged = [BACKENDS[name].INFO for name in (*integrity.MORTAL, *integrity.GREEDY) if name in BACKENDS]
    assert not any(info.survives_damage for info in damaged)


def test_a_reader_that_shares_a_lock_with_its_children_is_guilty(folder: Path) -> None:
    image_set = make_set(COUNT, 16, 16)
    storage.BACKENDS["npy"].store_many(folder / "plain", *image_set)
    reader = storage.BACKENDS["npy"].open_reader(folder / "plain")
    lock, read = threading.Lock(), reader.read

    def read_locked(indices: NDArray[np.intp], out: Images | None = None) -> tuple[Images, Labels]:
        with lock:
            return read(indices, out)

    reader.read = read_locked  # type: ignore[assignment, method-assign]
    assert_guilty(fork_reader(reader, image_set, 8, patience=1), "hung for 1 seconds")
