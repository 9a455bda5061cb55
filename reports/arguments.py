"""Values on the command line: checked, with a message that says what would be right."""

import argparse
import contextlib
import math

from reports.run import WIDEST_THRESHOLD


def read_share(text: str) -> float:
    """Read a share such as 0.1."""
    with contextlib.suppress(ValueError):
        share = float(text)
        if 0 < share < WIDEST_THRESHOLD:
            return share
    raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and {WIDEST_THRESHOLD}, such as 0.1")


def read_probability(text: str) -> float:
    """Read a probability such as 0.01."""
    with contextlib.suppress(ValueError):
        probability = float(text)
        if 0 < probability < 1:
            return probability
    raise argparse.ArgumentTypeError(f"{text!r} is no probability between 0 and 1, such as 0.01")


def read_seconds(text: str) -> float:
    """Read a number of seconds above zero."""
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 < seconds < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def read_count(text: str) -> int:
    """Read a whole number above zero."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")


def read_counts(text: str) -> tuple[int, ...]:
    """Read whole numbers above zero, separated by commas; repeats are left out."""
    return tuple(dict.fromkeys(read_count(part.strip()) for part in text.split(",")))
