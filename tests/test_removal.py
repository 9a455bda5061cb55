"""Without the file of a backend, or a room of its family, its own cells and tests are gone, and nothing else."""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from storage import BACKENDS
from tests.support.suite import HERE, ROOT, clean_environment, copy_suite, run_pytest

STORAGE = ROOT / "storage"
IMPORT = re.compile(r"^\s*from storage(?:\.| import )(\w+)", re.MULTILINE)
MODULES = sorted(STORAGE.glob("*.py"))
LIST = "import storage; print(*storage.BACKENDS)"


def find_imports(paths: list[Path]) -> set[str]:
    """Find the modules that files import of `storage`, and so on."""
    names = {name for path in paths for name in IMPORT.findall(path.read_text(encoding="utf-8"))}
    found = {path for path in MODULES if path.stem in names} - set(paths)
    return names | find_imports([*paths, *found]) if found else names


def find_rooms() -> list[str]:
    """Find the modules that nobody needs but backends, and that are none: the rooms of a family."""
    shared = find_imports([*STORAGE.glob("__*__.py"), STORAGE / "backends.py", *STORAGE.glob("dataset/*.py")])
    packages = {path.parent.name for path in STORAGE.glob("*/__init__.py")}
    modules = {path.stem for path in MODULES if not path.stem.startswith("_")}
    return sorted((packages | modules) - shared - {"backends", "dataset"} - set(BACKENDS))


def find_users(room: str) -> list[str]:
    """Find the rooms that need this one."""
    files = {name: [*STORAGE.glob(f"{name}.py"), *STORAGE.glob(f"{name}/*.py")] for name in find_rooms()}
    return [name for name, paths in files.items() if room in find_imports(paths)]


@cache
def list_tests(folder: Path) -> set[str]:
    """List the ids of all cells and tests."""
    ended = run_pytest(folder, "benchmarks", "tests", *HERE, "--collect-only", "-q", "-m", "")
    assert ended.returncode == 0, ended.stdout
    return {line for line in ended.stdout.splitlines() if "::" in line}


def list_backends(folder: Path) -> set[str]:
    """List the backends of a copy of the suite."""
    command = [sys.executable, "-c", LIST]
    return set(subprocess.check_output(command, cwd=folder, env=clean_environment(), text=True).split())


def find_others(tests: set[str], names: list[str]) -> list[str]:
    """Find the tests that are of no module of these names, or of a name that begins so and an underscore."""
    own = re.compile("|".join(rf"{name}\b|{name}_" for name in names))
    return [test for test in tests if not own.search(test)]


@pytest.mark.slow
def test_without_its_file_a_backend_is_gone_and_nothing_else(backend: str, tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    (folder / "storage" / f"{backend}.py").unlink()
    gone = list_tests(ROOT) - list_tests(folder)
    assert any(f"test_read_many[{backend}-10]" in name for name in gone)
    assert not find_others(gone, [backend])  # its variants build on it


@pytest.mark.slow
@pytest.mark.parametrize("room", find_rooms())
def test_without_a_room_its_family_is_gone_and_nothing_else(room: str, tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    path = folder / "storage" / room
    shutil.rmtree(path) if path.is_dir() else path.with_suffix(".py").unlink()
    family = set(BACKENDS) - list_backends(folder)
    gone = list_tests(ROOT) - list_tests(folder)
    assert all(any(f"test_read_many[{name}-10]" in test for test in gone) for name in family)
    assert not find_others(gone, [*family, room, *find_users(room)])
