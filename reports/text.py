"""Text for people: numbers with units, short lines, Markdown that also reads well in a terminal."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from reports.noise import Verdict

_UNITS = (("h", 3600.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1))
# Characters with a meaning in Markdown or HTML. Underscores within a word and lone brackets are harmless and stay.
_MARKUP = re.compile(r"[\\`*~|$]|(?<![^\W_])_|_(?![^\W_])|\](?=[\[(:])|:(?=//)")


def shorten_text(text: str, longest: int = 200) -> str:
    """Make one line of at most `longest` characters: no control or bidi characters, cut in the middle."""
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))
    tail = (longest - 1) // 3  # names often differ at their end
    return line if len(line) <= longest else f"{line[: longest - 1 - tail]}…{line[-tail:]}"


def escape_name(name: object) -> str:
    """Escape a path or a message for a terminal or a log: control, bidi and invisible characters, and line breaks."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(name)
    )


def escape_text(text: str, longest: int = 200) -> str:
    """Make any text harmless in Markdown and in the HTML rendered from it: one line of at most `longest` characters."""
    marked = _MARKUP.sub(r"\\\g<0>", shorten_text(text, longest))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Write rows as a Markdown table; with `numbers`, columns between the first and the last are aligned right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = range(1, len(widths) - 1) if numbers else ()
    rules = ["-" * (width - 1) + ":" if column in right else "-" * width for column, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join(line(cells) for cells in (rows[0], rules, *rows[1:]))


def write_list(title: str, names: Iterable[str]) -> Iterator[str]:
    """Write names below a title as a Markdown list; nothing if there are none."""
    if lines := [f"- {escape_text(name, 400)}" for name in names]:
        yield f"{title}:\n\n" + "\n".join(lines)


def add_params(title: str, params: Iterable[tuple[str, object]]) -> str:
    """Add the parameters of results to a title: `read_epoch_workers (warm, workers 2)`."""
    bare = {"cache", "durability", "order", "payload", "server", "source"}
    words = ", ".join(str(value) if name in bare else f"{name} {value}" for name, value in params)
    words = shorten_text(words, 80)
    return f"{title} ({words})" if title and words else title or words


def count_noun(number: int, noun: str) -> str:
    """Write a number with its noun: `1 core`, `2,000 cores`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def count_verdicts(counts: Mapping[Verdict, int]) -> str:
    """Count the verdicts, gravest first: `2 regressions, 64 ok`; those without a cell are left out, except ok."""
    shown = [name for name in get_args(Verdict) if counts.get(name) or name == "ok"]
    return ", ".join(_count_verdict(name, counts.get(name, 0)) for name in shown)


def _count_verdict(name: Verdict, number: int) -> str:
    return count_noun(number, name) if name in {"regression", "improvement"} else f"{number:,} {name}"


def name_cell(cell: str) -> str:
    """Shorten a cell's id to the part after the file, such as `test_read_many[lmdb-1000]`."""
    return shorten_text(cell.partition("::")[2] or cell, 120)


def format_time(seconds: float) -> str:
    """Write seconds with three significant digits, in the largest unit that fits."""
    unit, size = next((each for each in _UNITS if seconds >= each[1]), _UNITS[-1])
    return f"{format_number(seconds / size)} {unit}"


def format_bytes(number: float) -> str:
    """Write bytes with three significant digits, in the largest decimal unit that fits, as disks are sold."""
    unit, size = next((each for each in _BYTES if number >= each[1]), _BYTES[-1])
    return f"{number:,.0f} {unit}" if size == 1 else f"{format_number(number / size)} {unit}"


def format_number(number: float) -> str:
    """Write a number with three significant digits, never with an exponent."""
    return f"{number:,.{0 if number >= 100 else 1 if number >= 10 else 2}f}"  # noqa: PLR2004 - powers of ten


def join_words(words: Sequence[str]) -> str:
    """Join words as in a sentence: `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), *words[-1:]]) if len(words) > 1 else "".join(words)
