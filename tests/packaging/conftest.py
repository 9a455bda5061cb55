"""Wheels and virtual environments, built once for all tests of this folder."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.suite import ROOT


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


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of `storage/` from a copy, so that the build leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "storage", folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build"))
    run_pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", "built", "./source", folder=folder)
    (built,) = (folder / "built").iterdir()
    return built


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, with its dependencies and no extra, into a new environment; return its interpreter."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    run_pip(folder / "bin" / "python", "install", str(wheel), folder=folder)
    return folder / "bin" / "python"
