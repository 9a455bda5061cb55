"""The tables of the documents, made of a report."""

import json
from pathlib import Path

import pytest

from tests.faults import table
from tests.faults.table import make_tables

OUTCOMES = {
    ("a fire", "tape"): {"old": 1_230, "new, though wet": 3, "new": 1},
    ("a fire", "card"): {"refused": 2},
    ("a flood", "card"): {"absent": 1},
    ("plain store, a flood", "card"): {"wrong": 7, "killed, by SIGBUS": 1},
}


def write_report(folder: Path) -> Path:
    rows = [{"fault": fault, "backend": name, "outcomes": outcomes} for (fault, name), outcomes in OUTCOMES.items()]
    path = folder / "faults.json"
    path.write_text(json.dumps(rows))
    return path


def test_a_table_has_a_row_a_backend_and_a_column_a_fault_and_plain_stores_have_their_own(tmp_path: Path) -> None:
    assert make_tables(write_report(tmp_path)).splitlines() == [
        "| saved | a fire | a flood |",
        "| --- | --- | --- |",
        "| card | 2 refused | 1 absent |",
        "| tape | 4 new, 1,230 old | not tried |",
        "",
        "| plain | a flood |",
        "| --- | --- |",
        "| card | 1 killed, 7 wrong |",
    ]


def test_many_faults_are_more_than_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "COLUMNS", 1)
    heads = [line for line in make_tables(write_report(tmp_path)).splitlines() if "a fl" in line or "a fi" in line]
    assert heads == ["| saved | a fire |", "| saved | a flood |", "| plain | a flood |"]
