"""The two pyproject files, and the index of the backends, keep up with the modules."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from storage import BACKENDS
from storage.registry import list_modules
from tests.support.suite import ROOT

STORAGE = ROOT / "storage"
BUILT_IN = sorted(name for name, found in list_modules().items() if isinstance(found, str))
NOT_IN_ALL = {"all", "cluster", "fast", "gate", "remote", "site", "test"}
OTHER_EXTRAS = {ROOT: NOT_IN_ALL, STORAGE: {"all", "cluster", "fast", "images", "remote"}}


def read_settings(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", [ROOT, STORAGE], ids=["suite", "library"])
def test_every_backend_has_an_extra_and_all_includes_it(folder: Path) -> None:
    project = read_settings(folder)["project"]
    extras = project["optional-dependencies"]
    assert sorted(extras.keys() - OTHER_EXTRAS[folder]) == BUILT_IN
    included = ",".join(sorted(extras.keys() - NOT_IN_ALL))
    assert extras["all"] == [f"{project['name']}[{included}]"]


def test_a_backend_needs_the_same_versions_in_the_suite_and_in_the_library() -> None:
    suite, library = (read_settings(folder)["project"] for folder in (ROOT, STORAGE))
    always = set(suite["dependencies"])
    assert set(library["dependencies"]) <= always
    for name in BUILT_IN:
        needed = set(library["optional-dependencies"][name])
        assert needed <= always | set(suite["optional-dependencies"][name]), name


def test_both_distributions_have_one_version_licence_and_python() -> None:
    suite, library = (read_settings(folder)["project"] for folder in (ROOT, STORAGE))
    for field in ("version", "license", "requires-python"):
        assert suite[field] == library[field]
    versions = [f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)]
    assert all(set(versions) <= set(project["classifiers"]) for project in (suite, library))
    assert (ROOT / "LICENSE").read_bytes() == (STORAGE / "LICENSE").read_bytes()


def test_the_library_has_every_package_of_the_folder() -> None:
    folders = {path.parent.relative_to(STORAGE) for path in STORAGE.rglob("__init__.py")}
    packages = [".".join(("image_storage", *folder.parts)) for folder in folders if "build" not in folder.parts]
    assert read_settings(STORAGE)["tool"]["setuptools"]["packages"] == sorted(packages)


def test_the_index_has_a_row_for_every_backend_and_names_its_library() -> None:
    text = (STORAGE / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[(\w+)\]\(backends/\1\.py\) \|(.*)\|$", text, re.MULTILINE))
    assert sorted(rows) == BUILT_IN
    for name, module in BACKENDS.items():
        if name in rows:
            library, kinds = (column.strip() for column in rows[name].split("|")[-2:])
            assert library.removesuffix(" (Go)") == next(iter(module.INFO.versions)), name
            assert kinds == ", ".join(module.INFO.kinds), name


def test_the_index_has_a_row_for_every_shared_module() -> None:
    text = (STORAGE / "README.md").read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([\w./]+)\)", text))
    assert all((STORAGE / link).exists() for link in links)
    modules = {path.name for path in STORAGE.glob("*.py")} - {"__init__.py"}
    packages = {path.parent.name for path in STORAGE.glob("*/__init__.py")}
    assert modules | packages <= links


def test_the_example_of_the_index_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (STORAGE / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("image_storage", "storage"), {})  # noqa: S102 - our own text
    assert (tmp_path / "photos" / "manifest.json").is_file()
