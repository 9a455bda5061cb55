"""Interpreters of other virtual environments, and pip in them."""

import os
import subprocess
from pathlib import Path

import pytest


def run_python(python: Path | str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an interpreter in a folder, without the variables of the tests and without the Go bridge of the user."""
    hidden = ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "COVERAGE_PROCESS_START")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["XDG_CACHE_HOME"] = str(folder)
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def run_pip(python: Path | str, *arguments: str, folder: Path) -> None:
    """Run pip; skip the test if there is no package index to download from."""
    ended = run_python(python, "-m", "pip", "--disable-pip-version-check", *arguments, folder=folder)
    if ended.returncode and "connection" in (ended.stdout + ended.stderr).lower():
        pytest.skip("no package index can be reached")
    assert ended.returncode == 0, ended.stdout + ended.stderr
