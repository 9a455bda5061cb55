"""A backend is one file: without it, its own cells and tests are gone, and nothing else."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.suite import HERE, ROOT, copy_suite, run_pytest


@cache
def list_tests(folder: Path) -> set[str]:
    """List the ids of all cells and tests."""
    ended = run_pytest(folder, "benchmarks", "tests", *HERE, "--collect-only", "-q", "-m", "")
    assert ended.returncode == 0, ended.stdout
    return {line for line in ended.stdout.splitlines() if "::" in line}


@pytest.mark.slow
def test_without_its_file_a_backend_is_gone_and_nothing_else(backend: str, tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    (folder / "storage" / f"{backend}.py").unlink()
    gone = list_tests(ROOT) - list_tests(folder)
    assert any(f"test_read_many[{backend}-10]" in name for name in gone)
    own = re.compile(rf"{backend}\b|{backend}_")  # and its variants, which build on it
    assert not [name for name in gone if not own.search(name)]
