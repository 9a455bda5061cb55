"""How often the gate and saved baselines err, on processes that nothing measured."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reports import calibration
from reports.__main__ import main
from reports.calibration import LEAST_SECONDS, Line, replay_baseline, replay_gate
from reports.gate import command
from reports.gate.pairs import SCREEN_PAIRS, Pair, Session
from reports.gate.session import SLOWDOWN, Plan, Slowdown
from tests.support.repositories import make_repository
from tests.support.runs import add_replicates, find_cell, make_run

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")

MANY = "benchmarks/test_many.py::test_read_many"
SHORT, CONTROL = f"{MANY}[lmdb-1]", f"{MANY}[npy-1000]"
LONG = {f"{MANY}[lmdb-10]": 1e-3, f"{MANY}[lmdb-100]": 2e-3}
CELLS = LONG | {SHORT: LEAST_SECONDS / 2, CONTROL: 1e-3}


def draw_processes(count: int, slowdown: Slowdown, chance: np.random.Generator) -> list[dict[str, float]]:
    """Draw processes that scatter by 1 %; those that aren't the first ones of a pair are slowed."""
    drawn = []
    for number in range(count):
        noise = np.exp(chance.normal(0, 0.01, len(CELLS))).tolist()
        factors = dict.fromkeys(slowdown.cells, slowdown.factor) if number % 2 else {}
        drawn.append(
            {cell: each * CELLS[cell] * factors.get(cell, 1.0) for cell, each in zip(CELLS, noise, strict=True)}
        )
    return drawn


class FakeSides:
    """Both sides of a plan, whose pairs are drawn."""

    controls = (CONTROL,)

    def __init__(self) -> None:
        self.slowdowns = [Slowdown()]
        self._chance = np.random.default_rng(0)

    def slow_down(self, slowdown: Slowdown) -> None:
        """Slow cells of the candidate."""
        self.slowdowns.append(slowdown)

    def measure(self, cells: Sequence[str], _: int) -> list[Pair]:
        """Draw a pair."""
        both = draw_processes(2, self.slowdowns[-1], self._chance)
        return [Pair(*(Session({cell: each[cell] for cell in cells or each}) for each in both))]


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSides:
    """Have the gate draw its pairs, in a repository of one commit."""
    make_repository(tmp_path / "project", {"__init__.py": b""})
    monkeypatch.setattr(command, "PROJECT", tmp_path / "project")
    fake = FakeSides()

    @contextmanager
    def prepare(plan: Plan) -> Iterator[FakeSides]:
        assert plan.baseline == plan.candidate
        assert plan.find_affected(tmp_path, tmp_path).backends in {("lmdb",), ()}
        yield fake

    monkeypatch.setattr(calibration, "prepare_sides", prepare)
    return fake


