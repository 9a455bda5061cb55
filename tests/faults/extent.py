"""How far a harness goes: a sample in the usual tests, all of it with ``-m slow``, more with ``--faults=full``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Case = TypeVar("Case")


@dataclass(frozen=True)
class Extent:
    """How many cases are tried.

    Attributes
    ----------
    sample : bool
        Few.
    full : bool
        More than usual.
    """

    sample: bool
    full: bool = False

    def choose(self, cases: Sequence[Case], sample: int) -> list[Case]:
        """Choose all cases, or `sample` of them that lie evenly apart."""
        if not self.sample or len(cases) <= sample:
            return list(cases)
        return [cases[(2 * number + 1) * len(cases) // (2 * sample)] for number in range(sample)]

    def count(self, sample: int, usual: int, full: int) -> int:
        """Return how many cases of endlessly many are tried."""
        if self.sample:
            return sample
        return full if self.full else usual
