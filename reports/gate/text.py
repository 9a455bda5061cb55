"""The findings of the gate in words: Markdown for people, JSON for programs, annotations for GitHub."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from reports.gate.decision import Decision, Outcome
from reports.gate.syncs import SyncChange
from reports.text import (
    count_noun,
    count_verdicts,
    escape_text,
    format_time,
    name_cell,
    shorten_text,
    write_list,
    write_table,
)

FORMAT = 1  # of the JSON
DISTURBED = "Nothing can be judged: cells that the change can't affect differ, too"


@dataclass(frozen=True)
class Finding:
    """An outcome, and what a reader must know: the names of both sides, notes, and the exit code."""

    baseline: str
    candidate: str
    notes: tuple[str, ...]
    outcome: Outcome
    exit_code: int


def choose_exit_code(outcome: Outcome, *, strict: bool, allow_missing: bool) -> int:
    """Choose the exit code: 1 for a regression or a missing cell, 3 if a cell couldn't be measured, else 0.

    With `strict`, inconclusive cells count as regressions. With `allow_missing`, neither missing cells count nor those
    that only the baseline couldn't measure: like new ones, they have nothing to be compared with. Those whose backend
    broke always count. Controls that differ make it 3. An operation that syncs without being asked to, or
    doesn't although it was, makes it 1.
    """
    slower = outcome.select("regression") or (strict and outcome.select("inconclusive"))
    failing = slower or any(each.harmful for each in outcome.syncs)
    if failing or outcome.broken or (outcome.missing and not allow_missing):
        return 1
    if outcome.disturbed:
        return 3
    absent = [each for each in outcome.absent.values() if not (allow_missing and each.side == "baseline")]
    return 3 if absent else 0


def make_summary(finding: Finding) -> str:
    """Write what was found as Markdown: the answer, the cells that changed or may be slower, how it was measured."""
    outcome = finding.outcome
    shown = [
        *outcome.select("regression"),
        *(each for each in outcome.select("inconclusive") if each.slower),
        *outcome.select("improvement"),
    ]
    parts = [
        f"## Gate: {_count_syncs(outcome)}{count_verdicts(outcome.counts)}{_count_unavailable(outcome)}",
        escape_text(f"{finding.candidate} against {finding.baseline}"),
    ]
    if shown:
        parts.append(write_table([("cell", "base", "ratio", "p-value", "pairs", "verdict"), *map(_make_row, shown)]))
    parts += write_list("Durability", map(_describe_syncs, outcome.syncs))
    if outcome.disturbed:
        parts.append(f"{DISTURBED}: {escape_text(', '.join(map(name_cell, outcome.disturbed)), 400)}")
    parts += write_list("Missing, measured in the baseline only", _describe_missing(outcome))
    parts += write_list("New, without a baseline", map(name_cell, outcome.new))
    reasons = [f"{name_cell(cell)} ({absence.side}: {absence.reason})" for cell, absence in outcome.absent.items()]
    reasons += [f"{name}: {reason}" for name, reason in outcome.unavailable.items()]
    parts += write_list("Not measured", reasons)
    parts.append("\n".join(f"- {escape_text(note)}" for note in (*finding.notes, _describe_cost(outcome))))
    return "\n\n".join(parts) + "\n"


def _make_row(decision: Decision) -> tuple[str, ...]:
    value = "" if decision.value is None else f"{decision.value:.1e}"
    base, ratio = format_time(decision.base_seconds), f"{decision.ratio:.2f}x"
    return escape_text(name_cell(decision.cell)), base, ratio, value, str(decision.pairs), decision.verdict


def _count_syncs(outcome: Outcome) -> str:
    number = sum(each.harmful for each in outcome.syncs)
    return f"{count_noun(number, 'regression')} of durability, " if number else ""


def _count_unavailable(outcome: Outcome) -> str:
    number = len(outcome.unavailable)
    return f", {count_noun(number, 'backend')} not measured" if number else ""


def _describe_missing(outcome: Outcome) -> Iterator[str]:
    for cell in outcome.missing:
        yield f"{name_cell(cell)} (candidate: {reason})" if (reason := outcome.broken.get(cell)) else name_cell(cell)


def _describe_syncs(change: SyncChange) -> str:
    kind = "regression" if change.harmful else "improvement"
    return f"{kind}: {change.operation} syncs {count_noun(change.new, 'time')}, {change.base} in the baseline"


def _describe_cost(outcome: Outcome) -> str:
    pairs = f"{count_noun(outcome.screened, 'pair')} of all cells, {outcome.confirmed} of suspects"
    noisy = sum(not each.slower for each in outcome.select("inconclusive"))
    doubt = f"; {noisy} of the inconclusive ones don't look slower, but are too noisy to be ok" if noisy else ""
    controls = f" and {count_noun(len(outcome.controls), 'control')}" if outcome.controls else ""
    return f"{count_noun(len(outcome.decisions), 'cell')}{controls}, {pairs}, {outcome.seconds:.0f} s{doubt}"


def make_document(finding: Finding) -> str:
    """Write what was found as JSON; docs/gate.md lists its fields."""
    outcome = asdict(finding.outcome)
    document = {
        "format": FORMAT,
        "base": finding.baseline,
        "new": finding.candidate,
        "notes": finding.notes,
        "outcome": {
            "verdicts": outcome.pop("decisions"),
            **outcome,
            "syncs": [each._asdict() for each in finding.outcome.syncs],
            "absent": {cell: f"{each.side}: {each.reason}" for cell, each in finding.outcome.absent.items()},
        },
        "exit_code": finding.exit_code,
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def make_annotations(finding: Finding) -> Iterator[str]:
    """Write what was found as GitHub's workflow commands, one a line."""
    outcome = finding.outcome
    slower = [("error", each) for each in outcome.select("regression")]
    slower += [("warning", each) for each in outcome.select("inconclusive") if each.slower]
    for level, each in slower:
        text = f"{name_cell(each.cell)} takes {each.ratio:.2f} times as long ({count_noun(each.pairs, 'pair')})"
        yield annotate(level, each.verdict, text)
    for change in outcome.syncs:
        yield annotate("error" if change.harmful else "notice", "durability", _describe_syncs(change))
    for cell in outcome.missing:
        reason = f": {shorten_text(outcome.broken[cell])}" if cell in outcome.broken else ""
        yield annotate("error", "missing", f"{name_cell(cell)} isn't measured any more{reason}")
    for cell, absence in outcome.absent.items():
        text = f"{name_cell(cell)}: {absence.side}: {shorten_text(absence.reason)}"
        yield annotate("error", "not measured", text)


def annotate(level: str, title: str, text: str) -> str:
    """Write one annotation: ``error`` or ``warning``, a title, one line of text."""
    return f"::{level} title=Gate - {title}::{text.replace('%', '%25')}"  # the text has no line breaks
