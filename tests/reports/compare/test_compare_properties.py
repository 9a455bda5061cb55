"""What holds for the evidence of any processes."""

import math

import pytest

from reports.compare.statistics import Process, weigh_cells
from tests.support.properties import given, settings, st

CELLS, REFERENCES = ("a", "b"), ("copy", "hash")
_SECONDS = st.floats(1e-6, 1e3)
_PROCESS = st.fixed_dictionaries(dict.fromkeys((*CELLS, *REFERENCES), _SECONDS))
_RUN = st.lists(_PROCESS, min_size=1, max_size=5)


def scale(run: list[Process], factor: float, cells: tuple[str, ...]) -> list[Process]:
    """Make cells of all processes slower."""
    return [{cell: seconds * (factor if cell in cells else 1) for cell, seconds in each.items()} for each in run]


@given(base=_RUN, new=_RUN, factor=st.floats(0.01, 100))
@settings(max_examples=60)
def test_a_faster_or_slower_machine_changes_no_evidence(base: list[Process], new: list[Process], factor: float) -> None:
    before = weigh_cells(base, new, REFERENCES)
    after = weigh_cells(base, scale(new, factor, (*CELLS, *REFERENCES)), REFERENCES)
    for cell in CELLS:
        assert after[cell].shift == pytest.approx(before[cell].shift, abs=1e-9)
        assert after[cell].find_margin(0.01) == pytest.approx(before[cell].find_margin(0.01), abs=1e-6)
        assert after[cell].drift.shift == pytest.approx(before[cell].drift.shift + math.log(factor), abs=1e-9)


@given(base=_RUN, new=_RUN, factor=st.floats(0.01, 100))
@settings(max_examples=60)
def test_a_change_of_all_cells_shifts_them_by_its_size_and_is_no_scatter(
    base: list[Process], new: list[Process], factor: float
) -> None:
    before, after = weigh_cells(base, new, REFERENCES), weigh_cells(base, scale(new, factor, CELLS), REFERENCES)
    for cell in CELLS:
        assert after[cell].shift == pytest.approx(before[cell].shift + math.log(factor), abs=1e-9)
        assert after[cell].find_margin(0.01) == pytest.approx(before[cell].find_margin(0.01), abs=1e-6)


@given(base=_RUN, new=_RUN)
@settings(max_examples=60)
def test_margins_are_finite_and_grow_with_certainty(base: list[Process], new: list[Process]) -> None:
    for each in weigh_cells(base, new, REFERENCES).values():
        margins = [each.find_margin(level) for level in (0.1, 0.01, 1e-6)]
        assert 0 < margins[0] < margins[1] < margins[2] < math.inf
        assert each.find_least_margin(0.01) <= margins[1]
