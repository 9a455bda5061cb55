"""The table of `docs/safety.md`: a report of faults as Markdown. ``python -m tests.faults.table faults.json``."""

import json
import sys
from collections import Counter
from pathlib import Path

Row = dict[str, int]


def make_table(report: Path) -> str:
    """Make a table with a row a fault, and in it, for each backend, how many cases had which outcome.

    Parameters
    ----------
    report : Path
        What ``--faults-report`` wrote.

    Returns
    -------
    str
        Markdown.
    """
    found: dict[str, dict[str, Row]] = {}
    for row in json.loads(report.read_text(encoding="utf-8")):
        found.setdefault(row["fault"], {})[row["backend"]] = count_kinds(row["outcomes"])
    backends = sorted({backend for rows in found.values() for backend in rows})
    lines = [["fault", *backends], ["---"] * (1 + len(backends))]
    for fault, rows in found.items():
        lines.append([fault, *(describe(rows.get(backend, {})) for backend in backends)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def count_kinds(outcomes: Row) -> Row:
    """Count outcomes by what is left, whatever is said of how it came."""
    kinds: Counter[str] = Counter()
    for outcome, count in outcomes.items():
        kinds[outcome.partition(",")[0]] += count
    return dict(kinds)


def describe(row: Row) -> str:
    """Describe the outcomes of one backend."""
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(row.items())) or "not tried"


if __name__ == "__main__":
    sys.stdout.write(make_table(Path(sys.argv[1])))
