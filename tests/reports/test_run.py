"""Runs: statistics, groups, missing cells and warnings."""

import statistics
from pathlib import Path

import pytest

from reports.reading import read_run
from reports.run import Result
from tests.support.results import BUFFERED, COLD, DURABLE, WARM, make_result, wrap_results
from tests.support.runs import make_cell, make_run, run_of, save


def test_statistics_come_from_the_rounds_and_not_from_the_file(tmp_path: Path) -> None:
    cell = make_cell("read_many", "png", 50)
    cell["stats"]["data"] = [4, 1.0, 2.0, 8.0]  # a whole second may be written without a point
    (result,) = read_run(save(run_of([cell]), tmp_path)).results
    assert list(result.quartiles) == pytest.approx(statistics.quantiles([1, 2, 4, 8], method="inclusive"))
    assert result.median == 3.0
    assert result.iqr == pytest.approx(5.0 - 1.75)
    assert result.images_per_second == pytest.approx(50 / 3)


@pytest.mark.parametrize(
    ("rounds", "unstable"),
    [
        ((1.0, 1.0, 1.0), False),
        ((1.0, 1.0), True),
        ((0.95, 1.0, 1.05, 1.1), False),
        ((7.0, 9.5, 10.0, 10.5, 13.0), False),
        ((7.0, 9.4, 10.0, 10.5, 13.0), True),
    ],
    ids=["equal", "two", "close", "ten percent", "eleven percent"],
)
def test_a_cell_is_unstable_with_a_wide_spread_or_few_rounds(rounds: tuple[float, ...], *, unstable: bool) -> None:
    result = Result("cell", "read_many", "png", 10, 10, 100, (), rounds, None)
    assert result.unstable is unstable


def test_groups_are_equal_in_operation_and_parameters_and_in_the_order_of_the_experiment() -> None:
    workers = [make_result("png", 1.0, params=(("workers", n),), operation="read_epoch_workers") for n in (10, 2)]
    reads = [make_result("png", 1.0, params=params) for params in (COLD, WARM)]
    stores = [make_result("png", 1.0, operation="store_many", params=params) for params in (DURABLE, BUFFERED)]
    run = wrap_results(make_result("png", 1.0, operation="unknown"), *workers, *reads, *stores)
    assert list(run.groups) == [
        ("store_many", BUFFERED),
        ("store_many", DURABLE),
        ("read_many", WARM),
        ("read_many", COLD),
        ("read_epoch_workers", (("workers", 2),)),
        ("read_epoch_workers", (("workers", 10),)),
        ("unknown", WARM),
    ]
    assert run.stored == [stores[1]], "disk use counts for buffered stores"
    ways = [result.way for result in (*reads, *stores, *workers)]
    assert ways == ["cold", "warm", "durable", "buffered", "other", "other"]


def test_results_of_a_group_are_ordered_by_images_and_then_by_time() -> None:
    slow, fast, few = make_result("png", 2.0), make_result("lmdb", 1.0), make_result("png", 9.0, 10)
    assert wrap_results(slow, fast, few).select_groups("read_many") == {WARM: [few, fast, slow]}


def test_cells_without_result_and_reason_are_missing(tmp_path: Path) -> None:
    document = make_run(["png"], [10])
    gone = document["benchmarks"].pop()["fullname"]
    document["run"]["intended"] += ["failed", "skipped"]
    document["run"] |= {"failed": {"failed": "x"}, "skipped": {"skipped": "y"}}
    assert read_run(save(document, tmp_path)).missing == (gone,)


def test_stand_in_images_and_an_incomplete_run_are_warnings(tmp_path: Path) -> None:
    document = make_run()
    document["run"]["complete"] = False
    assert read_run(save(document, tmp_path)).warnings == ("stand-in images", "incomplete run")
    document["run"] |= {"complete": True, "image_set": {"name": "CIFAR-10", "count": 5, "sha256": ""}}
    assert read_run(save(document, tmp_path)).warnings == ()


@pytest.mark.parametrize(
    ("commit", "words"),
    [
        ({"id": "unversioned", "dirty": False}, "unversioned"),
        ({"id": "0123456789", "dirty": True}, "01234567 with changes"),
        ({"id": "\x1b[2J", "dirty": False}, "\ufffd[2J"),
    ],
    ids=["no repository", "changed tree", "control characters"],
)
def test_a_commit_has_a_short_name(commit: object, words: str, tmp_path: Path) -> None:
    assert read_run(save(make_run() | {"commit_info": commit}, tmp_path)).commit.short == words
