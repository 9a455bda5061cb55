"""Recorded blocks, and runs of the gate made of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from reports.errors import WrongInputError
from reports.gate.decision import Pair
from reports.gate.replay import Recording, Replay, read_recordings, replay_gate, write_pair
from reports.gate.session import Block
from reports.noise import Thresholds

CELLS = tuple(f"benchmarks/test_many.py::test_read_many[{name}-100]" for name in ("hdf5", "lmdb", "png"))


def make_recording(count: int = 30, noise: float = 0.02) -> Recording:
    chance = np.random.default_rng(0)
    blocks = (1e-3 * np.exp(noise * chance.standard_normal((2 * count, len(CELLS))))).tolist()
    named = [dict(zip(CELLS, block, strict=True)) for block in blocks]
    return Recording("idle", tuple(zip(named[::2], named[1::2], strict=True)))


def test_what_was_recorded_is_read_by_condition(tmp_path: Path) -> None:
    path = tmp_path / "blocks.jsonl"
    pair = Pair(Block({"a": 1.0, "b": 3.0}), Block({"a": 2.0, "b": 3.0}))
    for condition in ("idle", "cpu", "idle"):
        write_pair(path, condition, pair)
    write_pair(path, "cpu", Pair(Block({"a": 9.0}), Block({"a": 9.0})))  # of suspects alone
    write_pair(path, "cpu", Pair(Block({"a": 9.0, "b": 9.0}), Block({"b": 9.0})))  # a cell failed
    assert read_recordings(path) == [
        Recording("idle", ((pair.base.seconds, pair.new.seconds),) * 2),
        Recording("cpu", ((pair.base.seconds, pair.new.seconds),)),
    ]
    assert read_recordings(path)[0].medians == {"a": 1.5, "b": 3.0}


def test_what_favours_an_arm_is_seen_in_a_recording() -> None:
    assert Recording("idle", (({"a": 1.0, "b": 4.0}, {"a": 1.21, "b": 4.0}),) * 2).bias == pytest.approx(1.1)


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps({"condition": "idle", "base": [1.0], "new": [1.0]}),
        json.dumps({"condition": "idle", "base": {"a": 1.0}}),
        json.dumps({"condition": "idle", "base": {"a": 1.0}, "new": {"a": "1"}}),
        json.dumps({"condition": "idle", "base": {"a": 1.0}, "new": {"a": 0.0}}),
        json.dumps({"condition": "idle", "base": {}, "new": {}}),
        json.dumps({"condition": "idle", "base": {"a": 1e-300}, "new": {"a": 1e300}}),
        '{"condition": "idle", "base": {"a": NaN}, "new": {"a": 1.0}}',
        '{"condition": "idle", "base": {"a": 1.0}, "new": {"a": Infinity}}',
    ],
)
def test_a_file_that_is_no_recording_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "blocks.jsonl"
    path.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(WrongInputError, match="is no recording; name what --record wrote"):
        read_recordings(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongInputError, match=r"none\.jsonl cannot be read"):
        read_recordings(tmp_path / "none.jsonl")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(WrongInputError, match="is empty; name what --record wrote"):
        read_recordings(tmp_path / "empty.jsonl")


def test_arms_without_a_pair_of_the_same_cells_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path / "other.jsonl", "idle", Pair(Block({"a": 1.0}), Block({"b": 1.0})))
    with pytest.raises(WrongInputError, match="no pair of the same cells"):
        read_recordings(tmp_path / "other.jsonl")


def test_a_pair_is_replayed_in_either_order() -> None:
    replay = Replay(Recording("idle", (({"a": 1.0}, {"a": 3.0}), ({"a": 5.0}, {"a": 9.0}))), {}, seed=0)
    pairs = [replay.measure(()) for _ in range(50)]
    assert {pair.new.seconds["a"] - pair.base.seconds["a"] for pair in pairs} == {-4.0, -2.0, 2.0, 4.0}


def test_only_the_cells_asked_for_are_replayed_and_only_the_new_arm_is_slower() -> None:
    block = {"a": 1.0, "b": 2.0}
    pair = Replay(Recording("idle", ((block, block),)), {"b": 1.5}, seed=0).measure(["b"])
    assert (pair.base.seconds, pair.new.seconds) == ({"b": 2.0}, {"b": 3.0})


def test_the_same_seed_replays_the_same_run() -> None:
    recording = make_recording(noise=0.2)
    one, same, other = (replay_gate(recording, {}, Thresholds(), seed) for seed in (3, 3, 4))
    assert one.verdicts == same.verdicts != other.verdicts


def test_a_replay_names_the_slower_cell_and_no_other() -> None:
    outcome = replay_gate(make_recording(), {CELLS[1]: 1.3}, Thresholds(), seed=0)
    assert [each.cell for each in outcome.select("regression")] == [CELLS[1]]
