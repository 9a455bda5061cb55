"""How far a harness goes: a sample in the usual tests, more with ``-m slow``, everything with ``--faults=full``."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from storage.contract import Kind

Case = TypeVar("Case")

BUDGET = 120  # cases of a fault: the backends that are here share them, so that all take as long as one
ENDLESS = 1000  # cases of a fault that has endlessly many, where all are tried


@dataclass(frozen=True)
class Extent:
    """How many cases of a fault are tried."""

    sample: bool
    full: bool = False
    backends: int = 1
    kinds: int = 1  # of images, which share the cases of a backend
    tried: set[object] = field(default_factory=set, compare=False)  # names of cases that another kind had

    def choose(self, cases: Sequence[Case], sample: int, find_name: Callable[[Case], object] = type) -> list[Case]:
        """Choose cases that lie evenly apart, and one of each name that no other kind of images had."""
        count = self.count(sample)
        if len(cases) <= count or self.full:
            return list(cases)
        if count == 1:
            return [cases[len(cases) // 2]]
        chosen = {number * (len(cases) - 1) // (count - 1) for number in range(count)}
        if not self.sample:
            places = defaultdict(list)
            for place, case in enumerate(cases):
                places[find_name(case)].append(place)
            new = [same for name, same in places.items() if name not in self.tried]
            chosen |= {same[len(same) // 2] for same in new if chosen.isdisjoint(same)}
            self.tried.update(places)
        return [cases[place] for place in sorted(chosen)]

    def count(self, sample: int) -> int:
        """Return how many cases of endlessly many are tried."""
        if self.sample:
            return sample
        return ENDLESS if self.full else max(BUDGET // self.backends // self.kinds, 2)

    def divide(self, kinds: Sequence[Kind]) -> Iterator[tuple[Kind, "Extent"]]:
        """Divide the cases of a backend among the kinds of images that it stores; a sample is of one kind."""
        chosen = kinds[:1] if self.sample else kinds
        return ((kind, self if self.full else replace(self, kinds=len(chosen))) for kind in chosen)
