"""A save that fails says so, leaves the old store, and can be repeated with no cleaning."""

from pathlib import Path

import pytest

from tests.faults.extent import Extent
from tests.faults.failures import FAILURES, SIGINT, fail_at_calls
from tests.faults.findings import Record, count_findings
from tests.faults.mounts import find_obstacle
from tests.faults.shortages import fill_disk, forbid_save, limit_files

COUNT = 20  # images


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("error", FAILURES)
def test_a_system_call_that_fails_leaves_the_old_store(
    backend: str, error: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = fail_at_calls(backend, folder, extent, error, count=COUNT)
    count_findings(record_property, f"{error} of each system call", backend, findings)


@pytest.mark.usefixtures("traced")
def test_an_interrupted_save_leaves_the_old_store_or_the_new_one(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = fail_at_calls(backend, folder, extent, SIGINT, count=COUNT)
    count_findings(record_property, "SIGINT at each system call", backend, findings)


def test_a_limit_on_the_size_of_files_leaves_the_old_store(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    count_findings(record_property, "short writes, by a limit on files", backend, limit_files(backend, folder, extent))


@pytest.fixture
def mounts() -> None:
    """Skip where nothing can be mounted."""
    if reason := find_obstacle():
        pytest.skip(reason)


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("moment", ["before", "midway"])
def test_a_full_disk_leaves_the_old_store(
    backend: str, moment: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = fill_disk(backend, folder, extent, midway=moment == "midway")
    count_findings(record_property, f"a disk that is full, {moment}", backend, findings)


@pytest.mark.usefixtures("mounts")
def test_a_read_only_disk_is_read_from_and_refuses_a_save(backend: str, folder: Path, record_property: Record) -> None:
    count_findings(record_property, "a read-only disk", backend, forbid_save(backend, folder))
