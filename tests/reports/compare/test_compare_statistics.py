"""The statistics of a comparison: t quantiles, drift, scatter, and how often whole comparisons err."""

import math
from itertools import combinations

import numpy as np
import pytest

from reports.compare.comparison import judge_cells
from reports.compare.statistics import (
    PRIOR_DRIFT,
    PRIOR_SCATTER,
    UNKNOWN_DRIFT,
    Process,
    Shift,
    compute_tail,
    count_orders,
    estimate_drift,
    estimate_scatter,
    find_quantile,
    measure_speeds,
    weigh_cells,
)
from reports.noise import Thresholds

REFERENCES = ("copy", "write", "read", "hash")


def make_processes(count: int, times: dict[str, float], speeds: float | list[float] = 1.0) -> list[Process]:
    """Make processes that measure cells and references alike, each at its speed."""
    factors = [speeds] * count if isinstance(speeds, float) else speeds
    return [
        {cell: factor * each for cell, each in {**times, **dict.fromkeys(REFERENCES, 1e-3)}.items()}
        for factor in factors
    ]


@pytest.mark.parametrize(
    ("value", "freedom", "tail"),
    [
        (1.0, 1, 0.25),
        (math.sqrt(2.0), 2, (1 - math.sqrt(0.5)) / 2),
        (6.313752, 1, 0.05),
        (2.353363, 3, 0.05),
        (3.746947, 4, 0.01),
        (4.143700, 10, 0.001),
        (0.0, 7, 0.5),
    ],
)
def test_tails_of_students_t_are_those_of_printed_tables(value: float, freedom: int, tail: float) -> None:
    assert compute_tail(value, freedom) == pytest.approx(tail, rel=1e-5)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 25, 200])
@pytest.mark.parametrize("level", [0.2, 0.01, 1e-6])
def test_a_quantile_is_exceeded_with_its_probability(level: float, freedom: int) -> None:
    assert compute_tail(find_quantile(level, freedom), freedom) == pytest.approx(level, rel=1e-6)


def count_by_hand(base: int, new: int, inversions: int) -> int:
    """Count the same orders one by one."""
    orders = combinations(range(base + new), base)  # the places of the processes of the base
    return sum(sum(place - number for number, place in enumerate(places)) <= inversions for places in orders)


@pytest.mark.parametrize(("base", "new"), [(1, 1), (2, 3), (4, 4), (3, 6), (5, 2)])
def test_orders_are_counted_as_by_hand(base: int, new: int) -> None:
    for inversions in range(base * new + 1):
        assert count_orders(base, new, inversions) == count_by_hand(base, new, inversions)
    assert count_orders(base, new, base * new) == math.comb(base + new, base)


def test_a_test_by_ranks_ignores_how_far_an_outlier_is_and_allows_few_inversions() -> None:
    base, new = make_processes(10, {"a": 1.0}), make_processes(8, {"a": 1.5})
    for outlier in (1.6, 1e3):
        mixed = [{**base[0], "a": outlier}, *base[1:]]
        found = weigh_cells(mixed, new, REFERENCES)["a"]
        assert found.can_rank(1e-3)
        assert found.is_slower(2e-3), "8 of 80 pairs are inverted"
        assert not found.is_slower(1e-3)
        assert not found.is_slower(1e-3, sign=-1)
    assert weigh_cells(new, base, REFERENCES)["a"].is_slower(1e-4, sign=-1)


def test_few_processes_need_a_larger_difference() -> None:
    base, new = [{"a": 1.0 + number / 100} for number in range(10)], [{"a": 1.5}]
    few, many = (weigh_cells(base, new * count, ())["a"] for count in (1, 8))
    assert (few.can_rank(1e-3), many.can_rank(1e-3)) == (False, True)
    assert few.find_detectable(1e-3) > many.find_detectable(1e-3)
    assert not few.is_slower(1e-4)
    assert weigh_cells(base, [{"a": 9.0}], ())["a"].is_slower(1e-4)


def test_a_common_factor_of_cells_and_references_is_drift_and_no_change() -> None:
    base, new = make_processes(5, {"a": 2.0, "b": 0.1}), make_processes(3, {"a": 2.0, "b": 0.1}, 1.9)
    found = weigh_cells(base, new, REFERENCES)
    assert found.keys() == {"a", "b"}
    for evidence in found.values():
        assert evidence.shift == pytest.approx(0, abs=1e-12)
        assert evidence.drift.shift == pytest.approx(math.log(1.9))


