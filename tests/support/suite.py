"""A copy of the suite that a test may change, and sessions of it in a process of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmarks", "fixtures", "reports", "storage", "tests")
HERE = ("-p", "no:cacheprovider", "--basetemp=temporary")
BRIEF = (*HERE, "--benchmark-max-time=0.001", "--benchmark-min-rounds=1")
QUICK = (*BRIEF, "--benchmark-only")


def copy_suite(folder: Path) -> Path:
    """Copy the suite with its bytecode, but not pytest's: that would name the files it was compiled from."""
    for room in ROOMS:
        ignored = shutil.ignore_patterns("*-pytest-*", "*.pyc.*", "runs", "baselines")
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def run_pytest(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def clean_environment(**more: str) -> dict[str, str]:
    """Return this environment without what would change a session, and with `more`.

    A session loads the plugin that the suite needs, not those that only test it: they take longer to import than a cell
    of few images takes.
    """
    options = ("BACKENDS", "CIFAR10", "COLD", "CUTOFFS", "DURABLE", "IMAGES", "LATENCY", "PAYLOADS", "REMOTE", "SIZE")
    ours = (*options, "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_benchmark.plugin"}
    return kept | plugins | {"CIFAR10": "standin", "COLUMNS": "160"} | more


def find_runs(folder: Path) -> list[Path]:
    return sorted((folder / "reports" / "runs").rglob("*.json"))


def read_last_run(folder: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(find_runs(folder)[-1].read_text(encoding="utf-8"))
    return run
