"""The cells that a change can affect."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

import storage
from benchmarks.options import PIXELS, choose_backends
from reports.gate.affected import DECODING, Affected, Imports, find_affected, trace
from reports.gate.command import CELLS
from reports.gate.session import PHOTOS, Selection, choose_selections
from storage import BACKENDS
from tests.support.image_sets import make_set
from tests.support.repositories import write_files
from tests.support.suite import ROOT, run_pytest

NEVER_RUN = {  # modules that no cell runs, and why a slowdown in them can't be measured
    "storage.__main__": "the command line, which cells don't use",
    "storage.go_bridge.__main__": "builds the bridge, before any cell",
    "storage.dataset.conversion": "converts datasets, which no cell does",
    "storage.dataset.recovery": "saves what is whole of damaged datasets, which no cell does",
    "storage.options": "the options of convert",
    **dict.fromkeys(
        [
            "storage.cluster",
            *(f"storage.cluster.{name}" for name in ("checking", "conversion", "local_workers", "workers")),
        ],
        "shares conversions and checks among processes, which no cell does",
    ),
    **dict.fromkeys(
        [
            "storage.sources",
            *(f"storage.sources.{path.stem}" for path in (ROOT / "storage" / "sources").glob("[!_]*.py")),
        ],
        "loads images, before the clock starts",
    ),
}
SUITE = {
    "benchmarks/test_many.py": b"from benchmarks.cell import Cell",
    "benchmarks/test_dataset.py": b"from benchmarks.cell import Cell\nfrom storage import load",
    "benchmarks/cell.py": b"from storage import BACKENDS, Images\nimport storage",
    "storage/__init__.py": b"from .contract import Images\nfrom .dataset import load\nfrom .registry import BACKENDS",
    "storage/contract.py": b"",
    "storage/registry.py": b"from importlib import import_module\nimport_module('x')",
    "storage/tools.py": b"def f():\n    from . import later",
    "storage/later.py": b"",
    "storage/alone.py": b"",
    "storage/dataset/__init__.py": b"from .reading import load",
    "storage/dataset/reading.py": b"",
    "storage/backends/__init__.py": b"",
    "storage/backends/_lmdb.py": b"import lmdb.cffi",
    "storage/backends/lmdb.py": b"from ._lmdb import x\nfrom ..contract import Images",
    "storage/backends/png.py": b"from ..tools import f",
    "storage/backends/png_stored.py": b"from . import png",
}


@pytest.fixture(scope="module")
def imports() -> Imports:
    """Trace the imports of the suite as it is."""
    return Imports(ROOT)


def change(folder: Path, changes: dict[str, bytes | None]) -> Affected:
    """Make two worktrees that differ, and find what is affected."""
    write_files(folder / "old", SUITE)
    write_files(folder / "new", SUITE | {name: content for name, content in changes.items() if content is not None})
    for name in [name for name, content in changes.items() if content is None]:
        (folder / "new" / name).unlink()
    return find_affected(folder / "old", folder / "new")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("storage/backends/png_stored.py", Affected(("png_stored",))),
        ("storage/backends/png.py", Affected(("png", "png_stored"))),
        ("storage/backends/_lmdb.py", Affected(("lmdb",))),
        (
            "storage/backends/__init__.py",
            Affected(("lmdb", "png", "png_stored"), encoded="storage.backends can handle them"),
        ),
        ("storage/later.py", Affected(("png", "png_stored"))),
        ("storage/dataset/reading.py", Affected((), ("test_dataset",))),
        ("storage/alone.py", Affected()),
        ("storage/README.md", Affected()),
        ("storage/contract.py", Affected(everything="all benchmarks use what differs")),
        ("storage/registry.py", Affected(everything="all benchmarks use what differs")),
        ("storage/__init__.py", Affected.all_for("storage/__init__.py differs")),
        ("storage/go_bridge/bolt.go", Affected.all_for("storage/go_bridge/bolt.go is not Python")),
    ],
)
def test_a_change_affects_the_cells_that_import_what_differs(name: str, expected: Affected, tmp_path: Path) -> None:
    found = change(tmp_path, {name: SUITE.get(name, b"") + b"\nchanged = 1"})
    assert found == expected
    assert bool(found) == (name not in {"storage/alone.py", "storage/README.md"})


@pytest.mark.parametrize(
    ("names", "encoded", "pixels"),
    [
        (["encoded"], "storage.encoded can handle them", True),
        (["decoding"], "storage.decoding can handle them", False),
        (["jpeg"], "storage.jpeg can handle them", False),
        (["decoding", "jpeg"], "storage.decoding, storage.jpeg can handle them", False),
        (["decoding", "sources/folder"], "storage.decoding can handle them", False),
        (["decoding", "backends/png"], "storage.decoding can handle them", True),
        (["backends/files"], "storage.backends.files can handle them", True),
        (
            ["backends/files", "decoding", "encoded", "tools"],
            "storage.backends.files, storage.decoding, storage.encoded and others can handle them",
            True,
        ),
        (["backends/png", "sources/folder"], "", True),
    ],
)
def test_image_files_are_affected_by_what_handles_them(
    names: list[str], encoded: str, tmp_path: Path, *, pixels: bool
) -> None:
    suite = SUITE | {
        "benchmarks/test_decoded.py": b"from storage import Encoded\nfrom storage.contract import decode",
        "storage/encoded.py": b"",
        "storage/decoding.py": b"import codec\nfrom . import jpeg",
        "storage/jpeg.py": b"",
        "storage/contract.py": b"def f():\n    from .decoding import decode",
        "storage/tools.py": b"from .encoded import Encoded",
        "storage/sources/folder.py": b"from ..encoded import Encoded",
        "storage/backends/files.py": b"from ..encoded import Encoded\nimport spool",
    }
    for side in ("old", "new"):
        write_files(tmp_path / side, suite)
    for name in names:
        (tmp_path / "new" / "storage" / f"{name}.py").write_bytes(suite[f"storage/{name}.py"] + b"\nchanged = 1")
    found = find_affected(tmp_path / "old", tmp_path / "new")
    assert (found.encoded, found.pixels) == (encoded, pixels)
    library = {"decoding": "codec", "backends/files": "spool"}.get("".join(names), "other")
    found = trace([library], tmp_path / "new")
    assert (found.encoded, found.pixels) == ((encoded, pixels) if library != "other" else ("", True))


def test_the_description_says_whether_image_files_are_affected() -> None:
    npy = Affected(("npy",), encoded="it can handle them")
    assert npy.describe() == "the change can affect npy; cells of image files, too: it can handle them"
    assert replace(npy, pixels=False).describe() == "only cells of image files are measured: it can handle them"
    everything = Affected.all_for("--all").describe()
    assert everything == "all cells are measured, those of image files, too: --all"


def test_a_limit_to_backends_that_are_not_affected_names_those_that_are(tmp_path: Path) -> None:
    affected = Affected(("hdf5", "lmdb"), encoded="storage.backends.lmdb can handle them", pixels=False)
    write_files(tmp_path, SUITE)
    found = affected.keep(("png",), tmp_path)
    words = "none of the named backends is affected, only hdf5 and lmdb; --all measures the named ones anyway"
    assert (bool(found), found.describe()) == (False, words)
    assert replace(affected, files=("test_dataset",)).keep(("png",), tmp_path).left_out == ()


def test_a_new_backend_is_affected_and_so_is_what_a_version_imported_before(tmp_path: Path) -> None:
    assert change(tmp_path / "1", {"storage/backends/tape.py": b""}) == Affected(("tape",))
    found = change(tmp_path / "2", {"storage/backends/png.py": b"", "storage/later.py": b"x = 1"})
    assert found == Affected(("png", "png_stored"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"storage/alone.py": None}, "storage/alone.py was deleted"),
        ({"storage/alone.py": b"x = ("}, "imports can't be traced (.*)"),
        ({"storage/alone.py": b"\0"}, "imports can't be traced (.*)"),
    ],
)
def test_what_cannot_be_traced_affects_all_cells(changes: dict[str, bytes | None], reason: str, tmp_path: Path) -> None:
    found = change(tmp_path, changes)
    assert found.everything.startswith(reason.partition("(")[0])
    assert found.restrict("read", found.choose_controls((10,))) == "read"


@pytest.mark.parametrize("call", [b"__import__(name)", b"importlib.import_module(name)", b"import_module(name)"])
def test_a_dynamic_import_may_reach_anything(call: bytes, tmp_path: Path) -> None:
    changes: dict[str, bytes | None] = {"storage/backends/lmdb.py": call, "storage/alone.py": b"x = 1"}
    assert change(tmp_path, changes) == Affected(("lmdb",))
    assert change(tmp_path / "other", {"storage/backends/lmdb.py": b"print(name)", "storage/alone.py": b"x = 1"}) == (
        Affected(("lmdb",))
    )
    write_files(tmp_path / "third", SUITE | {"storage/backends/lmdb.py": call})
    assert trace({"storage.alone"}, tmp_path / "third") == Affected(("lmdb",))


def test_each_backend_that_stores_image_files_handles_them_and_so_does_what_its_family_shares() -> None:
    imports = Imports(ROOT)
    names = {name for name in imports.modules if name.startswith("storage.backends.")}
    handlers = {name.rpartition(".")[2] for name in imports.find_encoded(names)}
    assert {name for name, module in BACKENDS.items() if "encoded" in module.INFO.kinds} <= handlers
    assert {"_lmdb", "_arrow", "_records", "_tar"} <= handlers
    assert not handlers & {"png", "png_stored", "_png"}


def test_a_library_affects_the_backends_that_import_it(tmp_path: Path) -> None:
    write_files(tmp_path, SUITE)
    assert trace({"lmdb"}, tmp_path) == Affected(("lmdb",))
    assert trace({"lmdb"}, tmp_path).keep((), tmp_path) == Affected(("lmdb",))
    assert trace({"lmdb"}, tmp_path).keep(("png",), tmp_path) == Affected(left_out=("lmdb",))


def test_cells_of_buckets_are_not_affected_because_the_gate_has_none(tmp_path: Path) -> None:
    write_files(tmp_path, SUITE | {"benchmarks/test_remote.py": b"from storage.dataset import load"})
    assert trace({"storage.dataset.reading"}, tmp_path) == Affected((), ("test_dataset",))


def test_a_named_backend_of_another_package_may_import_anything(tmp_path: Path) -> None:
    write_files(tmp_path, SUITE)
    assert Affected(("lmdb",)).keep(("lmdb", "png", "reel.bench"), tmp_path) == Affected(("lmdb", "reel.bench"))


def test_the_expression_chooses_affected_cells_and_controls() -> None:
    affected = Affected(("hdf5", "npy"), ("test_dataset",))
    assert affected.restrict("a or b", ()) == "(a or b) and (test_dataset or [hdf5- or [hdf5] or [npy- or [npy])"
    affected = Affected(("npy",))
    controls = affected.choose_controls((10, 1_000, 9_000))
    names = ["test_store_many[tar-1000]", "test_read_many[tar-1000]"]
    assert controls == tuple(f"benchmarks/test_many.py::{name}" for name in names)
    assert affected.restrict("", controls) == f"([npy- or [npy]) or {' or '.join(names)}"
    assert affected.choose_controls((5_000, 2_000))[0].endswith("[tar-2000]")


@pytest.mark.parametrize("module", sorted(Imports(ROOT).modules))
def test_a_slowdown_in_any_module_of_storage_is_measured(module: str, imports: Imports) -> None:
    if module.startswith("storage"):
        backends, files = imports.find_affected({module})
        assert bool(backends or files or module == "storage") == (module not in NEVER_RUN), NEVER_RUN.get(module)


@pytest.fixture(scope="module")
def cells() -> dict[str, list[str]]:
    """List the cells of CIFAR-10 and of photos that a session would measure."""
    found = {}
    for images in ("", PHOTOS):
        chosen = ["--cutoffs=10", *[f"--images={images}"] * bool(images)]
        ended = run_pytest(ROOT, "benchmarks", "--collect-only", "-q", *chosen)
        found[images] = [line for line in ended.stdout.splitlines() if "::" in line]
        assert len(found[images]) > len(BACKENDS), ended.stdout
    return found


def select_cells(cells: dict[str, list[str]], affected: Affected) -> list[str]:
    """Select the cells that sessions of the gate would measure."""
    return [
        cell
        for selection in choose_selections(Selection((10,), CELLS), affected)
        for cell in cells[selection.images]
        if is_chosen(cell, affected.restrict(selection.expression, ()))
    ]


def is_chosen(cell: str, expression: str) -> bool:
    """Whether pytest's -k chooses a cell."""

    def is_in(name: str, /, **_: str | int | bool | None) -> bool:
        return name in cell

    return Expression.compile(expression).evaluate(is_in)


