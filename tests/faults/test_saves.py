"""A save that is killed or fails leaves the old store, the new one or none; and the next one needs no cleaning."""

from pathlib import Path

import pytest

from storage import BACKENDS
from tests.faults.extent import Extent
from tests.faults.failures import FAILURES, SIGINT, fail_at_calls
from tests.faults.findings import FILES, Record, count_findings
from tests.faults.kills import kill_at_calls, kill_at_random
from tests.faults.mounts import find_obstacle
from tests.faults.shortages import fill_disk, forbid_save, limit_files
from tests.support.encoded_sets import need_files


@pytest.fixture
def mounts() -> None:
    """Skip where nothing can be mounted."""
    if reason := find_obstacle():
        pytest.skip(reason)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("kind", ["new", "replacing", "appending"])
def test_a_save_killed_at_any_system_call_leaves_old_new_or_nothing(
    backend: str, kind: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    options = {"replacing": kind == "replacing", "appending": kind == "appending"}
    findings = kill_at_calls(backend, folder, extent, count=30, **options)
    count_findings(record_property, backend, {f"SIGKILL at system calls, {kind}": findings})


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("kind", ["replacing", "appending"])
def test_a_save_of_files_killed_at_any_system_call_leaves_old_new_or_nothing(
    backend: str, kind: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    need_files(BACKENDS[backend])
    options = {"replacing": kind == "replacing", "appending": kind == "appending"}
    findings = kill_at_calls(backend, folder, extent, count=18, encoded=True, **options)
    count_findings(record_property, backend, {f"{FILES}SIGKILL at system calls, {kind}": findings})


def test_a_save_killed_at_random_leaves_old_new_or_nothing(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = kill_at_random(backend, folder, count=100 if extent.sample else 1000, cases=extent.count(2))
    count_findings(record_property, backend, {"SIGKILL at random": findings})


@pytest.mark.usefixtures("traced")
def test_a_system_call_that_fails_or_is_interrupted_leaves_the_old_store(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    found = fail_at_calls(backend, folder, extent, [*FAILURES, SIGINT], count=8)
    names = {error: f"{error} {'at' if error == SIGINT else 'of'} system calls" for error in found}
    count_findings(record_property, backend, {names[error]: findings for error, findings in found.items()})


def test_a_limit_on_the_size_of_files_leaves_the_old_store(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = limit_files(backend, folder, extent)
    count_findings(record_property, backend, {"short writes, by a limit on files": findings})


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
