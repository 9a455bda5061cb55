"""A damaged store is read right or refused; a refusal names the record or the file."""

from pathlib import Path

import pytest

from tests.faults.damages import DAMAGES
from tests.faults.extent import Extent
from tests.faults.findings import Record, count_findings
from tests.faults.reading import damage_and_read


@pytest.mark.parametrize("damage", [pytest.param(name, id=name.replace(" ", "_")) for name in DAMAGES])
def test_a_damaged_store_is_read_right_or_refused(
    backend: str, damage: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    findings = damage_and_read(backend, folder, damage, cases=extent.count(2, 200, 1000))
    count_findings(record_property, damage, backend, findings)
