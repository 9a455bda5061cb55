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
from reports.gate.pairs import FIRST_LOOK, NO_BACKEND, SCREEN_PAIRS, Pair, Session, SideName
from reports.noise import Thresholds, Verdict

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")

CELLS = FIRST, SECOND, THIRD, FOURTH = tuple(f"benchmarks/test_many.py::test_{name}_many[png-10]" for name in "abcd")
FRESH = SCREEN_PAIRS + 1  # the first pair after the screen
Ratios = Mapping[str, float]


class FakeSides:
    """Cells of a millisecond; `course` holds the ratios of the candidate from a pair on, `change` alters each pair."""

    def __init__(
        self,
        ratios: Mapping[str, float],
        change: Callable[[Pair, int], Pair] = lambda pair, _: pair,
        course: Mapping[int, Mapping[str, float]] | None = None,
        at_once: int = 1,
    ) -> None:
        self.at_once = at_once
        self.ratios = {**dict.fromkeys(CELLS, 1.0), **ratios}
        self.asked: list[tuple[str, ...]] = []
        self.progress: list[str] = []
        self._change = change
        self._course = course or {}
        self._chance = np.random.default_rng(11)

    def measure(self, cells: Sequence[str], most: int) -> list[Pair]:
        """Draw pairs of sessions, as many as can be measured at once."""
        return [self._draw(cells) for _ in range(min(most, self.at_once))]

    def _draw(self, cells: Sequence[str]) -> Pair:
        self.asked.append(tuple(cells))
        self.ratios |= self._course.get(len(self.asked), {})
        sides = [
            {
                cell: 1e-3 * ratios[cell] * math.exp(self._chance.normal(0, 0.01))
                for cell in cells or CELLS
                if cell in ratios
            }
            for ratios in (dict.fromkeys(CELLS, 1.0), self.ratios)
        ]
        return self._change(Pair(*map(Session, sides)), len(self.asked))

    def run(self, budget: float = 600, thresholds: Thresholds | None = None, controls: Sequence[str] = ()) -> Outcome:
        """Run the gate."""
        return run_gate(self.measure, thresholds or Thresholds(), budget, self.progress.append, controls)


def name_verdicts(outcome: Outcome) -> dict[str, str]:
    """Name the cells that aren't ok."""
    return {each.cell: each.verdict for each in outcome.decisions if each.verdict != "ok"}


def drop(session: Session, cell: str, reason: str | None = None) -> Session:
    """Leave a cell out of a session, with or without a reason."""
    seconds = {name: value for name, value in session.seconds.items() if name != cell}
    return replace(session, seconds=seconds, absent={} if reason is None else {cell: reason})


@pytest.mark.parametrize(
    ("ratios", "course", "verdicts", "confirmed"),
    [
        ({}, {}, {}, 0),
        ({SECOND: 1.3}, {}, {SECOND: "regression"}, 12),
        ({THIRD: 0.7}, {}, {THIRD: "improvement"}, 12),
        ({FIRST: 1.5, FOURTH: 0.5}, {}, {FIRST: "regression", FOURTH: "improvement"}, 12),
        ({SECOND: 2.0}, {FRESH: {SECOND: 1.0}}, {}, 12),
        ({SECOND: 1.3}, {FRESH: {SECOND: 1.07}, FRESH + 12: {SECOND: 1.5}}, {SECOND: "regression"}, 24),
        ({SECOND: 1.3}, {FRESH: {SECOND: 1.07}}, {SECOND: "inconclusive"}, 60),
    ],
    ids=[
        "identical",
        "slower",
        "faster",
        "both",
        "slower in the screen only",
        "later analysis",
        "never decided",
    ],
)
def test_fresh_pairs_decide_about_the_suspects_of_the_screen(
    ratios: Ratios, course: Mapping[int, Ratios], verdicts: Mapping[str, Verdict], confirmed: int
) -> None:
    outcome = FakeSides(ratios, course=course).run()
    assert [each.cell for each in outcome.decisions] == list(CELLS)
    assert name_verdicts(outcome) == verdicts
    assert (outcome.screened, outcome.confirmed) == (SCREEN_PAIRS, confirmed)


@pytest.mark.parametrize("at_once", [2, 4, 100])
def test_pairs_that_are_measured_at_once_are_as_many_as_are_needed(at_once: int) -> None:
    sides = FakeSides({SECOND: 1.3, FOURTH: 1.3}, course={FRESH: {FOURTH: 1.07}}, at_once=at_once)
    outcome = sides.run()
    assert sides.asked == [()] * SCREEN_PAIRS + [(SECOND, FOURTH)] * 12 + [(FOURTH,)] * 48
    assert (outcome.screened, outcome.confirmed) == (SCREEN_PAIRS, 60)
    second = f"screen: pair {at_once + 1} of" if at_once < SCREEN_PAIRS else "confirm: pair 1 of"
    assert sides.progress[1].startswith(second)


