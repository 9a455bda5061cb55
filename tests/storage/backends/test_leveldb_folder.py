"""The folder of its own through which a reader has LevelDB read a store, and what is checked before LevelDB sees it."""

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import storage
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same, make_set

leveldb = take_backend("leveldb")

import plyvel  # noqa: E402 - not before it is known to be here

from storage.backends import _leveldb as leveldb_folder  # noqa: E402


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the folders of readers made in a folder of the test's own."""
    place = tmp_path / "memory"
    place.mkdir()
    monkeypatch.setattr(leveldb_folder, "MEMORY", place)
    return place


@pytest.fixture
def store(tmp_path: Path, place: Path) -> Path:
    """Make a store of fifty images."""
    assert not list(place.iterdir())
    leveldb.store_many(tmp_path / "store", *make_set(50))
    return tmp_path / "store"


def read_files(store: Path) -> dict[str, bytes]:
    """Read the files of a store."""
    return {path.name: path.read_bytes() for path in store.iterdir()}


def find_table(store: Path) -> Path:
    """Find the one table of a small store."""
    (table,) = store.glob("*.ldb")
    return table


def test_reading_changes_nothing_in_the_store(store: Path, place: Path) -> None:
    before = read_files(store)
    with leveldb.open_reader(store) as one, leveldb.open_reader(store) as two:
        for reader in (one, two):
            assert_same(reader.read(range(50)), make_set(50))
        assert len(list(place.iterdir())) == 2
    assert_same(leveldb.read_many(store), make_set(50))
    assert read_files(store) == before
    assert not list(place.iterdir())


def test_the_folder_of_a_forgotten_reader_is_removed(store: Path, place: Path) -> None:
    reader = leveldb.open_reader(store)
    assert len(list(place.iterdir())) == 1
    del reader
    gc.collect()
    assert not list(place.iterdir())


def open_and_end(store: Path) -> None:
    """Leave a reader open."""
    sys.kept = leveldb.open_reader(store)  # type: ignore[attr-defined] # nothing else would keep it to the end


def test_the_folder_of_a_worker_process_is_removed_when_it_ends(store: Path, place: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=open_and_end, args=(store,))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert not list(place.iterdir())


def test_without_a_place_in_memory_folders_are_made_where_temporary_files_are(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leveldb_folder, "MEMORY", tmp_path / "absent")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with leveldb.open_reader(store):
        assert len(list(tmp_path.glob("image-store-leveldb-*"))) == 1


def test_with_no_room_in_memory_folders_are_made_where_temporary_files_are(
    store: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with leveldb.open_reader(store):
        assert len(list(tmp_path.glob("image-store-leveldb-*"))) == 1
        assert not list(place.iterdir())


def test_a_reader_never_reads_the_store_that_came_to_its_path_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leveldb, "BUFFER", 64 << 10)  # LevelDB writes many tables, and opens one when it needs it
    monkeypatch.setattr(leveldb, "BATCH", 16 << 10)
    store, (images, labels) = tmp_path / "store", make_set(50, 64, 64)
    leveldb.store_many(store, images, labels)
    assert len(list(store.glob("*.ldb"))) > 2
    with leveldb.open_reader(store) as reader:
        shutil.rmtree(store)
        leveldb.store_many(store, images[::-1].copy(), labels)
        with pytest.raises(storage.StorageError, match=str(store)):
            reader.read(range(50))


HOLD = """
import fcntl, sys
with open(sys.argv[1], "ab") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_folder_of_a_killed_process_is_removed_and_no_other(tmp_path: Path) -> None:
    names = {"dead": "1-a", "alive": "1-b", "own": f"{os.getpid()}-a", "young": "1-c"}
    folders = {kind: tmp_path / f"image-store-leveldb-{name}" for kind, name in names.items()}
    for kind, folder in folders.items():
        folder.mkdir()
        (folder / "LOCK").touch()
        if kind != "young":
            os.utime(folder, (0, 0))
    command = [sys.executable, "-c", HOLD, str(folders["alive"] / "LOCK")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        leveldb_folder.remove_leftovers(tmp_path, os.getpid())
        assert set(tmp_path.iterdir()) == {folders[kind] for kind in ("alive", "own", "young")}
        holder.communicate()


def test_a_damaged_end_of_a_table_is_refused_or_does_no_harm(store: Path) -> None:
    table = find_table(store)
    content = table.read_bytes()
    for place in range(1, 49):
        damaged = bytearray(content)
        damaged[-place] ^= 0xFF
        table.write_bytes(damaged)
        try:
            assert_same(leveldb.read_many(store), make_set(50))
        except storage.CorruptStoreError as error:
            assert str(store) in str(error)  # noqa: PT017 - one of the two


@pytest.mark.parametrize("size", [0, 1, 47, 48, 4096, -1])
def test_a_table_that_ends_early_is_refused(store: Path, size: int) -> None:
    table = find_table(store)
    table.write_bytes(table.read_bytes()[:size])
    with pytest.raises(storage.CorruptStoreError, match="cut short or damaged"):
        leveldb.open_reader(store)


@pytest.mark.parametrize("pattern", ["*.ldb", "MANIFEST-*"])
def test_a_missing_file_is_refused(store: Path, place: Path, pattern: str) -> None:
    next(store.glob(pattern)).unlink()
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        leveldb.open_reader(store)
    assert not list(place.iterdir())


def test_records_that_are_in_no_table_are_refused(store: Path) -> None:
    with plyvel.DB(str(store)) as database:
        database.put(bytes(8), bytes(3080))
    with pytest.raises(storage.CorruptStoreError, match="in no table yet"):
        leveldb.read_many(store)


@pytest.mark.parametrize(
    ("sizes", "settled"),
    [
        ([[], []], True),
        ([[9, 9, 9], []], True),
        ([[9, 9, 9, 9], []], False),
        ([[], [5 << 20, (5 << 20) - 1]], True),
        ([[], [5 << 20, 5 << 20]], False),
        ([[], [], [50 << 20, (50 << 20) - 1]], True),
        ([[], [], [50 << 20, 50 << 20]], False),
    ],
)
def test_a_level_that_is_too_large_is_not_settled(sizes: list[list[int]], settled: bool) -> None:  # noqa: FBT001
    lines = [
        line
        for level, tables in enumerate(sizes)
        for line in (f"--- level {level} ---", *(f" 7:{size}['\\x00' @ 1 : 1 .. 'layout' @ 2 : 1]" for size in tables))
    ]
    assert leveldb_folder.is_settled("\n".join(lines).encode()) is settled


def test_a_copied_store_is_read(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "copy")
    shutil.rmtree(store)
    assert_same(leveldb.read_many(tmp_path / "copy"), make_set(50))
