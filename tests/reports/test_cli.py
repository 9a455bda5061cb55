"""Values on the command line."""

import argparse
from collections.abc import Callable

import pytest

from reports.cli import read_count, read_counts, read_fraction, read_probability, read_seconds


def test_a_valid_value_is_read() -> None:
    assert (read_fraction("0.1"), read_fraction("2")) == (0.1, 2.0)
    assert (read_probability("0.01"), read_seconds("600")) == (0.01, 600.0)
    assert (read_count("8"), read_counts("10, 100,10")) == (8, (10, 100))


@pytest.mark.parametrize(
    ("read", "texts", "message"),
    [
        (read_fraction, ["-0.1", "ten", "nan"], "a fraction between 0 and 10"),
        (read_probability, ["1", "x"], "a probability between 0 and 1"),
        (read_seconds, ["0", "inf", "soon"], "a number of seconds above 0"),
        (read_count, ["0", "1.5"], "a whole number above 0"),
        (read_counts, ["10,,100"], "'' isn't a whole number above 0"),
    ],
)
def test_an_invalid_value_has_a_message(read: Callable[[str], object], texts: list[str], message: str) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            read(text)
