"""The page: one self-contained HTML file."""

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from reports.figures.plan import FigurePlan, plan_figures
from reports.figures.styles import COLOURS, DARK_COLOURS, choose_styles
from reports.noise import UNKNOWN_SCATTER
from reports.page import charts, contents, tables
from reports.page.downloads import make_csv, name_file, pack, pack_run
from reports.page.projection import project_run
from reports.page.scores import SAME_SCORE, WEIGHTS, measure_aspects, score_backends
from reports.payloads import choose_payloads
from reports.ranking import SAME_SIZE
from reports.recommendations import CROWD, FAR, recommend, summarise_backends
from reports.run import UNSTABLE_RULE, Run
from reports.text import count_noun, format_number, format_time

_FOLDER = Path(__file__).parent
_NOT_SHOWN = {"store_many", "read_many", "read_epoch"}  # the article's seconds a call; the page shows them per image
_SECTIONS = {
    "answer": "The answer",
    "stores": "The stores",
    "run": "The run",
    "figures": "Figures",
    "projection": "Projection",
    "base": "Against a base",
    "history": "History",
    "rounds": "Raw rounds",
    "method": "Method and limits",
    "repeat": "Repeat and download",
}


def make_page(runs: Sequence[Run], content: bytes, base: Run | None = None) -> str:
    """Make the page of the last of some runs, with the others as its history; the same runs give the same page.

    `content` is the JSON that the page offers to download, `base` a run to compare with.
    """
    run = runs[-1]
    use_cases = recommend(run)
    aspects = measure_aspects(run)
    payloads = choose_payloads(run)
    optional: dict[str, Any] = {
        "figures": _lay_out_figures(run),
        "projection": [tables.tabulate_sweep(sweep) for sweep in project_run(run)],
        "base": contents.describe_comparison(base, run) if base else None,
        "history": contents.describe_history(runs) if len(runs) > 1 else None,
    }
    measured = f"images: {run.image_set.name}, {count_noun(len(run.results), 'cell')}, commit {run.commit.short}"
    return _load_template().render(
        optional,
        title=f"How to store images: run of {run.datetime:%Y-%m-%d %H:%M}",
        subtitle=f"a run of {run.datetime:%Y-%m-%d %H:%M}, {measured}",
        sections=[(id_, name) for id_, name in _SECTIONS.items() if optional.get(id_, True)],
        sample=run.image_set.sample,
        digest=run.image_set.sha256,
        warnings=contents.list_warnings(run),
        payloads=payloads,
        costs=tables.tabulate_costs(payloads, run) if payloads else None,
        use_cases=use_cases,
        stores=tables.tabulate_backends(summarise_backends(run, use_cases)),
        facts=contents.list_facts(run),
        problems=contents.list_problems(run),
        rounds=tables.tabulate_rounds(run),
        command=run.command,
        aspects=aspects,
        scores=score_backends(aspects),
        downloads=_pack_downloads(run, content),
    )


def _load_template() -> Template:
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    style = (_FOLDER / "page.css").read_text(encoding="utf-8") + _write_colours()
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    filters: dict[str, Callable[..., object]] = {
        "number": format_number,
        "time": format_time,
        "pack": lambda html: pack(html.encode()),
        "short": "{:.6g}".format,  # enough digits to sort by
        "tabulate": tables.tabulate_recommendation,
    }
    environment.filters |= filters
    environment.globals |= {
        "drawing": charts,
        "strip": tables.STRIP,
        "scatters": [100 * math.expm1(times * UNKNOWN_SCATTER) for times in (1, 2)],
        "same_size": 100 * SAME_SIZE,
        "same_score": SAME_SCORE,
        "weights": WEIGHTS,
        "crowd": CROWD,
        "far": FAR,
        "unstable_rule": UNSTABLE_RULE,
        "script": Markup(script),  # noqa: S704 - a file beside this one
        "script_hash": _hash(script),
        "style": Markup(style),  # noqa: S704 - likewise
        "style_hash": _hash(style),
    }
    return environment.get_template("page.html")


def _hash(text: str) -> str:
    """Hash the text of an element for the content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _write_colours() -> str:
    def write(colours: Iterable[str]) -> str:
        return "".join(f".series-{number} {{ color: {colour}; }}\n" for number, colour in enumerate(colours))

    return f"{write(COLOURS)}@media screen and (prefers-color-scheme: dark) {{\n{write(DARK_COLOURS)}}}\n"


def _lay_out_figures(run: Run) -> list[dict[str, Any]]:
    """Lay out the figures of a run, those of one subject together, and tables of the exact numbers."""
    styles = choose_styles(run)
    merged: dict[str, list[FigurePlan]] = {}
    for plan in plan_figures(run):
        if plan.subject not in _NOT_SHOWN:
            merged.setdefault(plan.subject, []).append(plan)
    figures = []
    for subject, plans in merged.items():
        subplots = [subplot for plan in plans for subplot in plan.subplots]
        distinct = [subplot for number, subplot in enumerate(subplots) if subplot not in subplots[:number]]
        figures.append(
            {
                "name": subject,
                "title": plans[0].title,
                "note": plans[0].note,
                "charts": [charts.lay_out(subplot, styles) for subplot in distinct],
                "tables": [tables.tabulate_subplot(plans[0].title, subplot) for subplot in distinct],
            }
        )
    return figures


def _pack_downloads(run: Run, content: bytes) -> list[dict[str, str]]:
    files = {
        "json": ("Run as JSON", "application/json", pack_run(content)),
        "csv": ("Cells as CSV", "text/csv", pack(make_csv(run).encode())),
    }
    return [
        {"id": kind, "name": f"{name_file(run)}.{kind}", "type": type_, "words": words, "content": packed}
        for kind, (words, type_, packed) in files.items()
    ]
