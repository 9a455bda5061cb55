"""Recorded blocks, played again: thousands of runs of the gate that nobody has to wait for."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from reports.blocks import Block
from reports.errors import WrongInputError
from reports.gate import Outcome, Pair, run_gate
from reports.statistics import Rules
from reports.wording import shorten_text

Seconds = Mapping[str, float]  # by cell


@dataclass(frozen=True)
class Recording:
    """Blocks of one condition, all of the same cells and without a slowdown, in the order they were run."""

    condition: str
    blocks: tuple[Seconds, ...]

    @property
    def medians(self) -> dict[str, float]:
        """Seconds of each cell, the median of all blocks."""
        return {cell: float(np.median([block[cell] for block in self.blocks])) for cell in self.blocks[0]}


class Replay:
    """Pairs out of recorded blocks: two neighbours, drawn with replacement, in either order.

    Parameters
    ----------
    recording : Recording
        At least two blocks.
    slowdown : dict of str to float
        Id of a cell to how many times as long it takes in the new arm.
    seed : int
        Of what is drawn.
    """

    def __init__(self, recording: Recording, slowdown: Seconds, seed: int) -> None:
        self._blocks = recording.blocks
        self._slowdown = slowdown
        self._random = Random(seed)  # noqa: S311 - no secret

    def measure(self, cells: Sequence[str]) -> Pair:
        """Draw one pair."""
        place = self._random.randrange(len(self._blocks) - 1)
        base, new = self._random.sample(self._blocks[place : place + 2], 2)
        chosen = cells or base.keys()
        return Pair(
            Block({cell: base[cell] for cell in chosen}),
            Block({cell: new[cell] * self._slowdown.get(cell, 1.0) for cell in chosen}),
        )


def replay_gate(recording: Recording, slowdown: Seconds, rules: Rules, seed: int) -> Outcome:
    """Run the gate on recorded blocks, without a budget."""
    return run_gate(Replay(recording, slowdown, seed).measure, rules, math.inf, lambda _: None)


def write_block(path: Path, condition: str, arm: str, block: Block) -> None:
    """Add what a block measured to a file: one line of JSON."""
    line = {"condition": condition, "arm": arm, "seconds": dict(block.seconds)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_recordings(path: Path) -> list[Recording]:
    """Read recorded blocks, one recording a condition; blocks of suspects alone are left out.

    Raises
    ------
    WrongInputError
        The file cannot be read, is no recording, or holds fewer than two blocks of some condition.
    """
    blocks: dict[str, list[Seconds]] = {}
    for condition, seconds in _parse(path):
        blocks.setdefault(condition, []).append(seconds)
    recordings = []
    for condition, found in blocks.items():
        most = max(found, key=len).keys()
        whole = tuple(block for block in found if block.keys() == most)
        if len(whole) < 2:  # noqa: PLR2004 - a pair
            raise WrongInputError(f"{path}: fewer than two blocks of all cells, {shorten_text(condition)}; record more")
        recordings.append(Recording(condition, whole))
    return recordings


def _check_seconds(value: object) -> float:
    if isinstance(value, float) and 0 < value < math.inf:
        return value
    raise ValueError


def _parse(path: Path) -> Iterator[tuple[str, Seconds]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            fields = json.loads(line)
            yield str(fields["condition"]), {cell: _check_seconds(each) for cell, each in fields["seconds"].items()}
    except OSError as problem:
        raise WrongInputError(f"{path} cannot be read ({problem.strerror}); name what --record wrote") from problem
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise WrongInputError(f"{path} is no recording; name what --record wrote") from problem
