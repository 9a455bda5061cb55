"""Draws the matrix of a run as SVG, in two colour schemes, for documents that can't show a page."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple

from reports.figures.styles import SCHEMES
from reports.files import replace_file
from reports.matrix import Cell, Row, Use, View, make_views
from reports.run import Run
from reports.table import describe_provenance
from reports.text import format_number, shorten_text

LEFT, COLUMN, HEAD, ROW, FOOT = 116, 126, 52, 25, 64  # of the drawing, in its own units
_LETTERS = 15  # of a name
_KEY = "Multiples of the best, beside its time or size: green is first or tied, red is far behind."
_MARKS = "?: too noisy to rank. ~: unstable, IQR above 10 % of the median."


class _Place(NamedTuple):
    x: float
    y: float


def draw_matrix(run: Run, out: Path) -> list[Path]:
    """Draw the matrix that the page of a run begins with into the folder `out`, as SVG; return the paths.

    The folder is made if need be, and files of the same names are replaced. The same run gives the same bytes.
    """
    view = next(iter(make_views(run).values()), None)
    if view is None:
        return []
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, colours in SCHEMES.items():
        paths.append(out / f"matrix-{name}.svg")
        replace_file(paths[-1], "\n".join(_draw(view, colours, describe_provenance(run))) + "\n")
    return paths


def _draw(view: View, colours: Mapping[str, str], footer: str) -> Iterator[str]:
    width, bottom = LEFT + COLUMN * len(view.uses) + 8, HEAD + ROW * len(view.rows)
    height = bottom + FOOT
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13" role="img">'
    )
    title = f"How much more than the best each store takes: {view.title}"
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="{width}" height="{height}" rx="6" fill="{colours["ground"]}"/>'
    for column, use in enumerate(view.uses):
        yield from _draw_head(use, _Place(LEFT + COLUMN * (column + 0.5), 20), colours)
    for number, row in enumerate(view.rows):
        yield from _draw_row(row, view.uses, HEAD + ROW * number, colours)
    lines = (f"{view.title}. {_KEY}", _MARKS, "  ·  ".join(footer.split("\n")))
    for number, line in enumerate(lines):
        yield _write(line, _Place(8, bottom + 19 + 17 * number), colours["quiet"], 'font-size="11.5"')
    yield "</svg>"


def _draw_head(use: Use, place: _Place, colours: Mapping[str, str]) -> Iterator[str]:
    yield _write(use.title, place, colours["ink"], 'text-anchor="middle" font-weight="600"')
    unit = use.unit.rpartition(", ")[2].replace(" a store and", " and")
    yield _write(unit, _Place(place.x, place.y + 17), colours["quiet"], 'text-anchor="middle" font-size="10.5"')


def _draw_row(row: Row, uses: tuple[Use, ...], top: float, colours: Mapping[str, str]) -> Iterator[str]:
    yield _write(shorten_text(row.backend, _LETTERS), _Place(8, top + 17), colours["ink"], 'font-weight="600"')
    for column, use in enumerate(uses):
        if cell := row.cells.get(use.name):
            yield from _draw_cell(cell, _Place(LEFT + COLUMN * column, top), colours)


def _draw_cell(cell: Cell, place: _Place, colours: Mapping[str, str]) -> Iterator[str]:
    fill = colours.get(f"heat-{cell.heat}" if cell.standing == "behind" else cell.standing, colours["raised"])
    size = f'width="{COLUMN - 2}" height="{ROW - 2}"'
    yield f'<rect x="{place.x + 1:g}" y="{place.y + 1:g}" {size} rx="3" fill="{fill}"/>'
    marks = ("?" if cell.standing == "noisy" else "") + ("~" if cell.unstable else "")
    ratio = f"{format_number(cell.ratio)}x{marks}"
    middle, line = place.x + 0.55 * COLUMN, place.y + 17
    yield _write(ratio, _Place(middle - 5, line), colours["ink"], 'text-anchor="end" font-weight="600"')
    value = cell.text.removesuffix(" files").removesuffix(" file")  # "10,001 files" is too wide
    yield _write(value, _Place(middle + 3, line), colours["ink"], 'font-size="11.5"')


def _write(text: str, place: _Place, colour: str, more: str) -> str:
    return f'<text x="{place.x:g}" y="{place.y:g}" fill="{colour}" {more}>{escape(text)}</text>'
