"""Tiny git repositories for tests, whatever this machine's git is told to do."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_RULER = {
    "benchmarks/test_x.py": b"x = 1\n",
    "benchmarks/__pycache__/test_x.pyc": b"",
    "fixtures/__init__.py": b"",
    "reports/__init__.py": b"",
    "reports/runs/run.json": b"",
    "reports/baselines/main.json": b"",
    "conftest.py": b"",
    "pyproject.toml": b"",
    "README.md": b"",
}
_NOBODY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")


def run_git(folder: Path, *arguments: str) -> str:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *_NOBODY, *arguments]
    environment = ours | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def commit_all(folder: Path) -> str:
    """Commit all that is in `folder`, in a new repository if it is in none; return the commit."""
    if not (folder / ".git").exists():
        run_git(folder, "init", "--quiet", "--initial-branch=main")
    run_git(folder, "add", "--all", "--force")
    run_git(folder, "commit", "--quiet", "--allow-empty", "--no-verify", "--message=a state")
    return run_git(folder, "rev-parse", "HEAD")


def make_repository(folder: Path, storage: Mapping[str, bytes]) -> str:
    write_files(folder, _RULER)
    write_files(folder, {f"storage/{name}": content for name, content in storage.items()})
    return commit_all(folder)
