"""The course of the gate, on pairs of sessions that nothing measured."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from reports.errors import WrongInputError
from reports.gate.decision import Absence, Outcome, run_gate
from reports.gate.pairs import Pair, Session, SideName
from reports.noise import Thresholds

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")

CELLS = tuple(
    f"benchmarks/test_many.py::test_read_many[{name}]" for name in ("hdf5-10", "lmdb-10", "png-10", "png-100")
)
FIRST, SECOND, THIRD, FOURTH = CELLS


class FakeSides:
    """Sides whose cells take a millisecond, with noise of one percent.

    `ratios` are how many times as long the candidate takes; `course` holds other ratios from the pair with that number
    on; `change` makes another pair of a pair and its number.
    """

    def __init__(
        self,
        ratios: Mapping[str, float],
        change: Callable[[Pair, int], Pair] = lambda pair, _: pair,
        course: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        self.ratios = {**dict.fromkeys(CELLS, 1.0), **ratios}
        self.asked: list[tuple[str, ...]] = []
        self.progress: list[str] = []
        self._change = change
        self._course = course or {}
        self._chance = np.random.default_rng(11)

    def measure(self, cells: Sequence[str]) -> Pair:
        """Draw a pair of sessions."""
        self.asked.append(tuple(cells))
        self.ratios |= self._course.get(len(self.asked), {})
        sides = [
            {cell: 1e-3 * ratio * math.exp(self._chance.normal(0, 0.01)) for cell, ratio in ratios.items()}
            for ratios in (dict.fromkeys(cells or CELLS, 1.0), {cell: self.ratios[cell] for cell in cells or CELLS})
        ]
        return self._change(Pair(*map(Session, sides)), len(self.asked))

    def run(self, budget: float = 600, thresholds: Thresholds | None = None) -> Outcome:
        """Run the gate."""
        return run_gate(self.measure, thresholds or Thresholds(), budget, self.progress.append)


def name_verdicts(outcome: Outcome) -> dict[str, str]:
    """Name the cells that aren't ok."""
    return {each.cell: each.verdict for each in outcome.decisions if each.verdict != "ok"}


def drop(session: Session, cell: str, reason: str | None = None) -> Session:
    """Leave a cell out of a session, with or without a reason."""
    seconds = {name: value for name, value in session.seconds.items() if name != cell}
    return replace(session, seconds=seconds, absent={} if reason is None else {cell: reason})


