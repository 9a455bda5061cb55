"""Panels: what their params have to show, and how."""

import pytest

from reports.figures.plan import Scale, Subplot


def _make_panel(*values: float, scale: Scale = "fit", reference: float | None = None) -> Subplot:
    """Make a panel of values without a spread."""
    lines = {"png": [(place, value, value, value) for place, value in enumerate(values, 1)]}
    return Subplot("title", "seconds", lines, scale, reference=None if reference is None else ("raw", reference))


def test_an_axis_shows_each_line_with_its_spread_and_the_reference() -> None:
    lines = {"png": [(10, 1.0, 2.0, 3.0), (100, 4.0, 5.0, 6.0)], "lmdb": [(10, 7.0, 8.0, 9.0)]}
    assert Subplot("", "seconds", lines).values == (1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert Subplot("", "seconds", lines, reference=("raw", 0.5)).values == (1, 2, 3, 4, 5, 6, 7, 8, 9, 0.5)


@pytest.mark.parametrize(
    ("values", "reference", "expected"),
    [
        ((1.0, 10.0), None, False),
        ((1.0, 10.1), None, True),
        ((0.0, 10.1), None, False),
        ((1.0, 2.0), 30.0, True),
        ((1.0, 2.0), 0.0, False),
    ],
    ids=["tenfold", "more", "from zero", "to the reference", "reference of zero"],
)
def test_an_axis_that_is_fitted_is_logarithmic_where_positive_values_differ_more_than_tenfold(
    values: tuple[float, ...], reference: float | None, *, expected: bool
) -> None:
    assert _make_panel(*values, reference=reference).is_logarithmic is expected


@pytest.mark.parametrize("values", [(1.0, 2.0), (1.0, 1000.0)], ids=["close", "apart"])
def test_an_axis_whose_scale_is_given_keeps_it(values: tuple[float, ...]) -> None:
    assert _make_panel(*values, scale="logarithmic").is_logarithmic
    assert not _make_panel(*values, scale="linear").is_logarithmic
