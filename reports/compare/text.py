"""The comparison of two runs as Markdown that reads well in a terminal too."""

import math
import shlex
import statistics
from collections.abc import Iterable, Iterator, Sequence

from reports.compare.comparison import MAX_FACTOR, Comparison, Row, find_other_libraries
from reports.noise import Thresholds
from reports.run import Result, Run
from reports.text import (
    count_verdicts,
    escape_text,
    format_number,
    format_time,
    name_cell,
    shorten_text,
    write_list,
    write_table,
)

NOT_GATED = {("durability", "durable"), ("cache", "cold")}  # the gate keeps its stores in memory
GATE = "`python -m reports gate` measures two versions side by side"
_FEW = 2  # processes of a base that show little


def make_verdicts(comparison: Comparison) -> str:
    """Describe a comparison: the number of cells by verdict, those that aren't ok, and what to type next.

    If the runs can't be compared, the text says why. Text from the runs is escaped.
    """
    if comparison.differences:
        libraries = set(comparison.differences) <= set(find_other_libraries(comparison.base, comparison.new))
        return f"{describe_differences(comparison.differences, other_libraries=libraries)}\n"
    parts = [f"## {count_verdicts(comparison.counts)}", "\n".join(_describe_runs(comparison))]
    if rows := _make_rows(comparison):
        header = ["cell", "base", "new", "new / base", "interval", "verdict"]
        parts.append(write_table([header, *rows]))
        parts.append("Times are those of the fastest round of a process; ratios are without the drift of the machine.")
    reasons = (f"{name_cell(cell)} ({reason})" for cell, reason in comparison.absent.items())
    parts += [*write_list("Not measured", reasons), *_describe_limits(comparison)]
    params = {result.cell: result.params for result in comparison.base.results}
    doubtful = [row for row in comparison.rows if row.suspect and row.verdict == "inconclusive"]
    gated = [row for row in doubtful if not NOT_GATED & set(params[row.cell])]
    if gated:
        command = _write_gate(comparison.base, gated)
        parts += ["Let the gate measure the inconclusive ones that look slower side by side:", f"    {command}"]
    return "\n\n".join(parts) + "\n"


def describe_differences(differences: Iterable[str], *, other_libraries: bool) -> str:
    """Say in one line why two runs can't be compared, and what to do instead.

    `other_libraries` says whether libraries are all that differs, which can be allowed.
    """
    hint = f"{GATE}, also with another interpreter: --new-python PATH; --allow=libraries compares anyway"
    return f"the runs can't be compared: {'; '.join(differences)}; {hint if other_libraries else GATE}"


def _describe_runs(comparison: Comparison) -> Iterator[str]:
    runs = {"Base": comparison.base, "New": comparison.new}
    for name, run in runs.items():
        number = len(run.processes)
        processes = "one process" if number == 1 else f"{number:,} processes"
        yield f"- {name}: run of {run.datetime:%Y-%m-%d %H:%M}, commit {escape_text(run.commit.short)}, {processes}"
    if comparison.base.references and comparison.new.references and comparison.drift:
        factor = math.exp(comparison.drift.shift)
        yield f"- Machine: {factor:.2f} times as long as for the base, by its reference cells; ratios are corrected"
        crowding = math.exp(comparison.drift.parallel_margin)
        if crowding > 1 + comparison.threshold and any(row.cell in comparison.base.parallel for row in comparison.rows):
            known = "not as free as for the base" if comparison.drift.crowding else "how free they were isn't known"
            words = f"cells of several workers or threads may be {crowding:.2f}x as slow or fast for that alone"
            yield f"- Processors: {known}; {words}"
    else:
        yield "- Machine: no reference cells in both runs, so its drift is unknown"
    if comparison.allowed:
        yield f"- Other libraries: {escape_text('; '.join(comparison.allowed), 1000)}"


def _describe_limits(comparison: Comparison) -> Iterator[str]:
    """Say which slowdown a comparison could have found, if it isn't good enough for a cell to be ok."""
    undecided = comparison.select_rows("inconclusive")
    if not undecided:
        return
    yield (
        "inconclusive: neither a regression nor certain to be less than 1.2 times as long (twice the threshold). "
        "Only those that look slower are listed."
    ).replace("1.2", f"{1 + Thresholds(comparison.threshold).never_ok:.3g}")
    processes = len(comparison.base.processes)
    if processes <= _FEW:
        detectable = statistics.median(row.detectable for row in comparison.rows)
        yield (
            f"This base has {'one process' if processes == 1 else f'{processes} processes'}: it can show most cells' "
            f"slowdowns of more than {_write_factor(detectable)}. `--save-baseline=NAME` makes a better one."
        )


def _write_factor(factor: float) -> str:
    return f"{factor:,.2f}x" if factor <= MAX_FACTOR else f"{MAX_FACTOR}x"


def _make_rows(comparison: Comparison) -> list[list[str]]:
    certain = [*comparison.select_rows("regression"), *comparison.select_rows("improvement")]
    rows = [*certain, *(row for row in comparison.select_rows("inconclusive") if row.suspect)]
    lines = [
        [
            escape_text(name_cell(row.cell)),
            format_time(row.base),
            format_time(row.new),
            f"{row.ratio:,.2f}",
            describe_interval(row),
            f"{row.verdict}{comparison.doubt}",
        ]
        for row in rows
    ]
    lines += [[*_name(result), "", "", "", f"missing{comparison.doubt}"] for result in comparison.missing]
    return lines + [[name, "", time, "", "", f"new{comparison.doubt}"] for name, time in map(_name, comparison.added)]


def describe_interval(row: Row) -> str:
    """Write the interval of a ratio, unless it is too wide to say anything."""
    if row.noisy and row.verdict in {"regression", "improvement"}:
        slower = row.verdict == "regression"
        return f"above {format_number(row.low)}" if slower else f"below {format_number(row.high)}"
    if row.noisy:
        spread, count = max(zip(row.spreads, row.processes, strict=True))
        words = f": {count} processes differ by a factor of {format_number(spread)}" if count > 1 else ""
        return f"too noisy{words}"
    return f"{row.low:,.2f} to {row.high:,.2f}"


def _name(result: Result) -> tuple[str, str]:
    return escape_text(name_cell(result.cell)), format_time(result.median)


def _write_gate(base: Run, suspects: Sequence[Row]) -> str:
    """Write the command that measures suspects again, quoted for a shell."""
    clean = base.commit.known and not base.commit.dirty
    before = base.commit.id[:12] if clean else shorten_text(str(base.path), 1000)
    names = [row.cell for row in suspects]
    cutoffs = sorted({result.store_images for result in base.results if result.cell in names})
    choice = ["--cells", " or ".join(map(name_cell, names)), "--cutoffs", ",".join(map(str, cutoffs))]
    if base.image_set.sample:  # of image files; a run doesn't say where those of a folder are
        choice += ["--images", base.image_set.name if base.image_set.generated else "FOLDER"]
    return shlex.join(["python", "-m", "reports", "gate", before, *choice])
