"""A record that is larger than a library can hold is refused, and one byte less is stored, for both kinds."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import BACKENDS, Encoded
from tests.support.encoded_sets import check_file_reads
from tests.support.image_sets import check_reads

LIMITS = {  # where the limit is, the bytes of a record beyond those of its image, and whose limit it is
    "lmdb": ("_lmdb.MAX_VALUE", 0, "a value of LMDB"),
    "lmdb_packed": ("_lmdb.MAX_VALUE", 0, "a value of LMDB"),
    "sqlite": ("sqlite.MAX_IMAGE", 0, "a row of SQLite"),
    "leveldb": ("leveldb.MAX_RECORD", 8, "a value of LevelDB"),
    "badger": ("badger.MAX_VALUE", 8, "a value of Badger"),
    "bolt": ("bolt.MAX_VALUE", 8, "a value of Bolt"),
}
SIZE = 3 * 300  # bytes of an image
HERE = [name for name in LIMITS if name in BACKENDS]
SETS: dict[str, Callable[[int], tuple[Any, storage.Labels]]] = {
    "pixels": lambda size: (np.ones((2, 1, size // 3, 3), np.uint8), np.arange(2)),
    "encoded": lambda size: (Encoded.join([b"", bytes(size)]), np.arange(2)),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in HERE for kind in SETS if (name, kind) != ("lmdb_packed", "encoded")],  # it cuts files
)
def test_a_record_as_large_as_the_limit_is_stored_and_a_larger_one_is_refused_before_anything_is_written(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, extra, what = LIMITS[name]
    module, attribute = place.split(".")
    limit = SIZE + extra
    monkeypatch.setattr(import_module(f"storage.backends.{module}"), attribute, limit)
    monkeypatch.setattr(BACKENDS[name], "RECORD", 1, raising=False)  # lmdb_packed's: one image
    with pytest.raises(storage.InvalidInputError, match=f"{limit + 3} bytes, and {what} at most {limit}"):
        BACKENDS[name].store_many(tmp_path / "large", *SETS[kind](SIZE + 3))
    assert not (tmp_path / "large").exists()
    BACKENDS[name].store_many(tmp_path / "store", *SETS[kind](SIZE))
    check = check_file_reads if kind == "encoded" else check_reads
    check(BACKENDS[name], tmp_path / "store", SETS[kind](SIZE))


@pytest.mark.parametrize("name", [name for name in HERE if name not in {"sqlite", "leveldb"}])
def test_more_files_than_one_record_of_offsets_or_labels_holds_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, attribute = LIMITS[name][0].split(".")
    monkeypatch.setattr(import_module(f"storage.backends.{module}"), attribute, 800)
    with pytest.raises(storage.InvalidInputError, match=r"8\d\d bytes, and a value of .* at most 800"):
        BACKENDS[name].store_many(tmp_path / "store", Encoded.join([b""] * 101), np.arange(101) + 2**40)
    assert not (tmp_path / "store").exists()
