"""The course of the gate, on pairs of blocks that no process has measured."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from reports.errors import WrongInputError
from reports.gate.decision import Outcome, Pair, run_gate
from reports.gate.session import Block
from reports.noise import Thresholds

CELLS = tuple(
    f"benchmarks/test_many.py::test_read_many[{name}]" for name in ("hdf5-10", "lmdb-10", "png-10", "png-100")
)
FIRST, SECOND, THIRD, FOURTH = CELLS


class Bench:
    """What measures in these tests: cells of a millisecond, noise of one percent, and ratios that a test chooses.

    Parameters
    ----------
    ratios : dict of str to float
        How many times as long the new arm takes.
    course : dict of int to dict of str to float
        Other ratios, from the pair with this number on.
    change : callable, optional
        Makes another pair of a pair and its number.
    """

    def __init__(
        self,
        ratios: Mapping[str, float],
        change: Callable[[Pair, int], Pair] = lambda pair, _: pair,
        course: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        self.ratios = {**dict.fromkeys(CELLS, 1.0), **ratios}
        self.asked: list[tuple[str, ...]] = []
        self.told: list[str] = []
        self._change = change
        self._course = course or {}
        self._chance = np.random.default_rng(11)

    def measure(self, cells: Sequence[str]) -> Pair:
        """Measure a pair of blocks."""
        self.asked.append(tuple(cells))
        self.ratios |= self._course.get(len(self.asked), {})
        chosen = cells or CELLS
        base, new = (
            Block(
                {
                    cell: 1e-3 * (self.ratios[cell] if slow else 1) * math.exp(self._chance.normal(0, 0.01))
                    for cell in chosen
                }
            )
            for slow in (False, True)
        )
        return self._change(Pair(base, new), len(self.asked))

    def run(self, budget: float = 600, rules: Thresholds | None = None) -> Outcome:
        """Run the gate."""
        return run_gate(self.measure, rules or Thresholds(), budget, self.told.append)


def name_verdicts(outcome: Outcome) -> dict[str, str]:
    """Name the cells that are not ok."""
    return {each.cell: each.verdict for each in outcome.verdicts if each.verdict != "ok"}


def drop(block: Block, cell: str, reason: str | None = None) -> Block:
    """Leave a cell out of a block, for a reason or because there is none."""
    seconds = {name: value for name, value in block.seconds.items() if name != cell}
    return replace(block, seconds=seconds, absent={} if reason is None else {cell: reason})


def stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second pass between any two looks at the clock."""
    clock = count(0.0, 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))


def test_identical_arms_have_no_regression() -> None:
    bench = Bench({})
    outcome = bench.run()
    assert [each.verdict for each in outcome.verdicts] == ["ok"] * 4
    assert [each.cell for each in outcome.verdicts] == list(CELLS)
    assert bench.asked == [()] * 5
    assert (outcome.screened, outcome.confirmed) == (5, 0)


def test_the_slower_cell_is_named_and_no_other() -> None:
    outcome = Bench({SECOND: 1.3}).run()
    assert name_verdicts(outcome) == {SECOND: "regression"}
    (verdict,) = outcome.select("regression")
    assert verdict.ratio == pytest.approx(1.3, rel=0.02)
    assert verdict.base_seconds == pytest.approx(1e-3, rel=0.02)
    assert verdict.value == pytest.approx(2.0**-12)
    assert verdict.pairs == 12
    assert verdict.threshold == 0.1


def test_the_faster_cell_is_an_improvement() -> None:
    outcome = Bench({THIRD: 1 / 1.3}).run()
    assert name_verdicts(outcome) == {THIRD: "improvement"}
    (verdict,) = outcome.select("improvement")
    assert verdict.ratio == pytest.approx(1 / 1.3, rel=0.02)
    assert verdict.base_seconds == pytest.approx(1e-3, rel=0.02)


def test_slower_and_faster_cells_do_not_hide_each_other() -> None:
    outcome = Bench({FIRST: 1.5, SECOND: 1.3, THIRD: 0.7, FOURTH: 0.5}).run()
    assert [each.cell for each in outcome.select("regression")] == [FIRST, SECOND]
    assert [each.cell for each in outcome.select("improvement")] == [FOURTH, THIRD]