@pytest.mark.parametrize("ratio", [1.3, 0.7])
def test_a_decision_rests_on_the_fresh_pairs(ratio: float) -> None:
    decided = FakeSides({SECOND: 2 * ratio - 1}, course={FRESH: {SECOND: ratio}}).run().decisions[1]
    assert decided.ratio == pytest.approx(ratio, rel=0.02)
    assert decided.base_seconds == pytest.approx(1e-3, rel=0.02)
    assert decided.value == pytest.approx(2.0**-12)
    assert (decided.pairs, decided.threshold) == (12, 0.1)


def test_only_undecided_suspects_are_measured_again_and_each_pair_is_announced() -> None:
    sides = FakeSides({SECOND: 1.3, FOURTH: 1.3}, course={FRESH: {FOURTH: 1.07}})
    sides.run()
    assert sides.asked == [()] * SCREEN_PAIRS + [(SECOND, FOURTH)] * 12 + [(FOURTH,)] * 48
    screened, confirmed = sides.progress[:SCREEN_PAIRS], sides.progress[SCREEN_PAIRS:]
    assert screened == [f"screen: pair {number} of {SCREEN_PAIRS}" for number in range(1, FRESH)]
    looks = [FIRST_LOOK] * FIRST_LOOK + [12] * (12 - FIRST_LOOK)
    assert confirmed[:12] == [f"confirm: pair {number} of {look}, 2 cells left" for number, look in enumerate(looks, 1)]
    assert confirmed[12] == "confirm: pair 13 of 24, 1 cells left"


