"""Recorded blocks, and runs of the gate made of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from reports.blocks import Block
from reports.errors import WrongInputError
from reports.replay import Recording, Replay, read_recordings, replay_gate, write_block
from reports.statistics import Rules

CELLS = tuple(f"benchmarks/test_many.py::test_read_many[{name}-100]" for name in ("hdf5", "lmdb", "png"))


def make_recording(count: int = 60, noise: float = 0.02) -> Recording:
    chance = np.random.default_rng(0)
    blocks = (1e-3 * np.exp(noise * chance.standard_normal((count, len(CELLS))))).tolist()
    return Recording("idle", tuple(dict(zip(CELLS, block, strict=True)) for block in blocks))


def test_what_was_recorded_is_read_by_condition(tmp_path: Path) -> None:
    path = tmp_path / "blocks.jsonl"
    for condition in ("idle", "cpu"):
        for seconds in (1.0, 2.0):
            write_block(path, condition, "base", Block({"a": seconds, "b": 3.0}))
    write_block(path, "cpu", "new", Block({"a": 9.0}))  # of suspects alone
    assert read_recordings(path) == [
        Recording("idle", ({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 3.0})),
        Recording("cpu", ({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 3.0})),
    ]
    assert read_recordings(path)[0].medians == {"a": 1.5, "b": 3.0}


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[]",
        "{}",
        json.dumps({"condition": "idle", "seconds": [1.0]}),
        json.dumps({"condition": "idle", "seconds": {"a": "1"}}),
        json.dumps({"condition": "idle", "seconds": {"a": 0.0}}),
        '{"condition": "idle", "seconds": {"a": NaN}}',
        '{"condition": "idle", "seconds": {"a": Infinity}}',
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


def test_one_block_makes_no_pair(tmp_path: Path) -> None:
    write_block(tmp_path / "one.jsonl", "disk", "base", Block({"a": 1.0}))
    with pytest.raises(WrongInputError, match="fewer than two blocks of all cells, disk; record more"):
        read_recordings(tmp_path / "one.jsonl")


def test_a_pair_is_made_of_neighbours_in_either_order() -> None:
    recording = Recording("idle", tuple({"a": float(place)} for place in range(1, 6)))
    replay = Replay(recording, {}, seed=0)
    steps = {pair.new.seconds["a"] - pair.base.seconds["a"] for pair in (replay.measure(()) for _ in range(50))}
    assert steps == {-1.0, 1.0}


def test_only_the_cells_asked_for_are_replayed_and_only_the_new_arm_is_slower() -> None:
    recording = Recording("idle", ({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}))
    pair = Replay(recording, {"b": 1.5}, seed=0).measure(["b"])
    assert (pair.base.seconds, pair.new.seconds) == ({"b": 2.0}, {"b": 3.0})


def test_the_same_seed_replays_the_same_run() -> None:
    recording = make_recording(noise=0.2)
    one, same, other = (replay_gate(recording, {}, Rules(), seed) for seed in (3, 3, 4))
    assert one.verdicts == same.verdicts != other.verdicts


def test_a_replay_names_the_slower_cell_and_no_other() -> None:
    outcome = replay_gate(make_recording(), {CELLS[1]: 1.3}, Rules(), seed=0)
    assert [each.cell for each in outcome.select("regression")] == [CELLS[1]]
