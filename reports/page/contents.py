"""What a page says of a run in words: warnings, facts, what is missing, how it compares with other runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.compare.comparison import compare_runs, find_differences
from reports.noise import Thresholds
from reports.page.tables import Table, tabulate_comparison, tabulate_history
from reports.run import UNSTABLE_RULE, Run
from reports.text import count_noun, count_verdicts, name_cell, shorten_text

MOST_PROBLEMS = 200  # that are listed
NOISY = 0.1  # a share of unstable cells: below, no warning


@dataclass(frozen=True)
class Comparison:
    """A run against its base, in words, and cell by cell where they can be compared."""

    words: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class History:
    """Several runs of one machine: which they are, which were left out and why, and all medians."""

    words: str
    left_out: tuple[str, ...]
    tables: tuple[Table, ...]


def list_warnings(run: Run) -> tuple[tuple[str, str], ...]:
    """List what a reader must know first: each warning in a word or two, then in a sentence."""
    unstable = sum(result.unstable for result in run.results)
    found = []
    if run.image_set.name == "standin":
        found.append(
            (
                "Stand-in images.",
                "As hard to compress and to decode as CIFAR-10; for PNG, measure your own images too.",
            )
        )
    if not run.complete:
        lost = f"{len(run.failed):,} failed, {len(run.skipped):,} skipped, {len(run.missing):,} never run"
        found.append(("Incomplete run.", f"Of {count_noun(len(run.intended), 'cell')} {lost}."))
    if unstable > NOISY * len(run.results):
        found.append(
            ("Noisy run.", f"{unstable:,} of {count_noun(len(run.results), 'cell')} are unstable: {UNSTABLE_RULE}.")
        )
    return tuple(found)


def list_facts(run: Run) -> tuple[tuple[str, str], ...]:
    """List what was measured where and when: name and text of each fact."""
    unstable = sum(result.unstable for result in run.results)
    images, machine = run.image_set, run.machine
    disk = f"{run.store_directory.file_system}, {run.store_directory.free_bytes / 1e9:,.0f} GB free"
    facts = {
        "Images": f"{images.name}, {count_noun(images.count, 'image')}, SHA-256 {images.sha256[:12]}",
        "Date": f"{run.datetime:%Y-%m-%d %H:%M %Z}",
        "Processor": f"{machine.cpu}, {count_noun(run.cpu_count, 'core')}",
        "System": f"{machine.system} {machine.release}",
        "File system": disk,
        "Libraries": ", ".join(f"{name} {version}" for name, version in run.libraries.items()),
        "Commit": run.commit.short,
        "Cells": f"{count_noun(len(run.results), 'cell')} measured, {unstable:,} of them unstable",
        "Complete": "yes" if run.complete else "no",
    }
    return tuple((name, shorten_text(text, 600)) for name, text in facts.items())


def list_problems(run: Run) -> tuple[tuple[str, str], ...]:
    """List the cells that were to be measured and were not, with the reason."""
    problems = [(name_cell(cell), shorten_text(reason, 300)) for cell, reason in {**run.failed, **run.skipped}.items()]
    problems += [(name_cell(cell), "never run") for cell in run.missing]
    more = len(problems) - MOST_PROBLEMS
    return (*problems[:MOST_PROBLEMS], *([("and more", f"{more:,} of them")] if more > 0 else ()))


def describe_comparison(base: Run, run: Run) -> Comparison:
    """Compare a run with its base, as `python -m reports compare` does."""
    comparison = compare_runs(base, run, Thresholds.threshold)
    if comparison.differences:
        return Comparison(f"The runs cannot be compared: {'; '.join(comparison.differences)}.", ())
    which = f"run of {base.datetime:%Y-%m-%d %H:%M}, commit {base.commit.short}"
    return Comparison(
        f"Against the {which}: {count_verdicts(comparison.counts)}. Inconclusive: too noisy to be called ok, in a run "
        "or between them. Two runs are two processes: weak evidence. The gate measures both versions side by side.",
        tabulate_comparison(comparison),
    )


def describe_history(runs: Sequence[Run]) -> History:
    """Show the course of each cell through runs, oldest first; what cannot be compared with the last is left out."""
    last = runs[-1]
    reasons = [(run, find_differences(run, last)) for run in runs[:-1]]
    left_out = tuple(f"{_name_file(run)} (the base here): {'; '.join(words)}" for run, words in reasons if words)
    kept = [*(run for run, words in reasons if not words), last]
    if len(kept) == 1:
        return History("No other run can be compared with this one.", left_out, ())
    return History(f"{len(kept):,} runs that can be compared, oldest first.", left_out, tabulate_history(kept))


def _name_file(run: Run) -> str:
    return shorten_text(run.path.name, 80)
