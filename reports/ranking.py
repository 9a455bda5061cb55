"""Ranks the backends of one run: which are ahead of which, and which tie."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.noise import UNKNOWN_SCATTER
from reports.run import Result

SAME_SIZE = 0.01  # as a fraction; file systems round the size of a store


@dataclass(frozen=True)
class Rank:
    """The rank of one backend."""

    backend: str
    value: float
    ratio: float  # to the best value
    tier: int  # 0 is ahead, 1 comes next, and so on; within a tier backends tie, unless one is noisy
    noisy: bool = False  # too noisy to rank: its median is worse than the best of its tier by more than a tie allows


def select_largest(results: Iterable[Result]) -> dict[str, Result]:
    """Select, by backend, the results of a group at the largest number of images that two have, or at the largest."""
    found = {(result.store_images, result.backend): result for result in results}
    counts = Counter(count for count, _ in found)
    shared = [count for count, backends in counts.items() if backends > 1]
    largest = max(shared or counts, default=0)
    return {backend: result for (count, backend), result in found.items() if count == largest}


def rank_times(results: Iterable[Result]) -> tuple[Rank, ...]:
    """Rank results by their medians; a tier holds those that none of the rest beats by more than the noise."""
    ordered = sorted(results, key=lambda result: (result.median, result.backend))
    tiers: dict[str, int] = {}
    rest = ordered
    while rest:
        beaten = {result.backend for result in rest if any(is_slower(other, result) for other in rest)}
        tier = max(tiers.values(), default=-1) + 1
        tiers |= {result.backend: tier for result in rest if result.backend not in beaten}
        rest = [result for result in rest if result.backend in beaten]
    firsts: dict[int, Result] = {}
    ranks = []
    for result in ordered:
        tier = tiers[result.backend]
        first = firsts.setdefault(tier, result)
        noisy = result.median > first.median * _allow_scatter(first, result)
        ranks.append(Rank(result.backend, result.median, result.median / ordered[0].median, tier, noisy))
    return tuple(ranks)


def is_slower(best: Result, other: Result) -> bool:
    """Return whether `other` is slower than `best`, of the same run, by more than the noise.

    The quickest tenth of its rounds must be above the slowest tenth of the other's by more than cells scatter from
    process to process, which no single run shows: `UNKNOWN_SCATTER`, twice if either is unstable. In 19 runs of the
    same code on one machine, on which this was chosen, it ranked 76 % of 3,150 pairs of backends, none of them the
    other way around than in another run; in two runs of all numbers of images, warm and cold, none of 400.
    """
    return other.tenths[0] > best.tenths[1] * _allow_scatter(best, other)


def _allow_scatter(best: Result, other: Result) -> float:
    """Return the ratio of two times that may be chance although all rounds of each are alike."""
    return math.exp(UNKNOWN_SCATTER * (2 if best.unstable or other.unstable else 1))


def rank_sizes(sizes: Mapping[str, float]) -> tuple[Rank, ...]:
    """Rank sizes above 0, the smallest first; a tier ends where one is larger than its first by `SAME_SIZE`."""
    ranks: list[Rank] = []
    tier, first = -1, 0.0
    ordered = sorted((size, backend) for backend, size in sizes.items())
    for size, backend in ordered:
        if size > (1 + SAME_SIZE) * first:
            tier, first = tier + 1, size
        ranks.append(Rank(backend, size, size / ordered[0][0], tier))
    return tuple(ranks)


def find_pareto(sizes: Mapping[str, float], times: Sequence[Result]) -> frozenset[str]:
    """Find the backends that no other beats: smaller and not slower, or faster and not larger.

    `sizes` are bytes by backend, `times` one result a backend. A time differs if the noise doesn't explain it, a size
    from `SAME_SIZE` on.
    """
    known = [result for result in times if result.backend in sizes]

    def beats(one: Result, other: Result) -> bool:
        size, other_size = sizes[one.backend], sizes[other.backend]
        no_worse = not is_slower(other, one) and size <= (1 + SAME_SIZE) * other_size
        return no_worse and (is_slower(one, other) or other_size > (1 + SAME_SIZE) * size)

    return frozenset(other.backend for other in known if not any(beats(one, other) for one in known))
