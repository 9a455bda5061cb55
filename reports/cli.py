"""Options, their checked values, and printing, shared by the subcommands."""

import argparse
import contextlib
import math
import os
import sys
from typing import NoReturn

from reports.noise import MAX_THRESHOLD
from reports.text import escape_name


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, whatever is in the arguments."""

    def error(self, message: str) -> NoReturn:
        """Print the error and end with exit code 2."""
        super().error(escape_name(message))


def read_fraction(text: str) -> float:
    """Read a fraction such as 0.1."""
    return _read_float(text, MAX_THRESHOLD, f"a fraction between 0 and {MAX_THRESHOLD}, such as 0.1")


def read_probability(text: str) -> float:
    """Read a probability such as 0.01."""
    return _read_float(text, 1, "a probability between 0 and 1, such as 0.01")


def read_seconds(text: str) -> float:
    """Read a number of seconds above zero."""
    return _read_float(text, math.inf, "a number of seconds above 0")


def _read_float(text: str, end: float, problem: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < end:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} isn't {problem}")


def read_count(text: str) -> int:
    """Read a whole number above zero."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number above 0")


def read_counts(text: str) -> tuple[int, ...]:
    """Read whole numbers above zero, separated by commas, without repeats."""
    return tuple(dict.fromkeys(read_count(part.strip()) for part in text.split(",")))


def print_text(text: str) -> None:
    """Print a text; a reader that closes the pipe early, such as `head`, changes no exit code."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # nothing must be flushed to the closed pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_names(*names: object) -> None:
    """Print names, such as paths, one a line."""
    print_text("".join(f"{escape_name(name)}\n" for name in names))


def print_error(problem: object) -> None:
    """Print why something failed, in one line."""
    sys.stderr.write(f"error: {escape_name(problem)}\n")


def show_progress(text: str) -> None:
    """Replace the progress line on a terminal; an empty text clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