@pytest.mark.parametrize(
    ("budget", "confirmed", "pairs", "value"), [(0.001, 0, SCREEN_PAIRS, None), (4.5, 4, 4, 0.0625)]
)
def test_a_budget_ends_fresh_pairs_but_not_the_screen(
    budget: float, confirmed: int, pairs: int, value: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(0.0, 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    outcome = FakeSides({SECOND: 1.3}).run(budget)
    assert (outcome.screened, outcome.confirmed) == (SCREEN_PAIRS, confirmed)
    (suspect,) = outcome.select("inconclusive")
    assert (suspect.cell, suspect.pairs, suspect.value) == (SECOND, pairs, value)
    assert suspect.ratio == pytest.approx(1.3, rel=0.02)


@pytest.mark.parametrize(("side", "missing", "new"), [("candidate", (THIRD,), ()), ("baseline", (), (THIRD,))])
def test_a_cell_of_one_side_only_is_missing_or_new(side: str, missing: tuple[str], new: tuple[str]) -> None:
    outcome = FakeSides({}, lambda pair, _: pair._replace(**{side: drop(getattr(pair, side), THIRD)})).run()
    assert (outcome.missing, outcome.new, outcome.absent) == (missing, new, {})
    assert [each.cell for each in outcome.decisions] == [FIRST, SECOND, FOURTH]


@pytest.mark.parametrize(("reason", "broken"), [("NameError: x", {THIRD: "NameError: x"}), (NO_BACKEND, {})])
def test_a_missing_cell_is_broken_unless_its_backend_was_removed(reason: str, broken: Mapping[str, str]) -> None:
    def lose(pair: Pair, _: int) -> Pair:
        base = replace(pair.baseline, backends={FIRST: "a", THIRD: "c"})
        lacking = {"c": reason, "never measured": "tape is not installed"}
        return Pair(base, replace(drop(pair.candidate, THIRD), unavailable=lacking))

    outcome = FakeSides({}, lose).run()
    assert (outcome.missing, outcome.broken) == ((THIRD,), broken)


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
        return pair._replace(baseline=drop(pair.baseline, SECOND, "OSError: disk")) if number == FRESH + 3 else pair

    sides = FakeSides({SECOND: 1.3, THIRD: 1.4}, fail)
    outcome = sides.run()
    assert outcome.absent == {SECOND: Absence("baseline", "OSError: disk")}
    assert name_verdicts(outcome) == {THIRD: "regression"}
    assert sides.asked[SCREEN_PAIRS:] == [(SECOND, THIRD)] * 4 + [(THIRD,)] * 8


def test_sides_without_a_common_cell_have_no_verdicts() -> None:
    outcome = FakeSides({}, lambda *_: Pair(Session({FIRST: 1.0}), Session({SECOND: 1.0}))).run()
    assert (outcome.decisions, outcome.missing, outcome.new) == ((), (FIRST,), (SECOND,))
    failed = Session({}, absent={FIRST: "OSError: disk", SECOND: "OSError: disk"})
    outcome = FakeSides({}, lambda pair, _: pair._replace(candidate=failed)).run()
    assert outcome.absent == dict.fromkeys([FIRST, SECOND], Absence("candidate", "OSError: disk"))
    assert not {FIRST, SECOND} & {each.cell for each in outcome.decisions}


def scatter(screened: float, later: float) -> Callable[[Pair, int], Pair]:
    """Make a cell differ by these factors, in turns in either direction: in the screen, and in later pairs."""

    def disturb(pair: Pair, number: int) -> Pair:
        factor = screened if number <= SCREEN_PAIRS else later
        other = 1 / factor if number % 2 else factor
        seconds = {**pair.candidate.seconds, SECOND: pair.baseline.seconds[SECOND] * other}
        return pair._replace(candidate=replace(pair.candidate, seconds=seconds))

    return disturb


@pytest.mark.parametrize(
    ("factors", "verdicts", "confirmed"),
    [
        ((1.04, 1.04), {}, 0),
        ((1.1, 1.04), {}, FIRST_LOOK),
        ((1.1, 1.1), {}, FIRST_LOOK),
        ((1.1, 1.3), {SECOND: "inconclusive"}, FIRST_LOOK),
        ((2.0, 1.0), {SECOND: "inconclusive"}, 0),
    ],
    ids=["quiet", "noisy in the screen", "noisy", "too noisy", "hopeless"],
)
def test_a_cell_is_ok_only_if_its_pairs_exclude_a_large_slowdown(
    factors: tuple[float, float], verdicts: Mapping[str, Verdict], confirmed: int
) -> None:
    outcome = FakeSides({}, scatter(*factors)).run()
    assert name_verdicts(outcome) == verdicts
    assert outcome.confirmed == confirmed
    assert [each.cell for each in outcome.decisions if not each.excluded] == list(verdicts)


def test_an_improvement_that_fresh_pairs_do_not_show_is_ok_only_if_they_exclude_a_slowdown() -> None:
    faster = {SECOND: 0.7}
    assert name_verdicts(FakeSides(faster, course={FRESH: {SECOND: 1.0}}).run()) == {}
    assert name_verdicts(FakeSides(faster, course={FRESH: {SECOND: 1.2}}).run()) == {SECOND: "inconclusive"}


def test_a_choice_that_matches_no_benchmark_is_wrong_input() -> None:
    with pytest.raises(WrongInputError, match=r"^no benchmark of an affected backend matches, or none"):
        FakeSides({}, lambda *_: Pair(Session({}), Session({}))).run()


def test_a_cell_keeps_its_own_threshold() -> None:
    def mark(pair: Pair, _: int) -> Pair:
        return pair._replace(candidate=replace(pair.candidate, thresholds={SECOND: 0.5}))

    outcome = FakeSides({SECOND: 1.3, THIRD: 1.3}, mark).run()
    assert name_verdicts(outcome) == {THIRD: "regression"}
    assert [each.threshold for each in outcome.decisions] == [0.1, 0.5, 0.1, 0.1]
    assert name_verdicts(FakeSides({SECOND: 1.3}).run(thresholds=Thresholds(threshold=0.5))) == {}, "that of the run"


def test_controls_are_in_every_pair_and_get_no_verdict() -> None:
    sides = FakeSides({SECOND: 1.3})
    outcome = sides.run(controls=(FOURTH, "not measured"))
    assert sides.asked == [()] * SCREEN_PAIRS + [(SECOND, FOURTH)] * 12
    assert [each.cell for each in outcome.decisions] == [FIRST, SECOND, THIRD]
    assert (outcome.controls, outcome.disturbed, outcome.missing) == ((FOURTH,), (), ())
    assert name_verdicts(outcome) == {SECOND: "regression"}


@pytest.mark.parametrize("ratio", [1.08, 0.92])
def test_no_change_is_confirmed_if_controls_differ(ratio: float) -> None:
    outcome = FakeSides({FIRST: 0.7, SECOND: 1.3, FOURTH: ratio}).run(controls=(THIRD, FOURTH))
    assert outcome.disturbed == (FOURTH,)
    assert name_verdicts(outcome) == {FIRST: "inconclusive", SECOND: "inconclusive"}


def test_controls_do_not_matter_if_nothing_is_slower_or_none_was_measured() -> None:
    assert FakeSides({FOURTH: 2.0}).run(controls=(FOURTH,)).disturbed == ()
    outcome = FakeSides({SECOND: 1.3}).run(controls=("not measured",))
    assert (outcome.controls, name_verdicts(outcome)) == ((), {SECOND: "regression"})


def test_a_cell_of_one_side_only_is_no_control() -> None:
    change = FakeSides({}, lambda pair, _: pair._replace(baseline=drop(pair.baseline, FOURTH))).run(controls=(FOURTH,))
    assert (change.controls, change.missing, change.new) == ((), (), ())


def test_libraries_that_differ_are_listed() -> None:
    def upgrade(pair: Pair, _: int) -> Pair:
        base = {"h5py": "3.15", "numpy": "2.0", "old": "1"}
        new = {"h5py": "3.16", "numpy": "2.0", "young": "2"}
        return Pair(replace(pair.baseline, libraries=base), replace(pair.candidate, libraries=new))

    outcome = FakeSides({}, upgrade).run()
    assert outcome.libraries == ("h5py 3.15 -> 3.16", "old 1 -> none", "young none -> 2")
