"""Each harness finds a careless way of saving guilty: one that finds nothing proves nothing."""

import mmap
import re
from pathlib import Path

import pytest

import storage
from tests.faults.crowd import read_while_writing
from tests.faults.extent import Extent
from tests.faults.failures import FAILURES, SIGINT, fail_at_calls
from tests.faults.findings import Findings, count_findings, find_guilty
from tests.faults.kills import kill_at_calls, kill_at_random
from tests.faults.mounts import find_obstacle
from tests.faults.naive import careless
from tests.faults.opens import PAGE, fail_to_open
from tests.faults.reading import damage_and_read
from tests.faults.shortages import fill_disk, limit_files

__all__ = ["careless"]  # the fixture

BACKEND = "hdf5"
REASONS = {
    "bit flip": "wrong pixels",
    "truncation": "names neither",
    "4 KiB zeroed": "wrong pixels",
    "two records swapped": "wrong pixels",
    "a file deleted": "names neither",
    "a file of another store": "wrong pixels",
}
SOME = Extent(sample=False, backends=180)  # four cases of each fault

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("careless")]


def assert_guilty(findings: Findings, reason: str) -> None:
    """See that a harness has found something for this reason, and that it fails a test."""
    assert any(re.search(reason, outcome) for _, outcome in find_guilty(findings)), findings
    with pytest.raises(AssertionError, match="are guilty"):
        count_findings(lambda _name, _value: None, BACKEND, {"a fault": findings})


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
def test_kills_at_calls_find_carelessness(folder: Path, replacing: bool) -> None:  # noqa: FBT001 - a parameter
    assert_guilty(
        kill_at_calls(BACKEND, folder, SOME, count=20, replacing=replacing), "it is there, but|cannot be loaded"
    )


def test_kills_at_random_find_carelessness(folder: Path) -> None:
    assert_guilty(kill_at_random(BACKEND, folder, count=5000, cases=20), "it is there, but|cannot be loaded")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("error", [*FAILURES, SIGINT])
def test_calls_that_fail_find_carelessness(folder: Path, error: str) -> None:
    assert_guilty(fail_at_calls(BACKEND, folder, SOME, [error], count=20)[error], "and then it")


@pytest.mark.parametrize("damage", [pytest.param(name, id=name.replace(" ", "_")) for name in REASONS])
def test_damages_find_carelessness(folder: Path, damage: str) -> None:
    assert_guilty(damage_and_read(BACKEND, folder, [damage], cases=10)[damage], REASONS[damage])


def test_limits_on_files_find_carelessness(folder: Path) -> None:
    assert_guilty(limit_files(BACKEND, folder, SOME), "cannot be loaded")


def test_small_disks_find_carelessness(folder: Path) -> None:
    if reason := find_obstacle():
        pytest.skip(reason)
    assert_guilty(fill_disk(BACKEND, folder, SOME, midway=True), "it is there, but|cannot be loaded")


def test_a_crowd_finds_carelessness(folder: Path) -> None:
    assert_guilty(read_while_writing([BACKEND], folder, 1)[BACKEND], "Error|neither old|not all of one set")


def test_failed_opens_find_carelessness(folder: Path) -> None:
    assert_guilty(fail_to_open(BACKEND, folder, cases=300), "leave 200 descriptors")


def test_failed_opens_find_memory_that_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def keep(path: Path) -> None:
        kept.append(mmap.mmap(-1, 2 * PAGE))  # new pages: an allocator may have old ones
        kept[-1].write(bytes(2 * PAGE))
        raise storage.CorruptStoreError("it is damaged", store=path)

    monkeypatch.setattr(storage, "open", keep)
    assert_guilty(fail_to_open(BACKEND, folder, cases=1000), r"leave 0 descriptors, 0 maps and 5\d{6} bytes")
