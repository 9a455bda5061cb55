"""Worktrees for the gate: today's benchmarks, with the `storage` of any commit."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from reports.errors import NotMeasurableError, WrongInputError
from reports.text import count_noun, shorten_text

MEASURED = "storage"
SHARED = ("benchmarks", "fixtures", "reports", "conftest.py", "pyproject.toml")  # today's, on both sides
SOURCES = f"{MEASURED}/sources"  # loads images, which isn't measured: an older storage without it gets today's


@dataclass(frozen=True)
class Version:
    """One `storage`: its name for people, and its full commit; None is the working tree."""

    name: str
    commit: str | None = None


WORKING_TREE = Version("the working tree")


def find_version(project: Path, reference: str) -> Version:
    """Find the commit that a git reference names."""
    if problem := _find_problem(project):
        raise NotMeasurableError(f"no git history in {project} ({problem}); the gate needs a clone of the repository")
    found = _run_git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}")
    if found is None or found.startswith(b"^"):  # "all but this commit" isn't a commit
        shallow = (_run_git(project, "rev-parse", "--is-shallow-repository") or b"").strip() == b"true"
        hint = "fetch the whole history" if shallow else "`git log --oneline` lists the commits"
        raise WrongInputError(f"{shorten_text(reference)}: neither a file nor a commit here; {hint}")
    commit = found.decode().strip()
    if not list_files(project, commit):
        raise NotMeasurableError(f"{commit[:8]} is older than this suite: it has no {MEASURED}/__init__.py")
    return Version(f"{shorten_text(reference, 60)} ({commit[:8]})", commit)


def describe_changes(project: Path) -> str:
    """Count the files of the working tree's `storage` that differ from the last commit; empty if there are none."""
    changed = (_run_git(project, "status", "--porcelain", "--untracked-files=all", "--", MEASURED) or b"").splitlines()
    return f"uncommitted changes in {count_noun(len(changed), 'file')} of {MEASURED}/" if changed else ""


def is_same(project: Path, baseline: Version, candidate: Version) -> bool:
    """Check whether both versions hold the same `storage`."""
    if candidate.commit is None and describe_changes(project):
        return False
    commits = [version.commit or "HEAD" for version in (baseline, candidate)]
    return _run_git(project, "diff", "--quiet", *commits, "--", MEASURED) is not None


def make_worktree(project: Path, version: Version, folder: Path) -> None:
    """Make the worktree of one side in `folder`, which must not exist."""
    folder.mkdir(parents=True)
    for name in SHARED:
        _copy(project / name, folder / name)
    if version.commit is None:
        _copy(project / MEASURED, folder / MEASURED)
        return
    for path in list_files(project, version.commit):
        content = _run_git(project, "show", f"{version.commit}:./{path}")
        if content is None:
            raise NotMeasurableError(f"git has lost {shorten_text(path)} of {version.name}; run `git fsck`")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    if (project / SOURCES).exists() and not (folder / SOURCES).exists():
        _copy(project / SOURCES, folder / SOURCES)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*", "runs"))
    else:
        shutil.copy(source, target)


def list_files(project: Path, commit: str) -> list[str]:
    """List the files of `storage` in a commit, as paths from the suite's folder; empty if there is no such package."""
    listed = _run_git(project, "ls-tree", "-r", "-z", "--name-only", commit, "--", f"{MEASURED}/") or b""
    paths = [os.fsdecode(path) for path in listed.split(b"\0") if path]
    return paths if f"{MEASURED}/__init__.py" in paths else []


def _find_problem(project: Path) -> str:
    """Say why there is no git history, in git's own words; empty if there is one."""
    git = shutil.which("git")
    if git is None:
        return "git isn't installed"
    command = [git, "rev-parse", "--git-dir"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)  # noqa: S603 - git itself
    return shorten_text(done.stderr) if done.returncode else ""


def _run_git(project: Path, *arguments: str) -> bytes | None:
    """Run git and return what it prints; None if it fails."""
    git = shutil.which("git") or "git"
    done = subprocess.run([git, *arguments], cwd=project, capture_output=True, check=False)  # noqa: S603 - git itself
    return done.stdout if done.returncode == 0 else None