def step_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second pass whenever the clock is read."""
    clock = count(0.0, 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))


def test_identical_sides_have_no_regression() -> None:
    sides = FakeSides({})
    outcome = sides.run()
    assert [each.verdict for each in outcome.decisions] == ["ok"] * 4
    assert [each.cell for each in outcome.decisions] == list(CELLS)
    assert sides.asked == [()] * 5
    assert (outcome.screened, outcome.confirmed) == (5, 0)


def test_the_slower_cell_is_named_and_no_other() -> None:
    outcome = FakeSides({SECOND: 1.3}).run()
    assert name_verdicts(outcome) == {SECOND: "regression"}
    (verdict,) = outcome.select("regression")
    assert verdict.ratio == pytest.approx(1.3, rel=0.02)
    assert verdict.base_seconds == pytest.approx(1e-3, rel=0.02)
    assert verdict.value == pytest.approx(2.0**-12)
    assert verdict.pairs == 12
    assert verdict.threshold == 0.1


def test_the_faster_cell_is_an_improvement() -> None:
    outcome = FakeSides({THIRD: 1 / 1.3}).run()
    assert name_verdicts(outcome) == {THIRD: "improvement"}
    (verdict,) = outcome.select("improvement")
    assert verdict.ratio == pytest.approx(1 / 1.3, rel=0.02)
    assert verdict.base_seconds == pytest.approx(1e-3, rel=0.02)


def test_slower_and_faster_cells_do_not_hide_each_other() -> None:
    outcome = FakeSides({FIRST: 1.5, SECOND: 1.3, THIRD: 0.7, FOURTH: 0.5}).run()
    assert [each.cell for each in outcome.select("regression")] == [FIRST, SECOND]
    assert [each.cell for each in outcome.select("improvement")] == [FOURTH, THIRD]


def test_fresh_pairs_alone_decide() -> None:
    outcome = FakeSides({SECOND: 2.0}, course={6: {SECOND: 1.0}}).run()
    assert name_verdicts(outcome) == {}
    cleared = outcome.decisions[1]
    assert cleared.pairs == 12
    assert cleared.ratio == pytest.approx(1, abs=0.02)
    assert cleared.value is not None
    assert cleared.value > 0.5


def test_suspects_alone_are_measured_again() -> None:
    sides = FakeSides({SECOND: 1.3})
    sides.run()
    assert sides.asked == [()] * 5 + [(SECOND,)] * 12


def test_undecided_suspects_are_measured_until_the_last_analysis() -> None:
    sides = FakeSides({SECOND: 1.3, FOURTH: 1.3}, course={6: {FOURTH: 1.07}})
    outcome = sides.run()
    assert sides.asked[5:] == [(SECOND, FOURTH)] * 12 + [(FOURTH,)] * 48
    assert name_verdicts(outcome) == {SECOND: "regression", FOURTH: "inconclusive"}
    assert outcome.confirmed == 60
    assert outcome.decisions[3].pairs == 60
    assert outcome.decisions[3].ratio == pytest.approx(1.07, abs=0.01)


def test_a_suspect_may_be_decided_at_a_later_analysis() -> None:
    outcome = FakeSides({SECOND: 1.3}, course={6: {SECOND: 1.07}, 18: {SECOND: 1.5}}).run()
    assert outcome.confirmed == 24
    assert name_verdicts(outcome) == {SECOND: "regression"}


def test_without_time_for_a_fresh_pair_a_suspect_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    step_the_clock(monkeypatch)
    sides = FakeSides({SECOND: 1.3})
    outcome = sides.run(budget=0.5)
    assert sides.asked == [()] * 5
    (verdict,) = outcome.select("inconclusive")
    assert (verdict.cell, verdict.pairs, verdict.value) == (SECOND, 5, None)
    assert verdict.ratio == pytest.approx(1.3, rel=0.02)


def test_a_budget_that_ends_between_two_analyses_leaves_a_suspect_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    step_the_clock(monkeypatch)
    outcome = FakeSides({SECOND: 1.3}).run(budget=4.5)
    (verdict,) = outcome.select("inconclusive")
    assert (outcome.confirmed, verdict.pairs, verdict.value) == (4, 4, None)
    assert verdict.ratio == pytest.approx(1.3, rel=0.02)
    assert outcome.seconds == 6


def test_the_budget_does_not_cut_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    step_the_clock(monkeypatch)
    assert FakeSides({}).run(budget=0.001).screened == 5


@pytest.mark.parametrize(("side", "missing", "new"), [("candidate", (THIRD,), ()), ("baseline", (), (THIRD,))])
def test_a_cell_of_one_side_only_is_missing_or_new(side: str, missing: tuple[str], new: tuple[str]) -> None:
    outcome = FakeSides({}, lambda pair, _: pair._replace(**{side: drop(getattr(pair, side), THIRD)})).run()
    assert (outcome.missing, outcome.new, outcome.absent) == (missing, new, {})
    assert [each.cell for each in outcome.decisions] == [FIRST, SECOND, FOURTH]


@pytest.mark.parametrize("side", ["baseline", "candidate"])
@pytest.mark.parametrize("failing", [range(1, 99), [3]], ids=["always", "once"])
def test_a_cell_that_fails_on_one_side_is_absent_and_not_missing(side: SideName, failing: Sequence[int]) -> None:
    def fail(pair: Pair, number: int) -> Pair:
        dropped = drop(getattr(pair, side), SECOND, "OSError: disk")
        return pair._replace(**{side: dropped}) if number in failing else pair

    outcome = FakeSides({SECOND: 1.3}, fail).run()
    assert outcome.absent == {SECOND: Absence(side, "OSError: disk")}
    assert (outcome.missing, outcome.new) == ((), ())
    assert SECOND not in {each.cell for each in outcome.decisions}


def test_a_suspect_that_fails_in_the_middle_is_absent_and_the_others_go_on() -> None:
    def fail(pair: Pair, number: int) -> Pair:
        return pair._replace(baseline=drop(pair.baseline, SECOND, "OSError: disk")) if number == 9 else pair

    sides = FakeSides({SECOND: 1.3, THIRD: 1.4}, fail)
    outcome = sides.run()
    assert outcome.absent == {SECOND: Absence("baseline", "OSError: disk")}
    assert name_verdicts(outcome) == {THIRD: "regression"}
    assert SECOND not in {each.cell for each in outcome.decisions}
    assert sides.asked[5:] == [(SECOND, THIRD)] * 4 + [(THIRD,)] * 8


def test_sides_without_a_common_cell_have_missing_and_new_cells_only() -> None:
    outcome = FakeSides({}, lambda *_: Pair(Session({FIRST: 1.0}), Session({SECOND: 1.0}))).run()
    assert (outcome.decisions, outcome.missing, outcome.new) == ((), (FIRST,), (SECOND,))


def test_an_ok_cell_that_is_too_noisy_to_exclude_a_slowdown_is_marked() -> None:
    def disturb(pair: Pair, number: int) -> Pair:
        seconds = {**pair.candidate.seconds, SECOND: pair.baseline.seconds[SECOND] * (2.0 if number % 2 else 0.5)}
        return pair._replace(candidate=replace(pair.candidate, seconds=seconds))

    outcome = FakeSides({}, disturb).run(budget=1e-9)
    assert [each.cell for each in outcome.decisions if not each.excluded] == [SECOND]


def test_a_choice_that_matches_no_benchmark_is_wrong_input() -> None:
    with pytest.raises(WrongInputError, match=r"^no benchmark matches; --cells takes"):
        FakeSides({}, lambda *_: Pair(Session({}), Session({}))).run()


def test_if_all_cells_fail_each_is_named_with_its_reason() -> None:
    failed = Session({}, absent={FIRST: "OSError: disk", SECOND: "OSError: disk"})
    outcome = FakeSides({}, lambda pair, _: pair._replace(candidate=failed)).run()
    assert outcome.absent == dict.fromkeys([FIRST, SECOND], Absence("candidate", "OSError: disk"))
    assert FIRST not in {each.cell for each in outcome.decisions}


def test_a_cell_keeps_its_own_threshold() -> None:
    def mark(pair: Pair, _: int) -> Pair:
        return pair._replace(candidate=replace(pair.candidate, thresholds={SECOND: 0.5}))

    outcome = FakeSides({SECOND: 1.3, THIRD: 1.3}, mark).run()
    assert name_verdicts(outcome) == {THIRD: "regression"}
    assert [each.threshold for each in outcome.decisions] == [0.1, 0.5, 0.1, 0.1]


def test_the_threshold_of_the_run_is_that_of_the_other_cells() -> None:
    assert name_verdicts(FakeSides({SECOND: 1.3}).run(thresholds=Thresholds(threshold=0.5))) == {}


def test_twice_as_slow_is_no_regression_below_twenty_microseconds() -> None:
    def shorten(pair: Pair, _: int) -> Pair:
        return Pair(*(Session({cell: value / 100 for cell, value in side.seconds.items()}) for side in pair))

    assert name_verdicts(FakeSides({SECOND: 2.0}, shorten).run()) == {}


def test_libraries_that_differ_are_listed() -> None:
    def upgrade(pair: Pair, _: int) -> Pair:
        base = {"h5py": "3.15", "numpy": "2.0", "old": "1"}
        new = {"h5py": "3.16", "numpy": "2.0", "young": "2"}
        return Pair(replace(pair.baseline, libraries=base), replace(pair.candidate, libraries=new))

    outcome = FakeSides({}, upgrade).run()
    assert outcome.libraries == ("h5py 3.15 -> 3.16", "old 1 -> none", "young none -> 2")


def test_each_pair_is_announced() -> None:
    sides = FakeSides({SECOND: 1.3})
    sides.run()
    assert sides.progress[:5] == [f"screen: pair {number} of 5" for number in range(1, 6)]
    assert sides.progress[5:] == [f"confirm: pair {number} of 12, 1 cells left" for number in range(1, 13)]


def test_a_selection_begins_with_the_largest_change() -> None:
    outcome = FakeSides({FIRST: 1.2, SECOND: 1.5, THIRD: 1.3}).run()
    assert [each.cell for each in outcome.select("regression")] == [SECOND, THIRD, FIRST]
