"""The house: arrows between rooms, sizes, and what the documents promise."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import grimp
import pytest

from storage import BACKENDS
from tests.support.backends import need_backend
from tests.support.suite import HERE, ROOT, copy_suite, run_pytest

ROOMS = ("benchmarks", "fixtures", "reports", "storage")
FILES = [ROOT / "conftest.py", *(path for room in (*ROOMS, "tests") for path in sorted((ROOT / room).rglob("*.py")))]


def test_the_arrows_between_the_rooms_hold() -> None:
    linter = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ended = subprocess.run(linter, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_backends_do_not_import_each_other_except_a_variant_its_base() -> None:
    graph = grimp.build_graph("storage", cache_dir=None)
    for name in BACKENDS:
        imported = {
            module.removeprefix("storage.") for module in graph.find_modules_directly_imported_by(f"storage.{name}")
        }
        for other in imported & set(BACKENDS):
            assert name.startswith(f"{other}_"), f"storage.{name} imports storage.{other}, and is no variant of it"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300, f"{path} has more than 300 lines: which room is missing?"
    for function in find_functions(ast.parse(text)):
        lines = (function.end_lineno or 0) - function.lineno + 1 - len((ast.get_docstring(function) or "").splitlines())
        assert lines <= 40, f"{path}: {function.name} has {lines} lines without its docstring"


def find_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Find every function and method."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_nothing_can_be_imported_outside_the_repository(tmp_path: Path) -> None:
    for room in ROOMS:
        ended = subprocess.run([sys.executable, "-c", f"import {room}"], cwd=tmp_path, capture_output=True, check=False)
        assert b"ModuleNotFoundError" in ended.stderr, f"{room} can be imported from anywhere"


def test_dependencies_have_lower_bounds_and_no_upper_caps() -> None:
    project = read_project()
    extras = (extra for name, extra in project["optional-dependencies"].items() if name != "all")
    for requirement in chain(project["dependencies"], *extras):
        marker = r"(; python_version < '3\.\d+')?"
        assert re.fullmatch(rf"[a-z0-9-]+(\[[a-z]+\])?>=[0-9.]+{marker}", requirement), requirement


def test_the_extra_all_has_the_extra_of_each_backend() -> None:
    project = read_project()
    extras = sorted(project["optional-dependencies"].keys() - {"all", "gate", "test"})
    assert project["optional-dependencies"]["all"] == [f"{project['name']}[{','.join(extras)}]"]


def read_project() -> dict[str, Any]:
    """Read what the project says of itself."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


@need_backend("npy")
@pytest.mark.slow
def test_a_copy_of_the_shortest_backend_keeps_the_contract(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    text = (ROOT / "storage" / "npy.py").read_text(encoding="utf-8")
    (folder / "storage" / "raw.py").write_text(text.replace(".npy", ".raw"), encoding="utf-8")
    names = ("test_backends", "test_storage", "test_reader", "test_out", "test_dataset*", "faults/test_*")
    files = [str(path.relative_to(folder)) for name in names for path in (folder / "tests").glob(f"{name}.py")]
    ended = run_pytest(folder, *files, *HERE, "--backends=raw", "-k", "raw", "-v")  # what has no backend runs elsewhere
    assert ended.returncode == 0, ended.stdout
    for name in ("storage", "reader", "dataset_saving", "damages", "failures", "kills"):
        assert re.search(rf"test_{name}\.py::\w+\[[\w-]*raw.* PASSED", ended.stdout), f"{name}: {ended.stdout}"
