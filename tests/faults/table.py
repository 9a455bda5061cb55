"""The tables of `docs/safety.md`: a report of faults as Markdown. ``python -m tests.faults.table faults.json``."""

import json
import sys
from collections import Counter
from pathlib import Path

from tests.faults.findings import FILES, PLAIN

COLUMNS = 8  # faults beside each other
TITLES = {  # of tables, by how the names of their faults begin
    "": "saved, pixels",
    FILES: "saved, image files",
    PLAIN: "plain, pixels",
    f"{PLAIN}{FILES}": "plain, image files",
}

Row = dict[str, int]


def make_tables(report: Path) -> str:
    """Make tables with a row a backend, and in it, for each fault, how many cases had which outcome."""
    found: dict[str, dict[str, Row]] = {}
    for row in json.loads(report.read_text(encoding="utf-8")):
        found.setdefault(row["fault"], {})[row["backend"]] = count_kinds(row["outcomes"])
    tables: dict[str, dict[str, dict[str, Row]]] = {title: {} for title in TITLES.values()}
    for fault, rows in found.items():
        prefix = max((prefix for prefix in TITLES if fault.startswith(prefix)), key=len)
        tables[TITLES[prefix]][fault.removeprefix(prefix)] = rows
    parts = [
        (title, dict(list(columns.items())[at : at + COLUMNS]))
        for title, columns in tables.items()
        for at in range(0, len(columns), COLUMNS)
    ]
    return "\n".join(_make_table(*part) for part in parts)


def count_kinds(outcomes: Row) -> Row:
    """Count outcomes by what is left, whatever is said of how it came."""
    return dict(Counter(outcome.partition(",")[0] for outcome, count in outcomes.items() for _ in range(count)))


def _make_table(kind: str, faults: dict[str, dict[str, Row]]) -> str:
    backends = sorted({backend for rows in faults.values() for backend in rows})
    lines = [[kind, *faults], ["---"] * (1 + len(faults))]
    for backend in backends:
        found = [sorted(rows.get(backend, {}).items()) for rows in faults.values()]
        lines.append([backend, *(", ".join(f"{n:,} {kind}" for kind, n in row) or "not tried" for row in found)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(make_tables(Path(sys.argv[1])))
