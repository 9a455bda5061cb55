"""Blocks of the gate: what a process measures, what it must not see, and how it ends."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reports import arms, blocks
from reports.arms import Arms, Plan, prepare_arms
from reports.blocks import Arm, Block, Selection, claim_stores, run_block
from reports.trees import WORKING_TREE, NotMeasurableError, Version, make_tree
from tests.suite import ROOT

TODAY = Version(WORKING_TREE, None)
CELL = "benchmarks/test_many.py::test_read_many[hdf5-10]"
QUICK = Selection((10,), cells=(CELL,))
BODY = "    with _open_sources(store) as (images, labels):\n        result = "


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a tree of the suite as it is."""
    monkeypatch.setenv("CIFAR10", "standin")
    make_tree(ROOT, TODAY, tmp_path / "a tree")
    return tmp_path / "a tree"


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """Make a folder for stores."""
    (tmp_path / "stores").mkdir()
    return tmp_path / "stores"


def write_interpreter(folder: Path, *lines: str) -> str:
    """Write a program that stands for Python and does what these lines of shell say."""
    path = folder / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def spoil_reading(tree: Path, statement: str) -> None:
    """Begin the function that reads many images from HDF5 with a statement."""
    path = tree / "storage" / "hdf5.py"
    text = path.read_text()
    assert text.count(BODY) == 1, "the function that this test spoils is not there any more"
    path.write_text(text.replace(BODY, f"    {statement}\n{BODY}"))


# --- what is measured


def test_a_block_measures_the_chosen_cells_and_leaves_no_store(tree: Path, stores: Path) -> None:
    block = run_block(Arm("new", tree), QUICK, stores, seed=1)
    assert list(block.seconds) == [CELL]
    assert 0 < block.seconds[CELL] < 60
    assert block.absent == {}
    assert {"python", "numpy", "h5py", "HDF5"} <= block.libraries.keys()
    assert list(stores.iterdir()) == []


def test_a_block_of_another_storage_is_refused(tree: Path, stores: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tree, other)
    python = write_interpreter(tmp_path, f'cd "{other}" && exec "{sys.executable}" "$@"')
    with pytest.raises(NotMeasurableError) as caught:
        run_block(Arm("base", tree, python), QUICK, stores, seed=1)
    assert f"storage comes from {other}/storage, this block measures {tree}/storage" in str(caught.value)
    assert str(caught.value).startswith("the base arm cannot run today's benchmarks (exit code 4)")


def test_a_cell_that_kills_its_process_is_named_with_the_signal(tree: Path, stores: Path) -> None:
    spoil_reading(tree, "os.kill(os.getpid(), 11)")
    with pytest.raises(NotMeasurableError) as caught:
        run_block(Arm("new", tree), QUICK, stores, seed=1)
    assert str(caught.value) == f"the new arm was killed by SIGSEGV in {CELL}"
    assert list(stores.iterdir()) == []


def test_a_block_whose_cells_all_fail_says_why(tree: Path, stores: Path) -> None:
    spoil_reading(tree, 'raise OSError("no " + "luck " * 30 + "today")')
    block = run_block(Arm("new", tree), QUICK, stores, seed=1)
    assert block == Block({}, absent={CELL: f"OSError: no {'luck ' * 30}today"})


def test_a_storage_that_lacks_what_the_benchmarks_import_is_told_in_one_line(tree: Path, stores: Path) -> None:
    (tree / "storage" / "durability.py").unlink()
    with pytest.raises(NotMeasurableError) as caught:
        run_block(Arm("base", tree), QUICK, stores, seed=1)
    assert str(caught.value) == (
        "the base arm cannot run today's benchmarks (exit code 4): "
        "ModuleNotFoundError: No module named 'storage.durability'"
    )


