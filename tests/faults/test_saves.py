"""A save that is killed or fails leaves the old store, the new one or none; and the next one needs no cleaning."""

from pathlib import Path

import pytest

from storage import BACKENDS
from tests.faults.extent import Extent
from tests.faults.failures import FAILURES, SIGINT, fail_at_calls
from tests.faults.findings import Record, count_findings, name_fault
from tests.faults.kills import kill_at_calls, kill_at_random
from tests.faults.mounts import find_obstacle
from tests.faults.shortages import fill_disk, forbid_save, limit_files


@pytest.fixture
def mounts() -> None:
    """Skip where nothing can be mounted."""
    if reason := find_obstacle():
        pytest.skip(reason)


@pytest.mark.kinds("pixels", "encoded")
@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("save", ["new", "replacing", "appending"])
def test_a_save_killed_at_any_system_call_leaves_old_new_or_nothing(
    backend: str, save: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    saving = {"replacing": save == "replacing", "appending": save == "appending"}
    kinds = BACKENDS[backend].INFO.kinds
    for kind, part in extent.divide(kinds[::-1] if save == "replacing" else kinds):  # the first has a call of each name
        (folder / kind).mkdir()
        findings = kill_at_calls(backend, folder / kind, part, count=18, kind=kind, **saving)
        count_findings(record_property, backend, {name_fault(kind, f"SIGKILL at system calls, {save}"): findings})


@pytest.mark.kinds("pixels", "encoded")
def test_a_save_killed_at_random_leaves_old_new_or_nothing(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    for kind, part in extent.divide(BACKENDS[backend].INFO.kinds):
        (folder / kind).mkdir()
        count = 100 if extent.sample else 1000
        findings = kill_at_random(backend, folder / kind, count=count, cases=part.count(2), kind=kind)
        count_findings(record_property, backend, {name_fault(kind, "SIGKILL at random"): findings})


@pytest.mark.kinds("pixels", "encoded")
@pytest.mark.usefixtures("traced")
def test_a_system_call_that_fails_or_is_interrupted_leaves_the_old_store(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    for kind, part in extent.divide(BACKENDS[backend].INFO.kinds[::-1]):  # the first has a call of each name
        (folder / kind).mkdir()
        found = fail_at_calls(backend, folder / kind, part, [*FAILURES, SIGINT], count=8, kind=kind)
        names = {error: f"{error} {'at' if error == SIGINT else 'of'} system calls" for error in found}
        named = {name_fault(kind, names[error]): findings for error, findings in found.items()}
        count_findings(record_property, backend, named)


@pytest.mark.kinds("pixels", "encoded")
def test_a_limit_on_the_size_of_files_leaves_the_old_store(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    for kind, part in extent.divide(BACKENDS[backend].INFO.kinds):
        (folder / kind).mkdir()
        findings = limit_files(backend, folder / kind, part, kind=kind)
        fault = name_fault(kind, "short writes, by a limit on files")
        count_findings(record_property, backend, {fault: findings})


@pytest.mark.kinds("pixels", "encoded")
@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("moment", ["before", "midway"])
def test_a_full_disk_leaves_the_old_store(
    backend: str, moment: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    for kind, part in extent.divide(BACKENDS[backend].INFO.kinds):
        (folder / kind).mkdir()
        findings = fill_disk(backend, folder / kind, part, midway=moment == "midway", kind=kind)
        count_findings(record_property, backend, {name_fault(kind, f"a disk that is full, {moment}"): findings})


@pytest.mark.kinds("pixels", "encoded")
@pytest.mark.usefixtures("mounts")
def test_a_read_only_disk_is_read_from_and_refuses_a_save(backend: str, folder: Path, record_property: Record) -> None:
    kind = BACKENDS[backend].INFO.kinds[-1]
    findings = forbid_save(backend, folder, kind=kind)
    count_findings(record_property, backend, {name_fault(kind, "a read-only disk"): findings})
