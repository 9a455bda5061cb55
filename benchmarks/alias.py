"""A second name for an imported package, so that backends of other packages use the `storage` under test."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def alias_package(name: str, package: ModuleType) -> None:
    """Make `name` another name of `package`: ``import NAME.x`` gives the very module ``PACKAGE.x``."""
    imported = sys.modules.setdefault(name, package)
    if imported is not package:
        raise ImportError(f"{name} was already imported from {imported.__file__}: import it after the alias is set")
    finder = _AliasFinder(name, package.__name__)
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)


class _AliasFinder(MetaPathFinder, Loader):
    """Finds the submodules of an alias: the modules that the package itself imports."""

    def __init__(self, name: str, package: str) -> None:
        self._names = name, package

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _AliasFinder) and self._names == other._names

    def __hash__(self) -> int:
        return hash(self._names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a submodule of the alias; leave all other names to other finders."""
        del path, target
        return ModuleSpec(fullname, self) if fullname.startswith(f"{self._names[0]}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module under its own name."""
        name, package = self._names
        module = import_module(package + spec.name.removeprefix(name))
        spec.loader_state = module.__spec__  # the import system is about to replace it
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module, which has run already, its own spec back."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state