# --- what is run: programs that stand for Python


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["exit 1"], "the new arm cannot run today's benchmarks (exit code 1): no output"),
        (["echo one", "echo; echo two; exit 2"], "the new arm cannot run today's benchmarks (exit code 2): two"),
        (["kill -9 $$"], "the new arm was killed by SIGKILL in its start"),
        (["echo ERROR: bad option; echo bye; exit 4"], "(exit code 4): ERROR: bad option"),
        (["echo {} > block.json"], "a block measured nothing: "),
    ],
    ids=["silent", "last line", "killed", "error", "no run"],
)
def test_a_process_that_measures_nothing_is_one_line(
    lines: list[str], message: str, tmp_path: Path, stores: Path
) -> None:
    with pytest.raises(NotMeasurableError) as caught:
        run_block(Arm("new", tmp_path, write_interpreter(tmp_path, *lines)), QUICK, stores, seed=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_block_without_a_cell_of_that_name_is_empty(tmp_path: Path, stores: Path) -> None:
    assert run_block(Arm("new", tmp_path, write_interpreter(tmp_path, "exit 5")), QUICK, stores, seed=1) == Block({})


def test_the_report_of_an_earlier_block_is_not_read(tmp_path: Path, stores: Path) -> None:
    (tmp_path / "block.json").write_text("{}")
    with pytest.raises(NotMeasurableError, match="no output"):
        run_block(Arm("new", tmp_path, write_interpreter(tmp_path, "exit 1")), QUICK, stores, seed=1)


def test_the_reasons_of_cells_that_failed_or_were_skipped_are_read(tmp_path: Path, stores: Path) -> None:
    lines = ("echo 'FAILED b/x.py::test_a[c-1] - E: 1 - 2'", "echo 'SKIPPED b/x.py::test_b - Skipped: no room'")
    arm = Arm("new", tmp_path, write_interpreter(tmp_path, *lines, "exit 1"))
    absent = {"b/x.py::test_a[c-1]": "E: 1 - 2", "b/x.py::test_b": "Skipped: no room"}
    assert run_block(arm, QUICK, stores, seed=1) == Block({}, absent=absent)


def test_a_block_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "LONGEST_BLOCK", 0.3)
    python = write_interpreter(tmp_path, "sleep 600 &", "echo $$ $! > started", "wait")
    with pytest.raises(NotMeasurableError, match=r"the new arm took more than 0\.3 seconds for one block"):
        run_block(Arm("new", tmp_path, python), QUICK, stores, seed=1)
    await_end(*map(int, (tmp_path / "started").read_text().split()))


def test_a_worker_that_a_block_leaves_behind_is_ended(tmp_path: Path, stores: Path) -> None:
    python = write_interpreter(tmp_path, "sleep 600 > /dev/null 2>&1 &", "echo $! > started", "exit 5")
    run_block(Arm("new", tmp_path, python), QUICK, stores, seed=1)
    await_end(int((tmp_path / "started").read_text()))


def await_end(*processes: int) -> None:
    """Wait until none of these processes runs; a zombie does not."""
    for process in processes:
        status = Path(f"/proc/{process}/stat")
        for _ in range(200):
            if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"process {process} is still there")


