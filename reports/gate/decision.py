"""The paired gate: pairs of blocks screen all cells, then fresh pairs alone judge the suspects.

The gate asks a function for pairs, and does not care where they come from: processes, or a recording.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from reports.errors import WrongInputError
from reports.gate.session import Block
from reports.gate.statistics import (
    LOOKS,
    SCREEN_PAIRS,
    Floats,
    estimate_shift,
    exclude_slowdown,
    find_suspects,
    judge_look,
)
from reports.noise import Thresholds


class Pair(NamedTuple):
    """Two blocks, seconds apart: one of each arm."""

    base: Block
    new: Block


Measure = Callable[[Sequence[str]], Pair]
"""Runs one pair of blocks of these cells, or of all that were chosen where none are named."""

Tell = Callable[[str], None]
"""Shows how far the gate is."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one cell.

    Attributes
    ----------
    cell : str
        Its id.
    verdict : str
        ``ok``, ``regression``, ``improvement`` or ``inconclusive``.
    ratio : float
        Estimated time of the new arm over that of the base.
    base_seconds : float
        Of a call in the base arm, the median of its blocks.
    pairs : int
        How many pairs say so. Those of the screen do not count for a suspect.
    value : float or None
        p-value of a suspect, against "no slower than noise", or "no faster".
    excluded : bool
        Whether the screen excludes a slowdown of one and a half thresholds. An ok cell may be too noisy for that.
    threshold : float
        The share from which a slowdown is a regression.
    """

    cell: str
    verdict: str
    ratio: float
    base_seconds: float
    pairs: int
    value: float | None
    excluded: bool
    threshold: float


@dataclass(frozen=True)
class Outcome:
    """What a run of the gate found.

    Attributes
    ----------
    verdicts : tuple of Verdict
        Of the cells that both arms measured, in their order.
    missing, new : tuple of str
        Cells that only the base has, or only the new arm.
    absent : dict of str to str
        Cells that could not be measured, and why.
    seconds : float
        How long it took.
    screened, confirmed : int
        Pairs of blocks that were run.
    libraries : tuple of str
        Those whose versions differ between the arms.
    """

    verdicts: tuple[Verdict, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]
    absent: dict[str, str]
    seconds: float
    screened: int
    confirmed: int
    libraries: tuple[str, ...]

    def select(self, verdict: str) -> tuple[Verdict, ...]:
        """Return the cells with this verdict, the largest change first."""
        chosen = [each for each in self.verdicts if each.verdict == verdict]
        return tuple(sorted(chosen, key=lambda each: -abs(math.log(each.ratio))))


@dataclass
class Suspect:
    """A cell of the second stage. `sign` is 1 where it may be slower, -1 where it may be faster."""

    cell: str
    sign: int
    rules: Thresholds
    pairs: list[tuple[float, float]] = field(default_factory=list)  # seconds: base, new
    value: float | None = None
    verdict: str = ""

    @property
    def differences(self) -> list[float]:
        """Logarithms of how many times as long the slower arm took, if it is the slower one."""
        return [self.sign * math.log(new / base) for base, new in self.pairs]

    @property
    def seconds(self) -> float:
        """Of a call in the arm that should be the faster one."""
        return float(np.median([pair[0 if self.sign > 0 else 1] for pair in self.pairs]))


def run_gate(measure: Measure, rules: Thresholds, budget: float, tell: Tell) -> Outcome:
    """Compare two arms.

    Parameters
    ----------
    measure : callable
        Runs a pair.
    rules : Thresholds
        Of all cells that have no threshold of their own.
    budget : float
        Seconds; the screen is finished in any case.
    tell : callable
        Called before each pair.

    Raises
    ------
    NotMeasurableError
        A block did not get as far as measuring.
    WrongInputError
        No benchmark was chosen.
    """
    start = time.monotonic()
    pairs = []
    for number in range(1, SCREEN_PAIRS + 1):
        tell(f"screen: pair {number} of {SCREEN_PAIRS}")
        pairs.append(measure(()))
    absent = _find_absent(pairs)
    cells = [cell for cell in pairs[0].base.seconds if cell not in absent and cell in pairs[0].new.seconds]
    if not any((*side.seconds, *side.absent) for side in pairs[0]):
        raise WrongInputError(
            "no benchmark has such a name; --cells takes what pytest's -k takes: 'read_many and lmdb'"
        )
    own = {cell: rules.widen(pairs[0].new.thresholds.get(cell)) for cell in cells}
    screen = {verdict.cell: verdict for verdict in _screen(pairs, cells, own)}
    suspects = _choose_suspects(pairs, cells, own)
    confirmed = _confirm(suspects, measure, start + budget, tell, absent)
    decided = {suspect.cell: _conclude(suspect, screen[suspect.cell]) for suspect in suspects}
    known = [{*side.seconds, *side.absent} for side in pairs[0]]
    return Outcome(
        verdicts=tuple(decided.get(cell, screen[cell]) for cell in cells if cell not in absent),
        missing=tuple(sorted(known[0] - known[1])),
        new=tuple(sorted(known[1] - known[0])),
        absent=absent,
        seconds=time.monotonic() - start,
        screened=len(pairs),
        confirmed=confirmed,
        libraries=_find_upgrades(pairs[0]),
    )


def _collect(pairs: Sequence[Pair], cells: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the differences, shape (pairs, cells), and the seconds of either arm, shape (2, cells)."""
    times = np.array([[[side.seconds[cell] for cell in cells] for side in pair] for pair in pairs])
    return np.log(times[:, 1] / times[:, 0]), np.median(times, axis=0)


