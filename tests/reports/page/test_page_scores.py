"""Scores: geometric means that can be computed by hand."""

import math

import pytest

from reports.page.scores import SAME_SCORE, WEIGHTS, Score, average_ratios, measure_aspects, rank_score, score_backends
from reports.run import Result
from tests.support.properties import given, st
from tests.support.results import BUFFERED, COLD, DURABLE, WARM, make_result, make_store, wrap_results


def _score(*results: Result) -> dict[str, Score]:
    return {score.backend: score for score in score_backends(measure_aspects(wrap_results(*results)))}


def _read(backend: str, **seconds: float) -> list[Result]:
    """Make warm and cold cells: of all images, of shuffled batches, of one."""
    operations = {"many": "read_many", "epoch": "read_epoch", "single": "read_single"}
    axes = {"warm": WARM, "cold": COLD}
    return [
        make_result(backend, taken, operation=operations[name.partition("_")[0]], axes=axes[name.partition("_")[2]])
        for name, taken in seconds.items()
    ]


def _average(*weighted: tuple[float, float]) -> float:
    """Average in another way than the module does: by powers."""
    product = math.prod(ratio**weight for ratio, weight in weighted)
    return float(product ** (1 / sum(weight for _, weight in weighted)))


def test_a_score_is_the_weighted_geometric_mean_of_ratios_to_the_best() -> None:
    png = _read("png", many_warm=8.0, epoch_warm=6.0, single_warm=1.0, many_cold=5.0)
    lmdb = _read("lmdb", many_warm=1.0, epoch_warm=2.0, single_warm=1.5, many_cold=10.0)
    scores = _score(*png, *lmdb, make_store("png", 3.0, 500), make_store("lmdb", 1.0, 1000))
    assert scores["png"].ratios == pytest.approx({"write": 3, "size": 1, "cold": 1, "warm": (8 * 3 * 1) ** (1 / 3)})
    assert scores["lmdb"].ratios == pytest.approx({"write": 1, "size": 2, "cold": 2, "warm": 1.5 ** (1 / 3)})
    for score in scores.values():
        weighted = [(ratio, WEIGHTS[name]) for name, ratio in score.ratios.items()]
        assert score.mean == pytest.approx(_average(*weighted))
    assert list(scores) == ["lmdb", "png"], "the best first"


def test_the_weights_at_the_start_are_those_of_the_issue() -> None:
    assert WEIGHTS == {"write": 10, "size": 10, "cold": 20, "warm": 60}


def test_an_aspect_that_was_not_measured_has_no_weight() -> None:
    scores = _score(*_read("png", many_warm=4.0), *_read("lmdb", many_warm=1.0))
    assert {name: score.ratios for name, score in scores.items()} == {"lmdb": {"warm": 1.0}, "png": {"warm": 4.0}}
    assert scores["png"].mean == pytest.approx(4)


def test_a_backend_that_lacks_an_aspect_has_no_score_and_comes_last() -> None:
    scores = _score(*_read("png", many_warm=9.0, many_cold=1.0), *_read("lmdb", many_warm=1.0))
    assert list(scores) == ["png", "lmdb"]
    assert scores["lmdb"].ratios == {"warm": 1.0}
    assert scores["lmdb"].mean is None
    assert rank_score(scores["lmdb"], scores.values()) is None
    assert rank_score(scores["png"], scores.values()) == 1


def test_a_backend_that_lacks_one_kind_of_reading_has_no_such_aspect() -> None:
    scores = _score(*_read("png", many_warm=2.0, epoch_warm=1.0), *_read("lmdb", many_warm=1.0))
    assert list(scores) == ["png"]
    assert scores["png"].ratios == {"warm": pytest.approx(math.sqrt(2))}


def test_an_aspect_that_nobody_has_in_full_is_none() -> None:
    assert _score(*_read("png", many_warm=2.0), *_read("lmdb", epoch_warm=1.0)) == {}


def test_the_time_of_durable_stores_is_no_part_of_a_score_but_their_size_is() -> None:
    durable = make_store("png", 1.0, 5, axes=DURABLE)
    scores = _score(durable, make_result("png", 1.0, operation="an_unknown_one"))
    assert scores["png"].ratios == {"size": 1.0}


def test_cells_with_an_axis_that_nobody_foresaw_count_where_there_are_no_others() -> None:
    foreign = (("cache", "warm"), ("level", 2))
    scores = _score(make_result("png", 3.0, axes=foreign), make_result("lmdb", 1.0, axes=foreign))
    assert scores["png"].ratios == pytest.approx({"warm": 3})
    scores = _score(make_result("png", 3.0, axes=foreign), make_result("lmdb", 1.0), make_result("png", 2.0))
    assert scores["png"].ratios == pytest.approx({"warm": 2})


def test_an_aspect_says_what_was_measured_and_how_many_cells_are_unstable() -> None:
    cells = [*_read("png", many_warm=2.0, single_warm=1.0), make_result("lmdb", [1.0, 9.0])]
    aspects = measure_aspects(wrap_results(*cells))
    assert aspects.keys() == {"warm"}
    assert aspects["warm"].words == "read all (1,000 images), one at random (1,000 images)"
    assert (aspects["warm"].unstable, aspects["warm"].cells) == (1, 3)


def test_ratios_are_those_at_the_largest_number_of_images_that_two_have() -> None:
    results = [make_store(name, taken, 7, images=10) for name, taken in (("png", 1.0), ("lmdb", 2.0))]
    scores = _score(*results, make_store("png", 9.0, 7, images=100))
    assert scores["lmdb"].ratios == {"write": 2.0, "size": 1.0}


def test_a_store_of_no_bytes_yet_has_no_size() -> None:
    scores = _score(make_store("png", 1.0, 0), make_store("lmdb", 1.0, 900))
    assert scores["png"].ratios == {"write": 1.0}
    assert scores["lmdb"].ratios == {"write": 1.0, "size": 1.0}


def test_a_store_whose_disk_use_is_unknown_has_no_size() -> None:
    alone = make_result("png", 1.0, operation="store_many", axes=BUFFERED)
    assert _score(alone)["png"].ratios == {"write": 1.0}


def test_scores_that_hardly_differ_share_a_rank() -> None:
    means = {"a": 1.0, "b": 1.05, "c": 1.11, "d": 1.3, "e": 1.3}
    scores = [Score(name, {}, mean) for name, mean in means.items()]
    assert [rank_score(score, scores) for score in scores] == [1, 1, 2, 4, 4]


@given(st.lists(st.tuples(st.floats(1, 1e12), st.integers(1, 100)), min_size=1, max_size=8))
def test_an_average_lies_between_its_ratios(weighted: list[tuple[float, float]]) -> None:
    ratios = [ratio for ratio, _ in weighted]
    average = average_ratios(weighted)
    assert min(ratios) <= average * (1 + 1e-9)
    assert average <= max(ratios) * (1 + 1e-9)


@given(st.lists(st.none() | st.floats(1, 1e3), min_size=1, max_size=8))
def test_the_best_score_has_rank_one(means: list[float | None]) -> None:
    scores = [Score(str(place), {}, mean) for place, mean in enumerate(means)]
    ranked = {score.mean: rank_score(score, scores) for score in scores if score.mean is not None}
    for mean, rank in ranked.items():
        assert rank == 1 + sum(other is not None and SAME_SCORE * other < mean for other in means)
    assert not ranked or ranked[min(ranked)] == 1
