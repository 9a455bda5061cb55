"""What the gate found, in words: Markdown for people, JSON for programs, annotations for GitHub."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from reports.gate.decision import Outcome, Verdict
from reports.text import count_noun, escape_text, format_time, name_cell, shorten_text, write_table

FORMAT = 1  # of the JSON


@dataclass(frozen=True)
class Finding:
    """An outcome, and what must be known to read it.

    Attributes
    ----------
    base, new : str
        What each arm was.
    notes : tuple of str
        Where the stores were, what differs between the arms, and so on.
    outcome : Outcome
        What was found.
    exit_code : int
        What the gate ends with.
    """

    base: str
    new: str
    notes: tuple[str, ...]
    outcome: Outcome
    exit_code: int


def choose_exit_code(outcome: Outcome, *, strict: bool, allow_missing: bool) -> int:
    """Choose the exit code: 1 for a regression or a missing cell, 3 if a cell could not be measured, else 0.

    A cell that only the base could not measure has nothing to be compared with, like a new one: that may be allowed.

    Parameters
    ----------
    outcome : Outcome
        What was found.
    strict : bool
        Inconclusive cells count as regressions.
    allow_missing : bool
        Missing cells count as nothing, nor do those that fail in the base alone.
    """
    failing = outcome.select("regression") or (strict and outcome.select("inconclusive"))
    if failing or (outcome.missing and not allow_missing):
        return 1
    mended = {cell for cell, reason in outcome.absent.items() if reason.startswith("base arm")}
    return 3 if outcome.absent.keys() - (mended if allow_missing else set()) else 0


def count_verdicts(outcome: Outcome) -> str:
    """Say how many cells have which verdict: ``1 regression, 64 ok``; the grave ones first, absent ones left out."""
    counts = {
        "regression": len(outcome.select("regression")),
        "missing": len(outcome.missing),
        "not measured": len(outcome.absent),
        "inconclusive": len(outcome.select("inconclusive")),
        "improvement": len(outcome.select("improvement")),
        "new": len(outcome.new),
    }
    ok = len(outcome.select("ok"))
    words = [f"{count} {name}" for name, count in counts.items() if count]
    return ", ".join([*words, f"{ok} ok"])


def make_summary(finding: Finding) -> str:
    """Write what was found as Markdown: the answer, the cells that are not ok, how it was measured."""
    outcome = finding.outcome
    verdicts = [each for name in ("regression", "inconclusive", "improvement") for each in outcome.select(name)]
    parts = [f"## Gate: {count_verdicts(outcome)}", escape_text(f"{finding.new} against {finding.base}")]
    if verdicts:
        parts.append(write_table([_HEADINGS, *map(_make_row, verdicts)]))
    parts += _list_names("Missing, measured in the base only", map(name_cell, outcome.missing))
    parts += _list_names("New, no base to compare with", map(name_cell, outcome.new))
    reasons = [f"{name_cell(cell)} ({reason})" for cell, reason in outcome.absent.items()]
    parts += _list_names("Not measured", reasons)
    parts.append("\n".join(f"- {escape_text(note)}" for note in (*finding.notes, _describe_cost(outcome))))
    return "\n\n".join(parts) + "\n"


_HEADINGS = ("cell", "base", "ratio", "p", "pairs", "verdict")


def _make_row(verdict: Verdict) -> tuple[str, ...]:
    value = "" if verdict.value is None else f"{verdict.value:.1e}"
    base, ratio = format_time(verdict.base_seconds), f"{verdict.ratio:.2f}x"
    return escape_text(name_cell(verdict.cell)), base, ratio, value, str(verdict.pairs), verdict.verdict


def _list_names(title: str, names: Iterable[str]) -> Iterator[str]:
    if lines := [f"- {escape_text(name, 400)}" for name in names]:
        yield f"{title}:\n\n" + "\n".join(lines)


def _describe_cost(outcome: Outcome) -> str:
    pairs = f"{count_noun(outcome.screened, 'pair')} of all cells, {outcome.confirmed} of suspects"
    unsure = sum(not each.excluded for each in outcome.select("ok") if each.value is None)
    doubt = f"; {unsure} of the ok ones too noisy for the screen to exclude a large slowdown" if unsure else ""
    return f"{count_noun(len(outcome.verdicts), 'cell')}, {pairs}, {outcome.seconds:.0f} s{doubt}"


def make_document(finding: Finding) -> str:
    """Write what was found as JSON."""
    document: dict[str, Any] = {"format": FORMAT, **asdict(finding)}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def make_annotations(finding: Finding) -> Iterator[str]:
    """Write what was found as GitHub's workflow commands, one a line."""
    outcome = finding.outcome
    for level, name in (("error", "regression"), ("warning", "inconclusive")):
        for each in outcome.select(name):
            text = f"{name_cell(each.cell)} takes {each.ratio:.2f} times as long ({count_noun(each.pairs, 'pair')})"
            yield annotate(level, name, text)
    for cell in outcome.missing:
        yield annotate("error", "missing", f"{name_cell(cell)} is not measured any more")
    for cell, reason in outcome.absent.items():
        yield annotate("error", "not measured", f"{name_cell(cell)}: {shorten_text(reason)}")


def annotate(level: str, title: str, text: str) -> str:
    """Write one annotation: ``error`` or ``warning``, a title, one line of text."""
    return f"::{level} title=Gate - {title}::{text.replace('%', '%25')}"  # no line breaks are left in the text
