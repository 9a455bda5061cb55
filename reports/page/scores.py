"""One score a backend: the average of its ratios to the best, by weights that a reader can change."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reports.ranking import select_largest
from reports.run import Result, Run
from reports.text import add_params

WEIGHTS = {"write": 10, "size": 10, "cold": 20, "warm": 60}
SAME_SCORE = 1.1  # scores closer than this factor share a rank: the suite calls nothing below 10 % a difference

_READS = ("read_many", "read_epoch", "read_single")
_WORDS = {"store_many": "store all", "read_many": "read all", "read_epoch": "shuffled", "read_single": "one at random"}


@dataclass(frozen=True)
class Aspect:
    """A weighted part of a score, measured by one or more operations."""

    words: str
    ratios: Mapping[str, float]  # to the best, by backend
    unstable: int  # of the cells behind the ratios
    cells: int


@dataclass(frozen=True)
class Score:
    """A backend's ratios to the best by aspect; without all aspects it has neither mean nor rank."""

    backend: str
    ratios: Mapping[str, float]
    mean: float | None  # geometric, by `WEIGHTS`
    rank: int | None


def measure_aspects(run: Run) -> dict[str, Aspect]:
    """Measure each aspect that the run has, each operation at the largest number of images that can be compared.

    Of a run with several payloads, the first one counts, and is named.
    """
    payload, run = next(iter(run.parts.items()))
    stored = (result for result in run.stored if result.disk and result.disk.allocated_bytes)
    sizes = {
        backend: result.disk.allocated_bytes / result.images
        for backend, result in select_largest(stored).items()
        if result.disk
    }
    aspects = {
        "write": _average_operations(run, ("store_many",), "buffered"),
        "size": Aspect("bytes on disk", _divide_by_best(sizes), 0, len(sizes)),
        "cold": _average_operations(run, _READS, "cold"),
        "warm": _average_operations(run, _READS, "warm"),
    }
    return {
        name: replace(aspect, words=add_params(aspect.words, payload))
        for name, aspect in aspects.items()
        if aspect.ratios
    }


def score_backends(aspects: Mapping[str, Aspect]) -> tuple[Score, ...]:
    """Score the backends, the best first; aspects that the run did not measure have no weight."""
    backends = sorted({backend for aspect in aspects.values() for backend in aspect.ratios})
    ratios = {
        backend: {name: aspect.ratios[backend] for name, aspect in aspects.items() if backend in aspect.ratios}
        for backend in backends
    }
    means = {
        backend: average_ratios([(ratio, WEIGHTS[name]) for name, ratio in own.items()])
        for backend, own in ratios.items()
        if own.keys() == aspects.keys()
    }
    ranks = {backend: 1 + sum(SAME_SCORE * other < mean for other in means.values()) for backend, mean in means.items()}
    scores = [Score(backend, own, means.get(backend), ranks.get(backend)) for backend, own in ratios.items()]
    return tuple(sorted(scores, key=lambda score: (score.mean is None, score.mean or 0)))


def average_ratios(weighted: Sequence[tuple[float, float]]) -> float:
    """Average ratios geometrically, each with its weight."""
    total = sum(weight for _, weight in weighted)
    return math.exp(sum(weight * math.log(ratio) for ratio, weight in weighted) / total)


def _average_operations(run: Run, operations: Iterable[str], way: str) -> Aspect:
    """Average the ratios of the operations that were measured one way, for backends that have all of them."""
    found = {name: select_largest(_find_cells(run, name, way)) for name in operations}
    measured = {name: results for name, results in found.items() if results}
    ratios = [_divide_by_best({key: each.median for key, each in results.items()}) for results in measured.values()]
    everywhere = set.intersection(*map(set, ratios)) if ratios else set()
    cells = [each for results in measured.values() for each in results.values()]
    return Aspect(
        ", ".join(f"{_WORDS[name]} ({_count(results):,} images)" for name, results in measured.items()),
        {backend: average_ratios([(each[backend], 1) for each in ratios]) for backend in everywhere},
        sum(cell.unstable for cell in cells),
        len(cells),
    )


def _find_cells(run: Run, operation: str, way: str) -> Sequence[Result]:
    """Find the cells of an operation that were measured one way; of several groups the first."""
    return next((cells for params, cells in run.select_groups(operation).items() if way in dict(params).values()), ())


def _count(results: Mapping[str, Result]) -> int:
    return max(result.store_images for result in results.values())


def _divide_by_best(values: Mapping[str, float]) -> dict[str, float]:
    best = min(values.values(), default=1.0)
    return {backend: value / best for backend, value in values.items()}
