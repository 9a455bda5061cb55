"""The cells that a change can affect: from the files that differ, through imports, to benchmarks and backends.

Sources are read, never imported. An import counts wherever it is in a file. Two modules connect everything and are
treated specially: from the package `storage` itself, only the modules that define the imported names are reached, and
the registry doesn't reach the backends that it imports by name. Both are run by every cell.

Cells of image files are affected, too, if what differs is one of `ENCODED`, or imports one directly. Cells of pixels
never decode, so they aren't affected by decoding, nor by what only decoding imports.
"""

import ast
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from reports.text import join_words

TOP, REGISTRY, BACKENDS, TESTS = "storage", "storage.registry", "storage.backends.", "benchmarks.test_"
HARMLESS = {".md", ".pyc"}  # suffixes of files that no cell reads
SKIPPED = {"benchmarks.test_remote"}  # its cells need --remote, which sessions of the gate don't have
DECODING = f"{TOP}.decoding"
ENCODED = {DECODING, f"{TOP}.encoded", f"{TOP}.pictures"}
CONTROLS = ("npy", "tar")  # backends that need only NumPy
OPERATIONS = ("store_many", "read_many")
CONTROL_IMAGES = 1_000
MAX_NAMED = 3  # modules


@dataclass(frozen=True)
class Affected:
    """The cells of these backends, and those of these benchmark files with any backend; or all, for a reason.

    `encoded` says why cells of image files are affected, empty if they aren't; `pixels`, whether those of pixels are.
    `left_out` are the affected backends if none of them was named, so that nothing is left.
    """

    backends: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    everything: str = ""
    encoded: str = ""
    pixels: bool = True
    left_out: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether any cell is affected."""
        return bool(self.backends or self.files or self.everything)

    @classmethod
    def all_for(cls, reason: str) -> "Affected":
        """Make one of all cells, those of image files, too."""
        return cls(everything=reason, encoded=reason)

    def describe(self) -> str:
        """Say which cells a change can affect."""
        if self.left_out:
            names = join_words(self.left_out)
            return f"none of the named backends is affected, only {names}; --all measures the named ones anyway"
        if not self.pixels:
            return f"only cells of image files are measured: {self.encoded}"
        if self.everything and self.everything == self.encoded:
            return f"all cells are measured, those of image files, too: {self.everything}"
        return self._describe_cells() + (f"; cells of image files, too: {self.encoded}" if self.encoded else "")

    def _describe_cells(self) -> str:
        if self.everything:
            return f"all cells are measured: {self.everything}"
        files = [f"{name}.py of all backends" for name in self.files]
        names = ", ".join([*self.backends, *files])
        return f"the change can affect {names}" if names else "no cell uses what differs; --all measures them anyway"

    def keep(self, named: Collection[str], *folders: Path) -> "Affected":
        """Keep only the named backends, if any are named; those of other packages may import anything."""
        built_in = {path.stem for folder in folders for path in (folder / TOP / "backends").glob("*.py")}
        kept = replace(self, backends=tuple(name for name in named if name in self.backends or name not in built_in))
        if not named:
            return self
        return kept or Affected(left_out=self.backends)

    def find_backends(self) -> tuple[str, ...]:
        """Return the backends that have affected cells; empty if all may have."""
        return () if self.everything or self.files else self.backends

    def find_controls(self) -> list[str]:
        """Return the backends of the controls."""
        return [] if self.everything or self.files else [name for name in CONTROLS if name not in self.backends]

    def choose_controls(self, cutoffs: Collection[int], payload: str = "") -> tuple[str, ...]:
        """Choose cells that the change can't affect: none if it affects cells of all backends.

        Ids name a `payload` if the images are photos.
        """
        images = max((each for each in cutoffs if each <= CONTROL_IMAGES), default=min(cutoffs))
        end = "-".join(filter(None, [str(images), payload]))
        names = [f"{operation}[{name}-{end}]" for name in self.find_controls() for operation in OPERATIONS]
        return tuple(f"benchmarks/test_many.py::test_{name}" for name in names)

    def restrict(self, expression: str, controls: Collection[str]) -> str:
        """Restrict a pytest -k expression to the affected cells, and add the controls."""
        if self.everything:
            return expression
        names = [*self.files, *(f"[{name}{end}" for name in self.backends for end in "-]")]
        chosen = " and ".join(f"({part})" for part in (expression, " or ".join(names)) if part)
        return " or ".join([chosen, *(cell.partition("::")[2] for cell in controls)])


Import = ast.Import | ast.ImportFrom | ast.Call


@cache  # most files are the same in both versions
def read_imports(source: bytes) -> Collection[Import]:
    """Find all statements of a module that import, and the calls that do."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, Import) and _can_import(node)]


def _can_import(node: Import) -> bool:
    if not isinstance(node, ast.Call):
        return True
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in {"import_module", "__import__"}


