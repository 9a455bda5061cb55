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
    findings = kill_at_calls(backend, folder, extent, count=30, replacing=kind == "replacing")
    count_findings(record_property, backend, {f"SIGKILL at system calls, {kind}": findings})


def test_a_save_killed_at_random_leaves_old_new_or_nothing(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = kill_at_random(backend, folder, count=100 if extent.sample else 1000, cases=extent.count(2))
    count_findings(record_property, backend, {"SIGKILL at random": findings})
