"""Reading a damaged plain store ends in the images or in an error of this package; few backends may be killed."""

from pathlib import Path

from tests.faults.extent import Extent
from tests.faults.findings import PLAIN, Record, count_findings
from tests.faults.integrity import damage_plain


def test_damage_to_a_plain_store_raises_no_foreign_error(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    found = damage_plain(backend, folder, cases=3 if extent.sample else 200)
    count_findings(record_property, backend, {f"{PLAIN}{damage}": findings for damage, findings in found.items()})
