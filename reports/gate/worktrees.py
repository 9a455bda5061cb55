"""Two trees for the gate: today's benchmarks in both, the `storage` of another commit in each."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from reports.errors import NotMeasurableError, WrongInputError
from reports.text import count_noun, shorten_text

RULER = ("benchmarks", "fixtures", "reports", "conftest.py", "pyproject.toml")  # the same in both trees
MEASURED = "storage"
WORKING_TREE = "the working tree"


@dataclass(frozen=True)
class Version:
    """One `storage`: that of a commit, or of the working tree.

    Attributes
    ----------
    name : str
        For people: what was asked for, and the commit.
    commit : str or None
        All digits of the commit; None is the working tree.
    """

    name: str
    commit: str | None


def find_version(project: Path, reference: str) -> Version:
    """Find the commit that a git reference names.

    Parameters
    ----------
    project : Path
        The folder of the suite, in a git repository.
    reference : str
        Anything that ``git rev-parse`` knows.

    Raises
    ------
    NotMeasurableError
        There is no git or no repository, or the commit has no `storage` of this suite.
    WrongInputError
        There is no such commit.
    """
    if problem := _find_problem(project):
        raise NotMeasurableError(f"no git history in {project} ({problem}); the gate needs a clone of the repository")
    found = _run_git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}")
    if found is None or found.startswith(b"^"):  # "all but this one" names no commit
        hint = "fetch the whole history" if _is_shallow(project) else "`git log --oneline` lists those that there are"
        raise WrongInputError(f"{shorten_text(reference)}: neither a file nor a commit here; {hint}")
    commit = found.decode().strip()
    if not list_files(project, commit):
        raise NotMeasurableError(f"{commit[:8]} is older than this suite: it has no {MEASURED}/__init__.py")
    return Version(f"{shorten_text(reference, 60)} ({commit[:8]})", commit)


def describe_changes(project: Path) -> str:
    """Say how many files of the working tree's `storage` differ from the last commit; nothing where none does."""
    changed = (_run_git(project, "status", "--porcelain", "--untracked-files=all", "--", MEASURED) or b"").splitlines()
    return f"uncommitted changes in {count_noun(len(changed), 'file')} of {MEASURED}/" if changed else ""


def is_same(project: Path, base: Version, new: Version) -> bool:
    """Say whether both versions hold the same `storage`."""
    if new.commit is None and describe_changes(project):
        return False
    commits = [version.commit or "HEAD" for version in (base, new)]
    return _run_git(project, "diff", "--quiet", *commits, "--", MEASURED) is not None


def make_tree(project: Path, version: Version, folder: Path) -> Path:
    """Make the tree of one arm in `folder`, which must not exist.

    Returns
    -------
    Path
        The folder of its `storage`.

    Raises
    ------
    NotMeasurableError
        A file of the commit is not in the repository any more.
    """
    folder.mkdir(parents=True)
    for name in RULER:
        source = project / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "runs"))
        else:
            shutil.copy(source, folder)
    if version.commit is None:
        shutil.copytree(project / MEASURED, folder / MEASURED, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    else:
        for path in list_files(project, version.commit):
            content = _run_git(project, "show", f"{version.commit}:./{path}")
            if content is None:
                raise NotMeasurableError(f"git has lost {shorten_text(path)} of {version.name}; `git fsck` says more")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    return folder / MEASURED


def list_files(project: Path, commit: str) -> list[str]:
    """List the files of `storage` in a commit, as paths from the suite's folder; none if there is no such package."""
    listed = _run_git(project, "ls-tree", "-r", "-z", "--name-only", commit, "--", f"{MEASURED}/") or b""
    paths = [os.fsdecode(path) for path in listed.split(b"\0") if path]
    return paths if f"{MEASURED}/__init__.py" in paths else []


def _find_problem(project: Path) -> str:
    """Say why there is no git history, in git's own words; nothing where there is one."""
    git = shutil.which("git")
    if git is None:
        return "git is not installed"
    command = [git, "rev-parse", "--git-dir"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)  # noqa: S603 - git itself
    return shorten_text(done.stderr) if done.returncode else ""


def _is_shallow(project: Path) -> bool:
    return (_run_git(project, "rev-parse", "--is-shallow-repository") or b"").strip() == b"true"


def _run_git(project: Path, *arguments: str) -> bytes | None:
    """Run git and return what it prints; None if it fails."""
    git = shutil.which("git") or "git"
    done = subprocess.run([git, *arguments], cwd=project, capture_output=True, check=False)  # noqa: S603 - git itself
    return done.stdout if done.returncode == 0 else None
