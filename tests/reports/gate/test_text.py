"""The findings of the gate in words: for people, for programs, for GitHub, for the shell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from reports.gate.decision import Absence, Decision, Outcome
from reports.gate.syncs import SyncChange
from reports.gate.text import Finding, choose_exit_code, make_annotations, make_document, make_summary
from reports.noise import Verdict
from reports.text import count_verdicts

CELL = "benchmarks/test_many.py::test_read_many[lmdb-1000]"
OTHER = "benchmarks/test_many.py::test_store_many[png-10]"
EVIL = "benchmarks/x.py::test_a|b`c`<img src=x>\r\n::error::owned\x1b[31m*d*[e](http://f) 100%\u202e"
FAILED: Mapping[str, Absence] = {CELL: Absence("candidate", "OSError: disk")}


def decide(verdict: Verdict, cell: str = CELL, ratio: float = 1.25) -> Decision:
    return Decision(
        cell, verdict, ratio, 593e-6, 12, None if verdict == "ok" else 2.44e-4, excluded=True, threshold=0.1
    )


def make_outcome(*verdicts: Verdict, **parts: Any) -> Outcome:  # noqa: ANN401 - the fields of an outcome
    """Make an outcome of cells with these verdicts."""
    decisions = tuple(decide(name, f"benchmarks/x.py::test_{number}") for number, name in enumerate(verdicts))
    return replace(Outcome(decisions, (), (), {}, 88.4, 5, 12, ()), **parts)


def make_finding(outcome: Outcome, notes: Sequence[str] = ("stores were in /dev/shm",)) -> Finding:
    return Finding("main (01234567)", "the working tree", tuple(notes), outcome, 1)


def make_evil_finding() -> Finding:
    """Make a finding in which all text is hostile."""
    decisions = tuple(decide(name, EVIL) for name in ("regression", "inconclusive", "improvement"))
    absent = {EVIL: Absence("candidate", EVIL)}
    outcome = make_outcome(decisions=decisions, missing=(EVIL,), new=(EVIL,), absent=absent)
    return replace(make_finding(outcome, [EVIL]), baseline=EVIL, candidate=EVIL)


@pytest.mark.parametrize(
    ("outcome", "usual", "strict", "allowing"),
    [
        (make_outcome("ok"), 0, 0, 0),
        (make_outcome("ok", "improvement"), 0, 0, 0),
        (make_outcome("ok", "inconclusive"), 0, 1, 0),
        (make_outcome(new=(CELL,)), 0, 0, 0),
        (make_outcome("ok", "regression"), 1, 1, 1),
        (make_outcome("ok", missing=(CELL,)), 1, 1, 0),
        (make_outcome("regression", missing=(CELL,)), 1, 1, 1),
        (make_outcome("ok", missing=(CELL,), broken={CELL: "NameError"}), 1, 1, 1),
        (make_outcome("ok", absent=FAILED), 3, 3, 3),
        (make_outcome("ok", absent={CELL: Absence("baseline", "OSError")}), 3, 3, 0),
        (make_outcome("ok", missing=(OTHER,), absent=FAILED), 1, 1, 3),
        (make_outcome("regression", absent=FAILED), 1, 1, 1),
        (make_outcome("ok", syncs=(SyncChange("store_many[hdf5]", 0, 1),)), 1, 1, 1),
        (make_outcome("ok", syncs=(SyncChange("store_many[hdf5]", 1, 0),)), 0, 0, 0),
        (make_outcome("ok", syncs=(SyncChange("durable save[hdf5]", 1, 0),)), 1, 1, 1),
        (make_outcome("inconclusive", disturbed=(CELL,)), 3, 1, 3),
    ],
)
def test_the_exit_code_is_that_of_the_gravest_verdict(outcome: Outcome, usual: int, strict: int, allowing: int) -> None:
    assert choose_exit_code(outcome, strict=False, allow_missing=False) == usual
    assert choose_exit_code(outcome, strict=True, allow_missing=False) == strict
    assert choose_exit_code(outcome, strict=False, allow_missing=True) == allowing


def test_counts_begin_with_what_fails_and_always_end_with_ok() -> None:
    verdicts: list[Verdict] = ["ok", "ok", "improvement", "improvement", "inconclusive", "regression", "regression"]
    outcome = make_outcome(*verdicts, missing=(CELL,), new=(OTHER,), absent=FAILED)
    expected = "2 regressions, 1 missing, 1 not measured, 1 inconclusive, 2 improvements, 1 new, 2 ok"
    assert count_verdicts(outcome.counts) == expected
    assert count_verdicts(make_outcome("regression").counts) == "1 regression, 0 ok"


def test_the_summary_counts_cells_that_are_too_noisy_but_do_not_look_slower() -> None:
    noisy = make_finding(make_outcome(decisions=(decide("ok"), decide("inconclusive", OTHER, ratio=1.04))))
    assert make_summary(noisy) == (
        "## Gate: 1 inconclusive, 1 ok\n\n"
        "the working tree against main (01234567)\n\n"
        "- stores were in /dev/shm\n"
        "- 2 cells, 5 pairs of all cells, 12 of suspects, 88 s"
        "; 1 of the inconclusive ones don't look slower, but are too noisy to be ok\n"
    )
    assert list(make_annotations(noisy)) == []
    assert make_summary(make_finding(make_outcome("ok", "ok"))).endswith(", 12 of suspects, 88 s\n")


def test_the_table_has_a_row_for_each_cell_that_changed_or_looks_slower() -> None:
    decisions = (
        decide("ok", "::test_fine"),
        decide("improvement", "::test_faster", 0.5),
        replace(decide("inconclusive", "::test_doubtful", 1.07), value=None),
        decide("regression", "::test_slow", 1.2),
        decide("regression", "::test_slower", 1.5),
    )
    summary = make_summary(make_finding(make_outcome(decisions=decisions)))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in summary.splitlines() if line.startswith("|")]
    assert rows[0] == ["cell", "base", "ratio", "p-value", "pairs", "verdict"]
    assert rows[2:] == [
        ["test_slower", "593 µs", "1.50x", "2.4e-04", "12", "regression"],
        ["test_slow", "593 µs", "1.20x", "2.4e-04", "12", "regression"],
        ["test_doubtful", "593 µs", "1.07x", "", "12", "inconclusive"],
        ["test_faster", "593 µs", "0.50x", "2.4e-04", "12", "improvement"],
    ]


def test_cells_without_a_verdict_are_listed_with_the_whole_reason() -> None:
    reason = "std::bad_alloc " + "x" * 200
    outcome = make_outcome("ok", missing=(CELL,), new=(OTHER,), absent={CELL: Absence("candidate", reason)})
    summary = make_summary(make_finding(outcome))
    assert "Missing, measured in the baseline only:\n\n- test_read_many[lmdb-1000]\n" in summary
    assert "New, without a baseline:\n\n- test_store_many[png-10]\n" in summary
    assert f"Not measured:\n\n- test_read_many[lmdb-1000] (candidate: {reason})\n" in summary


def test_a_missing_cell_whose_backend_broke_has_the_reason_beside_it() -> None:
    finding = make_finding(make_outcome(missing=(CELL, OTHER), broken={OTHER: "NameError: 100%"}))
    names = ("- test_read_many[lmdb-1000]", "- test_store_many[png-10] (candidate: NameError: 100%)")
    assert "Missing, measured in the baseline only:\n\n{}\n{}\n".format(*names) in make_summary(finding)
    assert [line.rpartition("::")[2] for line in make_annotations(finding)] == [
        "test_read_many[lmdb-1000] isn't measured any more",
        "test_store_many[png-10] isn't measured any more: NameError: 100%25",
    ]


def test_controls_are_counted_and_those_that_differ_are_named() -> None:
    summary = make_summary(make_finding(make_outcome("ok", controls=(CELL, OTHER), disturbed=(CELL,))))
    assert (
        "\nNothing can be judged: cells that the change can't affect differ, too: test_read_many[lmdb-1000]\n"
        in summary
    )
    assert "- 1 cell and 2 controls, 5 pairs" in summary


def test_hostile_text_is_neither_markup_nor_control_characters() -> None:
    summary = make_summary(make_evil_finding())
    assert not [markup for markup in ("<img", "[e](") if markup in summary]
    assert "\\`c\\`" in summary
    assert "\\*d\\*" in summary
    assert all(len(line.replace("\\|", "").split("|")) == 8 for line in summary.splitlines() if line.startswith("|"))
    assert all(letter.isprintable() or letter == "\n" for letter in summary)


def test_the_json_holds_the_whole_finding() -> None:
    outcome = make_outcome("ok", "regression", missing=(CELL,), new=(OTHER,), absent=FAILED, libraries=("a 1 -> 2",))
    document = json.loads(make_document(make_finding(outcome)))
    assert (document["format"], document["exit_code"]) == (1, 1)
    assert (document["base"], document["new"]) == ("main (01234567)", "the working tree")
    assert document["notes"] == ["stores were in /dev/shm"]
    read = document["outcome"]
    assert tuple(Decision(**each) for each in read.pop("verdicts")) == outcome.decisions
    assert read.pop("absent") == {CELL: "candidate: OSError: disk"}
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()} == {
        each.name: getattr(outcome, each.name) for each in fields(outcome) if each.name not in {"decisions", "absent"}
    }


def test_the_json_holds_finite_numbers_and_ascii_only() -> None:
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON compliant"):
            make_document(make_finding(make_outcome("ok", seconds=number)))
    text = make_document(make_evil_finding())
    assert text.isascii()
    assert json.loads(text)["base"] == EVIL


def test_annotations_are_errors_for_what_fails_and_warnings_for_doubts() -> None:
    decisions = (decide("regression"), decide("inconclusive", OTHER), decide("improvement"), decide("ok"))
    outcome = make_outcome(decisions=decisions, missing=(OTHER,), new=(OTHER,), absent=FAILED)
    assert list(make_annotations(make_finding(outcome))) == [
        "::error title=Gate - regression::test_read_many[lmdb-1000] takes 1.25 times as long (12 pairs)",
        "::warning title=Gate - inconclusive::test_store_many[png-10] takes 1.25 times as long (12 pairs)",
        "::error title=Gate - missing::test_store_many[png-10] isn't measured any more",
        "::error title=Gate - not measured::test_read_many[lmdb-1000]: candidate: OSError: disk",
    ]
    assert list(make_annotations(make_finding(make_outcome("ok", "improvement")))) == []


def test_a_reason_can_not_start_another_workflow_command() -> None:
    lines = list(make_annotations(make_evil_finding()))
    assert [len(line.splitlines()) for line in lines] == [1] * 4
    assert all(line.startswith(("::error title=Gate", "::warning title=Gate")) for line in lines)
    absent = {"::test_a": Absence("candidate", "100%0A::error::b")}
    (line,) = make_annotations(make_finding(make_outcome(absent=absent)))
    assert line.endswith("a: candidate: 100%250A::error::b")