def test_each_process_is_corrected_by_its_own_speed() -> None:
    base = make_processes(4, {"a": 2.0}, [1.0, 1.5, 0.7, 1.1])
    found = weigh_cells(base, make_processes(2, {"a": 3.0}, [0.8, 1.4]), REFERENCES)["a"]
    assert found.shift == pytest.approx(math.log(1.5))
    assert np.ptp(found.base) == pytest.approx(0, abs=1e-12)


def test_a_reference_that_scatters_hardly_counts_in_the_speed() -> None:
    wild = [{**process, "write": 1e-3 * 3.0 ** (number % 3)} for number, process in enumerate(make_processes(9, {}))]
    base, new = ([{cell: math.log(each) for cell, each in process.items()} for process in run] for run in (wild, wild))
    assert max(map(abs, measure_speeds(base, new, REFERENCES)[0])) < 1e-3
    assert measure_speeds(base[:2], new[:2], REFERENCES) == ([0.0] * 2, [0.0] * 2), "too few to know which are wild"


def test_a_change_of_all_cells_is_no_drift() -> None:
    found = weigh_cells(make_processes(5, {"a": 2.0, "b": 0.1}), make_processes(5, {"a": 2.6, "b": 0.13}), REFERENCES)
    assert [each.shift for each in found.values()] == pytest.approx([math.log(1.3)] * 2)


def test_without_common_references_the_drift_is_unknown() -> None:
    base, new = make_processes(2, {"a": 1.0}), [{"a": 2.0}]
    (evidence,) = weigh_cells(base, new, REFERENCES).values()
    assert evidence.shift == pytest.approx(math.log(2))
    assert (evidence.drift.shift, evidence.drift.error) == (0.0, UNKNOWN_DRIFT)


def test_a_cell_of_several_processors_may_be_as_slow_as_the_reference_that_needs_them_too() -> None:
    cells = {"alone": 1.0, "crowded": 1.0, "slower": 1.0, "everywhere": 1.0}
    base = make_processes(10, cells)
    new = make_processes(8, cells | {"alone": 2.1, "crowded": 2.1, "slower": 4.5, "everywhere": 1.56})
    parallel = {"crowded", "slower", "everywhere"}
    found = weigh_cells(base, new, [*REFERENCES, "everywhere"], parallel)
    assert {cell for cell, each in found.items() if each.is_slower(1e-3)} == {"alone", "slower"}
    assert found["alone"].drift.shift == pytest.approx(0, abs=1e-12), "it measures no drift of cells of one processor"
    assert math.exp(found["crowded"].drift_margin) == pytest.approx(1.56**3, rel=0.2)
    calm = weigh_cells(base, make_processes(8, cells | {"crowded": 1.3}), [*REFERENCES, "everywhere"], parallel)
    assert calm["crowded"].is_slower(1e-3), "the processors were as free as before"


def test_a_reference_of_all_processors_that_only_scatters_takes_nothing_off() -> None:
    base = [{**process, "everywhere": 1.0 + number % 3 / 20} for number, process in enumerate(make_processes(10, {}))]
    new = [{**process, "everywhere": 1.02 + number % 3 / 20} for number, process in enumerate(make_processes(8, {}))]
    base, new = ([{**process, "a": 1.0} for process in run] for run in (base, new))
    found = weigh_cells(base, new, [*REFERENCES, "everywhere"], {"a", "everywhere"})["a"]
    assert found.drift.crowding == 0


def test_whether_processors_were_free_is_unknown_without_the_reference_that_needs_them() -> None:
    base, new = make_processes(10, {"a": 1.0, "b": 1.0}), make_processes(8, {"a": 2.1, "b": 2.1})
    found = weigh_cells(base, new, REFERENCES, {"a"})
    assert [each.is_slower(1e-3) for each in found.values()] == [False, True]


def test_references_that_disagree_make_the_drift_uncertain() -> None:
    agreeing, disagreeing = (
        [Shift(each, 0.02, 0.01, 10) for each in moves] for moves in ([0.4] * 5, [0, 0.2, 0.4, 0.6, 0.8])
    )
    certain, uncertain = estimate_drift(agreeing), estimate_drift(disagreeing)
    assert [certain.shift, uncertain.shift] == pytest.approx([0.4, 0.4])
    assert 0 < certain.error < PRIOR_DRIFT
    assert 0.15 < uncertain.error < 0.35
    assert uncertain.margin > certain.margin + 0.3


