"""Charts: everything is inside its drawing, apart from its neighbours, and at its value."""

import math
from itertools import pairwise

import pytest

from reports.figures.plan import Lines, Point, Scale, Subplot
from reports.page.charts import BOTTOM, LEFT, LINE, MAX_LABELS, RIGHT, TOP, WIDTH, Chart, Tick, lay_out
from tests.support.properties import example, given, settings, st

SCALES: tuple[Scale, ...] = ("linear", "logarithmic", "fit")
POSITIVE = st.floats(1e-25, 1e24)  # what a run can hold, from a picosecond for 2**63 images to bytes of any size
ACROSS = st.integers(1, 2**63) | st.floats(1e-18, 1e19)
POINT = st.tuples(ACROSS, st.lists(POSITIVE, min_size=3, max_size=3)).map(lambda each: (each[0], *sorted(each[1])))
LINES = st.dictionaries(st.text(max_size=20), st.lists(POINT, min_size=1, max_size=4), min_size=1, max_size=20)
LETTER = 7.4  # the widest digit of the fonts that browsers bring, at 13 units; commas are narrower


def _lay_out(lines: Lines, scale: Scale = "fit", **more: object) -> Chart:
    subplot = Subplot("title", "seconds", lines, scale, **more)  # type: ignore[arg-type]
    return lay_out(subplot)


def _line(*values: float) -> Lines:
    """Make a line of values at 1, 2, ..."""
    return {"png": [(place + 1, value, value, value) for place, value in enumerate(values)]}


def _read_number(tick: Tick) -> float:
    return float(tick.text.replace(",", ""))


def _check_ticks(ticks: tuple[Tick, ...]) -> None:
    numbers, places = [_read_number(tick) for tick in ticks], [tick.place for tick in ticks]
    assert numbers
    assert numbers == sorted(set(numbers)), "unique and rising"
    assert places in (sorted(places), sorted(places, reverse=True))


def _check_inside(chart: Chart) -> None:
    floor, right = chart.height - BOTTOM, WIDTH - RIGHT
    marks = [mark for curve in chart.curves for mark in curve.marks]
    assert all(LEFT <= mark.x <= right for mark in marks)
    assert all(TOP <= mark.high <= mark.y <= mark.low <= floor for mark in marks)
    assert all(LEFT <= tick.place <= right for tick in chart.x_ticks)
    assert all(TOP <= tick.place <= floor for tick in chart.y_ticks)


@settings(max_examples=40)
@given(lines=LINES, scale=st.sampled_from(SCALES), reference=st.none() | POSITIVE)
@example(lines={"png": [(1, 0.0, 0.0, 0.0)]}, scale="fit", reference=None)
@example(lines={"png": [(1, 0.0, 0.0, 0.0)], "lmdb": [(1, 0.0, 5.0, 9.0)]}, scale="fit", reference=2.0)
def test_any_values_are_inside_with_ticks_and_labels_apart(
    lines: dict[str, list[Point]], scale: Scale, reference: float | None
) -> None:
    chart = _lay_out(lines, scale, reference=reference and ("raw", reference))
    _check_inside(chart)
    _check_ticks(chart.x_ticks)
    _check_ticks(chart.y_ticks)
    heights = sorted(each.height for each in (*chart.curves, chart.reference) if each and each.label is not None)
    assert len(chart.curves) == len(lines)
    assert 1 <= len(heights) <= MAX_LABELS + 1
    assert all(below - above >= LINE - 0.15 for above, below in pairwise(heights)), "labels are a line apart"
    assert heights[0] - LINE / 2 + 0.1 >= TOP
    assert heights[-1] + LINE / 2 - 0.1 <= chart.height - BOTTOM


@settings(max_examples=40)
@given(st.lists(ACROSS, min_size=1, max_size=8))
@example([1500, 5500])
@example([10.0**power for power in range(7)])
@example([3104.12288, 4124.0304])
@example([10_000_000_000, 12_345_678_901])
def test_numbers_below_an_axis_fit_side_by_side(across: list[float]) -> None:
    chart = _lay_out({"png": [(x, 1.0, 1.0, 1.0) for x in across]})
    for left, right in pairwise(chart.x_ticks):
        assert right.place - left.place >= LETTER * (len(left.text) + len(right.text)) / 2


@settings(max_examples=40)
@given(lines=LINES, scale=st.sampled_from(SCALES))
def test_a_tick_is_at_its_number(lines: dict[str, list[Point]], scale: Scale) -> None:
    chart = _lay_out(lines, scale)
    for ticks, log in ((chart.x_ticks, scale != "linear"), (chart.y_ticks, _read_number(chart.y_ticks[0]) > 0)):
        numbers = [_read_number(tick) for tick in ticks]
        along = [math.log(number) for number in numbers] if log else numbers
        step = (ticks[-1].place - ticks[0].place) / ((along[-1] - along[0]) or 1)
        for tick, way in zip(ticks, along, strict=True):
            assert ticks[0].place + step * (way - along[0]) == pytest.approx(tick.place, abs=0.2)


