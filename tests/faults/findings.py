"""Findings: cases and their outcomes, counted; one that is guilty fails the test."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import pytest

Findings: TypeAlias = list[tuple[str, str]]  # which case, what came of it
Record: TypeAlias = Callable[[str, object], None]

GUILTY = "guilty: "  # how the outcome begins that must not be
SHOWN = 10  # guilty cases in a message
FAULT = "fault"  # the property of a test that has its counts


def count_findings(record: Record, fault: str, backend: str, findings: Findings) -> None:
    """Count findings for the report, and fail if one is guilty.

    Parameters
    ----------
    record : callable
        pytest's ``record_property``.
    fault : str
        What was done.
    backend : str
    findings : Findings

    Raises
    ------
    AssertionError
        There is no finding, or a guilty one; the message names the first ones.
    """
    counts = Counter(outcome if not outcome.startswith(GUILTY) else "guilty" for _, outcome in findings)
    row = {"fault": fault, "backend": backend, "cases": len(findings), "outcomes": dict(sorted(counts.items()))}
    record(FAULT, row)
    assert findings, "no case was tried"
    guilty = list(find_guilty(findings))
    named = "\n".join(f"  {case}: {outcome}" for case, outcome in guilty[:SHOWN])
    assert not guilty, f"{fault}, {backend}: {len(guilty)} of {len(findings)} cases are guilty, first\n{named}"


def find_rows(reports: Iterable[pytest.TestReport]) -> list[dict[str, Any]]:
    """Find the counts in the reports of tests, ordered by fault and backend."""
    rows: list[Any] = [value for report in reports for name, value in report.user_properties if name == FAULT]
    return sorted(rows, key=lambda row: (row["fault"], row["backend"]))


def find_guilty(findings: Findings) -> Iterable[tuple[str, str]]:
    """Find the guilty ones."""
    return (finding for finding in findings if finding[1].startswith(GUILTY))
