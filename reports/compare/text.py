"""The comparison of two runs as Markdown that reads well in a terminal too."""

import shlex
from collections.abc import Iterable, Sequence

from reports.compare.comparison import MAX_INTERVAL, Comparison, Row
from reports.run import UNSTABLE_RULE, Result, Run
from reports.text import count_verdicts, escape_text, format_time, name_cell, shorten_text, write_table

NOT_GATED = {("durability", "durable"), ("cache", "cold")}  # the gate keeps its stores in memory
_WEAK = """\
Two runs are two processes, and one process differs from the next although nothing was changed: this is weak evidence,
in both directions."""


def make_verdicts(comparison: Comparison) -> str:
    """Describe a comparison: the number of cells by verdict, those that aren't ok, and what to type next.

    If the runs can't be compared, the text says why. Text from the runs is escaped.
    """
    if comparison.differences:
        return f"{describe_differences(comparison.differences)}\n"
    parts = [f"## {count_verdicts(comparison.counts)}", _describe_runs(comparison)]
    if rows := _make_rows(comparison):
        header = ["cell", "base", "new", "new / base", "interval", "verdict"]
        parts.append(write_table([header, *rows]))
    if comparison.select_rows("inconclusive"):
        parts.append(
            f"inconclusive: too noisy to be called ok, in one of the runs ({UNSTABLE_RULE}) or between them (an "
            f"interval wider than a factor of {MAX_INTERVAL} upwards). Only suspects, whose new median is slower, are "
            "listed."
        )
    params = {result.cell: result.params for result in comparison.base.results}
    suspects = [row for row in comparison.rows if row.suspect and not NOT_GATED & set(params[row.cell])]
    if suspects:
        command = _write_gate(comparison.base, suspects)
        parts += [f"{_WEAK} Let the gate measure the suspects side by side:", f"    {command}"]
    else:
        parts.append(_WEAK)
    return "\n\n".join(parts) + "\n"


def describe_differences(differences: Iterable[str]) -> str:
    """Say in one line why two runs can't be compared."""
    return f"the runs can't be compared: {'; '.join(differences)}"


def _describe_runs(comparison: Comparison) -> str:
    runs = {"Base": comparison.base, "New": comparison.new}
    return "\n".join(
        f"- {name}: run of {run.datetime:%Y-%m-%d %H:%M}, commit {escape_text(run.commit.short)}"
        for name, run in runs.items()
    )


def _make_rows(comparison: Comparison) -> list[list[str]]:
    certain = [*comparison.select_rows("regression"), *comparison.select_rows("improvement")]
    rows = [*certain, *(row for row in comparison.rows if row.suspect and row.verdict in {"inconclusive", "ok"})]
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
    lines += [[*_name(result), "", "", "", "missing"] for result in comparison.missing]
    return lines + [[name, "", time, "", "", "new"] for name, time in map(_name, comparison.added)]


def _name(result: Result) -> tuple[str, str]:
    return escape_text(name_cell(result.cell)), format_time(result.median)


def _write_gate(base: Run, suspects: Sequence[Row]) -> str:
    """Write the command that measures suspects again, quoted for a shell."""
    clean = base.commit.known and not base.commit.dirty
    before = base.commit.id[:12] if clean else shorten_text(str(base.path), 1000)
    names = [row.cell for row in suspects]
    cutoffs = sorted({result.store_images for result in base.results if result.cell in names})
    choice = ["--cells", " or ".join(map(name_cell, names)), "--cutoffs", ",".join(map(str, cutoffs))]
    return shlex.join(["python", "-m", "reports", "gate", before, *choice])
