"""The cells that a change can affect: from the files that differ, through imports, to benchmarks and backends.

Sources are read, never imported. An import counts wherever it is in a file. Two modules connect everything and are
treated specially: from the package `storage` itself, only the modules that define the imported names are reached, and
the registry doesn't reach the backends that it imports by name. Both are run by every cell.
"""

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

TOP, REGISTRY, BACKENDS, TESTS = "storage", "storage.registry", "storage.backends.", "benchmarks.test_"
HARMLESS = {".md", ".pyc"}  # suffixes of files that no cell reads
CONTROLS = ("npy", "tar")  # backends that need only NumPy
OPERATIONS = ("store_many", "read_many")
CONTROL_IMAGES = 1_000


@dataclass(frozen=True)
class Affected:
    """The cells of these backends, and those of these benchmark files with any backend; or all, for a reason."""

    backends: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    everything: str = ""

    def __bool__(self) -> bool:
        """Whether any cell is affected."""
        return bool(self.backends or self.files or self.everything)

    def describe(self) -> str:
        """Say which cells a change can affect."""
        if self.everything:
            return f"all cells are measured: {self.everything}"
        files = [f"{name}.py of all backends" for name in self.files]
        names = ", ".join([*self.backends, *files])
        return f"the change can affect {names}" if names else "no cell uses what differs; --all measures them anyway"

    def keep(self, named: Collection[str], *folders: Path) -> "Affected":
        """Keep only the named backends, if any are named; those of other packages may import anything."""
        built_in = {path.stem for folder in folders for path in (folder / TOP / "backends").glob("*.py")}
        kept = tuple(name for name in named if name in self.backends or name not in built_in)
        return replace(self, backends=kept) if named else self

    def find_backends(self) -> tuple[str, ...]:
        """Return the backends that have affected cells; empty if all may have."""
        return () if self.everything or self.files else self.backends

    def find_controls(self) -> list[str]:
        """Return the backends of the controls."""
        return [] if self.everything or self.files else [name for name in CONTROLS if name not in self.backends]

    def choose_controls(self, cutoffs: Collection[int]) -> tuple[str, ...]:
        """Choose cells that the change can't affect: none if it affects cells of all backends."""
        images = max((each for each in cutoffs if each <= CONTROL_IMAGES), default=min(cutoffs))
        names = [f"{operation}[{name}-{images}]" for name in self.find_controls() for operation in OPERATIONS]
        return tuple(f"benchmarks/test_many.py::test_{name}" for name in names)

    def restrict(self, expression: str, controls: Collection[str]) -> str:
        """Restrict a pytest -k expression to the affected cells, and add the controls."""
        if self.everything:
            return expression
        names = [*self.files, *(f"[{name}{end}" for name in self.backends for end in "-]")]
        chosen = " and ".join(f"({part})" for part in (expression, " or ".join(names)) if part)
        return " or ".join([chosen, *(cell.partition("::")[2] for cell in controls)])


class Imports:
    """The imports of one version: modules of `storage` and `benchmarks`, and what each of them imports."""

    def __init__(self, folder: Path) -> None:
        self._trees: dict[str, ast.Module] = {}
        self._packages = set()
        for path in sorted(each for room in (TOP, "benchmarks") for each in (folder / room).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join(parts[:-1] if path.stem == "__init__" else parts)
            self._trees[name] = ast.parse(path.read_bytes())
            if path.stem == "__init__":
                self._packages.add(name)
        self._exports = {
            alias.asname or alias.name: self._find_base(TOP, node)
            for node in self._trees[TOP].body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self._direct: Mapping[str, Collection[str]] = {name: set(self._find_imports(name)) for name in self._trees}

    @property
    def modules(self) -> Collection[str]:
        """The names of all modules."""
        return self._trees.keys()

    def find_reached(self, module: str) -> set[str]:
        """Find all names that running a module may import: modules of this version, and others."""
        reached: set[str] = set()
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += self._direct.get(name, ())
        return reached

    def find_affected(self, changed: Collection[str]) -> tuple[set[str], set[str]]:
        """Find the backends and the benchmark files that reach one of the names."""
        found = {name for name in self._trees if self.find_reached(name) & set(changed)}
        backends = {name.removeprefix(BACKENDS) for name in found if name.startswith(BACKENDS)}
        files = {name.partition(".")[2] for name in found if name.startswith(TESTS)}
        return {name for name in backends if not name.startswith("_")}, files

    def count_files(self) -> int:
        """Count the benchmark files."""
        return sum(name.startswith(TESTS) for name in self._trees)

    def _find_imports(self, module: str) -> Iterator[str]:
        if module == TOP:
            return
        yield from self._list_parents(module)
        for node in ast.walk(self._trees[module]):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._list_parents(alias.name)
            elif isinstance(node, ast.ImportFrom):
                base = self._find_base(module, node)
                for alias in node.names:
                    yield from self._list_parents(self._find_definition(base, alias.name))
            elif isinstance(node, ast.Call) and module.startswith(f"{TOP}.") and module != REGISTRY:
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if name in {"import_module", "__import__"}:  # of anything
                    yield from self._trees

    def _find_base(self, module: str, node: ast.ImportFrom) -> str:
        parts = module.split(".")
        up = node.level - (module in self._packages)
        start = parts[: len(parts) - up] if node.level else []
        return ".".join([*start, *filter(None, [node.module])])

    def _find_definition(self, base: str, name: str) -> str:
        if f"{base}.{name}" in self._trees:
            return f"{base}.{name}"
        return self._exports.get(name, base) if base == TOP else base

    def _list_parents(self, name: str) -> Iterator[str]:
        """List a name and the packages that are imported with it, except `storage`."""
        parts = name.split(".")
        yield from (".".join(parts[:end]) for end in range(2 if parts[0] == TOP else 1, len(parts) + 1))


def _list_files(folder: Path) -> Mapping[str, bytes]:
    paths = (path for path in (folder / TOP).rglob("*") if path.is_file() and path.suffix not in HARMLESS)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def find_affected(old: Path, new: Path) -> Affected:
    """Find what can differ between two worktrees; what can't be traced affects all cells."""
    before, after = _list_files(old), _list_files(new)
    changes = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    for name in sorted(changes):
        if name not in after or not name.endswith(".py"):
            return Affected(everything=f"{name} {'was deleted' if name not in after else 'is not Python'}")
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in changes}
    if TOP in modules:
        return Affected(everything=f"{TOP}/__init__.py differs")
    return trace(modules, old, new)


def trace(names: Collection[str], *folders: Path) -> Affected:
    """Find the cells that import one of these modules or libraries, in any of the worktrees."""
    try:
        versions = [Imports(folder) for folder in folders]
    except (SyntaxError, ValueError) as problem:
        return Affected(everything=f"imports can't be traced ({problem})")
    found = [version.find_affected(names) for version in versions]
    backends, files = (set().union(*each) for each in zip(*found, strict=True))
    if len(files) == versions[-1].count_files():
        return Affected(everything="all benchmarks use what differs")
    return Affected(tuple(sorted(backends)), tuple(sorted(files)))
