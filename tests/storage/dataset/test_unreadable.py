"""What the operating system refuses to read is never called damaged: permissions, a failing disk, open files, locks."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import storage
from storage import BACKENDS, CorruptStoreError, StorageError
from storage.__main__ import main
from storage.dataset.manifest import FILE
from storage.dataset.report import Finding, Reasons, Report, describe
from tests.faults.children import Ending, run_child
from tests.support.backends import need_backend
from tests.support.datasets import find_beside, find_part, find_path
from tests.support.image_sets import make_set
from tests.support.privileges import respect_permissions

COUNT = 6


@pytest.fixture
def saved(backend: str, tmp_path: Path) -> Path:
    """Save six images."""
    storage.save(tmp_path / "set", *make_set(COUNT, 5, 7), backend)
    return tmp_path / "set"


def list_calls(path: Path) -> dict[str, Callable[[], object]]:
    """List what reads a whole dataset."""
    return {
        "load": lambda: storage.load(path),
        "unverified": lambda: storage.load(path, verify=False),
        "open": lambda: storage.open(path).read(range(COUNT)),
    }


def find_blame(path: Path, *, but: str = "") -> str:
    """Read a dataset in every way `but` one; return which one called it damaged, or read it."""
    wrong = []
    for name, call in list_calls(path).items():
        if name == but:
            continue
        try:
            call()
        except CorruptStoreError as error:
            wrong.append(f"{name}: {error}")
        except StorageError:
            continue
        else:
            wrong.append(f"{name}: it was read")
    try:
        report = storage.check(path)
    except CorruptStoreError as error:
        wrong.append(f"check: {error}")
    except StorageError:
        pass
    else:
        if report.outcome != "unreadable":
            wrong.append(f"check: {report}")
    return "; ".join(wrong)


def find_blame_as_user(path: Path, *, but: str = "") -> str:
    """Do that without the privileges of root; the command is run, too."""
    respect_permissions()
    code = main(["check", str(path)])
    return find_blame(path, but=but) + ("" if code == 2 else f"exit code {code}")


@pytest.mark.parametrize("target", [FILE, "part-00000.checksums", "part-00000.json", "part-00000", ""])
def test_a_dataset_that_a_user_may_not_read_is_unreadable(
    target: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    storage.save(tmp_path / "set", *make_set(COUNT, 5, 7), "npy")
    forbid_and_check(tmp_path / "set", [find_path(tmp_path / "set", target)], capfd)


def test_a_dataset_whose_stores_a_user_may_not_read_is_unreadable(
    saved: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    forbid_and_check(saved, [path for path in saved.glob("part-*/**/*") if path.is_file()], capfd)


def forbid_and_check(saved: Path, paths: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    """Forbid to read some paths of a dataset, and check what is said about it."""
    for path in paths:
        path.chmod(0)
    try:
        but = "unverified" if paths[0].suffix == ".checksums" else ""
        assert run_child(lambda: find_blame_as_user(saved, but=but)) == Ending(0, "")
    finally:
        for path in paths:
            path.chmod(0o755)
    printed = "".join(capfd.readouterr())
    assert "Permission denied" in printed
    assert "restore" not in printed
    assert storage.check(saved).is_whole


def test_a_dataset_in_a_folder_that_may_not_be_searched_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    storage.save(tmp_path / "folder" / "set", *make_set(COUNT, 5, 7), "npy")
    (tmp_path / "folder").chmod(0)
    try:
        assert run_child(lambda: find_blame_as_user(tmp_path / "folder" / "set")) == Ending(0, "")
    finally:
        (tmp_path / "folder").chmod(0o755)


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_part_that_the_system_refuses_to_open_is_unreadable(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", *make_set(COUNT, 5, 7), "npy")
    opened = os.open

    def refuse(path: str | bytes | Path, *arguments: int, **options: int) -> int:
        if b"part-" in os.fsencode(path):
            raise OSError(code, os.strerror(code), path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert not find_blame(tmp_path / "set")
    *lines, last = describe(storage.check(tmp_path / "set"))
    assert all(os.strerror(code) in line or "can't be read" in line for line in lines)
    assert last.startswith("0 of 6 images are whole; the others can't be read here and now, which isn't damage: ")


@pytest.mark.parametrize("suffix", ["checksums", "json"])
def test_a_file_beside_a_part_that_the_system_refuses_to_open_makes_its_records_unreadable(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", *make_set(COUNT, 5, 7), "npy")
    opened, name = os.open, find_beside(tmp_path / "set", suffix).name

    def refuse(path: str | bytes | Path, *arguments: int, **options: int) -> int:
        if os.fsencode(path).endswith(os.fsencode(name)):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    report = storage.check(tmp_path / "set")
    assert list(report.unread_files) == [name]
    assert report.unread_records == dict.fromkeys(range(COUNT), f"{name} can't be read")
    assert report.outcome == "unreadable"


def test_too_little_memory_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(tmp_path / "set", *make_set(COUNT, 5, 7), "npy")

    def fail(store: Path, *_: object) -> object:
        with storage.errors.reading(store):
            raise MemoryError

    monkeypatch.setattr(BACKENDS["npy"], "open_reader", fail)
    monkeypatch.setattr(BACKENDS["npy"], "read_many", fail)
    assert not find_blame(tmp_path / "set")


@need_backend("hdf5")
def test_the_lock_of_another_program_is_not_damage(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(COUNT, 5, 7), "hdf5")
    with (find_part(tmp_path / "set") / "images.h5").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert storage.check(tmp_path / "set").outcome != "damaged"
    assert storage.check(tmp_path / "set").is_whole


def test_damage_is_reported_even_if_something_else_is_unreadable() -> None:
    damaged, unread = (
        Reasons([Finding(3, 5, "torn", is_damage=True)]),
        Reasons([Finding(0, 2, "locked", is_damage=False)]),
    )
    report = Report(Path("set"), "png", 9, {}, damaged, {}, unread)
    assert report.outcome == "damaged"
    *found, last = describe(report)
    assert found == ["records 3 to 4: torn", "records 0 to 1: locked"]
    assert last.startswith("5 of 9 images are whole; first make the others readable, then check again; restore the")


def test_reasons_are_a_mapping_whatever_their_number() -> None:
    reasons = Reasons([Finding(1, 3, "a", False), Finding(3, 4, "a", False), Finding(7, 2**61, "b", True)])  # noqa: FBT003
    assert reasons.runs == [(1, 4, "a"), (7, 2**61, "b")]
    assert len(reasons) == 3 + 2**61 - 7
    assert (reasons[1], reasons[3], reasons[7], reasons[2**60]) == ("a", "a", "b", "b")
    assert [index in reasons for index in (-1, 0, 4, 6, 2**61)] == [False] * 5
    assert [reasons.count(*ends) for ends in ((0, 1), (0, 2), (2, 8), (4, 7), (0, 2**62))] == [0, 1, 3, 0, len(reasons)]
    assert dict(Reasons([Finding(4, 6, "c", False)])) == {4: "c", 5: "c"}  # noqa: FBT003
    assert repr(reasons) == f"{{range(1, 4): 'a', range(7, {2**61}): 'b'}}"
