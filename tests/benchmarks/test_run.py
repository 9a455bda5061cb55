"""What a run's JSON says of the machine, and of its times."""

import os
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from benchmarks.run_info import (
    Progress,
    count_inodes,
    count_processors,
    describe_layout,
    describe_run,
    find_file_system,
    list_libraries,
    measure_memory,
    round_to_clock,
)
from storage import BACKENDS
from tests.support.backends import need_backend

MOUNTS = """22 27 0:20 / /proc rw,nosuid shared:5 - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 27 0:25 / {}/with\\040blank rw - tmpfs tmpfs rw
31 27 0:26 / {}/other rw shared:7 master:2 - btrfs /dev/vdb rw
"""


def describe(progress: Progress, measured: list[str]) -> dict[str, object]:
    """Describe a run of nothing in particular."""
    cells = [{"fullname": name, "params": {"backend": "lmdb"}} for name in measured]
    return describe_run(progress, cells, {"name": "standin"}, Path(), "pytest benchmarks", {})


@need_backend("lmdb")
def test_a_run_is_complete_when_every_cell_was_measured() -> None:
    assert describe(Progress(["a", "b"]), ["b", "a"])["complete"] is True


@need_backend("lmdb")
@pytest.mark.parametrize(
    ("progress", "measured"),
    [
        (Progress(["a", "b"]), ["a"]),
        (Progress(["a"], failed={"a": "in its teardown"}), ["a"]),
        (Progress(["a", "b"], skipped={"b": "no room"}), ["a"]),
    ],
    ids=["cut off", "failed", "skipped"],
)
def test_a_run_is_incomplete_otherwise(progress: Progress, measured: list[str]) -> None:
    assert describe(progress, measured)["complete"] is False


@need_backend("lmdb")
def test_the_backends_that_were_measured_contribute_their_libraries() -> None:
    for name, backend in BACKENDS.items():
        assert getattr(backend, "VERSIONS", {}).items() <= list_libraries([name]).items()
    assert "HDF5" not in list_libraries(["lmdb"])


@need_backend("hdf5")
def test_a_run_says_what_the_backends_that_were_measured_keep_on_disk() -> None:
    cells = [{"fullname": str(place), "params": {"backend": name}} for place, name in enumerate(["png", "hdf5", "png"])]
    layouts = describe_run(Progress(), cells, {}, Path(), "", {})["layouts"]
    assert layouts == {"hdf5": "HDF5: one file with two datasets.", "png": "PNG: one ordinary file an image."}


def test_a_run_says_who_keeps_what_was_measured_under_which_licence_and_what_could_not_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = SimpleNamespace(__doc__="Tape: slow.")  # a backend of before: it says neither
    new = SimpleNamespace(MAINTAINER="the reel project", LICENCE="MIT")
    monkeypatch.setattr("benchmarks.run_info.BACKENDS", {"old": old, "new": new})
    cells = [{"fullname": name, "params": {"backend": name}} for name in ("old", "new")]
    described = describe_run(Progress(), cells, {}, Path(), "", {"lost": "reel is not installed"})
    assert described["maintainers"] == {"new": "the reel project", "old": ""}
    assert described["licences"] == {"new": "MIT", "old": ""}
    assert described["unavailable"] == {"lost": "reel is not installed"}


@pytest.mark.parametrize(
    ("text", "line"),
    [("Tape: slow.\n\nOn disk: nothing.", "Tape: slow."), ("\nTape.\n", "Tape."), ("", ""), (None, "")],
    ids=["first line", "line below the quotes", "empty", "none"],
)
def test_a_layout_is_the_first_line_of_a_docstring(text: str | None, line: str) -> None:
    module = ModuleType("tape", text)
    assert describe_layout(module) == line


@pytest.mark.parametrize(
    ("quota", "most"), [("100000 100000\n", 1), ("150000 100000\n", 2), ("10000 100000", 1), ("9900000 100000", 10**6)]
)
def test_processors_are_limited_by_the_quota_of_the_control_group(tmp_path: Path, quota: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    unlimited = count_processors(tmp_path / "missing")
    assert count_processors(tmp_path / "cpu.max") == min(most, unlimited)


def test_a_control_group_without_a_limit_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert count_processors(tmp_path / "cpu.max") == count_processors(tmp_path / "missing") >= 1


def test_memory_is_limited_by_the_control_group(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    assert measure_memory(limit) == 1048576
    unlimited = measure_memory(tmp_path / "missing")
    assert unlimited >= 2**26
    for words in ("max\n", f"{2**62}\n"):
        limit.write_text(words)
        assert measure_memory(limit) == unlimited


@pytest.mark.parametrize(("files", "free", "counted"), [(100, 7, 7), (100, 0, 0), (0, 0, None)])
def test_inodes_are_counted_where_their_number_is_fixed(
    monkeypatch: pytest.MonkeyPatch, files: int, free: int, counted: int | None
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=files, f_favail=free))
    assert count_inodes(Path()) == counted


@need_backend("lmdb")
def test_a_run_says_what_the_machine_can_hold() -> None:
    described = describe(Progress(["a"]), ["a"])
    directory = described["store_directory"]
    assert described["memory_bytes"] == measure_memory()
    assert isinstance(directory, dict)
    assert directory["free_inodes"] is None or directory["free_inodes"] >= 0


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(tmp_path, tmp_path))
    assert find_file_system(tmp_path, mounts) == "ext4"
    assert find_file_system(tmp_path / "with blank" / "store", mounts) == "tmpfs"
    assert find_file_system(tmp_path / "other", mounts) == "btrfs"
    assert find_file_system(tmp_path, tmp_path / "missing") == "unknown"


def test_rounds_keep_the_digits_of_the_clock() -> None:
    assert time.get_clock_info("perf_counter").resolution >= 1e-9
    rounds = [0.00012345678901234567, 12.345678901249, 0.25, 2e-05]
    assert repr(round_to_clock(rounds)) == "[0.000123457, 12.345678901, 0.25, 2e-05]"


def test_no_round_becomes_nothing() -> None:
    assert round_to_clock([4e-10, 6e-10, 1.4e-9, 0.0]) == [1e-9] * 4


def test_rounding_leaves_the_rounds_of_the_session_alone() -> None:
    rounds = [0.00012345678901234567]
    round_to_clock(rounds)
    assert rounds == [0.00012345678901234567]