def show(capsys: pytest.CaptureFixture[str], tool: str, record: Path) -> list[list[str]]:
    """Show what a record says of a tool: the rows of the table."""
    assert main(["calibrate", tool, str(record), "--replays=2"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    return [[word.strip() for word in line.split("|")[1:-1]] for line in lines[2:]]


def test_each_change_is_made_in_turn_and_all_is_replayed(
    sides: FakeSides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record"
    assert main(["calibrate", "gate", str(record), "--runs=2", "--backends=lmdb", "--condition=busy"]) == 0
    made = [each.factor for each in sides.slowdowns]
    assert made == [1.0, *[1.0, 1.2, 1.5, 1.3] * 2]
    assert [len(each.cells) for each in sides.slowdowns] == [0, *[0, 1, 1, 2] * 2]
    assert set().union(*(each.cells for each in sides.slowdowns)) == LONG.keys()
    assert {each.kind for each in sides.slowdowns} <= set(calibration.KINDS)
    rows = show(capsys, "gate", record)
    assert [row[:8] for row in rows] == [
        ["busy", "lmdb", "none", "2", "0", "0", "0", "0"],
        ["busy", "lmdb", "one cell 1.2x", "2", "2", "2", "0", "0"],
        ["busy", "lmdb", "one cell 1.5x", "2", "2", "2", "0", "0"],
        ["busy", "lmdb", "all cells 1.3x", "2", "4", "4", "0", "0"],
        ["busy, replayed", "lmdb", "none", "2", "0", "0", "0", "0"],
        ["busy, replayed", "lmdb", "one cell 1.2x", "2", "2", "2", "0", "0"],
        ["busy, replayed", "lmdb", "one cell 1.5x", "2", "2", "2", "0", "0"],
        ["busy, replayed", "lmdb", "all cells 1.3x", "2", "4", "4", "0", "0"],
        ["busy, replayed", "lmdb", "none, drifting", "2", "0", "0", "0", "0"],
    ]
    assert show(capsys, "baseline", record) == []


def test_a_run_without_a_change_records_its_screen_and_is_in_the_record_before_the_next_one_starts(
    sides: FakeSides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, slow_down = tmp_path / "record", sides.slow_down
    found: list[int] = []

    def note(slowdown: Slowdown) -> None:
        found.append(len(record.read_text().splitlines()) if record.exists() else 0)
        slow_down(slowdown)

    monkeypatch.setattr(sides, "slow_down", note)
    assert main(["calibrate", "gate", str(record), "--runs=2", "--changes", "none", "one cell 1.5x"]) == 0
    assert found == [0, 1, 2, 3]
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [len(line["processes"]) for line in lines] == [2 * SCREEN_PAIRS, 0, 2 * SCREEN_PAIRS, 0]
    assert lines[0]["fixed"] == [CONTROL]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """Replace sessions of pytest, which save runs of 40 cells; list their options, and which cells are slowed."""
    noted: list[tuple[list[str], str]] = []

    def run(program: Sequence[str], env: dict[str, str], **_: object) -> SimpleNamespace:
        noted.append((list(program[3:]), env[SLOWDOWN]))
        replicates = 9 if "--replicates=10" in program else 0
        document = add_replicates(make_run(), replicates, 0.01, seed=len(noted))
        cells, factor, _kind = json.loads(env[SLOWDOWN])
        for cell in cells:
            data = find_cell(document, cell.partition("::")[2])["stats"]["data"]
            data[:] = [factor * each for each in data]
        path = next(word.partition("=")[2] for word in program if word.startswith("--benchmark-json="))
        Path(path).write_text(json.dumps(document))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return noted


def test_a_baseline_is_saved_once_and_sessions_are_compared_with_it(
    commands: list[tuple[list[str], str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record"
    asked = ["--runs=2", "--changes", "none", "one cell 1.5x", "--backends=lmdb,hdf5"]
    assert main(["calibrate", "baseline", str(record), *asked]) == 0
    words = [[word.partition("=")[0] for word in program[7:]] for program, _ in commands]
    assert words == [["--replicates"]] + [["--compare-with"]] * 4
    assert all({"--backends=lmdb,hdf5", "-pbenchmarks.slowdown"} <= set(program) for program, _ in commands)
    assert [bool(json.loads(slowdown)[0]) for _, slowdown in commands] == [False, False, True, False, True]
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [len(line["processes"]) for line in lines] == [11, 0, 1, 0]
    rows = show(capsys, "baseline", record)
    assert [row[:5] for row in rows[:2]] == [
        ["idle", "lmdb,hdf5", "none", "2", "0"],
        ["idle", "lmdb,hdf5", "one cell 1.5x", "2", "2"],
    ]
    assert {row[0] for row in rows[2:]} == {"idle, replayed"}


def test_a_session_that_fails_ends_the_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = SimpleNamespace(returncode=4, stderr=b"", stdout=b"no such backend")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    assert main(["calibrate", "baseline", str(tmp_path / "record"), "--runs=1"]) == 3
    assert capsys.readouterr().err == "error: a session ended with exit code 4: no such backend\n"


def test_a_false_alarm_and_a_missed_slowdown_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = {"tool": "gate", "condition": "disk", "backends": "all", "change": "one cell 1.2x"}
    first = common | {"seconds": 3.0, "slowed": ["a"], "verdicts": {"a": "ok", "c": "regression"}}
    second = common | {"seconds": 8.0, "slowed": ["b"], "verdicts": {"b": "inconclusive"}}
    (tmp_path / "record").write_text("".join(f"{json.dumps(line)}\n" for line in (first, second)))
    rows = show(capsys, "gate", tmp_path / "record")
    assert rows == [["disk", "all", "one cell 1.2x", "2", "2", "0", "1", "1", "6 s", "8 s"]]


def test_pairs_that_an_earlier_version_recorded_are_replayed(
    lines: list[Line], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = [asdict(line) | {"tool": "gate", "change": ""} for line in lines]
    (tmp_path / "record").write_text("".join(f"{json.dumps(line)}\n" for line in earlier))
    rows = show(capsys, "gate", tmp_path / "record")
    assert [row[2] for row in rows] == [*calibration.CHANGES, calibration.DRIFT]
    assert [row[-1] for row in rows] == [""] * 5, "replays take no time"


@pytest.fixture
def lines() -> list[Line]:
    """Make a record of 40 processes, in pairs."""
    chance = np.random.default_rng(1)
    return [
        Line("", "idle", "lmdb", 10.0, processes=draw_processes(2, Slowdown(), chance), fixed=[CONTROL])
        for _ in range(20)
    ]


@pytest.mark.parametrize("replay", [replay_gate, replay_baseline])
def test_a_replay_finds_what_is_slower_whether_the_machine_drifts_or_not(
    replay: Callable[..., dict[str, str]], lines: list[Line]
) -> None:
    slow = f"{MANY}[lmdb-10]"
    for step in (0.0, 100.0):
        said = [replay(lines, {}, seed, step) for seed in range(3)]
        assert [each for each in said if "regression" in each.values()] == []
        verdicts = replay(lines, {slow: 1.5}, 1, step)
        assert [cell for cell, verdict in verdicts.items() if verdict == "regression"] == [slow]
        assert set(verdicts) == CELLS.keys() - {CONTROL}


def test_a_drift_of_an_hour_makes_the_machine_twice_as_slow_and_recovers() -> None:
    drift = calibration.make_drift(Random(1), 60.0)  # noqa: S311 - not a secret
    factors = [next(drift) for _ in range(61)]
    assert min(factors) == pytest.approx(1, abs=0.01)
    assert max(factors) == pytest.approx(2, abs=0.01)
    assert factors[60] == pytest.approx(factors[0])
    still = calibration.make_drift(Random(1), 0.0)  # noqa: S311 - not a secret
    assert [next(still) for _ in range(3)] == [1.0] * 3


def test_a_replay_draws_pairs_in_either_order(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Pair] = []

    def note(measure: Any, *_: object) -> SimpleNamespace:  # noqa: ANN401 - of decision
        drawn.extend([*measure((), 5), *measure(["b"], 12)])
        return SimpleNamespace(decisions=[])

    monkeypatch.setattr(calibration, "run_gate", note)
    pair = Line("gate", "idle", "all", processes=({"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}))
    for seed in range(20):
        assert replay_gate([pair], {"b": 1.5}, seed, 0.0) == {}
    assert {each.candidate.seconds["a"] - each.baseline.seconds["a"] for each in drawn[::2]} == {-2.0, 2.0}
    assert {str(each) for each in drawn[1::2]} == {str(Pair(Session({"b": 2.0}), Session({"b": 3.0})))}


@pytest.mark.parametrize("changes", [[], ["--changes", "one cell 1.2x"]], ids=["too short", "unknown"])
def test_only_cells_that_were_measured_and_are_long_enough_can_be_slowed(
    changes: list[str], sides: FakeSides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "LEAST_SECONDS", 1.0)
    (tmp_path / "record").touch()
    assert main(["calibrate", "gate", str(tmp_path / "record"), "--runs=1", *changes]) == 3
    assert len(sides.slowdowns) == (1 if changes else 2), "only the run without a change is made"


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", '{"tool": "gate", "condition": "idle", "other": 1}'])
def test_a_file_that_is_no_record_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "record").write_text(content)
    for name in ("record", "nowhere"):
        assert main(["calibrate", "gate", str(tmp_path / name)]) == 2
        assert f"{name} isn't a record of calibrate; make one with --runs=4" in capsys.readouterr().err
