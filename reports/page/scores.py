"""One score a backend: how it does on average, by weights that a reader may move."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.ranking import select_largest
from reports.run import Axes, Result, Run, find_stored, group_results

WEIGHTS = {"write": 10, "size": 10, "cold": 20, "warm": 60}
SAME_SCORE = 1.1
"""Scores that are closer share a rank: the suite calls nothing below 10 % a difference."""

_READS = ("read_many", "read_epoch", "read_single")
_OPERATIONS = {"store_many": ("buffered",)} | dict.fromkeys(_READS, ("cold", "warm"))
_WORDS = {"store_many": "store all", "read_many": "read all", "read_epoch": "shuffled", "read_single": "one at random"}


@dataclass(frozen=True)
class Aspect:
    """What a weight is for: the words for what was measured, backend -> ratio to the best, and how sure the cells are.

    `unstable` of the `cells` behind the ratios are.
    """

    words: str
    ratios: Mapping[str, float]
    unstable: int
    cells: int


@dataclass(frozen=True)
class Score:
    """A backend's ratios to the best, by aspect, and the geometric mean of them by `WEIGHTS`.

    An aspect in which the backend was not measured is absent; the mean is then None.
    """

    backend: str
    ratios: Mapping[str, float]
    mean: float | None


def measure_aspects(run: Run) -> dict[str, Aspect]:
    """Measure each aspect that the run has, each operation at the largest number of images that can be compared."""
    groups = group_results(run.results)
    largest = {
        (operation, way): select_largest(_find_cells(groups, operation, way))
        for operation, ways in _OPERATIONS.items()
        for way in ways
    }
    sizes = {
        backend: result.disk.allocated_bytes / result.images
        for backend, result in select_largest(
            each for each in find_stored(groups) if each.disk and each.disk.allocated_bytes
        ).items()
        if result.disk
    }
    aspects = {
        "write": _average_aspect({"store_many": largest["store_many", "buffered"]}),
        "size": Aspect("bytes on disk", _divide_by_best(sizes), 0, len(sizes)),
        **{way: _average_aspect({name: largest[name, way] for name in _READS}) for way in ("cold", "warm")},
    }
    return {name: aspect for name, aspect in aspects.items() if aspect.ratios}


def score_backends(aspects: Mapping[str, Aspect]) -> tuple[Score, ...]:
    """Score the backends, the best first; aspects that the run did not measure have no weight."""
    scores = []
    for backend in sorted({backend for aspect in aspects.values() for backend in aspect.ratios}):
        ratios = {name: aspect.ratios[backend] for name, aspect in aspects.items() if backend in aspect.ratios}
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


def _find_cells(groups: Mapping[tuple[str, Axes], Sequence[Result]], operation: str, way: str) -> Sequence[Result]:
    """Find the cells of an operation that were measured in one way; of several groups the first."""
    found = (cells for (name, axes), cells in groups.items() if name == operation and way in dict(axes).values())
    return next(found, ())


def _average_aspect(operations: Mapping[str, Mapping[str, Result]]) -> Aspect:
    """Average the ratios of the operations that were measured, for backends that have all of them."""
    measured = {name: results for name, results in operations.items() if results}
    ratios = [_divide_by_best({key: each.median for key, each in results.items()}) for results in measured.values()]
    everywhere = set.intersection(*map(set, ratios)) if ratios else set()
    cells = [each for results in measured.values() for each in results.values()]
    return Aspect(
        ", ".join(f"{_WORDS[name]} ({_count(results):,} images)" for name, results in measured.items()),
        {backend: average_ratios([(each[backend], 1) for each in ratios]) for backend in everywhere},
        sum(cell.unstable for cell in cells),
        len(cells),
    )


def _count(results: Mapping[str, Result]) -> int:
    return max(result.store_images for result in results.values())


def _divide_by_best(values: Mapping[str, float]) -> dict[str, float]:
    best = min(values.values(), default=1.0)
    return {backend: value / best for backend, value in values.items()}
