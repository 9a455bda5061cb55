"""The arms of the gate: pairs in turn, a record of them, where the stores are, and that nothing is left."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reports.errors import NotMeasurableError
from reports.gate import pairs as arms
from reports.gate import session as blocks
from reports.gate.pairs import Arms, Plan, prepare_arms
from reports.gate.replay import Recording, read_recordings
from reports.gate.session import Arm, Block, Selection, claim_stores
from reports.gate.worktrees import WORKING_TREE, Version
from tests.support.machine import READ, write_interpreter
from tests.support.suite import ROOT

TODAY = Version(WORKING_TREE, None)


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """Make a folder for stores."""
    (tmp_path / "stores").mkdir()
    return tmp_path / "stores"


def make_plan(tmp_path: Path, python: str, record: Path | None = None) -> Plan:
    """Make a plan of blocks that this program stands for."""
    return Plan(ROOT, TODAY, TODAY, (python, python), Selection((10,), cells=(READ,)), tmp_path / "stores", record)


def test_arms_take_turns_and_share_a_seed_within_a_pair(tmp_path: Path, stores: Path) -> None:
    python = write_interpreter(tmp_path, f'echo "${{PWD##*/}} $PYTHONHASHSEED" >> "{tmp_path}/noted"', "exit 5")
    with prepare_arms(make_plan(tmp_path, python)) as prepared:
        assert prepared.stores.parent == stores
        for _ in range(3):
            prepared.measure(())
    assert (tmp_path / "noted").read_text().split("\n")[:-1] == [
        "old 1",
        "new 1",
        "new 2",
        "old 2",
        "old 3",
        "new 3",
    ]


def test_no_folder_is_left_behind_the_arms(tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with prepare_arms(make_plan(tmp_path, write_interpreter(tmp_path, "exit 1"))) as prepared:
        assert len(list((tmp_path / "temporary").iterdir())) == len(list(stores.iterdir())) == 1
        with pytest.raises(NotMeasurableError):
            prepared.measure(())
    assert list((tmp_path / "temporary").iterdir()) == list(stores.iterdir()) == []


def test_what_each_pair_measured_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"base": 0.5, "new": 0.25}
    measured: Callable[..., Block] = lambda arm, *_, **__: Block({READ: times[arm.name]})  # noqa: E731 - one line
    monkeypatch.setattr(arms, "run_block", measured)
    plan = make_plan(tmp_path, "python", record=tmp_path / "record.jsonl")
    prepared = Arms(Arm("base", tmp_path), Arm("new", tmp_path), plan, tmp_path)
    for _ in range(2):
        pair = prepared.measure((READ,))
        assert (pair.base.seconds, pair.new.seconds) == ({READ: 0.5}, {READ: 0.25})
    assert read_recordings(tmp_path / "record.jsonl") == [Recording("idle", (({READ: 0.5}, {READ: 0.25}),) * 2)]


def test_stores_are_in_the_folder_that_was_named(tmp_path: Path) -> None:
    with claim_stores(tmp_path, 1) as stores:
        assert stores.parent == tmp_path
        (stores / "store").mkdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [True, False], ids=["room", "no room"])
def test_stores_are_in_memory_if_it_has_room(room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a parameter
    for name in ("memory", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(blocks, "MEMORY", tmp_path / "memory")
    with claim_stores(None, 1 if room else 1 << 40) as stores:
        assert stores.parent == tmp_path / ("memory" if room else "temporary")


def test_a_system_without_a_file_system_in_memory_has_its_stores_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(blocks, "MEMORY", tmp_path / "missing")
    with claim_stores(None, 1) as stores:
        assert stores.parent == tmp_path