def test_fresh_pairs_alone_decide() -> None:
    outcome = Bench({SECOND: 2.0}, course={6: {SECOND: 1.0}}).run()
    assert name_verdicts(outcome) == {}
    cleared = outcome.verdicts[1]
    assert cleared.pairs == 12
    assert cleared.ratio == pytest.approx(1, abs=0.02)
    assert cleared.value is not None
    assert cleared.value > 0.5


def test_suspects_alone_are_measured_again() -> None:
    bench = Bench({SECOND: 1.3})
    bench.run()
    assert bench.asked == [()] * 5 + [(SECOND,)] * 12


def test_undecided_suspects_are_measured_until_the_last_look() -> None:
    bench = Bench({SECOND: 1.3, FOURTH: 1.3}, course={6: {FOURTH: 1.07}})
    outcome = bench.run()
    assert bench.asked[5:] == [(SECOND, FOURTH)] * 12 + [(FOURTH,)] * 48
    assert name_verdicts(outcome) == {SECOND: "regression", FOURTH: "inconclusive"}
    assert outcome.confirmed == 60
    assert outcome.verdicts[3].pairs == 60
    assert outcome.verdicts[3].ratio == pytest.approx(1.07, abs=0.01)


def test_a_suspect_may_be_decided_at_a_later_look() -> None:
    outcome = Bench({SECOND: 1.3}, course={6: {SECOND: 1.07}, 18: {SECOND: 1.5}}).run()
    assert outcome.confirmed == 24
    assert name_verdicts(outcome) == {SECOND: "regression"}


def test_the_budget_is_over_before_any_fresh_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_clock(monkeypatch)
    bench = Bench({SECOND: 1.3})
    outcome = bench.run(budget=0.5)
    assert bench.asked == [()] * 5
    (verdict,) = outcome.select("inconclusive")
    assert (verdict.cell, verdict.pairs, verdict.value) == (SECOND, 5, None)
    assert verdict.ratio == pytest.approx(1.3, rel=0.02)


def test_the_budget_is_over_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_clock(monkeypatch)
    outcome = Bench({SECOND: 1.3}).run(budget=4.5)
    (verdict,) = outcome.select("inconclusive")
    assert (outcome.confirmed, verdict.pairs, verdict.value) == (4, 4, None)
    assert verdict.ratio == pytest.approx(1.3, rel=0.02)
    assert outcome.seconds == 6


def test_the_budget_does_not_cut_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_clock(monkeypatch)
    assert Bench({}).run(budget=0.001).screened == 5


def test_a_cell_of_the_base_alone_is_missing() -> None:
    outcome = Bench({}, lambda pair, _: pair._replace(new=drop(pair.new, THIRD))).run()
    assert outcome.missing == (THIRD,)
    assert outcome.new == ()
    assert outcome.absent == {}
    assert [each.cell for each in outcome.verdicts] == [FIRST, SECOND, FOURTH]


def test_a_cell_of_the_new_arm_alone_is_new() -> None:
    outcome = Bench({}, lambda pair, _: pair._replace(base=drop(pair.base, THIRD))).run()
    assert outcome.new == (THIRD,)
    assert outcome.missing == ()
    assert [each.cell for each in outcome.verdicts] == [FIRST, SECOND, FOURTH]


@pytest.mark.parametrize("arm", ["base", "new"])
def test_a_cell_that_fails_in_one_arm_is_absent_and_not_missing(arm: str) -> None:
    def fail(pair: Pair, _: int) -> Pair:
        return pair._replace(**{arm: drop(getattr(pair, arm), SECOND, "OSError: disk")})

    outcome = Bench({SECOND: 1.3}, fail).run()
    assert outcome.absent == {SECOND: f"{arm} arm: OSError: disk"}
    assert (outcome.missing, outcome.new) == ((), ())
    assert SECOND not in {each.cell for each in outcome.verdicts}


def test_a_cell_that_fails_once_in_the_screen_is_absent() -> None:
    bench = Bench({}, lambda pair, number: pair._replace(new=drop(pair.new, FIRST, "Timeout")) if number == 3 else pair)
    assert bench.run().absent == {FIRST: "new arm: Timeout"}


