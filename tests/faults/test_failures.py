"""A save that fails says so, leaves the old store, and can be repeated with no cleaning."""

from pathlib import Path

import pytest

from tests.faults.extent import Extent
from tests.faults.failures import FAILURES, SIGINT, fail_at_calls
from tests.faults.findings import Record, count_findings
from tests.faults.mounts import find_obstacle
from tests.faults.shortages import fill_disk, forbid_save, limit_files

COUNT = 8  # images


@pytest.mark.usefixtures("traced")
def test_a_system_call_that_fails_or_is_interrupted_leaves_the_old_store(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    found = fail_at_calls(backend, folder, extent, [*FAILURES, SIGINT], count=COUNT)
    names = {error: f"{error} {'at' if error == SIGINT else 'of'} system calls" for error in found}
    count_findings(record_property, backend, {names[error]: findings for error, findings in found.items()})


def test_a_limit_on_the_size_of_files_leaves_the_old_store(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = limit_files(backend, folder, extent)
    count_findings(record_property, backend, {"short writes, by a limit on files": findings})


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
    count_findings(record_property, backend, {f"a disk that is full, {moment}": findings})


@pytest.mark.usefixtures("mounts")
def test_a_read_only_disk_is_read_from_and_refuses_a_save(backend: str, folder: Path, record_property: Record) -> None:
    count_findings(record_property, backend, {"a read-only disk": forbid_save(backend, folder)})