def test_a_reference_that_scatters_hardly_counts() -> None:
    precise, noisy = [Shift(0.1, 0.01, 0.01, 10)] * 2, [Shift(0.9, 0.5, 0.5, 10)] * 3
    drift = estimate_drift([*precise, *noisy])
    assert drift.shift == pytest.approx(0.1, abs=0.02)
    assert drift.error < 4 * PRIOR_DRIFT, "their scatter explains the difference"


def test_scatter_is_that_of_most_cells_and_ignores_changes() -> None:
    draws = np.random.default_rng(0).normal(0, 0.05, (500, 10))
    cells = [(row[:5].tolist(), (row[5:] + number % 7).tolist()) for number, row in enumerate(draws)]
    assert math.sqrt(estimate_scatter(cells)) == pytest.approx(0.05, rel=0.05)
    wild = [([0.0, 3.0], [1.0])] * 100
    assert math.sqrt(estimate_scatter([*cells, *wild])) == pytest.approx(0.05, rel=0.2)
    assert estimate_scatter([([1.0], [7.0])]) == PRIOR_SCATTER**2, "one process each says nothing"


def test_more_processes_make_the_margin_smaller_but_not_below_that_of_the_base() -> None:
    draws = np.random.default_rng(0).normal(0, 0.05, 40)
    base = [{"a": math.exp(each)} for each in draws[:10]]
    few, many = (weigh_cells(base, [{"a": math.exp(each)} for each in draws[10:end]], ())["a"] for end in (12, 40))
    assert few.find_margin(0.001) > many.find_margin(0.001) > many.find_least_margin(0.001) > 0


def test_a_cell_that_scatters_more_than_others_has_a_larger_error() -> None:
    calm = {f"calm{each}": 1.0 for each in range(4)}
    base = [dict.fromkeys(calm, 1.0 + 0.001 * number) | {"wild": 1.0 + 0.3 * number} for number in range(6)]
    found = weigh_cells(base, base, ())
    assert found["wild"].measured.error > 10 * found["calm0"].measured.error


def test_a_cell_that_only_drift_makes_look_slower_is_not_measured_again() -> None:
    cells = {"alone": 1.0, "crowded": 1.0, "everywhere": 1.0}
    names, parallel = [*REFERENCES, "everywhere"], {"crowded", "everywhere"}

    def find_open(processes: int) -> set[str]:
        new = make_processes(processes, dict.fromkeys(cells, 2.0))
        rows, _ = judge_cells(make_processes(10, cells), new, names, dict.fromkeys(cells, Thresholds()), parallel)
        assert all(row.suspect for row in rows)
        return {row.cell for row in rows if row.open}

    assert find_open(1) == {"alone", "crowded"}, "a moment may have slowed both"
    assert find_open(2) == {"alone"}


@pytest.mark.parametrize("parallel", [(), ("cell", "everywhere")], ids=["one processor", "several"])
def test_a_slower_cell_is_decided_after_eight_processes(parallel: tuple[str, ...]) -> None:
    names = [*REFERENCES, "everywhere"]
    base = make_processes(10, {"cell": 1.0, "everywhere": 1.0})
    new = make_processes(8, {"cell": 3.0, "everywhere": 1.0})
    for count in (4, 8):
        ((row,), _) = judge_cells(base, new[:count], names, {"cell": Thresholds()}, parallel)
        assert (row.verdict, row.open) == ("regression", count == 4)


def test_the_first_process_counts_for_cells_of_several_processors_only_if_it_is_alone() -> None:
    first, later = ({"alone": seconds, "crowded": seconds} for seconds in (1.3, 1.0))
    base = make_processes(1, first) + make_processes(9, later)
    for count, expected in ((0, 1.3), (1, 1.0)):
        found = weigh_cells(base, make_processes(1, first) + make_processes(count, later), REFERENCES, {"crowded"})
        assert math.exp(found["crowded"].shift) == pytest.approx(expected), f"with {count} more"
        assert len(found["crowded"].base) == 9
        assert len(found["alone"].base) == 10