def test_a_suspect_that_fails_in_the_middle_is_absent_and_the_others_go_on() -> None:
    def fail(pair: Pair, number: int) -> Pair:
        return pair._replace(base=drop(pair.base, SECOND, "OSError: disk")) if number == 9 else pair

    bench = Bench({SECOND: 1.3, THIRD: 1.4}, fail)
    outcome = bench.run()
    assert outcome.absent == {SECOND: "base arm: OSError: disk"}
    assert name_verdicts(outcome) == {THIRD: "regression"}
    assert SECOND not in {each.cell for each in outcome.verdicts}
    assert bench.asked[5:] == [(SECOND, THIRD)] * 4 + [(THIRD,)] * 8


def test_arms_with_nothing_in_common_have_missing_and_new_cells_only() -> None:
    outcome = Bench({}, lambda *_: Pair(Block({FIRST: 1.0}), Block({SECOND: 1.0}))).run()
    assert (outcome.verdicts, outcome.missing, outcome.new) == ((), (FIRST,), (SECOND,))


def test_an_ok_cell_that_is_too_noisy_to_exclude_a_slowdown_is_marked() -> None:
    def disturb(pair: Pair, number: int) -> Pair:
        seconds = {**pair.new.seconds, SECOND: pair.base.seconds[SECOND] * (2.0 if number % 2 else 0.5)}
        return pair._replace(new=replace(pair.new, seconds=seconds))

    outcome = Bench({}, disturb).run(budget=1e-9)
    assert [each.cell for each in outcome.verdicts if not each.excluded] == [SECOND]


def test_a_name_that_no_cell_has_is_said_to_be_none() -> None:
    with pytest.raises(WrongInputError, match=r"^no benchmark has such a name; --cells takes"):
        Bench({}, lambda *_: Pair(Block({}), Block({}))).run()


def test_where_all_cells_fail_each_is_named_with_its_reason() -> None:
    failed = Block({}, absent={FIRST: "OSError: disk", SECOND: "OSError: disk"})
    outcome = Bench({}, lambda pair, _: pair._replace(new=failed)).run()
    assert outcome.absent == {FIRST: "new arm: OSError: disk", SECOND: "new arm: OSError: disk"}
    assert FIRST not in {each.cell for each in outcome.verdicts}


def test_a_cell_keeps_the_threshold_of_its_own() -> None:
    def mark(pair: Pair, _: int) -> Pair:
        return pair._replace(new=replace(pair.new, thresholds={SECOND: 0.5}))

    outcome = Bench({SECOND: 1.3, THIRD: 1.3}, mark).run()
    assert name_verdicts(outcome) == {THIRD: "regression"}
    assert [each.threshold for each in outcome.verdicts] == [0.1, 0.5, 0.1, 0.1]


def test_the_threshold_of_the_run_is_that_of_the_other_cells() -> None:
    assert name_verdicts(Bench({SECOND: 1.3}).run(rules=Thresholds(threshold=0.5))) == {}


def test_twice_as_slow_is_no_regression_below_twenty_microseconds() -> None:
    def shorten(pair: Pair, _: int) -> Pair:
        return Pair(*(Block({cell: value / 100 for cell, value in side.seconds.items()}) for side in pair))

    assert name_verdicts(Bench({SECOND: 2.0}, shorten).run()) == {}


def test_libraries_that_differ_are_told() -> None:
    def upgrade(pair: Pair, _: int) -> Pair:
        base = {"h5py": "3.15", "numpy": "2.0", "old": "1"}
        new = {"h5py": "3.16", "numpy": "2.0", "young": "2"}
        return Pair(replace(pair.base, libraries=base), replace(pair.new, libraries=new))

    outcome = Bench({}, upgrade).run()
    assert outcome.libraries == ("h5py 3.15 -> 3.16", "old 1 -> none", "young none -> 2")


def test_each_pair_is_announced() -> None:
    bench = Bench({SECOND: 1.3})
    bench.run()
    assert bench.told[:5] == [f"screen: pair {number} of 5" for number in range(1, 6)]
    assert bench.told[5:] == [f"confirm: pair {number} of 12, 1 cells left" for number in range(1, 13)]


def test_a_selection_begins_with_the_largest_change() -> None:
    outcome = Bench({FIRST: 1.2, SECOND: 1.5, THIRD: 1.3}).run()
    assert [each.cell for each in outcome.select("regression")] == [SECOND, THIRD, FIRST]
