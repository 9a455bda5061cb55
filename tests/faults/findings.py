"""Findings: cases and their outcomes, counted; one that is guilty fails the test."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import pytest

from storage.contract import Kind

Findings: TypeAlias = list[tuple[str, str]]  # which case, what came of it
Record: TypeAlias = Callable[[str, object], None]

GUILTY = "guilty: "  # how the outcome begins that must not be
NOT_REACHED = "not reached"  # one of several threads, or an allocator, has made fewer calls than the time before
SHOWN = 10  # guilty cases in a message
PLAIN = "plain store, "  # how the names of faults begin that come to stores without `storage.save`
FILES = "image files, "  # likewise of those that come to image files
FAULT = "fault"  # the property of a test that has its counts


def count_findings(record: Record, backend: str, found: Mapping[str, Findings]) -> None:
    """Count findings for the report, and fail if one is guilty."""
    wrong = []
    for fault, findings in found.items():
        counts = Counter(outcome if not outcome.startswith(GUILTY) else "guilty" for _, outcome in findings)
        row = {"fault": fault, "backend": backend, "cases": len(findings), "outcomes": dict(sorted(counts.items()))}
        record(FAULT, row)
        guilty = list(find_guilty(findings))
        if guilty:
            wrong.append(f"{fault}, {backend}: {len(guilty)} of {len(findings)} cases are guilty, first")
            wrong += [f"  {case}: {outcome}" for case, outcome in guilty[:SHOWN]]
        if not findings:
            wrong.append(f"{fault}, {backend}: no case was tried")
    assert not wrong, "\n".join(wrong)


def name_fault(kind: Kind, fault: str) -> str:
    """Name a fault by the kind of images that it comes to."""
    return fault if kind == "pixels" else f"{FILES}{fault}"


def find_rows(reports: Iterable[pytest.TestReport]) -> list[dict[str, Any]]:
    """Find the counts in the reports of tests, ordered by fault and backend."""
    rows: list[Any] = [value for report in reports for name, value in report.user_properties if name == FAULT]
    return sorted(rows, key=lambda row: (row["fault"], row["backend"]))


def find_guilty(findings: Findings) -> Iterable[tuple[str, str]]:
    """Find the guilty ones."""
    return (finding for finding in findings if finding[1].startswith(GUILTY))
