"""How text and numbers from a run are worded."""


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
