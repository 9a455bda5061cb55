"""Values on the command line."""

import argparse
from collections.abc import Callable

import pytest

from reports.arguments import read_count, read_counts, read_probability, read_seconds, read_share


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (read_share, "0.1", 0.1),
        (read_share, "2", 2.0),
        (read_probability, "0.01", 0.01),
        (read_seconds, "600", 600.0),
        (read_count, "8", 8),
        (read_counts, "10, 100,10", (10, 100)),
    ],
)
def test_what_is_right_is_read(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_share, "-0.1", "no share between 0 and 10"),
        (read_share, "ten", "no share between 0 and 10"),
        (read_share, "nan", "no share between 0 and 10"),
        (read_probability, "1", "no probability between 0 and 1"),
        (read_probability, "x", "no probability between 0 and 1"),
        (read_seconds, "0", "no number of seconds above 0"),
        (read_seconds, "inf", "no number of seconds above 0"),
        (read_seconds, "soon", "no number of seconds above 0"),
        (read_count, "0", "no whole number above 0"),
        (read_count, "1.5", "no whole number above 0"),
        (read_counts, "10,,100", "'' is no whole number above 0"),
    ],
)
def test_what_is_wrong_is_said(read: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        read(text)
