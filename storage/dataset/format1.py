"""Format 1 of datasets, which is read and no longer written: all details of all parts are in the manifest.

Parts are named ``part-00000`` and so on, and one file, ``checksums``, has the checksums of all: for each part one per
record, then one per block of records.
"""

from collections.abc import Mapping
from typing import Any

from .details import Details, parse_details

FORMAT = 1
CHECKSUMS = "checksums"


def parse(content: Mapping[str, Any]) -> tuple[Details, ...]:
    """Divide the details among the parts."""
    if len(content["parts"]) > len(content["sizes"]):  # a short manifest could name millions
        raise ValueError("parts without files")
    found: dict[str, dict[str, dict[str, Any]]] = {
        f"part-{number:05}": {"sizes": {}, "structure": {}, "beside": {}} for number in range(len(content["parts"]))
    }
    for key in ("sizes", "structure"):
        for path, entry in content[key].items():
            part, _, name = path.partition("/")
            if part not in found:
                raise ValueError(f"a file named {path!r}")
            found[part][key][name] = entry
    if not all(entry["sizes"] for entry in found.values()):
        raise ValueError("parts without files, or files without a part")
    return tuple(map(parse_details, found.values()))
