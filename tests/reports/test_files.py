"""Files and temporary folders in places where others can write."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reports.files import append_file, hold_folder, remove_abandoned, replace_file
from reports.gate.affected import Affected
from reports.gate.session import Plan, Selection, prepare_sides
from reports.gate.worktrees import WORKING_TREE, Code
from tests.support.suite import ROOT

_GATE = """
import sys, time
from pathlib import Path
from reports.gate.affected import Affected
from reports.gate.session import Plan, Selection, prepare_sides
from reports.gate.worktrees import WORKING_TREE, Code

here = Path(sys.argv[1])
sides = WORKING_TREE, WORKING_TREE, ("python", "python")
plan = Plan(Path(), Code(Path()), *sides, Selection((10,)), here, lambda *_: Affected())
with prepare_sides(plan) as sides:
    (sides.stores / "store").write_bytes(bytes(1000))
    print("ready", flush=True)
    time.sleep(600)
"""


def _start_gate(folder: Path) -> subprocess.Popen[str]:
    """Start a process that prepares a gate in this folder, and wait until its worktrees and stores are there."""
    process = subprocess.Popen(
        [sys.executable, "-c", _GATE, str(folder)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_next_gate_deletes_what_a_killed_one_left_and_nothing_of_a_living_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _start_gate(tmp_path) as killed:
        killed.kill()
    left = set(tmp_path.iterdir())
    assert sorted(path.name[:9] for path in left) == ["gate-stor", "gate-tree"]
    with _start_gate(tmp_path) as living:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        theirs = set(tmp_path.iterdir())
        assert len(theirs) == 2
        assert left.isdisjoint(theirs)
        versions, pythons = (WORKING_TREE, WORKING_TREE), ("python", "python")
        plan = Plan(ROOT, Code(ROOT), *versions, pythons, Selection((10,)), tmp_path, lambda *_: Affected())
        with prepare_sides(plan) as sides:
            assert sides.stores.stat().st_mode & 0o777 == 0o700
            assert len(set(tmp_path.iterdir()) - theirs) == 2
        assert set(tmp_path.iterdir()) == theirs
        living.kill()


def test_folders_of_others_and_links_stay(tmp_path: Path) -> None:
    (tmp_path / "x-target").mkdir(mode=0o700)
    (tmp_path / "x-abandoned").mkdir(mode=0o700)
    (tmp_path / "x-open").mkdir()
    (tmp_path / "x-open").chmod(0o777)  # not as this program makes them
    (tmp_path / "x-link").symlink_to(tmp_path / "x-target")
    (tmp_path / "x-file").touch(0o700)
    remove_abandoned(path for path in tmp_path.iterdir() if path.name != "x-target")
    assert {path.name for path in tmp_path.iterdir()} == {"x-target", "x-open", "x-link", "x-file"}


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    with hold_folder("x-", tmp_path) as first, hold_folder("x-", tmp_path) as second:
        assert first.is_dir()
        assert second.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path, "text")
    assert tmp_path.is_dir()


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="this system has no /dev/null")
def test_devices_are_neither_replaced_nor_appended_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(OSError, match="isn't an ordinary file"):
        replace_file(tmp_path / "link", "text")
    with pytest.raises(OSError, match="isn't an ordinary file"):
        append_file(Path("/dev/null"), "text")
    assert (tmp_path / "link").is_symlink()


def test_text_is_appended_to_files_but_not_through_links(tmp_path: Path) -> None:
    append_file(tmp_path / "file", "a\n")
    append_file(tmp_path / "file", "b\n")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="it is a link"):
        append_file(tmp_path / "link", "c\n")
    assert (tmp_path / "file").read_text() == "a\nb\n"
