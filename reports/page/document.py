"""The page: one HTML file that stands alone."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from reports.backends_table import CROWD, FAR, describe_stores
from reports.figures.plan import plan_figures
from reports.figures.styles import COLOURS, DARK_COLOURS, choose_styles
from reports.figures.subplot import Picture
from reports.noise import UNKNOWN_SCATTER
from reports.page import charts, contents, tables
from reports.page.downloads import make_csv, name_file, pack, pack_run
from reports.page.projection import project_run
from reports.page.scores import SAME_SCORE, WEIGHTS, Aspect, measure_aspects, rank_score, score_backends
from reports.ranking import SAME_SIZE
from reports.recommendations import NAME, answer_uses
from reports.run import UNSTABLE_RULE, Run
from reports.text import count_noun, format_number, shorten_text

_FOLDER = Path(__file__).parent
_NOT_SHOWN = {"store_many", "read_many", "read_epoch"}  # seconds a call, as the article drew them: here an image


def make_page(runs: Sequence[Run], content: bytes, base: Run | None = None) -> str:
    """Make the page of a run.

    Parameters
    ----------
    runs
        The run is the last one; those before it are its history.
    content
        The run's JSON as it was read: what the page offers to download.
    base
        What the run is compared with.

    Returns
    -------
    str
        HTML. The same runs give the same page.

    Raises
    ------
    BrokenRunError
        The run has more backends than can be told apart.
    """
    run = runs[-1]
    script, style = _read_file("page.js"), _read_file("page.css") + _write_colours()
    what = f"images: {shorten_text(run.image_set.name, 40)}, {count_noun(len(run.results), 'cell')}"
    sections: dict[str, Any] = {
        "uses": [
            (use, [(answer, tables.tabulate_answer(answer)) for answer in use.answers]) for use in answer_uses(run)
        ],
        "stores": tables.tabulate_stores(describe_stores(run)),
        "figures": _lay_out_figures(run),
        "projections": [tables.tabulate_sweep(sweep) for sweep in project_run(run)],
        "comparison": contents.describe_comparison(base, run) if base else None,
        "history": contents.describe_history(runs) if len(runs) > 1 else None,
        "rounds": tables.tabulate_rounds(run),
    }
    return _load_template().render(
        sections,
        title=f"How to store images: run of {run.datetime:%Y-%m-%d %H:%M}",
        subtitle=f"a run of {run.datetime:%Y-%m-%d %H:%M}, {what}, commit {run.commit.short}",
        sections=_list_sections(sections),
        warnings=contents.list_warnings(run),
        facts=contents.list_facts(run),
        problems=contents.list_problems(run),
        command=shorten_text(run.command, 2000),
        scatters=[100 * math.expm1(times * UNKNOWN_SCATTER) for times in (1, 2)],
        same_size=100 * SAME_SIZE,
        crowd=CROWD,
        far=FAR,
        unstable_rule=UNSTABLE_RULE,
        **_weigh(measure_aspects(run)),
        **_describe_drawing(),
        downloads=_pack_downloads(run, content),
        script=Markup(script),  # noqa: S704 - a file beside this one
        script_hash=_hash(script),
        style=Markup(style),  # noqa: S704 - likewise
        style_hash=_hash(style),
    )


def _load_template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["short"] = "{:.6g}".format  # what a column is sorted by needs no more digits
    environment.filters["pack"] = lambda html: pack(html.encode())
    return environment.get_template("page.html")


def _read_file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Hash what stands in an element, as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _write_colours() -> str:
    light, dark = (
        "".join(f".series-{place} {{ color: {colour}; }}\n" for place, colour in enumerate(colours))
        for colours in (COLOURS, DARK_COLOURS)
    )
    return f"{light}@media screen and (prefers-color-scheme: dark) {{\n{dark}}}\n"


def _list_sections(sections: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what is on the page, for its head: ids and names; sections without content are absent."""
    names = {
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
    optional = {"figures": "figures", "projection": "projections", "base": "comparison", "history": "history"}
    return [(id_, name) for id_, name in names.items() if id_ not in optional or sections[optional[id_]]]


def _lay_out_figures(run: Run) -> list[dict[str, Any]]:
    """Lay the figures of a run out, each with all that differs in its axes beside each other, and the exact figures."""
    styles = choose_styles(run)
    merged: dict[str, Picture] = {}
    for picture in plan_figures(run):
        if picture.subject not in _NOT_SHOWN:
            known = merged.setdefault(picture.subject, Picture(picture.subject, "", picture.title, picture.note, []))
            panels = [*known.panels, *(panel for panel in picture.panels if panel not in known.panels)]
            merged[picture.subject] = Picture(picture.subject, "", picture.title, picture.note, panels)
    return [
        {
            "name": picture.subject,
            "title": picture.title,
            "note": picture.note,
            "charts": [charts.lay_out(panel, styles) for panel in picture.panels],
            "tables": [tables.tabulate_panel(picture.title, panel) for panel in picture.panels],
        }
        for picture in merged.values()
    ]


def _weigh(aspects: Mapping[str, Aspect]) -> dict[str, Any]:
    scores = score_backends(aspects)
    measured = [name for name in WEIGHTS if name in aspects]
    rows = []
    for score in scores:
        rank = rank_score(score, scores)
        ratios = [score.ratios.get(name) for name in measured]
        rows.append(
            {
                "name": shorten_text(score.backend, NAME),
                "ratios": [("-" if ratio is None else format_number(ratio), ratio) for ratio in ratios],
                "mean": score.mean,
                "text": "-" if score.mean is None else format_number(score.mean),
                "rank": rank,
                "rank_text": "-" if rank is None else str(rank),
            }
        )
    return {
        "scores": rows,
        "weights": [(name, WEIGHTS[name], aspects[name].words) for name in measured],
        "unstable": sum(aspect.unstable for aspect in aspects.values()),
        "weighed": sum(aspect.cells for aspect in aspects.values()),
        "unmeasured": [name for name in WEIGHTS if name not in measured],
        "ahead": sorted(row["name"] for row in rows if row["rank"] == 1),
        "same_score": f"{100 * (SAME_SCORE - 1):.0f} %",
        "same_score_factor": SAME_SCORE,
    }


def _describe_drawing() -> dict[str, Any]:
    return {
        "width": charts.WIDTH,
        "margin": {"left": charts.LEFT, "right": charts.RIGHT, "top": charts.TOP, "bottom": charts.BOTTOM},
        "markers": charts.MARKERS,
        "dashes": charts.DASHES,
        "strip": tables.STRIP,
    }


def _pack_downloads(run: Run, content: bytes) -> list[dict[str, str]]:
    name = name_file(run)
    table = make_csv(run).encode()
    files = {
        "json": ("Run as JSON", "application/json", pack_run(content)),
        "csv": ("Cells as CSV", "text/csv", pack(table)),
    }
    return [
        {"id": kind, "name": f"{name}.{kind}", "type": type_, "words": words, "content": packed}
        for kind, (words, type_, packed) in files.items()
    ]