def read_environment(tmp_path: Path, stores: Path, **more: dict[str, object]) -> dict[str, str]:
    """Run a block that notes its environment."""
    python = write_interpreter(tmp_path, "env > noted", "exit 5")
    run_block(Arm("new", tmp_path, python, **more), QUICK, stores, seed=42)
    lines = (tmp_path / "noted").read_text().splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_a_block_does_not_see_what_would_change_it(
    tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwanted = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONDONTWRITEBYTECODE", "GATE_SLOWDOWN")
    for name in unwanted:
        monkeypatch.setenv(name, "--maxfail=1")
    for name in ("COLD", "DURABLE"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    seen = read_environment(tmp_path, stores)
    assert not seen.keys() & set(unwanted)
    assert (seen["COLD"], seen["DURABLE"], seen["SOMETHING_ELSE"]) == ("false", "false", "kept")
    assert (seen["PYTHONHASHSEED"], seen["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]) == ("42", "1")


def test_images_of_a_relative_path_are_found_from_the_folder_of_a_block(
    tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    for said, seen in (("images", str(tmp_path / "images")), ("standin", "standin"), ("", "")):
        monkeypatch.setenv("CIFAR10", said)
        assert read_environment(tmp_path, stores)["CIFAR10"] == seen


def test_only_an_arm_that_is_slowed_hears_of_it(tmp_path: Path, stores: Path) -> None:
    slowdown: dict[str, object] = {"cells": [CELL], "factor": 1.2, "kind": "spin"}
    assert json.loads(read_environment(tmp_path, stores, slowdown=slowdown)["GATE_SLOWDOWN"]) == slowdown
    assert "GATE_SLOWDOWN" not in read_environment(tmp_path, stores)


def test_a_block_is_asked_for_cells_or_for_an_expression(tmp_path: Path, stores: Path) -> None:
    arm = Arm("new", tmp_path, write_interpreter(tmp_path, 'printf "%s\\n" "$@" > noted', "exit 5"))
    run_block(arm, Selection((10, 100), "read and not png", (CELL,)), stores, seed=1)
    asked = (tmp_path / "noted").read_text().splitlines()
    assert asked[:3] == ["-m", "pytest", CELL]
    assert "--cutoffs=10,100" in asked
    assert "-k" not in asked
    run_block(arm, Selection((10, 100), "read and not png"), stores, seed=1)
    assert (tmp_path / "noted").read_text().splitlines()[2:5] == ["benchmarks", "-k", "read and not png"]


# --- both arms


def make_plan(tmp_path: Path, python: str, record: Path | None = None) -> Plan:
    """Make a plan of blocks that this program stands for."""
    return Plan(ROOT, TODAY, TODAY, (python, python), QUICK, tmp_path / "stores", record)


def test_arms_take_turns_and_share_a_seed_within_a_pair(tmp_path: Path, stores: Path) -> None:
    python = write_interpreter(tmp_path, f'echo "${{PWD##*/}} $PYTHONHASHSEED" >> "{tmp_path}/noted"', "exit 5")
    with prepare_arms(make_plan(tmp_path, python)) as prepared:
        assert prepared.stores.parent == stores
        for _ in range(3):
            prepared.measure(())
    assert (tmp_path / "noted").read_text().split("\n")[:-1] == [
        "base 1",
        "new 1",
        "new 2",
        "base 2",
        "base 3",
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


def test_what_each_block_measured_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"base": 0.5, "new": 0.25}
    measured: Callable[..., Block] = lambda arm, *_, **__: Block({CELL: times[arm.name]})  # noqa: E731 - one line
    monkeypatch.setattr(arms, "run_block", measured)
    plan = make_plan(tmp_path, "python", record=tmp_path / "record.jsonl")
    prepared = Arms(Arm("base", tmp_path), Arm("new", tmp_path), plan, tmp_path)
    for _ in range(2):
        pair = prepared.measure((CELL,))
        assert (pair.base.seconds, pair.new.seconds) == ({CELL: 0.5}, {CELL: 0.25})
    lines = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [(line["arm"], line["seconds"]) for line in lines] == [
        ("base", {CELL: 0.5}),
        ("new", {CELL: 0.25}),
        ("new", {CELL: 0.25}),
        ("base", {CELL: 0.5}),
    ]


# --- where stores are


def test_stores_are_in_the_folder_that_was_named(tmp_path: Path) -> None:
    with claim_stores(tmp_path) as stores:
        assert stores.parent == tmp_path
        (stores / "store").mkdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [True, False], ids=["room", "no room"])
def test_stores_are_in_memory_if_it_has_room(room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a parameter
    for name in ("memory", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(blocks, "MEMORY", tmp_path / "memory")
    monkeypatch.setattr(blocks, "LEAST_FREE", 0 if room else 1 << 62)
    with claim_stores(None) as stores:
        assert stores.parent == tmp_path / ("memory" if room else "temporary")


def test_a_system_without_a_file_system_in_memory_has_its_stores_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(blocks, "MEMORY", tmp_path / "missing")
    with claim_stores(None) as stores:
        assert stores.parent == tmp_path
