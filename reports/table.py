"""A run as Markdown that reads well in a terminal too."""

from collections.abc import Sequence
from dataclasses import astuple

from reports.backends_table import COLUMNS, describe_stores
from reports.run import UNSTABLE_RULE, Result, Run, group_results
from reports.text import add_params, count_noun, escape_text, format_number, format_time, shorten_text, write_table


def describe_provenance(run: Run) -> str:
    """Say in two lines what the figures of a run stand for, and on which machine they were measured."""
    what = [f"images: {shorten_text(run.image_set.name, 40)}", *run.warnings, f"{run.datetime:%Y-%m-%d}"]
    where = [
        shorten_text(run.machine.cpu, 60),
        count_noun(run.cpu_count, "core"),
        shorten_text(run.store_directory.file_system, 20),
    ]
    return "\n".join("  ·  ".join(facts) for facts in ([*what, f"commit {run.commit.short}"], where))


def make_table(run: Run) -> str:
    """Show a run as Markdown: what was measured where, its stores, then one table for each operation and its axes.

    Within a table, backends are compared at the same number of images. Text from the run is escaped.
    """
    parts = [_make_heading(run), "### The stores", write_table(_list_stores(run), numbers=False)]
    for (operation, axes), results in group_results(run.results).items():
        parts += [f"### {escape_text(add_params(shorten_text(operation, 60), axes))}", write_table(_make_rows(results))]
    if any(result.unstable for result in run.results):
        parts.append(f"unstable: {UNSTABLE_RULE}. Measure again on a quieter machine before you compare such a cell.")
    return "\n\n".join(parts) + "\n"


def _make_heading(run: Run) -> str:
    """Say what was measured, where, and what went wrong."""
    machine, images = run.machine, run.image_set
    libraries = ", ".join(f"{name} {version}" for name, version in run.libraries.items())
    facts = {
        "Images": f"{images.name}, {count_noun(images.count, 'image')}, SHA-256 {images.sha256[:12]}",
        "Machine": f"{machine.cpu}, {count_noun(run.cpu_count, 'core')}, {machine.system} {machine.release}, "
        f"{run.store_directory.file_system}",
        "Libraries": libraries,
    }
    words = {True: "Complete run", False: "**Incomplete run**"}[run.complete]
    measured = f"- {words}: {count_noun(len(run.results), 'cell')} measured"
    if run.missing:
        measured += f", {len(run.missing):,} never run"
    lines = [f"- {name}: {escape_text(text, 300)}" for name, text in facts.items()] + [measured]
    for verdict, cells in (("Failed", run.failed), ("Skipped", run.skipped)):
        lines += [f"- {verdict}: {escape_text(cell)}: {escape_text(reason)}" for cell, reason in cells.items()]
    warned = f" ({', '.join(run.warnings)})" if run.warnings else ""
    title = f"## Run of {run.datetime:%Y-%m-%d %H:%M}, commit {escape_text(run.commit.short)}{warned}"
    return "\n".join([title, "", *lines])


def _list_stores(run: Run) -> list[list[str]]:
    rows = [[escape_text(text, 1000) for text in astuple(store)] for store in describe_stores(run)]
    return [list(COLUMNS), *rows]


def _make_rows(results: Sequence[Result]) -> list[list[str]]:
    """Lay out one table, its header first; results are those of one group, the fastest of each size first."""
    fastest: dict[tuple[int, int], float] = {}
    for result in results:
        fastest.setdefault((result.images, result.store_images), result.median)
    in_store = any(result.images != result.store_images for result in results)
    on_disk = any(result.disk for result in results)
    columns = ["backend", "images", "in store", "median", "IQR", "images/s", "x slower", "bytes/image on disk", "flag"]
    kept = [name for name in columns if (in_store or name != "in store") and (on_disk or name != "bytes/image on disk")]
    rows = [kept]
    for result in results:
        cells = {
            "backend": escape_text(result.backend, 40),
            "images": f"{result.images:,}",
            "in store": f"{result.store_images:,}",
            "median": format_time(result.median),
            "IQR": format_time(result.iqr),
            "images/s": format_number(result.images_per_second),
            "x slower": f"{result.median / fastest[result.images, result.store_images]:,.1f}x",
            "bytes/image on disk": f"{result.disk.allocated_bytes / result.store_images:,.0f}" if result.disk else "",
            "flag": "unstable" if result.unstable else "",
        }
        rows.append([cells[name] for name in kept])
    return rows
