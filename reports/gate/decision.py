"""The verdict on each cell: a few pairs of sessions screen all cells, then fresh pairs judge the suspects alone.

Pairs come from a function: the gate measures them, its calibration also draws them from a record.
"""

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, get_args

import numpy as np

from reports.errors import WrongInputError
from reports.gate.pairs import ANALYSES, FIRST_LOOK, NO_BACKEND, SCREEN_PAIRS, Pair, SideName
from reports.gate.statistics import (
    Usual,
    analyse_suspects,
    compute_greater,
    estimate_shift,
    exclude_slowdown,
    find_least,
    find_suspects,
    measure_usual,
    reject_all,
)
from reports.gate.syncs import SyncChange
from reports.noise import Thresholds, Verdict

MeasurePairs = Callable[[Sequence[str], int], Sequence[Pair]]  # one or more, at most so many, of these cells or of all
ReportProgress = Callable[[str], None]


@dataclass(frozen=True)
class Decision:
    """The verdict on one cell."""

    cell: str
    verdict: Verdict
    ratio: float  # estimated time of the candidate / time of the baseline
    base_seconds: float  # of a call in the baseline, the median of its sessions
    pairs: int  # that decided: those of the screen don't count for a suspect
    value: float | None  # p-value of a suspect, against "no slower than noise", or "no faster"
    excluded: bool  # whether these pairs exclude a slowdown of twice the threshold, without which no cell is ok
    threshold: float

    @property
    def slower(self) -> bool:
        """Whether it looks slower."""
        return self.ratio > 1 + self.threshold / 2


class Absence(NamedTuple):
    """Why a cell wasn't measured, and on which side; on the candidate, if on both."""

    side: SideName
    reason: str


