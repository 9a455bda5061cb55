"""The words of a page: warnings, facts, missing cells, and comparisons with other runs."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.compare.comparison import compare_runs, find_differences
from reports.matrix import PROJECTED, View
from reports.noise import Thresholds
from reports.page.tables import Table, tabulate_comparison, tabulate_history, tabulate_slower
from reports.run import ENCODED, UNSTABLE_RULE, Run
from reports.text import count_noun, count_verdicts, join_words, name_cell, shorten_text

MAX_PROBLEMS = 200  # listed
NOISY = 0.1  # fraction of unstable cells from which there is a warning


@dataclass(frozen=True)
class Section:
    """A comparison with other runs: words, a list, and tables of the cells that can be compared."""

    words: str
    left_out: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    slower: Table | None = None  # the cells that became slower


def list_warnings(run: Run) -> tuple[tuple[str, str], ...]:
    """List what a reader must know first: each warning in a word or two, then in a sentence."""
    unstable = _count_unstable(run)
    cells = count_noun(len(run.results), "cell")
    found = []
    if run.image_set.name == "standin":
        model = "photos of ImageNet" if run.image_set.sample else "CIFAR-10"
        words = f"As hard to compress and to decode as {model}; for PNG, measure your own images too."
        found.append(("Stand-in images.", words))
    if not run.complete:
        lost = f"{len(run.failed):,} failed, {len(run.skipped):,} skipped, {len(run.missing):,} never run"
        found.append(("Incomplete run.", f"Of {count_noun(len(run.intended), 'cell')} {lost}."))
    if unstable > NOISY * len(run.results):
        found.append(("Noisy run.", f"{unstable:,} of {cells} are unstable (~): {UNSTABLE_RULE}."))
    return tuple(found)


def _count_unstable(run: Run) -> int:
    return sum(result.unstable for result in run.results)


_OPTIONS = {"cold": "--cold", "durable": "--durable"}


def describe_unmeasured(run: Run) -> str:
    """Say which ways a run lacks, and which option measures them."""
    missing = [f"{way} ({option})" for way, option in _OPTIONS.items() if way not in {each.way for each in run.results}]
    return f"Not measured in this run: {join_words(missing)}." if missing else "All ways were measured."


def list_facts(run: Run) -> tuple[tuple[str, str], ...]:
    """List what was measured, where and when: the name and text of each fact."""
    machine = run.machine
    facts = {
        **run.image_set.facts,
        "Date": f"{run.datetime:%Y-%m-%d %H:%M %Z}".strip(),
        "Processor": f"{machine.cpu}, {count_noun(run.cpu_count, 'core')}",
        "System": f"{machine.system} {machine.release}",
        "File system": f"{run.store_directory.file_system}, {run.store_directory.free_bytes / 1e9:,.0f} GB free",
        "Libraries": shorten_text(", ".join(f"{name} {version}" for name, version in run.libraries.items()), 600),
        "Commit": run.commit.short,
        "Cells": f"{count_noun(len(run.results), 'cell')} measured, {_count_unstable(run):,} of them unstable",
        "Complete": "yes" if run.complete else "no",
    }
    return tuple(facts.items())


def list_problems(run: Run) -> tuple[tuple[str, str], ...]:
    """List the cells that were to be measured and were not, with the reason."""
    problems = [(name_cell(cell), shorten_text(reason, 300)) for cell, reason in {**run.failed, **run.skipped}.items()]
    problems += [(name_cell(cell), "never run") for cell in run.missing]
    more = len(problems) - MAX_PROBLEMS
    return (*problems[:MAX_PROBLEMS], *([("and more", f"{more:,} of them")] if more > 0 else ()))


def describe_comparison(base: Run, run: Run, allow: Collection[str] = ()) -> Section:
    """Compare a run with its base, as `python -m reports compare` does."""
    comparison = compare_runs(base, run, Thresholds.threshold, allow)
    if comparison.differences:
        return Section(f"The runs cannot be compared: {'; '.join(comparison.differences)}.")
    verdicts = count_verdicts(comparison.counts)
    others = f" Other libraries: {shorten_text('; '.join(comparison.allowed), 1000)}." if comparison.allowed else ""
    return Section(
        f"Against the run of {base.datetime:%Y-%m-%d %H:%M}, commit {base.commit.short}: {verdicts}. "
        f"Inconclusive: neither a regression nor certain to be none. The gate measures both versions side by side."
        f"{others}",
        tables=tabulate_comparison(comparison),
        slower=tabulate_slower(comparison),
    )


def describe_history(runs: Sequence[Run]) -> Section:
    """Show each cell in all runs, oldest first; runs that can't be compared with the last are left out."""
    last = runs[-1]
    reasons = [(run, find_differences(run, last)) for run in runs[:-1]]
    left_out = tuple(
        f"{shorten_text(run.path.name, 80)} (the base here): {'; '.join(words)}" for run, words in reasons if words
    )
    kept = [*(run for run, words in reasons if not words), last]
    if len(kept) == 1:
        return Section("No other run can be compared with this one.", left_out)
    return Section(f"{len(kept):,} runs that can be compared, oldest first.", left_out, tabulate_history(kept))


