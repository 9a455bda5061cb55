"""Values on the command line."""

import argparse
from collections.abc import Callable

import pytest

from reports.cli import read_count, read_counts, read_fraction, read_probability, read_seconds


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (read_fraction, "0.1", 0.1),
        (read_fraction, "2", 2.0),
        (read_probability, "0.01", 0.01),
        (read_seconds, "600", 600.0),
        (read_count, "8", 8),
        (read_counts, "10, 100,10", (10, 100)),
    ],
)
def test_a_valid_value_is_read(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_fraction, "-0.1", "a fraction between 0 and 10"),
        (read_fraction, "ten", "a fraction between 0 and 10"),
        (read_fraction, "nan", "a fraction between 0 and 10"),
        (read_probability, "1", "a probability between 0 and 1"),
        (read_probability, "x", "a probability between 0 and 1"),
        (read_seconds, "0", "a number of seconds above 0"),
        (read_seconds, "inf", "a number of seconds above 0"),
        (read_seconds, "soon", "a number of seconds above 0"),
        (read_count, "0", "a whole number above 0"),
        (read_count, "1.5", "a whole number above 0"),
        (read_counts, "10,,100", "'' isn't a whole number above 0"),
    ],
)
def test_an_invalid_value_has_a_message(read: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        read(text)
