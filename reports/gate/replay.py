"""Recorded blocks, played again: thousands of runs of the gate that nobody has to wait for."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from reports.errors import WrongInputError
from reports.gate.decision import Outcome, Pair, run_gate
from reports.gate.session import Block
from reports.gate.statistics import estimate_shift
from reports.noise import Thresholds
from reports.reading import RANGES

Seconds = Mapping[str, float]  # by cell


@dataclass(frozen=True)
class Recording:
    """Pairs of blocks of one condition, all of the same cells: seconds in the base arm and in the new one."""

    condition: str
    pairs: tuple[tuple[Seconds, Seconds], ...]

    @property
    def medians(self) -> dict[str, float]:
        """Seconds of each cell, the median of all blocks."""
        cells = self.pairs[0][0]
        return {cell: float(np.median([side[cell] for pair in self.pairs for side in pair])) for cell in cells}

    @property
    def bias(self) -> float:
        """How many times as long the new arm took, which is the same code: the mean over all cells."""
        logarithms = [[math.log(new[cell] / base[cell]) for cell in base] for base, new in self.pairs]
        return math.exp(float(np.mean(estimate_shift(np.array(logarithms)))))


class Replay:
    """Pairs out of a recording, drawn with replacement, the arms exchanged at random: they are the same code.

    Parameters
    ----------
    recording : Recording
        At least one pair.
    slowdown : dict of str to float
        Id of a cell to how many times as long it takes in the new arm.
    seed : int
        Of what is drawn.
    """

    def __init__(self, recording: Recording, slowdown: Seconds, seed: int) -> None:
        self._pairs = recording.pairs
        self._slowdown = slowdown
        self._random = Random(seed)  # noqa: S311 - no secret

    def measure(self, cells: Sequence[str]) -> Pair:
        """Draw one pair."""
        base, new = self._random.sample(self._random.choice(self._pairs), 2)
        chosen = cells or base.keys()
        return Pair(
            Block({cell: base[cell] for cell in chosen}),
            Block({cell: new[cell] * self._slowdown.get(cell, 1.0) for cell in chosen}),
        )


def replay_gate(recording: Recording, slowdown: Seconds, rules: Thresholds, seed: int) -> Outcome:
    """Run the gate on recorded pairs, without a budget."""
    return run_gate(Replay(recording, slowdown, seed).measure, rules, math.inf, lambda _: None)


def write_pair(path: Path, condition: str, pair: Pair) -> None:
    """Add what a pair of blocks measured to a file: one line of JSON."""
    line = {"condition": condition, "base": dict(pair.base.seconds), "new": dict(pair.new.seconds)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_recordings(path: Path) -> list[Recording]:
    """Read recorded pairs, one recording a condition; pairs of suspects alone are left out.

    Raises
    ------
    WrongInputError
        The file cannot be read, or is no recording.
    """
    found: dict[str, list[tuple[Seconds, Seconds]]] = {}
    for condition, base, new in _parse(path):
        found.setdefault(condition, []).append((base, new))
    if not found:
        raise WrongInputError(f"{path} is empty; name what --record wrote")
    recordings = []
    for condition, pairs in found.items():
        most = max((base for base, _ in pairs), key=len).keys()
        whole = tuple((base, new) for base, new in pairs if base.keys() == new.keys() == most)
        if not whole:
            raise WrongInputError(f"{path}: the arms have no pair of the same cells; record with one storage in both")
        recordings.append(Recording(condition, whole))
    return recordings


def _parse(path: Path) -> Iterator[tuple[str, Seconds, Seconds]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            fields = json.loads(line)
            yield str(fields["condition"]), _check_seconds(fields["base"]), _check_seconds(fields["new"])
    except OSError as problem:
        raise WrongInputError(f"{path} cannot be read ({problem.strerror}); name what --record wrote") from problem
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise WrongInputError(f"{path} is no recording; name what --record wrote") from problem


def _check_seconds(times: Mapping[str, object]) -> Seconds:
    least, most = RANGES[float]
    checked = {cell: each for cell, each in times.items() if isinstance(each, float) and least <= each <= most}
    if not times or len(checked) < len(times):
        raise ValueError
    return checked
