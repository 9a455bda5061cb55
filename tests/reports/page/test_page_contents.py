"""What the page says of a run in words: warnings, facts, problems, base, history."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from reports.page.contents import describe_comparison, describe_history, list_facts, list_problems, list_warnings
from reports.run import Commit, ImageSet, Machine, Run
from tests.support.results import make_result, wrap_results


@pytest.fixture
def run() -> Run:
    """Make a run that nothing is to be said of."""
    return wrap_results(*(make_result("png", 1.0, images) for images in range(1, 11)))


def _unsettle(run: Run, count: int) -> Run:
    """Make so many cells of a run unstable."""
    return replace(
        run,
        results=tuple(
            replace(each, rounds=each.rounds[: 2 if place < count else 5]) for place, each in enumerate(run.results)
        ),
    )


def test_a_good_run_has_no_warning(run: Run) -> None:
    assert list_warnings(run) == ()


def test_the_standin_is_warned_of(run: Run) -> None:
    standin = replace(run, image_set=ImageSet("standin", 1, "00"))
    assert list_warnings(standin) == (
        ("Stand-in images.", "As hard to compress and to decode as CIFAR-10; for PNG, measure your own images too."),
    )


def test_an_incomplete_run_is_warned_of_with_what_is_lost(run: Run) -> None:
    intended = (*run.intended, *(f"file::lost{number}" for number in range(5)))
    skipped = {"file::lost1": "no", "file::lost2": "no"}
    broken = replace(run, complete=False, intended=intended, failed={"file::lost0": "wrong"}, skipped=skipped)
    assert list_warnings(broken) == (("Incomplete run.", "Of 15 cells 1 failed, 2 skipped, 2 never run."),)


@pytest.mark.parametrize(("count", "warned"), [(1, False), (2, True)])
def test_a_run_is_noisy_if_more_than_a_tenth_of_its_cells_are_unstable(run: Run, count: int, *, warned: bool) -> None:
    warnings = list_warnings(_unsettle(run, count))
    assert [words for words, _ in warnings] == (["Noisy run."] if warned else [])
    assert all(sentence.startswith("2 of 10 cells are unstable: IQR above 10 %") for _, sentence in warnings)


def test_a_run_can_have_all_warnings(run: Run) -> None:
    worst = replace(_unsettle(run, 10), complete=False, image_set=ImageSet("standin", 1, "00"))
    assert [words for words, _ in list_warnings(worst)] == ["Stand-in images.", "Incomplete run.", "Noisy run."]


def test_the_facts_of_a_run_are_listed(run: Run) -> None:
    assert dict(list_facts(_unsettle(run, 1))) == {
        "Images": "cifar10, 100,000 images, SHA-256 ab12cd34ab12",
        "Date": "2026-11-21 06:39 UTC",
        "Processor": "AMD EPYC 9654, 2 cores",
        "System": "Linux 6.18.44",
        "File system": "ext4, 80 GB free",
        "Libraries": "numpy 2.4.6",
        "Commit": "01234567",
        "Cells": "10 cells measured, 1 of them unstable",
        "Complete": "yes",
    }


def test_facts_are_harmless_and_short(run: Run) -> None:
    strange = replace(
        run,
        machine=Machine("cpu\x1b[31m\ud800" * 1000, "a\nb", "c"),
        commit=Commit("no commit", dirty=True),
        complete=False,
        datetime=dt.datetime(2026, 1, 2, 3, 4),  # noqa: DTZ001 - a run may lack its zone
    )
    facts = dict(list_facts(strange))
    assert all(text.isprintable() and len(text) <= 600 for text in facts.values())
    assert facts["System"] == "a b c"
    assert (facts["Commit"], facts["Complete"], facts["Date"]) == ("no commit with changes", "no", "2026-01-02 03:04")


def test_each_cell_that_is_missing_is_listed_with_its_reason(run: Run) -> None:
    intended = (*run.intended, "file::failed", "file::skipped", "file::lost")
    broken = replace(run, intended=intended, failed={"file::failed": "a\nb"}, skipped={"file::skipped": "no disk"})
    assert list_problems(broken) == (("failed", "a b"), ("skipped", "no disk"), ("lost", "never run"))
    assert list_problems(run) == ()


def test_a_base_is_compared_as_the_command_does(run: Run) -> None:
    slower = replace(run, results=tuple(replace(each, rounds=(5.0,) * 5) for each in run.results[:9]))
    described = describe_comparison(run, slower)
    assert described.words.startswith(
        "Against the run of 2026-11-21 06:39, commit 01234567: 9 regression, 1 missing, 0 ok. Inconclusive"
    )
    verdicts = [row[-1].text for table in described.tables for row in table.rows]
    assert sorted(verdicts) == ["missing"] + ["regression"] * 9


def test_a_base_that_cannot_be_compared_has_the_reason_and_no_table(run: Run) -> None:
    described = describe_comparison(replace(run, cpu_count=64), run)
    assert described.words == "The runs cannot be compared: number of processors: 64 in the base, 2 in the new run."
    assert described.tables == ()


def test_a_history_has_the_runs_that_can_be_compared_and_names_the_others(run: Run) -> None:
    other = replace(run, machine=Machine("Z80", "Linux", "6.18.44"), path=Path("folder/other.json"))
    history = describe_history([run, other, run])
    assert history.words == "2 runs that can be compared, oldest first."
    assert history.left_out == ("other.json (the base here): processor: Z80 in the base, AMD EPYC 9654 in the new run",)
    assert all(len(table.columns) == 4 for table in history.tables), "a cell, its course, two runs"
    assert sum(len(table.rows) for table in history.tables) == len(run.results)


def test_a_history_of_strangers_has_no_table(run: Run) -> None:
    history = describe_history([replace(run, complete=False, path=Path("W" * 10_000)), run])
    assert history.words == "No other run can be compared with this one."
    assert history.tables == ()
    (left_out,) = history.left_out
    assert left_out.endswith(": the base is incomplete: repeat it")
    assert len(left_out) < 150
