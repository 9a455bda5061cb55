"""A run as Markdown tables."""

from collections.abc import Sequence
from dataclasses import astuple

from reports.payloads import choose_payloads
from reports.recommendations import COLUMNS, recommend, summarise_backends
from reports.remote import find_buckets
from reports.run import UNSTABLE_RULE, Result, Run
from reports.text import add_params, count_noun, escape_text, format_number, format_time, shorten_text, write_table


def describe_provenance(run: Run) -> str:
    """Describe in two lines which images a run measured, when, and on which machine."""
    measured = [
        f"images: {run.image_set.name}",
        *run.warnings,
        f"{run.datetime:%Y-%m-%d}",
        f"commit {run.commit.short}",
    ]
    machine = [shorten_text(run.machine.cpu, 60), count_noun(run.cpu_count, "core"), run.store_directory.file_system]
    return "\n".join("  ·  ".join(facts) for facts in (measured, machine))


def make_table(run: Run) -> str:
    """Write a run as Markdown: what was measured where, its backends, then one table for each group of results.

    Within a table, backends are compared at the same number of images.
    """
    summaries = summarise_backends(run, recommend(run))
    stores = [COLUMNS, *([escape_text(text, 1000) for text in astuple(each)] for each in summaries)]
    parts = [_make_heading(run), *_make_answer(run), "### The stores", write_table(stores, numbers=False)]
    for bucket in find_buckets(run):
        words = escape_text(" ".join(bucket.sentences), 500)
        parts += [f"### From a bucket: {escape_text(bucket.title)}", *filter(None, [words])]
    for (operation, params), results in run.groups.items():
        parts += [f"### {escape_text(add_params(operation, params))}", write_table(_make_rows(results))]
    if any(result.unstable for result in run.results):
        parts.append(f"unstable: {UNSTABLE_RULE}. Measure again on a quieter machine before you compare such a cell.")
    parts += _list_left_out(run)
    return "\n\n".join(parts) + "\n"


def _list_left_out(run: Run) -> list[str]:
    """List the images that could not be used, and why."""
    sample = run.image_set.sample
    if not sample or not sample.unusable.count:
        return []
    return ["### Left out", "\n".join(f"- {escape_text(words, 400)}" for words in sample.left_out)]


def _make_answer(run: Run) -> list[str]:
    """Say what to store of each image, if the run measured that."""
    answer = choose_payloads(run)
    if not answer:
        return []
    notes = [f"- {escape_text(choice.circumstances, 400)}" for choice in answer.choices]
    return ["### The answer", escape_text(" ".join(answer.sentences), 400), "\n".join(notes)]


def _make_heading(run: Run) -> str:
    machine = run.machine
    facts = {
        **run.image_set.facts,
        "Machine": f"{machine.cpu}, {count_noun(run.cpu_count, 'core')}, {machine.system} {machine.release}, "
        f"{run.store_directory.file_system}",
        "Libraries": ", ".join(f"{name} {version}" for name, version in run.libraries.items()),
    }
    measured = f"- {'Complete run' if run.complete else '**Incomplete run**'}: "
    measured += f"{count_noun(len(run.results), 'cell')} measured"
    if run.missing:
        measured += f", {len(run.missing):,} never run"
    lines = [f"- {name}: {escape_text(text, 500)}" for name, text in facts.items()] + [measured]
    for verdict, cells in (("Failed", run.failed), ("Skipped", run.skipped)):
        lines += [f"- {verdict}: {escape_text(cell)}: {escape_text(reason)}" for cell, reason in cells.items()]
    warned = f" ({', '.join(run.warnings)})" if run.warnings else ""
    title = f"## Run of {run.datetime:%Y-%m-%d %H:%M}, commit {escape_text(run.commit.short)}{warned}"
    return "\n".join([title, "", *lines])


def _make_rows(results: Sequence[Result]) -> list[list[str]]:
    """Lay out the table of one group, header first, the fastest of each size first."""
    fastest: dict[tuple[int, int], float] = {}
    for result in results:
        fastest.setdefault((result.images, result.store_images), result.median)
    columns = ["backend", "images", "in store", "median", "IQR", "images/s", "x slower", "start-up"]
    columns += ["bytes/image on disk", "requests", "fetched/used", "flag"]
    if all(result.images == result.store_images for result in results):
        columns.remove("in store")
    if not any(result.startup_seconds for result in results):
        columns.remove("start-up")
    if not any(result.disk for result in results):
        columns.remove("bytes/image on disk")
    for name, values in (
        ("requests", [result.requests for result in results]),
        ("fetched/used", [result.fetched_ratio for result in results]),
    ):
        if not any(values):
            columns.remove(name)
    rows = [columns]
    for result in results:
        cells = {
            "backend": escape_text(result.backend),
            "images": f"{result.images:,}",
            "in store": f"{result.store_images:,}",
            "median": format_time(result.median),
            "IQR": format_time(result.iqr),
            "images/s": format_number(result.images_per_second),
            "x slower": f"{result.median / fastest[result.images, result.store_images]:,.1f}x",
            "start-up": format_time(result.startup_seconds) if result.startup_seconds else "",
            "bytes/image on disk": f"{result.disk.allocated_bytes / result.store_images:,.0f}" if result.disk else "",
            "requests": f"{result.requests:,}" if result.requests else "",
            "fetched/used": format_number(result.fetched_ratio) if result.fetched_ratio else "",
            "flag": "unstable" if result.unstable else "",
        }
        rows.append([cells[name] for name in columns])
    return rows
