"""Wheels and virtual environments, built once for all tests of this folder."""

import shutil
import sys
import venv
from pathlib import Path

import pytest

from tests.support.environments import run_pip
from tests.support.suite import ROOT


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
