"""One score a backend: how it does on average, by weights that a reader may move."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.ranking import select_largest
from reports.results import Run
from reports.table import group_results

WEIGHTS = {"write": 10, "size": 10, "cold": 20, "warm": 60}
SAME_SCORE = 1.1
"""Scores that are closer share a rank: the suite calls nothing below 10 % a difference."""

_READS = ("read_many", "read_epoch", "read_single")


@dataclass(frozen=True)
class Score:
    """A backend's ratios to the best, by aspect, and the geometric mean of them by `WEIGHTS`.

    An aspect in which the backend was not measured is absent; the mean is then None.
    """

    backend: str
    ratios: Mapping[str, float]
    mean: float | None


def score_backends(run: Run) -> tuple[Score, ...]:
    """Score the backends of a run, the best first; aspects that the run did not measure have no weight."""
    aspects = _measure_aspects(run)
    scores = []
    for backend in sorted({backend for ratios in aspects.values() for backend in ratios}):
        ratios = {name: ratios[backend] for name, ratios in aspects.items() if backend in ratios}
        mean = average_ratios([(ratio, WEIGHTS[name]) for name, ratio in ratios.items()])
        scores.append(Score(backend, ratios, mean if ratios.keys() == aspects.keys() else None))
    return tuple(sorted(scores, key=lambda score: (score.mean is None, score.mean or 0)))


def rank_score(score: Score, scores: Iterable[Score]) -> int | None:
    """Tell how many backends are ahead by more than a shared rank allows, plus one; None without a score."""
    if score.mean is None:
        return None
    return 1 + sum(other.mean is not None and SAME_SCORE * other.mean < score.mean for other in scores)


def average_ratios(weighted: Sequence[tuple[float, float]]) -> float:
    """Average ratios geometrically, each with its weight."""
    total = sum(weight for _, weight in weighted)
    return math.exp(sum(weight * math.log(ratio) for ratio, weight in weighted) / total)


def _measure_aspects(run: Run) -> dict[str, dict[str, float]]:
    """Measure each aspect that the run has: backend -> ratio to the best, each at the largest number of images."""
    groups = group_results(run.results)
    stored = select_largest(groups.get(("store_many", (("durability", "buffered"),)), ()))
    sizes = {backend: result.disk.allocated_bytes for backend, result in stored.items() if result.disk}
    aspects = {
        "write": _divide_by_best({backend: result.median for backend, result in stored.items()}),
        "size": _divide_by_best({backend: float(size) for backend, size in sizes.items() if size}),
    }
    for cache in ("cold", "warm"):
        reads = [select_largest(groups.get((operation, (("cache", cache),)), ())) for operation in _READS]
        ratios = [
            _divide_by_best({backend: result.median for backend, result in results.items()})
            for results in reads
            if results
        ]
        everywhere = set.intersection(*map(set, ratios)) if ratios else set()
        aspects[cache] = {backend: average_ratios([(each[backend], 1) for each in ratios]) for backend in everywhere}
    return {name: ratios for name, ratios in aspects.items() if ratios}


def _divide_by_best(values: Mapping[str, float]) -> dict[str, float]:
    best = min(values.values(), default=1.0)
    return {backend: value / best for backend, value in values.items()}
