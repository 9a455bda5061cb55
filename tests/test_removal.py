"""If a backend's file is deleted, its cells and tests disappear and all others stay."""

import re
from pathlib import Path

import pytest

from storage import BACKENDS
from tests.support.suite import HERE, copy_suite, run_pytest

FAMILIES = {"npy": ("npy",), "png": ("png", "png_stored"), "_lmdb": ("lmdb", "lmdb_packed")}


def list_tests(folder: Path) -> set[str]:
    """List the ids of all cells and tests."""
    ended = run_pytest(folder, "benchmarks", "tests", *HERE, "--collect-only", "-q", "-m", "", "--assert=plain")
    assert ended.returncode == 0, ended.stdout
    return {line for line in ended.stdout.splitlines() if "::" in line}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return list_tests(copy_suite(tmp_path_factory.mktemp("whole") / "suite"))


@pytest.mark.slow
@pytest.mark.parametrize("module", FAMILIES)
def test_deleting_a_module_removes_the_cells_and_tests_of_its_backends_only(
    module: str, everything: set[str], tmp_path: Path
) -> None:
    family = FAMILIES[module]
    if missing := set(family) - set(BACKENDS):
        pytest.skip(f"not installed: {', '.join(sorted(missing))}")
    folder = copy_suite(tmp_path)
    (folder / "storage" / "backends" / f"{module}.py").unlink()
    gone = everything - list_tests(folder)
    for name in family:
        assert any(f"test_read_many[{name}-10]" in test for test in gone), f"the cells of {name} are still there"
    own = re.compile(rf"({'|'.join((module, *family))})(\b|_)")
    assert not [test for test in gone if not own.search(test)]
