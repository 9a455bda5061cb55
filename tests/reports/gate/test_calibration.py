"""The gate's test of itself, on sessions that nothing measured."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reports.__main__ import main
from reports.gate import calibration
from reports.gate.calibration import LEAST_SECONDS, PROGRAMS, replay, run_beside
from reports.gate.pairs import Pair, Session
from reports.gate.session import Plan, Slowdown

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")

MANY = "benchmarks/test_many.py::test_read_many"
CELLS = {f"{MANY}[lmdb-10]": 1e-3, f"{MANY}[lmdb-100]": 2e-3, f"{MANY}[lmdb-1]": LEAST_SECONDS / 2}
SHORT = f"{MANY}[lmdb-1]"
CONTROL = f"{MANY}[npy-1000]"


class FakeSides:
    """Both sides of a plan, whose pairs are drawn."""

    controls = (CONTROL,)

    def __init__(self) -> None:
        self.slowdown = Slowdown((), 1.0, "")
        self._chance = np.random.default_rng(0)

    def slow_down(self, slowdown: Slowdown) -> None:
        """Slow cells of the candidate."""
        self.slowdown = slowdown

    def measure(self, cells: Sequence[str]) -> Pair:
        """Draw a pair."""
        seconds = CELLS | {CONTROL: 1e-3}
        sides = []
        for factor in (1.0, self.slowdown.factor):
            noise = dict(zip(seconds, np.exp(self._chance.normal(0, 0.01, len(seconds))).tolist(), strict=True))
            factors = dict.fromkeys(self.slowdown.cells, factor)
            sides.append(
                Session({cell: seconds[cell] * noise[cell] * factors.get(cell, 1) for cell in cells or seconds})
            )
        return Pair(*sides)


@pytest.fixture
def prepared(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, FakeSides]]:
    """Draw the pairs of both sides, and note plans and sides."""
    assert project.exists()
    noted: list[tuple[Plan, FakeSides]] = []

    @contextmanager
    def prepare(plan: Plan) -> Iterator[FakeSides]:
        noted.append((plan, FakeSides()))
        yield noted[-1][1]

    monkeypatch.setattr(calibration, "prepare_sides", prepare)
    return noted


def read_tables(text: str) -> list[list[list[str]]]:
    """Read the rows of each table."""
    tables = [[line for line in part.splitlines() if line.startswith("|")] for part in text.split("\n\n")]
    return [[[word.strip() for word in line.split("|")[1:-1]] for line in lines] for lines in tables]


def test_each_change_is_made_and_all_runs_are_shown_and_replayed(
    prepared: list[tuple[Plan, FakeSides]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "runs.jsonl"
    assert main(["calibrate", str(record), "--runs=2", "--backends=lmdb", "--replays=2"]) == 0
    assert [sides.slowdown.factor for _, sides in prepared] == [1.0, 1.2, 1.5, 1.3] * 2
    slowed = [set(sides.slowdown.cells) for _, sides in prepared]
    assert [len(cells) for cells in slowed] == [0, 1, 1, 2] * 2
    assert not {SHORT, CONTROL} & set().union(*slowed)
    assert {sides.slowdown.kind for _, sides in prepared[1:]} <= {"", *calibration.KINDS}
    plan = prepared[0][0]
    assert plan.baseline == plan.candidate
    assert plan.find_affected(tmp_path, tmp_path).backends == ("lmdb",)
    runs, replays = read_tables(capsys.readouterr().out)
    assert [row[:-2] for row in runs[2:]] == [
        ["idle", "lmdb", "none", "2", "0", "0", "0", "0"],
        ["idle", "lmdb", "one cell 1.2x", "2", "2", "2", "0", "0"],
        ["idle", "lmdb", "one cell 1.5x", "2", "2", "2", "0", "0"],
        ["idle", "lmdb", "all cells 1.3x", "2", "4", "4", "0", "0"],
    ]
    assert replays[2:] == [["idle", "lmdb", "20", "0 of 2", "0 of 2", "100.0%", "100.0%", "100.0%"]]


def test_a_false_alarm_and_a_doubt_are_counted(
    prepared: list[tuple[Plan, FakeSides]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {
        "condition": "disk",
        "backends": "all",
        "change": "one cell 1.2x",
        "sessions": 10,
        "seconds": 3.0,
        "pairs": [],
    }
    second = first | {"slowed": ["b"], "named": [], "inconclusive": ["b"], "seconds": 8.0}
    lines = [first | {"slowed": ["a"], "named": ["c"], "inconclusive": []}, second]
    (tmp_path / "runs").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert main(["calibrate", str(tmp_path / "runs")]) == 0
    (runs, replays), made = read_tables(capsys.readouterr().out), prepared
    assert runs[2:] == [["disk", "all", "one cell 1.2x", "2", "2", "0", "1", "1", "6 s", "8 s"]]
    assert (replays[2:], made) == ([], [])


def test_a_replay_draws_pairs_in_either_order_and_drifts(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Pair] = []

    def note(measure: Any, *_: object) -> SimpleNamespace:  # noqa: ANN401 - of decision
        drawn.extend([measure(()), measure(["b"])])
        return SimpleNamespace(select=lambda _: [])

    monkeypatch.setattr(calibration, "run_gate", note)
    pairs = (({"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}),)
    for seed in range(20):
        assert replay(pairs, {"b": 1.5}, seed) == set()
    assert {pair.candidate.seconds["a"] - pair.baseline.seconds["a"] for pair in drawn[::2]} == {-2.0, 2.0}
    assert {str(pair) for pair in drawn[1::2]} == {str(Pair(Session({"b": 2.0}), Session({"b": 3.0})))}
    drawn.clear()
    for seed in range(200):
        replay(pairs, {}, seed, step=600.0)
    drifts = [pair.baseline.seconds["b"] / 2 for pair in drawn]
    assert min(drifts) == pytest.approx(1, abs=0.01)
    assert max(drifts) == pytest.approx(2, abs=0.01)


def test_short_cells_cannot_be_slowed(
    prepared: list[tuple[Plan, FakeSides]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "LEAST_SECONDS", 1.0)
    assert main(["calibrate", str(tmp_path / "runs"), "--runs=1"]) == 3
    assert len(prepared) == 2, "the run without a change is made"


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}", '{"sessions": 1, "pairs": [1, 2], "change": "none"}'])
def test_a_file_that_is_no_record_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").write_text(content)
    for name in ("runs", "nowhere"):
        assert main(["calibrate", str(tmp_path / name)]) == 2
        assert f"{name} isn't a record of calibrate; make one with --runs=1" in capsys.readouterr().err


@pytest.mark.parametrize("condition", PROGRAMS)
def test_a_background_load_ends_with_its_block(condition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start = subprocess.Popen
    processes: list[subprocess.Popen[bytes]] = []

    def note(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - those of Popen
        processes.append(start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", note)
    with run_beside(PROGRAMS[condition]):
        assert [process.poll() for process in processes] == [None]
    assert [process.returncode for process in processes] == [-9]
    assert list(tmp_path.iterdir()) == []


def test_the_disk_is_written_while_another_condition_is_measured(
    prepared: list[tuple[Plan, FakeSides]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs: list[str] = []

    @contextmanager
    def note(program: str) -> Iterator[None]:
        programs.append(program)
        yield

    monkeypatch.setattr(calibration, "run_beside", note)
    options = ["--condition=disk", "--runs=1", "--changes", "none", "--replays=1"]
    assert main(["calibrate", str(tmp_path / "runs"), *options]) == 0
    assert programs == [PROGRAMS["disk"]]
    assert prepared[0][0].find_affected(tmp_path, tmp_path).everything
    (line,) = (tmp_path / "runs").read_text().splitlines()
    assert json.loads(line)["condition"] == "disk"
    assert len(json.loads(line)["pairs"]) == 5
