"""Which package imports which, how long functions are, and what pyproject.toml says."""

import ast
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from storage import BACKENDS
from tests.support.suite import ROOT

PACKAGES = ("benchmarks", "fixtures", "reports", "storage")
FILES = [
    ROOT / "conftest.py",
    *(path for package in (*PACKAGES, "tests") for path in sorted((ROOT / package).rglob("*.py"))),
]


def test_imports_between_packages_follow_the_contracts() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.is_file():
        pytest.skip("import-linter is not installed")
    ended = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_a_backend_imports_no_other_backend_except_its_base() -> None:
    grimp = pytest.importorskip("grimp", reason="import-linter is not installed")
    graph = grimp.build_graph("storage", cache_dir=None)
    for name in BACKENDS:
        imported = graph.find_modules_directly_imported_by(f"storage.backends.{name}")
        others = {module.rpartition(".")[2] for module in imported} & set(BACKENDS)
        foreign = [other for other in others if not name.startswith(f"{other}_")]
        assert not foreign, f"storage.backends.{name} imports {foreign}, and isn't a variant of it"


def test_functions_have_at_most_40_lines() -> None:
    long = [
        f"{path}: {node.name} has {lines} lines without its docstring"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (lines := count_lines(node)) > 40
    ]
    assert not long, "\n".join(long)


def count_lines(function: ast.FunctionDef) -> int:
    """Count the lines of a function without those of its docstring."""
    return (function.end_lineno or 0) - function.lineno + 1 - len((ast.get_docstring(function) or "").splitlines())


def test_nothing_can_be_imported_outside_the_repository(tmp_path: Path) -> None:
    for package in PACKAGES:
        command = [sys.executable, "-c", f"import {package}"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert b"ModuleNotFoundError" in ended.stderr, f"{package} can be imported from anywhere"


def test_dependencies_have_lower_bounds_and_no_upper_caps() -> None:
    project = read_project()
    extras = (extra for name, extra in project["optional-dependencies"].items() if name != "all")
    for requirement in chain(project["dependencies"], *extras):
        marker = r"(; (python_version < '3\.\d+'|sys_platform == 'linux' and platform_machine in '[a-z0-9_ ]+'))?"
        assert re.fullmatch(rf"[a-z0-9-]+(\[[a-z]+\])?>=[0-9.]+{marker}", requirement), requirement


def read_project() -> dict[str, Any]:
    """Read the table `project` of pyproject.toml."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project
