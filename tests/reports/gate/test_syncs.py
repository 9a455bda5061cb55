"""How often storing waits for the disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.errors import NotMeasurableError
from reports.gate import session
from reports.gate.session import Side, Sides, count_sides
from reports.gate.syncs import MISSING, SyncChange, compare_syncs, count_syncs, find_obstacle
from reports.gate.worktrees import WORKING_TREE, Code, make_worktree
from tests.reports.gate.test_session import make_plan
from tests.support.suite import ROOT

TRACE = """\
7 fsync(3) = 0
7 newfstatat(AT_FDCWD, "gate:store_many[png]", 0x7ffd, 0) = -1 ENOENT (No such file or directory)
7 fsync(3 <unfinished ...>
8 fdatasync(4) = 0
7 <... fsync resumed>) = 0
7 msync(0x7f, 4096, MS_SYNC) = 0
7 msync(0x7f, 4096, MS_ASYNC) = 0
7 openat(AT_FDCWD, "a", O_WRONLY|O_CREAT|O_DSYNC, 0666) = 5
7 openat(AT_FDCWD, "fsync(", O_RDONLY) = 5
7 newfstatat(AT_FDCWD, "gate:", 0x7ffd, 0) = -1 ENOENT (No such file or directory)
7 syncfs(3) = 0
7 stat("gate:save[png]", 0x7ffd) = -1 ENOENT (No such file or directory)
7 stat("gate:", 0x7ffd) = -1 ENOENT (No such file or directory)
"""


def test_the_syncs_between_two_marks_are_those_of_an_operation() -> None:
    assert count_syncs(TRACE.splitlines()) == {"store_many[png]": 4, "save[png]": 0}


def test_only_what_differs_twice_in_one_direction_has_changed() -> None:
    counts: Iterator[tuple[dict[str, int], dict[str, int]]] = iter(
        [
            ({"a": 1, "b": 1, "c": 1, "d": 1, "old": 1}, {"a": 2, "b": 2, "c": 2, "d": 1, "new": 1}),
            ({"a": 1, "b": 1, "c": 2, "d": 1}, {"a": 3, "b": 1, "c": 1, "d": 2}),
        ]
    )
    assert compare_syncs(lambda: next(counts)) == (SyncChange("a", 1, 2),)
    same = {"a": 1}
    once = iter([(same, same)])
    assert compare_syncs(lambda: next(once)) == ()


def test_without_strace_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_obstacle() == MISSING


def test_each_side_has_its_counts(tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trace").write_text(TRACE)
    monkeypatch.setattr(session, "make_command", lambda *given: ["cp", str(tmp_path / "trace"), str(given[-1])])
    sides = [Side(name, tmp_path / name) for name in ("baseline", "candidate")]
    for side in sides:
        side.worktree.mkdir()
    measured = Sides(sides[0], sides[1], make_plan(tmp_path), stores)
    assert measured.count_syncs() == ({"store_many[png]": 4, "save[png]": 0},) * 2


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    """Make a worktree of the suite, if calls can be traced here."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    make_worktree(ROOT, Code(ROOT), WORKING_TREE, tmp_path / "tree")
    return tmp_path / "tree"


@pytest.mark.slow
def test_an_added_sync_is_counted_on_its_side_only(worktree: Path, tmp_path: Path, stores: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(worktree, other)
    path = other / "storage" / "backends" / "npy.py"
    text = path.read_text()
    before = "    folder = claim_store(store)\n"
    assert text.count(before) == 1, "npy.py has changed: adapt this test"
    path.write_text(text.replace(before, f"{before}    import os; os.sync()\n"))
    plan = make_plan(tmp_path, "python")
    sides = Sides(Side("baseline", worktree), Side("candidate", other), plan, stores)
    sides._named = ("npy", "not_here")  # noqa: SLF001 - the plan affects all, which takes seconds
    changes = compare_syncs(sides.count_syncs)
    assert changes == tuple(
        SyncChange(f"{name}[{title}]", base, base + 1)
        for name, bases in (
            ("durable save", (11, 10)),
            ("save", (0, 0)),
            ("store_many", (0, 0)),
            ("store_single", (0, 0)),
        )
        for title, base in zip(("npy-encoded", "npy"), bases, strict=True)
    )
    assert list(stores.iterdir()) == []


def test_a_side_that_stores_nothing_has_no_counts(worktree: Path, stores: Path) -> None:
    with pytest.raises(NotMeasurableError, match=r"^strace traced no store of the candidate \(.*\)$"):
        count_sides([Side("candidate", worktree)], ("not_here",), stores)
