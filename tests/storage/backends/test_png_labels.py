"""What both PNG backends have: a table of labels that is damaged, or is no file at all, is refused."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import Backend
from tests.storage.backends.test_foreign_png import cut, make_endless, make_folder, make_pipe
from tests.support.backends import take_family
from tests.support.image_sets import make_set

MEMBERS = take_family("png", "png_stored")


@pytest.fixture(params=list(MEMBERS.values()), ids=list(MEMBERS))
def folder(request: pytest.FixtureRequest) -> Backend:
    """Name the modules whose stores are folders of PNG files."""
    module: Backend = request.param
    return module


@pytest.fixture
def store(folder: Backend, tmp_path: Path) -> Path:
    """Make a store of four images."""
    folder.store_many(tmp_path, make_set(4, 5, 7)[0], np.array([3, -20, 100, 7], np.int64))
    return tmp_path


@pytest.mark.parametrize(
    "content",
    [
        "",
        "label\n3\n-20\n",
        "label,images=4,height=5,width=7,characters=3\n  3\n-20\n100\n",
        "label,images=5,height=5,width=7,characters=3\n  3\n-20\n100\n  7\n",
        "label,images=4,height=5,width=7,characters=3\n  x\n-20\n100\n  7\n",
        "label,images=4,height=5,width=7,characters=3\n  3\n-20\n\n00\n  7\n",
        "label,images=4,height=5,width=7,characters=3\n  3\n-20\n1\n0\n  7\n",
        "label,images=1,height=5,width=7,characters=20\n99999999999999999999\n",
        "label,images=1,height=5,width=7,characters=20\n-9223372036854775809\n",
        "label,images=1,height=5,width=7,characters=0\n\n",
    ],
    ids=[
        *("empty", "another header", "cut", "too many", "no number", "other lines", "one more line", "65 bits"),
        *("65 bits with a minus", "no characters"),
    ],
)
def test_a_damaged_table_of_labels_is_refused(folder: Backend, store: Path, content: str) -> None:
    (store / "labels.csv").write_text(content)
    for read in (folder.read_many, folder.open_reader):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


LINES = [
    b"1_0",
    b" +1",
    b"- 1",
    b"--1",
    b"1\r2",
    b" 1\r",
    b"1  ",
    b"1 2",
    b"   ",
    b"1\n2",
    b"1\x00 ",
    b"\xd9\xa1 ",
    b"\xb2 1",
]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("index", [0, 1])
def test_a_label_is_blanks_a_minus_and_digits_only(folder: Backend, store: Path, line: bytes, index: int) -> None:
    lines = [b" -7", b"  3"]
    lines[index] = line
    header = b"label,images=2,height=5,width=7,characters=3\n"
    (store / "labels.csv").write_bytes(header + b"".join(b"%b\n" % line for line in lines))
    for read in (folder.read_many, folder.open_reader, lambda store: folder.read_single(store, index)):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


@pytest.mark.parametrize(
    "replace", [make_pipe, make_folder, make_endless, cut(10**12)], ids=["pipe", "directory", "endless", "1 TB"]
)
def test_something_else_in_the_place_of_labels_is_refused(
    folder: Backend, store: Path, replace: Callable[[Path], object]
) -> None:
    replace(store / "labels.csv")
    for read in (folder.read_many, folder.open_reader, lambda store: folder.read_single(store, 0)):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


def test_labels_that_fit_no_memory_are_an_error_of_ours(folder: Backend, store: Path) -> None:
    header = "label,images=99999999999,height=5,width=7,characters=99\n"
    (store / "labels.csv").write_text(header)
    os.truncate(store / "labels.csv", len(header) + 99_999_999_999 * 100)
    for read in (folder.read_many, folder.open_reader):
        with pytest.raises(storage.StorageError, match=str(store)):
            read(store)


def test_a_label_of_more_than_64_bits_is_refused_when_it_is_read_alone(folder: Backend, store: Path) -> None:
    (store / "labels.csv").write_text("label,images=1,height=5,width=7,characters=20\n99999999999999999999\n")
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        folder.read_single(store, 0)
