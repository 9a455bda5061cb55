"""Styles of backends."""

import pytest

from reports.figures.styles import COLOURS, DARK_COLOURS, DASHES, MARKERS, MAX_LINES, choose_styles
from reports.page import charts
from reports.run import BrokenRunError
from tests.support.results import make_result, wrap_results


def test_the_largest_number_of_backends_differ_in_style_and_one_more_is_refused() -> None:
    results = [make_result(f"{number:03}", 1.0) for number in range(MAX_LINES + 1)]
    styles = choose_styles(wrap_results(*results[:-1]))
    assert len(set(styles.values())) == len(styles) == MAX_LINES
    with pytest.raises(BrokenRunError, match="97 backends, figures can show 96; leave some out"):
        choose_styles(wrap_results(*results))


def test_each_style_can_be_drawn() -> None:
    assert (len(charts.MARKERS), len(charts.DASHES)) == (MARKERS, DASHES)
    assert len(set(charts.MARKERS)) == MARKERS
    assert len(set(charts.DASHES)) == DASHES
    assert len(set(COLOURS)) == len(set(DARK_COLOURS)) == len(COLOURS)
