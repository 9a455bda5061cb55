"""Styles of backends."""

from reports.figures.styles import COLOURS, DARK_COLOURS, DASHES, MARKERS, choose_style
from reports.page import charts
from storage import BACKENDS


def test_each_backend_of_this_repository_has_a_colour_and_marker_that_no_other_has() -> None:
    styles = {name: choose_style(name) for name in BACKENDS}
    looks = {(style.colour, style.marker) for style in styles.values()}
    assert len(looks) == len(styles), f"choose another seed in styles.py: {styles}"


def test_a_style_depends_on_the_name_alone() -> None:
    assert (choose_style("npy").colour, choose_style("hdf5").colour, choose_style("lmdb").colour) == (3, 2, 6)
    assert choose_style("") == choose_style("")


def test_any_name_has_a_style_that_can_be_drawn() -> None:
    styles = [choose_style(str(number)) for number in range(500)]
    assert {style.colour for style in styles} == set(range(len(COLOURS)))
    assert {style.marker for style in styles} == set(range(MARKERS))
    assert {style.dashes for style in styles} == set(range(DASHES))


def test_each_style_can_be_drawn() -> None:
    assert (len(charts.MARKERS), len(charts.DASHES)) == (MARKERS, DASHES)
    assert len(set(charts.MARKERS)) == MARKERS
    assert len(set(charts.DASHES)) == DASHES
    assert len(set(COLOURS)) == len(set(DARK_COLOURS)) == len(COLOURS)
