"""Recordings of pairs."""

from pathlib import Path

import pytest

from reports.errors import WrongInputError
from reports.gate.pairs import Pair, Recording, Session, read_recordings, write_pair


def test_a_recording_is_read_by_background_load(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    pair = Pair(Session({"a": 1.0, "b": 3.0}), Session({"a": 2.0, "b": 3.0}))
    for load in ("idle", "cpu", "idle"):
        write_pair(path, load, pair)
    write_pair(path, "cpu", Pair(Session({"a": 9.0}), Session({"a": 9.0})))  # of suspects alone
    write_pair(path, "cpu", Pair(Session({"a": 9.0, "b": 9.0}), Session({"b": 9.0})))  # a cell failed
    assert read_recordings(path) == [
        Recording("idle", ((pair.baseline.seconds, pair.candidate.seconds),) * 2),
        Recording("cpu", ((pair.baseline.seconds, pair.candidate.seconds),)),
    ]


@pytest.mark.parametrize(
    "line",
    [
        *("no JSON", "[]", "{}", "[" * 100_000),
        '{"condition": "idle", "base": [1.0], "new": [1.0]}',
        '{"condition": "idle", "base": {"a": 1.0}}',
        '{"condition": "idle", "base": {"a": 1.0}, "new": {"a": "1"}}',
        '{"condition": "idle", "base": {"a": 1.0}, "new": {"a": 0.0}}',
        '{"condition": "idle", "base": {}, "new": {}}',
        '{"condition": "idle", "base": {"a": 1e-300}, "new": {"a": 1e300}}',
        '{"condition": "idle", "base": {"a": NaN}, "new": {"a": 1.0}}',
        '{"condition": "idle", "base": {"a": 1.0}, "new": {"a": Infinity}}',
    ],
)
def test_a_file_that_is_not_a_recording_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(WrongInputError, match="isn't a recording; name a file that --record wrote"):
        read_recordings(path)


def test_a_file_without_a_pair_of_the_same_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInputError, match=r"none\.jsonl can't be read"):
        read_recordings(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(WrongInputError, match="is empty; name a file that --record wrote"):
        read_recordings(tmp_path / "empty.jsonl")
    write_pair(tmp_path / "other.jsonl", "idle", Pair(Session({"a": 1.0}), Session({"b": 1.0})))
    with pytest.raises(WrongInputError, match="no pair has the same cells on both sides"):
        read_recordings(tmp_path / "other.jsonl")
