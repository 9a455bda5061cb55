"""`python -m reports compare`: exit codes, and what goes where."""

import json
import os
import sys
from pathlib import Path

import pytest

from reports.__main__ import main
from tests.support.properties import given, settings, st
from tests.support.runs import add_replicates, find_cell, make_run, save, slow_down

Capture = pytest.CaptureFixture[str]

CELL = "test_store_many[png-1000]"


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Save a run, one in which a cell takes three times as long, and one without this cell."""
    documents = {name: add_replicates(make_run()) for name in ("base", "slower", "shorter", "upgraded")}
    documents["upgraded"]["run"]["libraries"]["numpy"] = "3.0"
    slow_down(documents["slower"], CELL, 3)
    documents["shorter"]["benchmarks"].remove(find_cell(documents["shorter"], CELL))
    for name in documents:
        (tmp_path / name).mkdir()
    return {name: save(document, tmp_path / name) for name, document in documents.items()}


@pytest.mark.parametrize(
    ("before", "after", "options", "code", "counts"),
    [
        ("base", "base", [], 0, "39 ok"),
        ("base", "slower", [], 1, "1 regression, 38 ok"),
        ("base", "slower", ["--threshold=3.5"], 0, "39 ok"),
        ("base", "shorter", [], 1, "1 missing, 38 ok"),
        ("base", "shorter", ["--missing=warn"], 0, "1 missing, 38 ok"),
        ("shorter", "base", [], 0, "1 new, 38 ok"),
        ("base", "upgraded", ["--allow=libraries"], 0, "39 ok"),
    ],
)
def test_the_exit_code_follows_the_verdicts(
    before: str, after: str, options: list[str], code: int, counts: str, runs: dict[str, Path], capsys: Capture
) -> None:
    assert main(["compare", str(runs[before]), str(runs[after]), *options]) == code
    printed, complaints = capsys.readouterr()
    assert printed.startswith(f"## {counts}\n")
    assert complaints == ""


def test_runs_that_cannot_be_compared_are_one_line_and_exit_code_3(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    new = make_run()
    new["machine_info"]["release"] = "7.0"
    assert main(["compare", str(runs["base"]), str(save(new, tmp_path))]) == 3
    printed, complaints = capsys.readouterr()
    assert printed == ""
    reason = "kernel: 6.18.44 in the base, 7.0 in the new run"
    gate = "`python -m reports gate` measures two versions side by side"
    assert complaints == f"error: the runs can't be compared: {reason}; {gate}\n"


def test_runs_with_other_libraries_name_the_gate_with_another_interpreter(
    runs: dict[str, Path], capsys: Capture
) -> None:
    assert main(["compare", str(runs["base"]), str(runs["upgraded"])]) == 3
    complaints = capsys.readouterr().err
    assert "version of numpy: 2.4.6 in the base, 3.0 in the new run" in complaints
    assert "`python -m reports gate` measures two versions side by side, also with another interpreter" in complaints
    assert complaints.endswith("--new-python PATH; --allow=libraries compares anyway\n")


@pytest.mark.parametrize("options", [[], ["--allow=libraries"]])
def test_allowing_other_libraries_is_not_recommended_if_more_differs(
    options: list[str], runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    new = make_run()
    new["machine_info"]["release"] = "7.0"
    new["run"]["libraries"]["numpy"] = "3.0"
    assert main(["compare", str(runs["base"]), str(save(new, tmp_path)), *options]) == 3
    complaints = capsys.readouterr().err
    assert ("version of numpy: 2.4.6 in the base, 3.0 in the new run" in complaints) == (not options)
    assert complaints.endswith("; `python -m reports gate` measures two versions side by side\n")


@pytest.mark.parametrize("names", [("base", "slower"), ("slower", "base")])
def test_a_broken_run_is_one_line_and_exit_code_2(
    names: tuple[str, str], runs: dict[str, Path], capsys: Capture
) -> None:
    runs["slower"].write_text("{", encoding="ascii")
    assert main(["compare", *(str(runs[name]) for name in names)]) == 2
    printed, complaints = capsys.readouterr()
    assert printed == ""
    assert complaints.startswith(f"error: {runs['slower']}: ")
    assert complaints.count("\n") == 1


@pytest.mark.parametrize("threshold", ["0", "10", "-1", "nan", "inf", "much"])
def test_an_impossible_threshold_is_wrong_usage(threshold: str, runs: dict[str, Path], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(runs["base"]), str(runs["base"]), f"--threshold={threshold}"])
    assert stopped.value.code == 2
    assert f"'{threshold}' isn't a fraction between 0 and 10, such as 0.1" in capsys.readouterr().err


def test_a_reader_that_leaves_early_changes_no_exit_code(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["compare", str(runs["base"]), str(runs["slower"])]) == 1


@given(chosen=st.data())
@settings(max_examples=40)
def test_any_two_runs_are_compared_or_refused(chosen: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    paths = []
    for name in ("base", "new"):
        document = make_run(["png", "lmdb"], [10, 1000])
        if chosen.draw(st.booleans()):
            add_replicates(document, chosen.draw(st.integers(0, 4)), chosen.draw(st.floats(0, 3)))
        cells = st.lists(
            st.sampled_from(document["benchmarks"][:14]), min_size=1, unique_by=lambda cell: str(cell["name"])
        )
        document["benchmarks"] = chosen.draw(cells)
        for cell in document["benchmarks"]:
            if chosen.draw(st.booleans()):
                cell["stats"]["data"] = chosen.draw(st.lists(st.floats(1e-12, 1e9), min_size=1, max_size=4))
        paths.append(tmp_path_factory.mktemp(name) / "run.json")
        paths[-1].write_text(json.dumps(document), encoding="ascii")
    assert main(["compare", *map(str, paths)]) in {0, 1, 3}