_PIXELS_SNIPPET = """\
import storage

storage.save("photos", images, labels, backend=BACKEND)  # images: (N, H, W, 3); labels: (N,)
with storage.open("photos") as reader:
    batch, batch_labels = reader.read([2, 0, 1])
"""
_FILES_SNIPPET = """\
import storage

storage.save("photos", files, labels, backend=BACKEND)  # files: a list of bytes; labels: (N,)
with storage.open("photos") as reader:
    batch, batch_labels = reader.read([2, 0, 1], size=(SIDE, SIDE))  # decoded and scaled
"""
_SIDE = 224  # if a run doesn't say


def list_snippets(run: Run) -> dict[str, str]:
    """Write the code that uses a backend, for each payload; `BACKEND` is its name."""
    sample = run.image_set.sample
    files = _FILES_SNIPPET.replace("SIDE", str((sample.side if sample else None) or _SIDE))
    names = [str(dict(payload).get("payload", "")) for payload in run.parts]
    return {name: files if name == ENCODED else _PIXELS_SNIPPET for name in names}


def fill_snippet(snippet: str, backend: str) -> str:
    """Put the name of a backend into a snippet, as `page.js` does."""
    return snippet.replace("BACKEND", json.dumps(backend, ensure_ascii=False))


def describe_backends(run: Run) -> dict[str, str]:
    """Describe each backend: its layout, who maintains it, its licence."""
    layouts, maintainers, licences = (texts or {} for texts in (run.layouts, run.maintainers, run.licences))
    keepers = {name: f"Kept by {maintainer}" for name, maintainer in maintainers.items() if maintainer}
    facts = layouts, keepers, licences
    return {name: ". ".join(filter(None, (each.get(name, "").rstrip(".") for each in facts))) for name in run.backends}


@dataclass(frozen=True)
class Control:
    """One of the controls: its name, its label, and the value and words of each option."""

    name: str
    label: str
    options: Mapping[str, str]


def list_controls(views: Iterable[View]) -> tuple[Control, ...]:
    """List the controls that have a choice."""
    states = [view.state for view in views]
    counts = {str(count): f"{count:,}" for count in sorted({state.images for state in states})}
    if str(PROJECTED) in counts:
        counts[str(PROJECTED)] = f"{PROJECTED // 1_000_000} million (projected)"
    controls = (
        Control("images", "images", counts),
        Control("payload", "payload", {state.payload: state.payload for state in states}),
        Control("cache", "page cache", {state.cache: state.cache for state in states}),
        Control("workers", "workers", {state.workers: state.workers for state in states}),
    )
    return tuple(control for control in controls if len(control.options) > 1)
