"""A package under a second name is the same package, submodules and classes included."""

import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

import storage
from benchmarks.alias import alias_package

NAME = "storage_under_test"


@pytest.fixture(autouse=True)
def aliased(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Alias `storage`; forget the alias afterwards."""
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    alias_package(NAME, storage)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["", ".reader", ".backends.npy", ".dataset", ".sources.opening"])
def test_a_module_of_the_alias_is_the_module_of_the_package(name: str) -> None:
    assert import_module(NAME + name) is import_module(f"storage{name}")


def test_a_module_keeps_its_own_name_and_spec() -> None:
    spec = storage.__spec__, import_module("storage.paths").__spec__
    module = import_module(f"{NAME}.paths")
    assert (storage.__spec__, module.__spec__) == spec
    assert module.__spec__ is spec[1]
    assert module.__name__ == "storage.paths"


@pytest.mark.parametrize("name", [".nothing", "_and_more"], ids=["submodule", "another package"])
def test_a_module_that_does_not_exist_is_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name):
        import_module(NAME + name)


def test_aliasing_twice_adds_one_finder() -> None:
    before = sys.meta_path.copy()
    alias_package(NAME, storage)
    assert sys.meta_path == before


def test_a_package_that_was_imported_before_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = ModuleType("installed")
    installed.__file__ = "/site-packages/installed/__init__.py"
    monkeypatch.setitem(sys.modules, "installed", installed)
    with pytest.raises(ImportError, match="was already imported from /site-packages/installed"):
        alias_package("installed", storage)
    assert sys.modules["installed"] is installed