class Imports:
    """The imports of one version: modules of `storage` and `benchmarks`, and what each of them imports."""

    def __init__(self, folder: Path) -> None:
        self._imports: dict[str, Collection[Import]] = {}
        self._packages = set()
        for path in sorted(each for room in (TOP, "benchmarks") for each in (folder / room).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join(parts[:-1] if path.stem == "__init__" else parts)
            if name in SKIPPED:
                continue
            self._imports[name] = read_imports(path.read_bytes())
            if path.stem == "__init__":
                self._packages.add(name)
        self._exports = {
            alias.asname or alias.name: self._find_base(TOP, node)
            for node in self._imports[TOP]
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self._direct: Mapping[str, Collection[str]] = {name: set(self._find_imports(name)) for name in self._imports}

    @property
    def modules(self) -> AbstractSet[str]:
        """The names of all modules."""
        return self._imports.keys()

    @cache  # noqa: B019 - a version is needed once
    def find_reached(self, *modules: str, without: str = "") -> set[str]:
        """Find all names that running some modules may import: modules of this version, and others.

        What only the module `without` imports isn't followed.
        """
        reached: set[str] = set()
        waiting = list(modules)
        while waiting:
            name = waiting.pop()
            if name not in reached | {without}:
                reached.add(name)
                waiting += self._direct.get(name, ())
        return reached

    def find_decoders(self) -> set[str]:
        """Find the modules that cells reach through decoding only: decoding, and what it alone imports."""
        cells = sorted(name for name in self._imports if name.startswith((BACKENDS, TESTS)))
        return self.find_reached(DECODING) & self._imports.keys() - self.find_reached(*cells, without=DECODING)

    def find_affected(self, changed: Collection[str]) -> tuple[set[str], set[str]]:
        """Find the backends and the benchmark files that reach one of the names."""
        found = {name for name in self._imports if not self.find_reached(name).isdisjoint(changed)}
        backends = {name.removeprefix(BACKENDS) for name in found if name.startswith(BACKENDS)}
        files = {name.partition(".")[2] for name in found if name.startswith(TESTS)}
        return {name for name in backends if not name.startswith("_")}, files

    def find_used(self, changed: Collection[str]) -> set[str]:
        """Find the modules that cells use and that differ, or import a library that does."""
        libraries = set(changed) - self._imports.keys()
        modules = {name for name in self._imports if name in changed or libraries.intersection(self._direct[name])}
        return {name for name in modules if any(self.find_affected({name}))}

    def find_encoded(self, modules: Collection[str]) -> set[str]:
        """Find those of some modules that handle image files; a variant does, and what its family shares."""
        handlers = ENCODED | self.find_decoders()
        found = {name for name, used in self._direct.items() if name in handlers or not handlers.isdisjoint(used)}
        found.add(BACKENDS.rstrip("."))
        backends = {name for name in found if name.startswith(BACKENDS)}
        shared = {name for backend in backends for name in self._direct[backend]}
        family = {name for name, used in self._direct.items() if name in shared or not backends.isdisjoint(used)}
        return {name for name in modules if name in found or (name in family and name.startswith(BACKENDS))}

    def count_files(self) -> int:
        """Count the benchmark files."""
        return sum(name.startswith(TESTS) for name in self._imports)

    def _find_imports(self, module: str) -> Iterator[str]:
        if module == TOP:
            return
        yield from self._list_parents(module)
        for node in self._imports[module]:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._list_parents(alias.name)
            elif isinstance(node, ast.ImportFrom):
                base = self._find_base(module, node)
                for alias in node.names:
                    yield from self._list_parents(self._find_definition(base, alias.name))
            elif module.startswith(f"{TOP}.") and module != REGISTRY:
                yield from self._imports  # a call can import anything

    def _find_base(self, module: str, node: ast.ImportFrom) -> str:
        parts = module.split(".")
        up = node.level - (module in self._packages)
        start = parts[: len(parts) - up] if node.level else []
        return ".".join([*start, *filter(None, [node.module])])

    def _find_definition(self, base: str, name: str) -> str:
        if f"{base}.{name}" in self._imports:
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
            return Affected.all_for(f"{name} {'was deleted' if name not in after else 'is not Python'}")
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in changes}
    if TOP in modules:
        return Affected.all_for(f"{TOP}/__init__.py differs")
    return trace(modules, old, new)


def trace(names: Collection[str], *folders: Path) -> Affected:
    """Find the cells that import one of these modules or libraries, in any of the worktrees."""
    try:
        versions = [Imports(folder) for folder in folders]
    except (SyntaxError, ValueError) as problem:
        return Affected.all_for(f"imports can't be traced ({problem})")
    found = [version.find_affected(names) for version in versions]
    backends, files = (set().union(*each) for each in zip(*found, strict=True))
    used = set().union(*(version.find_used(names) for version in versions))
    encoded = set().union(*(version.find_encoded(used) for version in versions))
    pixels = not used or any(used & version.modules - version.find_decoders() for version in versions)
    affected = Affected(tuple(sorted(backends)), tuple(sorted(files)), "", _explain(encoded), pixels)
    if len(files) == versions[-1].count_files():
        return replace(affected, backends=(), files=(), everything="all benchmarks use what differs")
    return affected


def _explain(encoded: Collection[str]) -> str:
    """Say why cells of image files are affected; empty if no module handles them."""
    names = sorted(encoded)
    more = " and others" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more} can handle them" if names else ""
