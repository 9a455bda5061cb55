"""The page: one self-contained HTML file."""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.runtime import Macro
from markupsafe import Markup

from reports import matrix, sentence
from reports.figures.styles import COLOURS, DARK_COLOURS, choose_style
from reports.noise import UNKNOWN_SCATTER
from reports.page import charts, contents, figures, tables
from reports.page.downloads import MAX_RUN, make_csv, name_file, pack, pack_run
from reports.payloads import choose_payloads
from reports.projection import project_run
from reports.ranking import SAME_SIZE
from reports.recommendations import CROWD
from reports.remote import find_buckets
from reports.run import UNSTABLE_RULE, Run
from reports.text import count_noun, format_number, format_time

_FOLDER = Path(__file__).parent
_SECTIONS = {
    "base": "Against the base",
    "answer": "The answer",
    "use": "Use it",
    "figures": "Figures",
    "bucket": "From a bucket",
    "run": "The run",
    "projection": "Projection",
    "history": "History",
    "rounds": "Raw rounds",
    "method": "Method and limits",
    "repeat": "Repeat and download",
}


def make_page(runs: Sequence[Run], content: bytes, base: Run | None = None, allow: Collection[str] = ()) -> str:
    """Make the page of the last of some runs, with the others as its history; the same runs give the same page.

    `content` is the JSON that the page offers to download, `base` a run to compare with, though they differ in what
    `allow` names.
    """
    run = runs[-1]
    views = matrix.make_views(run)
    payloads, buckets = choose_payloads(run), find_buckets(run)
    projection = [tables.tabulate_sweep(sweep) for sweep in project_run(run)]
    optional: dict[str, Any] = {
        "use": contents.list_snippets(run) if views else None,
        "figures": views,
        "bucket": buckets,
        "projection": projection or payloads,
        "base": contents.describe_comparison(base, run, allow) if base else None,
        "history": contents.describe_history(runs) if len(runs) > 1 else None,
    }
    measured = f"images: {run.image_set.name}, {count_noun(len(run.results), 'cell')}, commit {run.commit.short}"
    return _load_template().render(
        optional,
        title=f"How to store images: run of {run.datetime:%Y-%m-%d %H:%M}",
        subtitle=f"a run of {run.datetime:%Y-%m-%d %H:%M}, {measured}",
        sections=[(id_, name) for id_, name in _SECTIONS.items() if optional.get(id_, True)],
        view=next(iter(views.values()), None),
        controls=contents.list_controls(views.values()),
        views=views,
        plans=tuple(figures.plan_page(run)),
        image_set=run.image_set,
        warnings=contents.list_warnings(run),
        absent=sorted((run.unavailable or {}).items()),
        about=contents.describe_backends(run),
        payloads=payloads,
        lines=projection,
        unmeasured=contents.describe_unmeasured(run),
        costs=tables.tabulate_costs(payloads, run) if payloads else None,
        facts=contents.list_facts(run),
        problems=contents.list_problems(run),
        rounds=tables.tabulate_rounds(run),
        command=run.command,
        file=name_file(run),
        weighted=[use for use in matrix.USES if any(use in view.uses for view in views.values())],
        downloads=_pack_downloads(run, content),
    )


def _pack_views(views: Mapping[str, matrix.View], draw_view: Macro, draw_bars: Macro, draw_split: Macro) -> str:
    """Pack what depends on the state, for each state; JavaScript shows it."""
    drawn = {
        key: [draw_view(view), draw_bars(figures.draw_bars(view)), draw_split(figures.split_epochs(view))]
        for key, view in views.items()
    }
    return pack(json.dumps(drawn, ensure_ascii=False).encode())


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
        "style": choose_style,
    }
    environment.filters |= filters
    environment.globals |= {
        "drawing": charts,
        "strip": tables.STRIP,
        "sentence": sentence,
        "matrix": matrix,
        "attribute": lambda state, name: str(getattr(state, name)),
        "fill": contents.fill_snippet,
        "pack_views": _pack_views,
        "bars_of": figures.draw_bars,
        "split_of": figures.split_epochs,
        "describe_parts": figures.describe_parts,
        "draw_rates": figures.draw_rates,
        "tabulate_bucket": tables.tabulate_bucket,
        "tabulate_bucket_costs": tables.tabulate_bucket_costs,
        "scatters": [100 * math.expm1(times * UNKNOWN_SCATTER) for times in (1, 2)],
        "same_size": 100 * SAME_SIZE,
        "crowd": CROWD,
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


def _pack_downloads(run: Run, content: bytes) -> list[dict[str, str]]:
    files = {
        "json": ("Run as JSON", "application/json", pack_run(content)),
        "csv": ("Cells as CSV", "text/csv", pack(make_csv(run).encode())),
    }
    if len(files["json"][-1]) > MAX_RUN:
        del files["json"]
    return [
        {"id": kind, "name": f"{name_file(run)}.{kind}", "type": type_, "words": words, "content": packed}
        for kind, (words, type_, packed) in files.items()
    ]
