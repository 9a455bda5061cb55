"""Paths of stores, as libraries in C take them."""

import os
from pathlib import Path

import pytest

import storage
from storage.paths import join_path


@pytest.mark.parametrize("store", ["a/store", "with blank", "Bücher 書", "\udcff", "."])
def test_a_path_is_what_the_operating_system_takes(store: str) -> None:
    joined = join_path(Path(store), "file")
    assert isinstance(joined, bytes)
    assert Path(os.fsdecode(joined)) == Path(store) / "file"


@pytest.mark.parametrize("store", ["\0", "store\0", "store\0/more", "more/store\0"])
def test_a_null_character_is_refused(store: str) -> None:
    with pytest.raises(storage.StoreNotFoundError, match="null character"):
        join_path(Path(store), "file")
