"""Blocks of the gate: what a process measures, what it must not see, and how it ends."""

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from reports.errors import NotMeasurableError, WrongInputError
from reports.gate import session as blocks
from reports.gate.session import Arm, Block, Selection, run_block
from reports.gate.worktrees import WORKING_TREE, Version, make_tree
from tests.support.backends import need_backend
from tests.support.machine import write_interpreter
from tests.support.runs import make_cell, run_of, save
from tests.support.suite import ROOT

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


def spoil_reading(tree: Path, statement: str) -> None:
    """Begin the function that reads many images from HDF5 with a statement."""
    path = tree / "storage" / "hdf5.py"
    text = path.read_text()
    assert text.count(BODY) == 1, "the function that this test spoils is not there any more"
    path.write_text(text.replace(BODY, f"    {statement}\n{BODY}"))


# --- what is measured


@need_backend("hdf5")
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
    assert f"storage comes from {other}/storage" in str(caught.value)  # the rest is cut where paths are long
    assert str(caught.value).startswith("the base arm cannot run today's benchmarks (exit code 4)")


@need_backend("hdf5")
def test_a_cell_that_kills_its_process_is_named_with_the_signal(tree: Path, stores: Path) -> None:
    spoil_reading(tree, "os.kill(os.getpid(), 11)")
    with pytest.raises(NotMeasurableError) as caught:
        run_block(Arm("new", tree), QUICK, stores, seed=1)
    assert str(caught.value) == f"the new arm was killed by SIGSEGV in {CELL}"
    assert list(stores.iterdir()) == []


@need_backend("hdf5")
def test_a_block_whose_cells_all_fail_says_why(tree: Path, stores: Path) -> None:
    spoil_reading(tree, 'raise OSError("no " + "luck " * 30 + "today")')
    block = run_block(Arm("new", tree), QUICK, stores, seed=1)
    assert block == Block({}, absent={CELL: f"OSError: no {'luck ' * 30}today"})


def test_a_storage_that_lacks_what_the_benchmarks_import_is_told_in_one_line(tree: Path, stores: Path) -> None:
    path = tree / "storage" / "__init__.py"
    path.write_text(f"{path.read_text()}\ndel Labels\n")
    with pytest.raises(NotMeasurableError) as caught:
        run_block(Arm("base", tree), QUICK, stores, seed=1)
    assert str(caught.value).startswith(
        "the base arm cannot run today's benchmarks (exit code 4): "
        "ImportError: cannot import name 'Labels' from 'storage'"
    )
    assert "\n" not in str(caught.value)


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


def test_a_threshold_of_a_cells_own_is_read(tmp_path: Path, stores: Path) -> None:
    cells = [make_cell("read_many", name, 10) for name in ("hdf5", "lmdb")]
    cells[0]["extra_info"]["threshold"] = 0.3
    save(run_of(cells), tmp_path)
    block = run_block(Arm("new", tmp_path, write_interpreter(tmp_path, "cp run.json block.json")), QUICK, stores, 1)
    assert block.thresholds == {cells[0]["fullname"]: 0.3}
    assert list(block.seconds) == [cell["fullname"] for cell in cells]


def test_a_cell_that_a_block_did_not_reach_is_absent(tmp_path: Path, stores: Path) -> None:
    run = run_of([make_cell("read_many", "hdf5", 10)])
    run["run"]["intended"].append("b/x.py::test_b")
    save(run, tmp_path)
    block = run_block(
        Arm("new", tmp_path, write_interpreter(tmp_path, "cp run.json block.json; exit 2")), QUICK, stores, 1
    )
    assert len(block.seconds) == 1
    assert block.absent == {"b/x.py::test_b": "the block ended before it"}


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
    unwanted = (
        "PYTEST_ADDOPTS",
        "PYTEST_PLUGINS",
        "PYTEST_XDIST_WORKER",
        "PYTHONDONTWRITEBYTECODE",
        "GATE_SLOWDOWN",
    )
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


def test_a_block_names_the_backends_of_its_cells_so_that_it_imports_no_others(tmp_path: Path, stores: Path) -> None:
    arm = Arm("new", tmp_path, write_interpreter(tmp_path, 'printf "%s\n" "$@" > noted', "exit 5"))
    cells = ("a.py::test_store_single[lmdb_packed]", "a.py::test_read_many[png-10]", "a.py::test_read_many[png-100]")
    run_block(arm, Selection((10, 100), cells=cells), stores, seed=1)
    assert "--backends=lmdb_packed,png" in (tmp_path / "noted").read_text().splitlines()
    for unknown in (Selection((10,), "read"), Selection((10,), cells=(*cells, "a.py::test_all"))):
        run_block(arm, unknown, stores, seed=1)
        assert "--backends" not in (tmp_path / "noted").read_text()


def test_an_expression_that_is_none_is_wrong_input(tmp_path: Path, stores: Path) -> None:
    script = """echo "ERROR: Wrong expression passed to '-k': and and: at column 1"; exit 4"""
    arm = Arm("new", tmp_path, write_interpreter(tmp_path, script))
    with pytest.raises(WrongInputError, match=r"^and and: no expression that pytest's -k takes"):
        run_block(arm, Selection((10,), "and and"), stores, seed=1)
