"""The worktrees of the gate: which commit is meant, what is written, what differs."""

import shutil
from pathlib import Path

import pytest

from reports.errors import NotMeasurableError, WrongInputError
from reports.gate.worktrees import (
    WORKING_TREE,
    Code,
    Version,
    describe_changes,
    find_code,
    find_version,
    is_same,
    make_worktree,
)
from tests.support.repositories import commit_all, make_repository, run_git, write_files

STORAGE = {"__init__.py": b"version = 1\n", "deep/er/tables.py": b"", "image.bin": bytes(range(256)) + b"\r\n\0"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a repository of one commit; its folder has a blank in its name."""
    folder = tmp_path / "a project"
    make_repository(folder, STORAGE)
    return folder


def read_files(folder: Path) -> dict[str, bytes]:
    """Read all files, by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("reference", ["HEAD", "HEAD~1", "main", "a/branch", "v1", "annotated", "full", "short"])
def test_a_commit_is_found_by_any_of_its_names(project: Path, reference: str) -> None:
    first = run_git(project, "rev-parse", "HEAD")
    run_git(project, "branch", "a/branch")
    run_git(project, "tag", "v1")
    run_git(project, "tag", "--annotate", "--message=x", "annotated")
    second = commit_all(project)
    reference = {"full": first, "short": first[:10]}.get(reference, reference)
    expected = second if reference in {"HEAD", "main"} else first
    assert find_version(Code(project), reference) == Version(f"{reference} ({expected[:8]})", expected)


@pytest.mark.parametrize(
    "reference", ["nothing", "HEAD~9", "", "--all", "0" * 40, "HEAD:storage", "a b", "^main", "main..main"]
)
def test_an_unknown_reference_is_wrong_input(project: Path, reference: str) -> None:
    with pytest.raises(WrongInputError, match="neither a file nor a commit here; `git log --oneline` lists"):
        find_version(Code(project), reference)


def test_a_shallow_clone_is_told_to_fetch_its_history(project: Path, tmp_path: Path) -> None:
    commit_all(project)
    run_git(tmp_path, "clone", "--quiet", "--depth=1", project.as_uri(), "clone")
    with pytest.raises(WrongInputError, match="HEAD~1: neither a file nor a commit here; fetch the whole history"):
        find_version(Code(tmp_path / "clone"), "HEAD~1")


def test_a_folder_without_git_history_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(NotMeasurableError, match=rf"^no git history in {tmp_path} \(fatal: .*; the gate needs a clone"):
        find_version(Code(tmp_path), "HEAD")
    run_git(tmp_path, "init", "--quiet")
    with pytest.raises(WrongInputError, match="nor a commit"):
        find_version(Code(tmp_path), "HEAD")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotMeasurableError, match=r"^no git history in .* \(git isn't installed\)"):
        find_version(Code(tmp_path), "HEAD")


def test_a_commit_without_the_suite_is_too_old(project: Path) -> None:
    (project / "storage" / "__init__.py").rename(project / "storage" / "main.py")
    commit = commit_all(project)
    with pytest.raises(NotMeasurableError, match=f"^{commit[:8]} is older than this suite: it has no storage/__init__"):
        find_version(Code(project), "HEAD")


def test_the_storage_of_a_commit_is_written_byte_for_byte(project: Path, tmp_path: Path) -> None:
    version = find_version(Code(project), "HEAD")
    write_files(project, {"storage/__init__.py": b"changed\n", "storage/new.py": b""})
    make_worktree(project, Code(project), version, tmp_path / "worktree")
    assert read_files(tmp_path / "worktree" / "storage") == STORAGE


def test_file_names_may_contain_anything(tmp_path: Path) -> None:
    names = ["with blank.py", 'quote".py', "new\nline.py", "ünïcödé.py", "-dash.py", "a:b.py", "*.py", "deep er/[x].py"]
    storage = {"__init__.py": b"", **{name: name.encode() for name in names}}
    commit = make_repository(tmp_path / "project", storage)
    make_worktree(tmp_path / "project", Code(tmp_path / "project"), Version("x", commit), tmp_path / "worktree")
    assert read_files(tmp_path / "worktree" / "storage") == storage


def test_every_worktree_has_the_benchmarks_of_today(project: Path, tmp_path: Path) -> None:
    version = find_version(Code(project), "HEAD")
    write_files(project, {"benchmarks/test_x.py": b"x = 2\n"})
    make_worktree(project, Code(project), version, tmp_path / "worktree")
    files = read_files(tmp_path / "worktree")
    assert files["benchmarks/test_x.py"] == b"x = 2\n"
    packages = {"benchmarks/test_x.py", "fixtures/__init__.py", "reports/__init__.py"}
    others = {name for name in files if not name.startswith("storage/")}
    assert others == packages | {"conftest.py", "pyproject.toml"}


def test_the_working_tree_is_copied_with_all_its_changes(project: Path, tmp_path: Path) -> None:
    (project / "storage" / "image.bin").unlink()
    changes = {"__init__.py": b"version = 2\n", "deep/new.py": b"new\n", "runs/of_its_own.py": b""}
    write_files(project, {f"storage/{name}": content for name, content in changes.items()})
    write_files(project, {"storage/__pycache__/old.pyc": b"", "storage/.hidden": b""})
    make_worktree(project, Code(project), WORKING_TREE, tmp_path / "worktree")
    assert read_files(tmp_path / "worktree" / "storage") == {"deep/er/tables.py": b"", **changes}


