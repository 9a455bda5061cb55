"""How text and numbers from a run are worded."""

from collections.abc import Sequence

_UNITS = (("h", 3600.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1))


def shorten_text(text: str, longest: int = 200) -> str:
    """Make text from a run fit to be shown: one line without control characters, cut in the middle to `longest`."""
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))
    tail = (longest - 1) // 3  # names often differ at their end
    return line if len(line) <= longest else f"{line[: longest - 1 - tail]}…{line[-tail:]}"


def count_noun(number: int, noun: str) -> str:
    """Say how many there are: `1 core`, `2,000 cores`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def name_cell(cell: str) -> str:
    """Name a cell in short: its id without the file, such as `test_read_many[lmdb-1000]`."""
    return shorten_text(cell.partition("::")[2] or cell, 120)


def format_time(seconds: float) -> str:
    """Write seconds in the unit that suits them, with three digits that count."""
    unit, size = next((each for each in _UNITS if seconds >= each[1]), _UNITS[-1])
    return f"{format_number(seconds / size)} {unit}"


def format_bytes(number: float) -> str:
    """Write a number of bytes in the unit that suits it, decimal as disks are sold, with three digits that count."""
    unit, size = next((each for each in _BYTES if number >= each[1]), _BYTES[-1])
    return f"{number:,.0f} {unit}" if size == 1 else f"{format_number(number / size)} {unit}"


def format_number(number: float) -> str:
    """Write a number with three digits that count, never with an exponent."""
    return f"{number:,.{0 if number >= 100 else 1 if number >= 10 else 2}f}"  # noqa: PLR2004 - powers of ten


def join_words(words: Sequence[str]) -> str:
    """Join words as a sentence does: `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), *words[-1:]]) if len(words) > 1 else "".join(words)