def _screen(pairs: Sequence[Pair], cells: Sequence[str], own: dict[str, Thresholds]) -> Iterable[Verdict]:
    """Judge all cells as if none were suspect."""
    differences, seconds = _collect(pairs, cells)
    excluded = exclude_slowdown(differences, seconds[0], [own[cell] for cell in cells]).tolist()
    shifts = estimate_shift(differences)
    for cell, shift, base, fine in zip(cells, shifts, seconds[0], excluded, strict=True):
        yield Verdict(cell, "ok", math.exp(shift), float(base), len(pairs), None, fine, own[cell].threshold)


def _choose_suspects(pairs: Sequence[Pair], cells: Sequence[str], own: dict[str, Thresholds]) -> list[Suspect]:
    differences, seconds = _collect(pairs, cells)
    rules = [own[cell] for cell in cells]
    slower = find_suspects(differences, seconds[0], rules)
    large = estimate_shift(-differences) >= np.log1p([rule.threshold for rule in rules])
    faster = find_suspects(-differences, seconds[1], rules) & large  # one that is missed does no harm
    chosen = [(cell, sign) for sign, flags in ((1, slower), (-1, faster)) for cell in np.array(cells)[flags].tolist()]
    return [Suspect(cell, sign, own[cell]) for cell, sign in chosen]


def _confirm(suspects: list[Suspect], measure: Measure, end: float, tell: Tell, absent: dict[str, str]) -> int:
    """Run fresh pairs of the suspects until each is decided or the time is over; return how many."""
    done = 0
    for look in LOOKS:
        while undecided := [each for each in suspects if not each.verdict]:
            if done == look:
                break
            if time.monotonic() >= end:
                return done
            tell(f"confirm: pair {done + 1} of {look}, {len(undecided)} cells left")
            pair = measure([each.cell for each in undecided])
            done += 1
            absent |= _find_absent([pair])
            for each in undecided:
                if each.cell in absent:
                    each.verdict = "absent"
                else:
                    each.pairs.append((pair.base.seconds[each.cell], pair.new.seconds[each.cell]))
        for sign, name in ((1, "regression"), (-1, "improvement")):
            _judge([each for each in suspects if each.sign == sign], name)
    return done


def _judge(suspects: Sequence[Suspect], confirmed: str) -> None:
    """Decide what a look can decide; `suspects` are all that are tested together, decided or not."""
    undecided = [each for each in suspects if not each.verdict]
    if not undecided:
        return
    differences = np.transpose([each.differences for each in undecided])
    before = np.array([each.value for each in suspects if each.verdict and each.value is not None], float)
    look = judge_look(
        differences, np.array([each.seconds for each in undecided]), [each.rules for each in undecided], before
    )
    for place, each in enumerate(undecided):
        each.value = float(look.value[place])
        each.verdict = confirmed if look.confirmed[place] else "ok" if look.cleared[place] else ""


def _conclude(suspect: Suspect, screened: Verdict) -> Verdict:
    """Say what fresh pairs say; where there was no time for any, what the screen said stands as a doubt."""
    if not suspect.pairs:
        return replace(screened, verdict="inconclusive")
    shift = float(estimate_shift(np.array([suspect.differences]).T)[0])
    return replace(
        screened,
        verdict=suspect.verdict or "inconclusive",
        ratio=math.exp(suspect.sign * shift),
        base_seconds=float(np.median([base for base, _ in suspect.pairs])),
        pairs=len(suspect.pairs),
        value=suspect.value,
    )


def _find_absent(pairs: Iterable[Pair]) -> dict[str, str]:
    """Find the cells that a block could not measure, and say in which arm: in the new one, if in both."""
    return {
        cell: f"{arm} arm: {reason}"
        for arm, sides in zip(Pair._fields, zip(*pairs, strict=True), strict=True)
        for side in sides
        for cell, reason in side.absent.items()
    }


def _find_upgrades(pair: Pair) -> tuple[str, ...]:
    base, new = (side.libraries for side in pair)
    changed = [name for name in sorted({*base, *new}) if base.get(name) != new.get(name)]
    return tuple(f"{name} {base.get(name, 'none')} -> {new.get(name, 'none')}" for name in changed)