@dataclass(frozen=True)
class Outcome:
    """The findings of the gate: a decision for each cell of both sides, cells of one side only, and the cost."""

    decisions: tuple[Decision, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]
    absent: Mapping[str, Absence]
    seconds: float
    screened: int  # pairs
    confirmed: int  # pairs
    libraries: tuple[str, ...]  # whose versions differ
    controls: tuple[str, ...] = ()  # cells that the change can't affect
    disturbed: tuple[str, ...] = ()  # controls that differ nevertheless, so that no other cell can be judged
    syncs: tuple[SyncChange, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)  # backends that neither side can measure, and why
    broken: Mapping[str, str] = field(default_factory=dict)  # missing cells whose backend can't be imported, and why

    def select(self, verdict: Verdict) -> tuple[Decision, ...]:
        """Return the cells with this verdict, the largest change first."""
        chosen = [each for each in self.decisions if each.verdict == verdict]
        return tuple(sorted(chosen, key=lambda each: -abs(math.log(each.ratio))))

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many cells have which verdict."""
        counts: Counter[Verdict] = Counter(each.verdict for each in self.decisions)
        counts["missing"], counts["not measured"], counts["new"] = map(len, (self.missing, self.absent, self.new))
        return counts


NO_CELL = (
    "no benchmark of an affected backend matches, or none of these backends is installed; --cells takes what pytest's "
    "-k takes, such as 'read_many and lmdb'"
)
NOTHING = Outcome((), (), (), {}, 0.0, 0, 0, ())  # of a change that affects no cell
_VERDICTS: Mapping[int, Verdict] = {1: "regression", -1: "improvement"}
_CHANGES = frozenset(_VERDICTS.values())
PATIENCE = ANALYSES[0]  # fresh pairs of a suspect that doesn't look slower any more but is too noisy to be ok


@dataclass(eq=False)
class _Suspect:
    """A cell of the second stage. `sign` is 1 if it may be slower, -1 if it may be faster.

    `differences_before` and `usual` are of the screen; `is_noisy` says that it didn't look different there, but was too
    noisy to be ok.
    """

    screened: Decision
    sign: int
    thresholds: Thresholds
    usual: Usual
    differences_before: Sequence[float]
    is_noisy: bool
    pairs: list[tuple[float, float]] = field(default_factory=list)  # seconds: baseline, candidate
    value: float | None = None
    verdict: Verdict | None = None

    @property
    def cell(self) -> str:
        """Its id."""
        return self.screened.cell

    @property
    def differences(self) -> list[float]:
        """Logarithms of the slowdown that is suspected, of the baseline if `sign` is -1."""
        return [self.sign * math.log(new / base) for base, new in self.pairs]

    @property
    def seconds(self) -> float:
        """Of a call on the side that should be the faster one."""
        return float(np.median([pair[0 if self.sign > 0 else 1] for pair in self.pairs]))

    def excludes_slowdown(self) -> bool:
        """Whether its pairs exclude a slowdown of twice the threshold; if they are few, the screen's count, too.

        Those made it a suspect, or too noisy, so they only speak against that.
        """
        before = self.differences_before if len(self.pairs) <= FIRST_LOOK else ()
        differences = np.array([[*before, *(self.sign * each for each in self.differences)]]).T
        base = np.median(np.array(self.pairs)[:, :1], axis=0)
        never_ok = find_least([self.thresholds.never_ok], base, [self.thresholds])
        return bool(exclude_slowdown(differences, self.usual, never_ok)[0])


def run_gate(
    measure_pairs: MeasurePairs,
    thresholds: Thresholds,
    budget: float,
    report_progress: ReportProgress,
    controls: Collection[str] = (),
) -> Outcome:
    """Compare two sides; after `budget` seconds no more suspects are measured, but the screen is always finished.

    `controls` are cells that can't differ. They are in every pair; if they do differ, no change is confirmed.
    """
    start = time.monotonic()
    watched = _Controls(controls, measure_pairs)
    pairs: list[Pair] = []
    while len(pairs) < SCREEN_PAIRS:
        report_progress(f"screen: pair {len(pairs) + 1} of {SCREEN_PAIRS}")
        pairs += watched.measure((), SCREEN_PAIRS - len(pairs))
    known = [{*side.seconds, *side.absent} for side in pairs[0]]
    if not any(known):
        raise WrongInputError(NO_CELL)
    absent = _find_absent(pairs)
    cells = [cell for cell in pairs[0].baseline.seconds if cell not in absent and cell in pairs[0].candidate.seconds]
    own = [thresholds.widen(pairs[0].candidate.thresholds.get(cell)) for cell in cells]
    screened, suspects = _screen(pairs, cells, own)
    confirmed = _confirm(suspects, watched.measure, start + budget, report_progress, absent)
    disturbed = watched.find_disturbed(thresholds) if any(each.verdict in _CHANGES for each in suspects) else ()
    concluded = (_conclude(suspect, trusted=not disturbed) for suspect in suspects)
    decisions = {each.cell: each for each in (*screened, *concluded)}
    return Outcome(
        decisions=tuple(decisions[cell] for cell in cells if cell not in absent),
        missing=tuple(sorted(known[0] - known[1])),
        new=tuple(sorted(known[1] - known[0])),
        absent=absent,
        seconds=time.monotonic() - start,
        screened=len(pairs),
        confirmed=confirmed,
        libraries=_find_upgrades(pairs[0]),
        controls=watched.list_cells(),
        disturbed=disturbed,
        unavailable=_find_unavailable(pairs[0]),
        broken=_find_broken(pairs[0]),
    )


class _Controls:
    """Cells that can't differ: they are measured in each pair, and what they show is kept here."""

    def __init__(self, cells: Collection[str], measure_pairs: MeasurePairs) -> None:
        self._cells = cells
        self._measure_pairs = measure_pairs
        self._pairs: list[Pair] = []

    def measure(self, cells: Sequence[str], most: int) -> list[Pair]:
        """Measure pairs of these cells, or all, and of the controls; return them without the controls."""
        pairs = self._measure_pairs([*cells, *self.list_cells()] if cells else (), most)
        self._pairs += [Pair(*(side.choose(lambda cell: cell in self._cells) for side in pair)) for pair in pairs]
        return [Pair(*(side.choose(lambda cell: cell not in self._cells) for side in pair)) for pair in pairs]

    def list_cells(self) -> tuple[str, ...]:
        """List those that were measured on both sides, whenever they were measured."""
        return tuple(cell for cell in self._cells if self._list_differences(cell) and not self._is_broken(cell))

    def _list_differences(self, cell: str) -> list[float]:
        pairs = [(pair.baseline.seconds.get(cell), pair.candidate.seconds.get(cell)) for pair in self._pairs]
        return [math.log(new / base) for base, new in pairs if base and new]

    def _is_broken(self, cell: str) -> bool:
        return any((cell in pair.baseline.seconds) != (cell in pair.candidate.seconds) for pair in self._pairs)

    def find_disturbed(self, thresholds: Thresholds) -> tuple[str, ...]:
        """Find those that differ by more than noise, in either direction."""
        cells, noise = self.list_cells(), math.log1p(thresholds.noise)
        columns = [np.array([self._list_differences(cell)]).T for cell in cells]
        values = [2 * min(compute_greater(sign * each, noise)[0] for sign in (1, -1)) for each in columns]
        return tuple(itertools.compress(cells, reject_all(np.array(values), thresholds.alpha)))


