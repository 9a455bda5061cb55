"""What the gate found, in words: for people, for programs, for GitHub, for the shell."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from reports.gate.decision import Outcome, Verdict
from reports.gate.text import (
    Finding,
    choose_exit_code,
    count_verdicts,
    make_annotations,
    make_document,
    make_summary,
)

CELL = "benchmarks/test_many.py::test_read_many[lmdb-1000]"
OTHER = "benchmarks/test_many.py::test_store_many[png-10]"
EVIL = "benchmarks/x.py::test_a|b`c`<img src=x>\r\n::error::owned\x1b[31m*d*[e](http://f) 100%\u202e"


def make_verdict(verdict: str, cell: str = CELL, ratio: float = 1.25) -> Verdict:
    """Make the verdict on one cell."""
    value = None if verdict == "ok" else 2.44e-4
    return Verdict(cell, verdict, ratio, 593e-6, 12, value, excluded=True, threshold=0.1)


def make_outcome(*verdicts: str, **parts: Any) -> Outcome:  # noqa: ANN401 - the fields of an outcome
    """Make an outcome of cells with these verdicts."""
    numbered = tuple(make_verdict(name, f"benchmarks/x.py::test_{place}") for place, name in enumerate(verdicts))
    return replace(Outcome(numbered, (), (), {}, 88.4, 5, 12, ()), **parts)


def make_finding(outcome: Outcome, notes: Sequence[str] = ("stores were in /dev/shm",)) -> Finding:
    """Make what is told of an outcome."""
    return Finding("main (01234567)", "the working tree", tuple(notes), outcome, 1)


# --- for the shell


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (make_outcome("ok"), 0),
        (make_outcome("ok", "improvement"), 0),
        (make_outcome("ok", "inconclusive"), 0),
        (make_outcome(new=(CELL,)), 0),
        (make_outcome("ok", "regression"), 1),
        (make_outcome("ok", missing=(CELL,)), 1),
        (make_outcome("ok", absent={CELL: "new arm: OSError"}), 3),
        (make_outcome("regression", absent={CELL: "new arm: OSError"}), 1),
    ],
    ids=["ok", "improvement", "inconclusive", "new", "regression", "missing", "absent", "regression and absent"],
)
def test_the_exit_code_says_the_gravest(outcome: Outcome, code: int) -> None:
    assert choose_exit_code(outcome, strict=False, allow_missing=False) == code


@pytest.mark.parametrize(("verdict", "code"), [("inconclusive", 1), ("improvement", 0), ("ok", 0)])
def test_a_strict_gate_fails_for_doubts_alone(verdict: str, code: int) -> None:
    assert choose_exit_code(make_outcome(verdict), strict=True, allow_missing=False) == code


def test_missing_cells_may_be_allowed() -> None:
    assert choose_exit_code(make_outcome(missing=(CELL,)), strict=False, allow_missing=True) == 0
    assert choose_exit_code(make_outcome("regression", missing=(CELL,)), strict=False, allow_missing=True) == 1
    assert choose_exit_code(make_outcome(missing=(CELL,), absent={OTHER: "x"}), strict=False, allow_missing=True) == 3


def test_a_cell_that_fails_in_the_base_alone_can_be_allowed() -> None:
    mended = make_outcome("ok", absent={CELL: "base arm: OSError"})
    assert choose_exit_code(mended, strict=False, allow_missing=False) == 3
    assert choose_exit_code(mended, strict=False, allow_missing=True) == 0


def test_ok_cells_that_are_too_noisy_are_counted() -> None:
    noisy = replace(make_verdict("ok"), excluded=False)
    summary = make_summary(make_finding(replace(make_outcome("ok"), verdicts=(noisy, make_verdict("ok", OTHER)))))
    assert "2 cells, 5 pairs of all cells, 12 of suspects, 88 s; 1 of the ok ones too noisy for the screen" in summary


# --- for people


def test_the_counts_begin_with_what_fails() -> None:
    verdicts = ["ok", "ok", "improvement", "inconclusive", "regression", "regression"]
    outcome = make_outcome(*verdicts, missing=(CELL,), new=(OTHER,), absent={"a": "b"})
    expected = "2 regression, 1 missing, 1 not measured, 1 inconclusive, 1 improvement, 1 new, 2 ok"
    assert count_verdicts(outcome) == expected


def test_what_there_is_none_of_is_not_counted_but_for_ok() -> None:
    assert count_verdicts(make_outcome("ok", "ok")) == "2 ok"
    assert count_verdicts(make_outcome("regression")) == "1 regression, 0 ok"


def test_the_summary_has_no_table_where_all_is_well() -> None:
    assert make_summary(make_finding(make_outcome("ok", "ok"))) == (
        "## Gate: 2 ok\n\n"
        "the working tree against main (01234567)\n\n"
        "- stores were in /dev/shm\n"
        "- 2 cells, 5 pairs of all cells, 12 of suspects, 88 s\n"
    )


def test_the_table_has_a_row_for_each_cell_that_is_not_ok() -> None:
    verdicts = (
        make_verdict("ok", "::test_fine"),
        make_verdict("improvement", "::test_faster", 0.5),
        make_verdict("inconclusive", "::test_doubtful", 1.07),
        make_verdict("regression", "::test_slow", 1.2),
        make_verdict("regression", "::test_slower", 1.5),
    )
    summary = make_summary(make_finding(make_outcome(verdicts=verdicts)))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in summary.splitlines() if line.startswith("|")]
    assert rows[0] == ["cell", "base", "ratio", "p", "pairs", "verdict"]
    assert rows[2:] == [
        ["test_slower", "593 µs", "1.50x", "2.4e-04", "12", "regression"],
        ["test_slow", "593 µs", "1.20x", "2.4e-04", "12", "regression"],
        ["test_doubtful", "593 µs", "1.07x", "2.4e-04", "12", "inconclusive"],
        ["test_faster", "593 µs", "0.50x", "2.4e-04", "12", "improvement"],
    ]


def test_a_suspect_without_a_fresh_pair_has_no_p_value() -> None:
    doubtful = replace(make_verdict("inconclusive"), value=None)
    row = make_summary(make_finding(make_outcome(verdicts=(doubtful,)))).split("\n\n")[2].splitlines()[2]
    assert row.split("|")[4].strip() == ""


def test_cells_without_a_verdict_are_listed() -> None:
    outcome = make_outcome("ok", missing=(CELL,), new=(OTHER,), absent={CELL: "new arm: OSError: disk"})
    summary = make_summary(make_finding(outcome))
    assert "Missing, measured in the base only:\n\n- test_read_many[lmdb-1000]\n" in summary
    assert "New, no base to compare with:\n\n- test_store_many[png-10]\n" in summary
    assert "Not measured:\n\n- test_read_many[lmdb-1000] (new arm: OSError: disk)\n" in summary


def test_a_reason_is_shown_whole() -> None:
    summary = make_summary(make_finding(make_outcome(absent={CELL: "new arm: std::bad_alloc " + "x" * 200})))
    assert f"- test_read_many[lmdb-1000] (new arm: std::bad_alloc {'x' * 200})\n" in summary


def make_evil_finding() -> Finding:
    """Make a finding in which all text is hostile."""
    verdicts = tuple(make_verdict(name, EVIL) for name in ("regression", "inconclusive", "improvement"))
    outcome = make_outcome(verdicts=verdicts, missing=(EVIL,), new=(EVIL,), absent={EVIL: EVIL})
    return replace(make_finding(outcome, [EVIL]), base=EVIL, new=EVIL)


def test_no_text_is_taken_for_markup() -> None:
    summary = make_summary(make_evil_finding())
    assert "<img" not in summary
    assert "\\`c\\`" in summary
    assert "\\*d\\*" in summary
    assert "[e](" not in summary
    assert all(len(line.replace("\\|", "").split("|")) == 8 for line in summary.splitlines() if line.startswith("|"))


def test_no_control_character_reaches_the_terminal() -> None:
    assert all(letter.isprintable() or letter == "\n" for letter in make_summary(make_evil_finding()))


# --- for programs


def test_the_json_holds_all_that_was_found() -> None:
    outcome = make_outcome(
        "ok", "regression", missing=(CELL,), new=(OTHER,), absent={"c": "why"}, libraries=("a 1 -> 2",)
    )
    document = json.loads(make_document(make_finding(outcome)))
    assert document["format"] == 1
    assert document["exit_code"] == 1
    assert (document["base"], document["new"]) == ("main (01234567)", "the working tree")
    assert document["notes"] == ["stores were in /dev/shm"]
    read = document["outcome"]
    assert tuple(Verdict(**each) for each in read.pop("verdicts")) == outcome.verdicts
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()} == {
        each.name: getattr(outcome, each.name) for each in fields(outcome) if each.name != "verdicts"
    }


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_the_json_holds_finite_numbers_only(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        make_document(make_finding(make_outcome("ok", seconds=number)))


def test_the_json_is_ascii_whatever_the_names() -> None:
    text = make_document(make_evil_finding())
    assert text.isascii()
    assert json.loads(text)["base"] == EVIL


# --- for GitHub


def test_annotations_are_errors_for_what_fails_and_warnings_for_doubts() -> None:
    outcome = make_outcome(
        verdicts=(
            make_verdict("regression"),
            make_verdict("inconclusive", OTHER),
            make_verdict("improvement"),
            make_verdict("ok"),
        ),
        missing=(OTHER,),
        new=(OTHER,),
        absent={CELL: "new arm: OSError: disk"},
    )
    assert list(make_annotations(make_finding(outcome))) == [
        "::error title=Gate - regression::test_read_many[lmdb-1000] takes 1.25 times as long (12 pairs)",
        "::warning title=Gate - inconclusive::test_store_many[png-10] takes 1.25 times as long (12 pairs)",
        "::error title=Gate - missing::test_store_many[png-10] is not measured any more",
        "::error title=Gate - not measured::test_read_many[lmdb-1000]: new arm: OSError: disk",
    ]


def test_nothing_is_annotated_where_all_is_well() -> None:
    assert list(make_annotations(make_finding(make_outcome("ok", "improvement")))) == []


def test_no_reason_can_start_another_command() -> None:
    lines = list(make_annotations(make_evil_finding()))
    assert len(lines) == 4
    assert all(
        len(line.splitlines()) == 1 and line.startswith(("::error title=Gate", "::warning title=Gate"))
        for line in lines
    )


def test_percent_signs_stand_for_themselves() -> None:
    (line,) = make_annotations(make_finding(make_outcome(absent={"::test_a": "100%0A::error::b"})))
    assert line.endswith("a: 100%250A::error::b")