def test_an_old_storage_without_sources_gets_those_of_today(project: Path, tmp_path: Path) -> None:
    old = find_version(Code(project), "HEAD")
    write_files(project, {"storage/sources/folder.py": b"1"})
    new = Version("new", commit_all(project))
    write_files(project, {"storage/sources/folder.py": b"2"})
    for version, expected in ((old, b"2"), (new, b"1")):
        make_worktree(project, Code(project), version, tmp_path / version.name)
        assert (tmp_path / version.name / "storage" / "sources" / "folder.py").read_bytes() == expected


def test_the_suite_may_lie_in_a_folder_of_its_repository(tmp_path: Path) -> None:
    make_repository(tmp_path / "outer" / "suite", STORAGE)
    shutil.rmtree(tmp_path / "outer" / "suite" / ".git")
    commit_all(tmp_path / "outer")
    version = find_version(Code(tmp_path / "outer" / "suite"), "HEAD")
    make_worktree(tmp_path / "outer" / "suite", Code(tmp_path / "outer" / "suite"), version, tmp_path / "worktree")
    assert read_files(tmp_path / "worktree" / "storage") == STORAGE


def test_a_file_that_the_history_has_lost_is_named(project: Path, tmp_path: Path) -> None:
    version = find_version(Code(project), "HEAD")
    lost = run_git(project, "rev-parse", "HEAD:storage/image.bin")
    (project / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(NotMeasurableError, match=r"storage/image\.bin"):
        make_worktree(project, Code(project), version, tmp_path / "worktree")


def test_changed_and_untracked_files_of_the_storage_are_counted(project: Path) -> None:
    write_files(project, {"benchmarks/test_x.py": b"x = 2\n"})
    assert describe_changes(Code(project)) == ""
    write_files(project, {"storage/__init__.py": b"x"})
    assert describe_changes(Code(project)) == "uncommitted changes in 1 file of storage/"
    write_files(project, {"storage/new/a.py": b"", "storage/new/b.py": b""})
    run_git(project, "config", "status.showUntrackedFiles", "no")
    assert describe_changes(Code(project)) == "uncommitted changes in 3 files of storage/"


def test_versions_are_the_same_if_their_storage_is(project: Path) -> None:
    first = find_version(Code(project), "HEAD")
    write_files(project, {"benchmarks/test_x.py": b"x = 2\n"})
    second = Version("second", commit_all(project))
    assert is_same(Code(project), first, WORKING_TREE)
    write_files(project, {"storage/__init__.py": b"version = 3\n"})
    third = Version("third", commit_all(project))
    assert [is_same(Code(project), first, each) for each in (first, second, third, WORKING_TREE)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("name", ["reel/__init__.py", "reel.py"])
def test_a_package_or_module_of_another_repository_is_written_beside_the_storage_of_today(
    name: str, project: Path, tmp_path: Path
) -> None:
    write_files(tmp_path / "other", {f"src/{name}": b"1", "src/more.py": b""})
    commit_all(tmp_path / "other")
    code = find_code(tmp_path / "other" / "src" / name.partition("/")[0])
    old = find_version(code, "HEAD")
    assert is_same(code, old, WORKING_TREE)
    write_files(tmp_path / "other", {f"src/{name}": b"2"})
    write_files(project, {"storage/__init__.py": b"today"})
    assert describe_changes(code) == f"uncommitted changes in 1 file of {code.path}/"
    assert not is_same(code, old, WORKING_TREE)
    for version, expected in ((old, b"1"), (WORKING_TREE, b"2")):
        make_worktree(project, code, version, tmp_path / version.name)
        files = read_files(tmp_path / version.name)
        assert (files[name], files["storage/__init__.py"]) == (expected, b"today")
        assert "more.py" not in files


def test_a_package_that_cannot_be_compared_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongInputError, match="doesn't exist; name the folder of a package"):
        find_code(tmp_path / "nowhere")
    with pytest.raises(WrongInputError, match="storage is also the name of a part of this suite"):
        find_code(project / "storage")
    write_files(project, {"reel/__init__.py": b""})
    with pytest.raises(NotMeasurableError, match="is older than this package: it has no reel"):
        find_version(find_code(project / "reel"), "HEAD")


def test_a_package_without_git_history_cannot_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "reel.py").touch()
    with pytest.raises(NotMeasurableError, match=rf"^no git history in {tmp_path} "):
        find_code(tmp_path / "reel.py")


def test_the_git_configuration_of_this_machine_does_not_matter(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = "[color]ui=always\n[core]quotePath=true\nautocrlf=true\n[status]short=false\nshowUntrackedFiles=no\n"
    write_files(tmp_path, {"wishes": (wishes + "[diff]external=false\nnoprefix=true\n").encode()})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "wishes"))
    first = find_version(Code(project), "HEAD")
    assert is_same(Code(project), first, WORKING_TREE)
    write_files(project, {"storage/__init__.py": b"version = 2\n"})
    second = Version("second", commit_all(project))
    assert not is_same(Code(project), first, second)
    make_worktree(project, Code(project), first, tmp_path / "worktree")
    assert read_files(tmp_path / "worktree" / "storage") == STORAGE
