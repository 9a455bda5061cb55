"""Markdown that reads well in a terminal too: tables, and text that may come from anywhere."""

import re
from collections.abc import Sequence

from reports.text import shorten_text

# What would be read as Markdown or HTML. Underscores within a word and lone brackets are harmless, and stay readable.
_MARKUP = re.compile(r"[\\`*~|$]|(?<![^\W_])_|_(?![^\W_])|\](?=[\[(:])|:(?=//)")


def write_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Write rows as a Markdown table: words to the left, numbers between the first and the last column to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = range(1, len(widths) - 1) if numbers else ()
    rules = ["-" * (width - 1) + ":" if place in right else "-" * width for place, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join(line(cells) for cells in (rows[0], rules, *rows[1:]))


def escape_text(text: str, longest: int = 200) -> str:
    """Make text from a run harmless in Markdown and in the HTML it is rendered to."""
    marked = _MARKUP.sub(r"\\\g<0>", shorten_text(text, longest))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
