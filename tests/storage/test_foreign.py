"""Stores that were damaged, or written by another program, are refused.

The cases are in `tests/storage/backends/test_NAME.py`: a table ``FOREIGN: dict[str, Case]`` for each backend.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.options import read_options
from storage import BACKENDS, Backend
from tests.support.foreign import Case
from tests.support.image_sets import make_set

COUNT = 10


def read_batch(module: Backend, store: Path) -> None:
    with module.open_reader(store) as reader:
        reader.read(range(COUNT))


def read_each(module: Backend, store: Path) -> None:
    with module.open_reader(store) as reader:
        for index in range(COUNT):
            reader[index]


READS: dict[str, Callable[[Backend, Path], object]] = {
    "read_single": lambda module, store: [module.read_single(store, index) for index in range(COUNT)],
    "read_many": lambda module, store: module.read_many(store),
    "read": read_batch,
    "reader[index]": read_each,
}


def find_cases(backend: str) -> Mapping[str, Case]:
    """Find the table of a backend; it is empty if there are no tests of the backend, or if they are skipped here."""
    name = f"tests.storage.backends.test_{backend}"
    try:
        return getattr(import_module(name), "FOREIGN", {}) if find_spec(name) else {}
    except pytest.skip.Exception:
        return {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every case of the backends that were chosen."""
    cases = [
        pytest.param(backend, case, id=f"{backend}-{name}")
        for backend in read_options(metafunc.config).backends
        for name, case in find_cases(backend).items()
    ]
    metafunc.parametrize(("name", "case"), cases)


def test_a_foreign_store_is_refused(name: str, case: Case, tmp_path: Path, subtests: pytest.Subtests) -> None:
    store = tmp_path / "store"
    BACKENDS[name].store_many(store, *make_set(COUNT))
    case.change(store)
    for way, read in READS.items():
        with subtests.test(way):
            with pytest.raises(case.error, match=case.message) as caught:
                read(BACKENDS[name], store)
            assert caught.value.store is not None
            assert caught.value.store.is_relative_to(store)
