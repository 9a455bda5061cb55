"""What a run's results say: statistics, what is missing, and how it is said in short."""

import statistics
from pathlib import Path

import pytest

from reports.reading import read_run
from reports.run import Result
from reports.text import shorten_text
from tests.support.properties import given, st
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


def test_cells_that_left_nothing_are_missing(tmp_path: Path) -> None:
    document = make_run(["png"], [10])
    gone = document["benchmarks"].pop()["fullname"]
    document["run"]["intended"] += ["failed", "skipped"]
    document["run"] |= {"failed": {"failed": "x"}, "skipped": {"skipped": "y"}}
    assert read_run(save(document, tmp_path)).missing == (gone,)


def test_a_run_warns_of_stand_in_images_and_of_its_end(tmp_path: Path) -> None:
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
def test_a_commit_is_said_in_short(commit: object, words: str, tmp_path: Path) -> None:
    assert read_run(save(make_run() | {"commit_info": commit}, tmp_path)).commit.short == words


@given(text=st.text(), longest=st.integers(8, 40))
def test_shown_text_is_one_printable_line_of_limited_length(text: str, longest: int) -> None:
    line = shorten_text(text, longest)
    assert line == "" or line.isprintable()
    assert len(line) <= longest


def test_long_names_are_cut_in_the_middle() -> None:
    assert shorten_text("lmdb_packed_in_chunks_of_256", 16) == "lmdb_packe…f_256"
    assert shorten_text("lmdb", 4) == "lmdb"
