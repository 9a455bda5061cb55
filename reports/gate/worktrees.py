"""Worktrees for the gate: today's benchmarks, with the `storage` of any commit."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reports.errors import NotMeasurableError, WrongInputError
from reports.text import count_noun, shorten_text

MEASURED = "storage"
SHARED = ("benchmarks", "fixtures", "reports", "conftest.py", "pyproject.toml")  # today's, on both sides
SAVED = ("runs", "baselines")  # folders of `reports`: results, which may be large
SOURCES = f"{MEASURED}/sources"  # loads images, which isn't measured: an older storage without it gets today's


class Code(NamedTuple):
    """A package or module in a repository, or in a folder of one, that the gate compares."""

    folder: Path
    path: str = MEASURED  # from there


@dataclass(frozen=True)
class Version:
    """A version of it: its name for people, and its full commit; None is the working tree."""

    name: str
    commit: str | None = None


WORKING_TREE = Version("the working tree")


def find_code(path: Path) -> Code:
    """Find the repository of a package's folder, or of a module's file."""
    path = path.resolve()
    if not path.exists():
        raise WrongInputError(f"{path} doesn't exist; name the folder of a package, or the file of a module")
    if problem := _find_problem(path.parent):
        raise NotMeasurableError(f"no git history in {path.parent} ({problem})")
    if path.name in {*SHARED, MEASURED}:
        raise WrongInputError(f"{path.name} is also the name of a part of this suite; rename yours")
    return Code(path.parent, path.name)


def find_version(code: Code, reference: str) -> Version:
    """Find the commit that a git reference names."""
    project = code.folder
    if problem := _find_problem(project):
        raise NotMeasurableError(f"no git history in {project} ({problem}); the gate needs a clone of the repository")
    found = _run_git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}")
    if found is None or found.startswith(b"^"):  # "all but this commit" isn't a commit
        shallow = (_run_git(project, "rev-parse", "--is-shallow-repository") or b"").strip() == b"true"
        hint = "fetch the whole history" if shallow else "`git log --oneline` lists the commits"
        raise WrongInputError(f"{shorten_text(reference)}: neither a file nor a commit here; {hint}")
    commit = found.decode().strip()
    if not list_files(code, commit):
        name = f"{MEASURED}/__init__.py" if code.path == MEASURED else code.path
        old = f"{commit[:8]} is older than this {'suite' if code.path == MEASURED else 'package'}"
        raise NotMeasurableError(f"{old}: it has no {name}")
    return Version(f"{shorten_text(reference, 60)} ({commit[:8]})", commit)


def describe_changes(code: Code) -> str:
    """Count the files of the working tree that differ from the last commit; empty if there are none."""
    found = _run_git(code.folder, "status", "--porcelain", "--untracked-files=all", "--", code.path) or b""
    changed = found.splitlines()
    return f"uncommitted changes in {count_noun(len(changed), 'file')} of {code.path}/" if changed else ""


def is_same(code: Code, baseline: Version, candidate: Version) -> bool:
    """Check whether both versions hold the same files."""
    if candidate.commit is None and describe_changes(code):
        return False
    commits = [version.commit or "HEAD" for version in (baseline, candidate)]
    return _run_git(code.folder, "diff", "--quiet", *commits, "--", code.path) is not None


def make_worktree(project: Path, code: Code, version: Version, folder: Path) -> None:
    """Make the worktree of one side in `folder`, which must not exist: the suite, with a version of some code."""
    folder.mkdir(parents=True)
    for name in SHARED if code.path == MEASURED else (*SHARED, MEASURED):
        _copy(project / name, folder / name, *SAVED)
    if version.commit is None:
        _copy(code.folder / code.path, folder / code.path)
        return
    for path, content in _read_files(code, version):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    if (project / SOURCES).exists() and not (folder / SOURCES).exists():
        _copy(project / SOURCES, folder / SOURCES)


def _copy(source: Path, target: Path, *ignored: str) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*", *ignored))
    else:
        shutil.copy(source, target)


def list_files(code: Code, commit: str) -> list[str]:
    """List the files of the code in a commit, as paths from its folder; empty if there is no such package or module."""
    paths = list(_list_blobs(code, commit))
    return paths if code.path != MEASURED or f"{MEASURED}/__init__.py" in paths else []


def _list_blobs(code: Code, commit: str) -> dict[str, bytes]:
    """List the files of the code in a commit, and the ids of their contents."""
    listed = _run_git(code.folder, "ls-tree", "-r", "-z", commit, "--", code.path) or b""
    entries = [entry.partition(b"\t") for entry in listed.split(b"\0") if entry]
    return {os.fsdecode(path): facts.split()[-1] for facts, _, path in entries}


def _read_files(code: Code, version: Version) -> Iterator[tuple[str, bytes]]:
    """Read all files of the code in a commit with one process: there are many."""
    blobs = _list_blobs(code, str(version.commit))
    found = _run_git(code.folder, "cat-file", "--batch", given=b"\n".join([*blobs.values(), b""])) or b""
    start = 0
    for path in blobs:
        facts = found[start : found.find(b"\n", start)].split()  # id, type and size, or that it is missing
        if len(facts) != 3:  # noqa: PLR2004
            raise NotMeasurableError(f"git has lost {shorten_text(path)} of {version.name}; run `git fsck`")
        start = found.find(b"\n", start) + 1
        yield path, found[start : start + int(facts[2])]
        start += int(facts[2]) + 1


def _find_problem(project: Path) -> str:
    """Say why there is no git history, in git's own words; empty if there is one."""
    git = shutil.which("git")
    if git is None:
        return "git isn't installed"
    command = [git, "rev-parse", "--git-dir"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)  # noqa: S603 - git itself
    return shorten_text(done.stderr) if done.returncode else ""


def _run_git(project: Path, *arguments: str, given: bytes = b"") -> bytes | None:
    """Run git on what it is given and return what it prints; None if it fails."""
    git = shutil.which("git") or "git"
    done = subprocess.run([git, *arguments], cwd=project, input=given, capture_output=True, check=False)  # noqa: S603 - git itself
    return done.stdout if done.returncode == 0 else None
