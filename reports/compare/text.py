"""What a comparison of two runs says, as Markdown that reads well in a terminal too."""

import shlex
from collections.abc import Iterable, Sequence

from reports.compare.comparison import WIDEST_INTERVAL, Comparison, Row, Verdict
from reports.run import UNSTABLE_RULE, Run
from reports.text import escape_text, format_time, name_cell, shorten_text, write_table

_SHOWN: tuple[Verdict, ...] = ("slower", "faster")  # of the others, suspects only
NOT_GATED = {("durability", "durable"), ("cache", "cold")}  # the gate keeps its stores in memory
_WEAK = """\
Two runs are two processes, and one process differs from the next although nothing was changed: this is weak evidence,
in both directions."""


def make_verdicts(comparison: Comparison) -> str:
    """Show a comparison: how many cells have which verdict, those that are not ok, and what to type next.

    Or say why the runs cannot be compared. Text from the runs is escaped.
    """
    if comparison.differences:
        return f"{describe_differences(comparison.differences)}\n"
    parts = [f"## {count_verdicts(comparison)}", _describe_runs(comparison)]
    rows = _make_rows(comparison)
    if rows:
        header = ["cell", "base", "new", "new / base", "interval", "verdict"]
        parts.append(write_table([header, *rows]))
    if comparison.select_rows("unstable"):
        parts.append(
            f"unstable: too noisy to be called ok, in one of the runs ({UNSTABLE_RULE}) or between them (an interval "
            f"wider than a factor of {WIDEST_INTERVAL} upwards). Listed are the suspects: the new median is slower."
        )
    axes = {result.cell: result.axes for result in comparison.base.results}
    suspects = [row for row in comparison.rows if row.suspect and not NOT_GATED & set(axes[row.cell])]
    if suspects:
        parts += [f"{_WEAK} Have the suspects measured side by side:", f"    {_write_gate(comparison.base, suspects)}"]
    else:
        parts.append(_WEAK)
    return "\n\n".join(parts) + "\n"


def describe_differences(differences: Iterable[str]) -> str:
    """Say on one line why two runs cannot be compared."""
    return f"the runs cannot be compared: {'; '.join(differences)}"


def count_verdicts(comparison: Comparison) -> str:
    """Say how many cells have which verdict."""
    counts = {
        "slower": len(comparison.select_rows("slower")),
        "missing": len(comparison.missing),
        "faster": len(comparison.select_rows("faster")),
        "ok": len(comparison.select_rows("ok")),
        "unstable": len(comparison.select_rows("unstable")),
        "new": len(comparison.added),
    }
    return ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items() if count)


def _describe_runs(comparison: Comparison) -> str:
    runs = {"Base": comparison.base, "New": comparison.new}
    return "\n".join(
        f"- {name}: run of {run.datetime:%Y-%m-%d %H:%M}, commit {escape_text(run.commit.short)}"
        for name, run in runs.items()
    )


def _make_rows(comparison: Comparison) -> list[list[str]]:
    rows = [row for verdict in _SHOWN for row in comparison.select_rows(verdict)]
    rows += [row for row in comparison.rows if row.suspect and row.verdict not in _SHOWN]
    lines = [
        [
            escape_text(name_cell(row.cell)),
            format_time(row.base),
            format_time(row.new),
            f"{row.ratio:,.2f}",
            f"{row.low:,.2f} to {row.high:,.2f}",
            row.verdict,
        ]
        for row in rows
    ]
    lines += [
        [escape_text(name_cell(result.cell)), format_time(result.median), "", "", "", "missing"]
        for result in comparison.missing
    ]
    lines += [
        [escape_text(name_cell(result.cell)), "", format_time(result.median), "", "", "new"]
        for result in comparison.added
    ]
    return lines


def _write_gate(base: Run, suspects: Sequence[Row]) -> str:
    """Write the command that measures suspects again, quoted for a shell."""
    is_all = base.commit.known and not base.commit.dirty
    before = base.commit.id[:12] if is_all else shorten_text(str(base.path), 1000)
    names = [row.cell for row in suspects]
    cutoffs = sorted({result.store_images for result in base.results if result.cell in names})
    choice = ["--cells", " or ".join(map(name_cell, names)), "--cutoffs", ",".join(map(str, cutoffs))]
    return shlex.join(["python", "-m", "reports", "gate", before, *choice])
