"""Text for people: numbers with units, and one short line of any text."""

import pytest

from reports.text import add_params, format_bytes, format_time, shorten_text
from tests.support.properties import given, st


@given(text=st.text(), longest=st.integers(8, 40))
def test_shortened_text_is_one_printable_line_of_limited_length(text: str, longest: int) -> None:
    line = shorten_text(text, longest)
    assert line == "" or line.isprintable()
    assert len(line) <= longest


def test_long_text_is_cut_in_the_middle() -> None:
    assert shorten_text("lmdb_packed_in_chunks_of_256", 16) == "lmdb_packe…f_256"
    assert shorten_text("lmdb", 4) == "lmdb"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2e-10, "0.20 ns"),
        (5e-9, "5.00 ns"),
        (1.234e-6, "1.23 µs"),
        (98.76e-3, "98.8 ms"),
        (0.9996, "1,000 ms"),
        (3599.0, "3,599 s"),
        (12345.6, "3.43 h"),
    ],
)
def test_times_have_a_unit_that_fits(seconds: float, words: str) -> None:
    assert format_time(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1.5e3, "1.50 kB"), (2e12, "2.00 TB")]
)
def test_bytes_have_a_unit_that_fits(number: float, words: str) -> None:
    assert format_bytes(number) == words


def test_parameters_are_added_to_a_title_in_short() -> None:
    params = (("cache", "warm"), ("start", "fork"), ("workers", 2))
    assert add_params("read", params) == "read (warm, start fork, workers 2)"
    assert (add_params("", params[:1]), add_params("read", ())) == ("warm", "read")
    assert len(add_params("", (("x" * 100, "y"),))) == 80