@pytest.mark.slow
def test_a_change_to_any_module_that_cells_run_chooses_cells_of_all_that_use_it(
    cells: dict[str, list[str]], imports: Imports
) -> None:
    missed = {}
    for module in sorted(imports.modules - NEVER_RUN.keys() - {"storage"}):
        if module.startswith("storage"):
            affected = trace({module}, ROOT)
            chosen = select_cells(cells, affected)
            names = [*(f"[{name}" for name in affected.backends), *(f"/{name}.py" for name in affected.files)]
            missed[module] = [name for name in names or ["["] if not any(name in cell for cell in chosen)]
    assert {module: names for module, names in missed.items() if names} == {}


def list_executed(folder: Path, name: str) -> Iterator[str]:
    """List the modules of `storage` whose functions a backend runs when it stores and reads."""
    backend, (images, labels) = BACKENDS[name], make_set(3)
    files: set[str] = set()
    sys.setprofile(lambda frame, *_: files.add(frame.f_code.co_filename))
    try:
        (folder / "store").mkdir()
        backend.store_many(folder / "store", images, labels)
        backend.read_many(folder / "store")
        with backend.open_reader(folder / "store") as reader:
            reader.read([2, 0])
        backend.read_single(folder / "store", 1)
    finally:
        sys.setprofile(None)
    for file in files:
        if file.startswith(f"{ROOT}/storage/"):
            yield ".".join(Path(file).relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", choose_backends(BACKENDS, PIXELS))
def test_all_that_a_backend_runs_affects_it(name: str, imports: Imports, tmp_path: Path) -> None:
    executed = set(list_executed(tmp_path, name))
    assert any(module.startswith("storage.backends.") for module in executed)
    assert imports.find_decoders() >= {DECODING}
    assert not executed & imports.find_decoders(), "cells of pixels decode: measure them, too, if decoding changes"
    missed = {module for module in executed if name not in imports.find_affected({module})[0]}
    assert not missed - {"storage.registry"}, "it completes backends, and affects all cells anyway"


def test_all_that_a_dataset_runs_affects_its_cells(imports: Imports, tmp_path: Path) -> None:
    images, labels = make_set(3)
    files: set[str] = set()
    sys.setprofile(lambda frame, *_: files.add(frame.f_code.co_filename))
    try:
        storage.save(tmp_path / "set", images, labels, backend="npy", durable=False)
        storage.load(tmp_path / "set")
    finally:
        sys.setprofile(None)
    decoders = {f"{ROOT}/{name.replace('.', '/')}.py" for name in imports.find_decoders()}
    assert not files & decoders, "cells of pixels decode: measure them, too, if decoding changes"
    executed = [Path(file) for file in files if file.startswith(f"{ROOT}/storage/dataset/")]
    assert len(executed) > 3
    for path in executed:
        module = f"storage.dataset.{path.stem}".removesuffix(".__init__")
        assert "test_dataset" in imports.find_affected({module})[1], module