def test_each_number_of_images_has_its_tick_and_other_numbers_get_round_ones() -> None:
    chart = _lay_out({"png": [(10.0**power, 1.0, 1.0, 1.0) for power in range(1, 6)]})
    assert [tick.text for tick in chart.x_ticks] == ["10", "100", "1,000", "10,000", "100,000"]
    assert [tick.place for tick in chart.x_ticks] == [mark.x for mark in chart.curves[0].marks]
    chart = _lay_out({"png": [(3104.12288, 1.0, 1.0, 1.0), (4124.0304, 1.0, 1.0, 1.0)]})
    assert [tick.text for tick in chart.x_ticks] == ["3,000", "4,000", "5,000"]


@pytest.mark.parametrize(
    ("largest", "texts"),
    [
        (0.0, ["0", "0.25", "0.5", "0.75", "1"]),
        (9.0, ["0", "2", "4", "6", "8"]),
        (20e6, ["0", "5,000,000", "1e+07", "1.5e+07", "2e+07"]),
        (100e6, ["0", "2.5e+07", "5e+07", "7.5e+07", "1e+08"]),
        (1e-6, ["0", "2.5e-07", "5e-07", "7.5e-07", "0.000001"]),
    ],
)
def test_a_linear_axis_starts_at_zero_with_round_numbers(largest: float, texts: list[str]) -> None:
    assert [tick.text for tick in _lay_out(_line(largest)).y_ticks] == texts


def test_values_more_than_tenfold_apart_get_a_logarithmic_axis() -> None:
    assert [tick.text for tick in _lay_out(_line(1, 10)).y_ticks] == ["0", "2.5", "5", "7.5", "10"]
    assert [tick.text for tick in _lay_out(_line(1, 1000)).y_ticks] == ["1", "10", "100", "1,000"]
    assert [tick.text for tick in _lay_out(_line(1, 10), "logarithmic").y_ticks] == ["1", "2", "5", "10"]


def test_a_reference_counts_as_a_value() -> None:
    chart = _lay_out(_line(1, 2), reference=("raw", 3080.0))
    assert chart.reference is not None
    assert chart.reference.label == "raw"
    assert [tick.text for tick in chart.y_ticks] == ["1", "10", "100", "1,000"]
    assert chart.reference.place < min(mark.y for mark in chart.curves[0].marks)


def test_a_mark_has_its_exact_numbers() -> None:
    lines = {"png": [(100, 1.0, 2.5, 30.0), (1000, 4.0, 4.0, 4.0)], "lmdb": [(10, 7.0, 7.0, 7.0)]}
    curves = {curve.label: curve for curve in _lay_out(lines, marked=frozenset({"lmdb"})).curves}
    first, second = curves["png"], curves["lmdb"]
    assert [mark.words for mark in first.marks] == [
        "png: 2.50 seconds, 1.00 to 30.0; number of images: 100",
        "png: 4.00 seconds; number of images: 1,000",
    ]
    assert first.marks[0].high < first.marks[0].y < first.marks[0].low, "a larger value is higher"
    assert [mark.ringed for curve in (first, second) for mark in curve.marks] == [False, False, True]


def test_long_labels_are_cut() -> None:
    label = _lay_out({"W" * 10_000: [(1, 1.0, 1.0, 1.0)]}).curves[0].label
    assert label
    assert len(label) == 15


def test_nine_lines_are_labelled_those_with_rings_the_lowest_and_the_popular_one() -> None:
    names = [f"store{number:02}" for number in range(18)]
    lines: Lines = {name: [(1, place, place, place)] for place, name in enumerate(names, 1)}
    lines = {**lines, "png": [(1, 99.0, 99.0, 99.0)]}
    chart = _lay_out(lines, marked=frozenset({"store17"}))
    labels = [curve.label for curve in chart.curves if curve.label is not None]
    assert sorted(labels) == ["png", *names[:7], "store17"]
    assert not any(curve.label for curve in chart.curves[:10]), "gray ones are drawn first, below the others"


def test_a_wide_chart_uses_its_width() -> None:
    subplot = Subplot("", "seconds", {"png": [(1, 1.0, 1.0, 1.0), (9, 1.0, 1.0, 1.0)]})
    narrow, wide = (lay_out(subplot, width).curves[0].marks[-1].x for width in (WIDTH, 1000))
    assert wide - narrow == pytest.approx(1000 - WIDTH, rel=0.2)
