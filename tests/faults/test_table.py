"""The table of the documents, made of a report."""

import json
from pathlib import Path

from tests.faults.table import make_table


def test_a_table_has_a_row_a_fault_and_a_column_a_backend(tmp_path: Path) -> None:
    rows = [
        {
            "fault": "a fire",
            "backend": "tape",
            "cases": 1_234,
            "outcomes": {"old": 1_230, "new, though wet": 3, "new": 1},
        },
        {"fault": "a fire", "backend": "card", "cases": 2, "outcomes": {"refused": 2}},
        {"fault": "a flood", "backend": "card", "cases": 1, "outcomes": {"absent": 1}},
    ]
    (tmp_path / "faults.json").write_text(json.dumps(rows))
    assert make_table(tmp_path / "faults.json").splitlines() == [
        "| fault | card | tape |",
        "| --- | --- | --- |",
        "| a fire | 2 refused | 4 new, 1,230 old |",
        "| a flood | 1 absent | not tried |",
    ]