def _screen(
    pairs: Sequence[Pair], cells: Sequence[str], own: list[Thresholds]
) -> tuple[list[Decision], list[_Suspect]]:
    """Call cells ok if they exclude a large slowdown, and list the suspects, and those that a few pairs may decide."""
    times = np.array([[[side.seconds[cell] for cell in cells] for side in pair] for pair in pairs])
    differences, (base, new) = np.log(times[:, 1] / times[:, 0]), np.median(times, axis=0)
    shifts, usual = estimate_shift(differences), measure_usual(differences)
    large = -shifts >= np.log1p([each.threshold for each in own])
    faster = find_suspects(-differences, new, own, usual) & large  # missing an improvement does no harm
    never_ok = find_least([each.never_ok for each in own], base, own)
    excluded = exclude_slowdown(differences, usual, never_ok)
    slower = find_suspects(differences, base, own, usual)
    hopeful = exclude_slowdown(differences, usual, never_ok, pairs=len(pairs) + FIRST_LOOK)
    hopeful &= ~(excluded | faster | slower)
    verdicts: list[Verdict] = ["ok" if each else "inconclusive" for each in excluded]
    decisions = [
        Decision(cell, verdict, math.exp(shift), float(seconds), len(pairs), None, verdict == "ok", each.threshold)
        for cell, verdict, shift, seconds, each in zip(cells, verdicts, shifts, base, own, strict=True)
    ]
    suspects = [
        _Suspect(decisions[place], sign, own[place], usual, differences[:, place].tolist(), is_noisy)
        for sign, flags, is_noisy in ((1, slower, False), (1, hopeful, True), (-1, faster, False))
        for place in np.flatnonzero(flags).tolist()
    ]
    return decisions, suspects


def _confirm(
    suspects: list[_Suspect],
    measure_pairs: MeasurePairs,
    end: float,
    report_progress: ReportProgress,
    absent: dict[str, Absence],
) -> int:
    """Run fresh pairs of the suspects until each is decided or the time is over; return how many."""
    done = 0
    undecided = suspects
    for analysis in (FIRST_LOOK, *ANALYSES):
        while undecided and done < analysis:
            if time.monotonic() >= end:
                return done
            report_progress(f"confirm: pair {done + 1} of {analysis}, {len(undecided)} cells left")
            pairs = measure_pairs([each.cell for each in undecided], analysis - done)
            done += len(pairs)
            absent |= _find_absent(pairs)
            undecided = [each for each in undecided if each.cell not in absent]
            for each in undecided:
                each.pairs += [(pair.baseline.seconds[each.cell], pair.candidate.seconds[each.cell]) for pair in pairs]
        for sign, verdict in _VERDICTS.items():
            confirmed = verdict if analysis in ANALYSES else None
            _judge([each for each in suspects if each.sign == sign], undecided, confirmed)
        undecided = [each for each in undecided if each.verdict is None]
    return done


def _judge(suspects: Sequence[_Suspect], undecided: Sequence[_Suspect], confirmed: Verdict | None) -> None:
    """Give the undecided ones of `suspects` a verdict if there is evidence enough; all `suspects` count as tests."""
    judged = [each for each in suspects if each in undecided]
    if not judged:
        return
    analysis = analyse_suspects(
        np.transpose([each.differences for each in judged]),
        np.array([each.seconds for each in judged]),
        [each.thresholds for each in judged],
        decided=np.array([each.value for each in suspects if each not in judged and each.value is not None], float),
    )
    for place, each in enumerate(judged):
        each.value = float(analysis.value[place])
        if analysis.confirmed[place]:
            each.verdict = confirmed
        elif analysis.cleared[place] and each.excludes_slowdown():
            each.verdict = "ok"
        elif analysis.cleared[place] and (each.is_noisy or len(each.pairs) >= PATIENCE):
            each.verdict = "inconclusive"


def _conclude(suspect: _Suspect, *, trusted: bool) -> Decision:
    """Decide from the fresh pairs; without any, or if they can't be trusted, the verdict is inconclusive."""
    if not suspect.pairs:
        return replace(suspect.screened, verdict="inconclusive")
    shift = float(estimate_shift(np.array([suspect.differences]).T)[0])
    verdict = suspect.verdict if trusted or suspect.verdict not in _CHANGES else None
    return replace(
        suspect.screened,
        verdict=verdict or "inconclusive",
        ratio=math.exp(suspect.sign * shift),
        base_seconds=float(np.median([base for base, _ in suspect.pairs])),
        pairs=len(suspect.pairs),
        value=suspect.value,
        excluded=suspect.excludes_slowdown(),
    )


def _find_absent(pairs: Iterable[Pair]) -> dict[str, Absence]:
    return {
        cell: Absence(name, reason)
        for name, sessions in zip(get_args(SideName), zip(*pairs, strict=True), strict=True)
        for session in sessions
        for cell, reason in session.absent.items()
    }


def _find_unavailable(pair: Pair) -> dict[str, str]:
    base, new = (side.unavailable for side in pair)
    return {name: reason for name, reason in new.items() if name in base}


def _find_broken(pair: Pair) -> dict[str, str]:
    """Find the cells of backends that the candidate has but can't import; one that was removed isn't broken."""
    reasons = {name: reason for name, reason in pair.candidate.unavailable.items() if reason != NO_BACKEND}
    return {cell: reasons[name] for cell, name in sorted(pair.baseline.backends.items()) if name in reasons}


def _find_upgrades(pair: Pair) -> tuple[str, ...]:
    base, new = (side.libraries for side in pair)
    changed = [name for name in sorted({*base, *new}) if base and new and base.get(name) != new.get(name)]
    return tuple(f"{name} {base.get(name, 'none')} -> {new.get(name, 'none')}" for name in changed)
