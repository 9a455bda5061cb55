"""A save that is killed leaves the old store, the new one or none; and the next one needs no cleaning."""

from pathlib import Path

import pytest

from tests.faults.extent import Extent
from tests.faults.findings import Record, count_findings
from tests.faults.kills import kill_at_calls, kill_at_random


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("kind", ["new", "replacing"])
def test_a_save_killed_at_any_system_call_leaves_old_new_or_nothing(
    backend: str, kind: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = kill_at_calls(backend, folder, extent, count=200, replacing=kind == "replacing")
    count_findings(record_property, f"SIGKILL at each system call, {kind}", backend, findings)


def test_a_save_killed_at_random_leaves_old_new_or_nothing(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    cases = extent.count(2, 50, 1000)
    findings = kill_at_random(backend, folder, count=500 if extent.sample else 5000, cases=cases)
    count_findings(record_property, "SIGKILL at random", backend, findings)
