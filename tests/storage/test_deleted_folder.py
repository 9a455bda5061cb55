"""A relative path in a current folder that was deleted is an error of this package."""

from collections.abc import Callable
from pathlib import Path

import pytest

import storage
from storage import BACKENDS, Backend
from tests.support.image_sets import make_set

STORE = Path("store")
CALLS: dict[str, Callable[[Backend], object]] = {
    "store_many": lambda module: module.store_many(STORE, *make_set(2)),
    "store_single": lambda module: module.store_single(STORE, make_set(1)[0][0], 7),
    "read_many": lambda module: module.read_many(STORE),
    "read_single": lambda module: module.read_single(STORE, 0),
    "open_reader": lambda module: module.open_reader(STORE),
    "find_pixels": lambda module: module.find_pixels(STORE),
    "find_records": lambda module: module.find_records(STORE),
}


def test_a_backend_raises_an_error_of_ours_in_a_deleted_folder(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    module = BACKENDS[backend]
    for name, call in CALLS.items():
        with subtests.test(name):
            try:
                call(module)
            except storage.StorageError:
                continue
            assert name in {"find_pixels", "find_records"}, "a store was found"
