"""A damaged store is read right or refused; a refusal names the record or the file."""

from pathlib import Path

from tests.faults.damages import DAMAGES
from tests.faults.extent import Extent
from tests.faults.findings import Record, count_findings
from tests.faults.reading import damage_and_read


def test_a_damaged_store_is_read_right_or_refused(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    count_findings(record_property, backend, damage_and_read(backend, folder, DAMAGES, cases=extent.count(1)))
