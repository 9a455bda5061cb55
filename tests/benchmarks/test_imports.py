"""The code that the gate runs from today's tree also works with the `storage` of older commits."""

import ast
from collections.abc import Iterator

import pytest

from tests.support.suite import ROOT

STABLE = {
    "storage": {"BACKENDS", "UNAVAILABLE", "Backend", "Image", "Images", "Labels", "Reader", "load", "save"},
    "storage.durability": {"make_durable"},
}
FILES = [ROOT / "conftest.py", *(path for name in ("benchmarks", "fixtures") for path in (ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("name", [str(path.relative_to(ROOT)) for path in FILES])
def test_modules_import_only_what_every_storage_has(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    assert [(module, names) for module, names in find_imports(tree) if names - STABLE.get(module, set())] == []


def test_another_import_would_be_noticed() -> None:
    code = "from storage.reader import fork_lock\ndef f():\n  from storage import x\n  storage.check()\n"
    assert list(find_imports(ast.parse(code))) == [("storage.reader", {"fork_lock"}), ("storage", {"check"})]


def find_imports(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """Find what is imported from `storage` as modules are imported, and which attributes of `storage` are used."""
    later = {node for part in ast.walk(tree) if is_postponed(part) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in later and str(node.module).split(".")[0] == "storage":
            yield str(node.module), {alias.name for alias in node.names}
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    yield "storage", {node.attr for node in attributes if ast.unparse(node.value) == "storage"} - {"__file__"}


def is_postponed(node: ast.AST) -> bool:
    """Whether a part of a module isn't run as the module is imported."""
    for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return for_types or isinstance(node, ast.FunctionDef)
