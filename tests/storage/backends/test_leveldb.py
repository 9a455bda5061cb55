"""LevelDB: records, tables and checksums; temporary folders of readers; a thread that forked children don't have."""

import gc
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

import storage
from tests.support.backends import take_backend
from tests.support.encoded_sets import assert_same_files, make_files
from tests.support.foreign import Case, Change, both, cut, store_files
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

leveldb = take_backend("leveldb")

import plyvel  # noqa: E402 - it is here if the backend is

IMAGES, LABELS = make_set(50)
TEN = make_set(10)[0]
FILES, FILE_LABELS = make_files(10)
SIZE = FILES.content.nbytes
SMALLEST = 64 << 10  # bytes that LevelDB collects at least


def make_key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def make_layout(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def put(records: Mapping[bytes, bytes | None]) -> Change:
    def change(store: Path) -> None:
        with plyvel.DB(str(store)) as database:
            for key, value in records.items():
                database.delete(key) if value is None else database.put(key, value)
            database.compact_range()
        (log,) = store.glob("*.log")
        log.unlink()

    return change


def add_to_log(store: Path) -> None:
    with plyvel.DB(str(store)) as database:
        database.put(bytes(8), bytes(3080))


def find_file(store: Path, pattern: str = "*.ldb") -> Path:
    (path,) = store.glob(pattern)
    return path


def flip(find: Callable[[bytearray], int], pattern: str = "*.ldb", mask: int = 1) -> Change:
    def change(store: Path) -> None:
        path = find_file(store, pattern)
        content = bytearray(path.read_bytes())
        content[find(content)] ^= mask
        path.write_bytes(content)

    return change


def cut_table(size: int) -> Change:
    return lambda store: cut(find_file(store).name, size)(store)


RECORDS: dict[str, dict[bytes, bytes | None]] = {
    "no layout": {b"layout": None},
    "an empty layout": {b"layout": b""},
    "one image more": {b"layout": make_layout(11, 32, 32)},
    "one image fewer": {b"layout": make_layout(9, 32, 32)},
    "no height": {b"layout": make_layout(10, 0, 32)},
    "a width of 64 bits": {b"layout": make_layout(10, 32, 1 << 63)},
    "the first record too short": {make_key(0): b"too short"},
    "the last record too long": {make_key(9): bytes(3081)},
    "the first record missing": {make_key(0): None},
    "the last record missing": {make_key(9): None},
    "a record under another key": {make_key(7): None, make_key(7) + b"7": bytes(3080)},
}
FILE_RECORDS: dict[str, dict[bytes, bytes | None]] = {
    "one file more": {b"layout": make_layout(11, SIZE, 0)},
    "one file fewer": {b"layout": make_layout(9, SIZE, 0)},
    "no file": {b"layout": make_layout(0, 0, 0)},
    "files of far more bytes": {b"layout": make_layout(10, 1 << 40, 0)},
    "the last file missing": {make_key(9): None},
}
FOREIGN = {
    **{name: Case(put(records)) for name, records in RECORDS.items()},
    **{
        name: Case(both(store_files(leveldb), put(records)), error=storage.StorageError)
        for name, records in FILE_RECORDS.items()
    },
    "records that are in no table": Case(add_to_log, "in no table yet"),
    "a changed pixel": Case(flip(lambda content: content.index(TEN[7].tobytes())), "checksum"),
    "a changed CURRENT": Case(flip(lambda _: 9, "CURRENT")),
    "a changed MANIFEST": Case(flip(lambda _: 9, "MANIFEST-*")),
    "no table": Case(lambda store: find_file(store).unlink()),
    "no MANIFEST": Case(lambda store: find_file(store, "MANIFEST-*").unlink()),
    **{f"a table of {size} bytes": Case(cut_table(size), "cut short") for size in (0, 1, 47, 48, 4096, -1)},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have readers make their folders in a folder of the test's own."""
    place = tmp_path / "memory"
    place.mkdir()
    monkeypatch.setattr(leveldb, "MEMORY", place)
    return place


@pytest.fixture
def store(tmp_path: Path, place: Path) -> Path:
    assert not list(place.iterdir())
    leveldb.store_many(tmp_path / "store", IMAGES, LABELS)
    return tmp_path / "store"


def read_files(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


def test_leveldb_itself_reads_the_records_and_leaves_a_store(store: Path) -> None:
    with plyvel.DB(str(store)) as database:
        assert database.get(make_key(7)) == IMAGES[7].tobytes() + LABELS[7].tobytes()
        assert database.get(b"layout") == make_layout(50, 32, 32)
    assert_same(leveldb.read_many(store), (IMAGES, LABELS))


def test_the_same_images_make_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leveldb, "BUFFER", SMALLEST)
    monkeypatch.setattr(leveldb, "BATCH", SMALLEST // 4)
    for name in ("one", "two"):
        leveldb.store_many(tmp_path / name, *make_set(100))
    one, two = (read_files(tmp_path / name) for name in ("one", "two"))
    tables = {name for name in one if name.endswith(".ldb")}
    assert len(tables) > 2
    assert {name.rstrip("0123456789") for name in one.keys() - tables} == {"CURRENT", "MANIFEST-"}
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in tables)


@pytest.mark.parametrize("part", [1, 20, 50, 51])
def test_images_are_read_in_parts_out_of_many_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(leveldb, "BUFFER", SMALLEST)
    monkeypatch.setattr(leveldb, "BATCH", 7 * 3080)
    monkeypatch.setattr(leveldb, "PART", part * 3072)
    leveldb.store_many(tmp_path, IMAGES, LABELS)
    assert_same(leveldb.read_many(tmp_path), (IMAGES, LABELS))
    with leveldb.open_reader(tmp_path) as reader:
        assert_same(reader.read(range(50)), (IMAGES, LABELS))


def test_a_damaged_record_costs_no_other(store: Path) -> None:
    put({make_key(0): b"short"})(store)
    with leveldb.open_reader(store) as reader:
        with pytest.raises(storage.CorruptStoreError) as caught:
            reader[0]
        assert (caught.value.store, caught.value.record) == (store, 0)
        assert_same(reader.read([6, 8]), (IMAGES[[6, 8]], LABELS[[6, 8]]))


def test_any_damage_to_the_footer_of_a_table_is_refused_or_harmless(store: Path) -> None:
    table = find_file(store)
    content = table.read_bytes()
    for place in range(1, 49):
        flip(partial(lambda place, _: -place, place), mask=0xFF)(store)
        try:
            assert_same(leveldb.read_many(store), (IMAGES, LABELS))
        except storage.CorruptStoreError as error:
            assert error.store == store  # noqa: PT017 - either is right
        table.write_bytes(content)


def test_a_reader_writes_to_its_own_folder_alone(store: Path, place: Path) -> None:
    before = read_files(store)
    with leveldb.open_reader(store) as one, leveldb.open_reader(store) as two:
        for reader in (one, two):
            assert_same(reader.read(range(50)), (IMAGES, LABELS))
        assert len(list(place.iterdir())) == 2
    assert_same(leveldb.read_many(store), (IMAGES, LABELS))
    assert read_files(store) == before
    assert not list(place.iterdir())


def test_the_folder_of_a_forgotten_reader_and_of_a_refused_store_is_removed(store: Path, place: Path) -> None:
    reader = leveldb.open_reader(store)
    assert len(list(place.iterdir())) == 1
    del reader
    gc.collect()
    assert not list(place.iterdir())
    find_file(store, "MANIFEST-*").unlink()
    with pytest.raises(storage.CorruptStoreError):
        leveldb.open_reader(store)
    assert not list(place.iterdir())


def test_the_folder_of_a_worker_process_is_removed_when_it_ends(store: Path, place: Path) -> None:
    kept: list[storage.Reader] = []
    worker = multiprocessing.get_context("fork").Process(target=lambda: kept.append(leveldb.open_reader(store)))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert not list(place.iterdir())


@pytest.mark.parametrize("space", [None, 4096])
def test_without_space_in_memory_folders_are_made_where_temporary_files_are(
    store: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: int | None
) -> None:
    usage = shutil.disk_usage(place)
    if space is None:
        place.rmdir()
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=space))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with leveldb.open_reader(store):
        assert len(list(tmp_path.glob("image-storage-leveldb-*"))) == 1


HOLD = """
import sys
from pathlib import Path
from storage.backends import leveldb
leveldb.MEMORY = Path(sys.argv[2])
reader = leveldb.open_reader(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_the_folder_of_a_killed_process_is_removed_and_no_other(store: Path, place: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(store), str(place)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder,
        leveldb.open_reader(store) as reader,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        (place / f"{leveldb.PREFIX}link").symlink_to(store)
        (place / "other").mkdir()
        before = set(place.iterdir())
        leveldb.remove_leftovers.cache_clear()
        leveldb.remove_leftovers(place)
        assert set(place.iterdir()) == before
        holder.kill()
        holder.wait()
        leveldb.remove_leftovers.cache_clear()
        leveldb.remove_leftovers(place)
        assert len(before) - len(list(place.iterdir())) == 1
        assert_same(reader.read(range(50)), (IMAGES, LABELS))


def test_a_folder_of_another_user_is_not_touched(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / f"{leveldb.PREFIX}other").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    leveldb.remove_leftovers.cache_clear()
    leveldb.remove_leftovers(place)
    assert len(list(place.iterdir())) == 1


@pytest.mark.parametrize("attempts", [1, 100])
def test_a_folder_that_another_process_removes_is_made_again(
    store: Path, place: Path, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    locks: list[int] = []

    def lock(descriptor: int, _: int) -> None:
        locks.append(descriptor)
        if len(locks) <= attempts:
            for folder in place.iterdir():
                folder.rmdir()

    monkeypatch.setattr("fcntl.flock", lock)
    if attempts < leveldb.MAX_ATTEMPTS:
        assert_same(leveldb.read_many(store), (IMAGES, LABELS))
    else:
        with pytest.raises(storage.StorageError, match="other processes remove"):
            leveldb.read_many(store)
    assert not list(place.iterdir())


def test_a_reader_never_reads_a_store_that_came_to_its_path_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leveldb, "BUFFER", SMALLEST)  # LevelDB writes many tables, and opens one when it needs it
    monkeypatch.setattr(leveldb, "BATCH", SMALLEST // 4)
    store, (images, labels) = tmp_path / "store", make_set(50, 64, 64)
    leveldb.store_many(store, images, labels)
    assert len(list(store.glob("*.ldb"))) > 2
    with leveldb.open_reader(store) as reader:
        shutil.rmtree(store)
        leveldb.store_many(store, images[::-1].copy(), labels)
        with pytest.raises(storage.StorageError, match=str(store)):
            reader.read(range(50))


def read_database(store: Path) -> dict[bytes, bytes]:
    with plyvel.DB(str(store)) as database, database.iterator() as records:
        return dict(records)


def test_leveldb_itself_reads_the_files(tmp_path: Path) -> None:
    leveldb.store_many(tmp_path, FILES, FILE_LABELS)
    assert read_database(tmp_path) == {
        **{make_key(i): bytes(FILES[i]) + FILE_LABELS[i].astype("<i8").tobytes() for i in range(10)},
        b"layout": make_layout(10, SIZE, 0),
    }


@pytest.mark.parametrize("value", [None, b"", b"7 bytes"])
def test_a_file_that_is_missing_or_has_no_label_is_named(tmp_path: Path, value: bytes | None) -> None:
    leveldb.store_many(tmp_path, FILES, FILE_LABELS)
    put({make_key(4): value})(tmp_path)
    with leveldb.open_reader(tmp_path) as reader:
        reads: list[Callable[[], object]] = [
            lambda: leveldb.read_many(tmp_path),
            lambda: reader.read_encoded([2, 4, 6]),
            reader.read_labels,
        ]
        for read in reads:
            with pytest.raises(storage.CorruptStoreError, match="record 4: it is missing or damaged"):
                read()


@pytest.mark.parametrize("part", [1, 3000, 80_000])
def test_files_are_read_in_as_many_parts_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(leveldb, "PART", part)
    leveldb.store_many(tmp_path, FILES, FILE_LABELS)
    assert_same_files(leveldb.read_many(tmp_path), (FILES, FILE_LABELS))


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
    assert leveldb.is_settled("\n".join(lines).encode()) is settled


def test_a_store_is_settled_when_it_is_written_and_refused_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [False, False, True, False]
    monkeypatch.setattr(leveldb, "is_settled", lambda _: answers.pop(0))
    leveldb.store_many(tmp_path, *make_set(5))
    assert answers == [False]
    with pytest.raises(storage.CorruptStoreError, match="would move"):
        leveldb.open_reader(tmp_path)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have LevelDB's thread belong to another process, as in a forked child."""
    monkeypatch.setattr(leveldb, "_thread_owners", {-1})


@pytest.mark.usefixtures("forked")
def test_a_forked_child_refuses_more_than_leveldb_can_collect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leveldb, "MAX_BUFFER", 50 * (3080 + leveldb.OVERHEAD))
    leveldb.store_many(tmp_path / "whole", IMAGES, LABELS)
    assert_same(leveldb.read_many(tmp_path / "whole"), (IMAGES, LABELS))
    assert {path.suffix for path in (tmp_path / "whole").iterdir()} == {"", ".ldb"}
    with pytest.raises(storage.StorageError, match="use a process that was started with spawn"):
        leveldb.store_many(tmp_path / "more", *make_set(51))
    assert not (tmp_path / "more").exists()


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("harm", [flip(lambda _: 1000, "*.log"), lambda store: find_file(store, "*.log").unlink()])
def test_a_write_that_leveldb_cannot_read_back_fails_and_is_not_called_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Change
) -> None:
    open_database = plyvel.DB

    def harm_and_open(folder: bytes, **options: object) -> plyvel.DB:
        if (tmp_path / "CURRENT").exists():
            harm(tmp_path)
        return open_database(folder, **options)

    monkeypatch.setattr(plyvel, "DB", harm_and_open)
    with pytest.raises(storage.StorageError, match=f"{tmp_path}.*writing failed") as caught:
        leveldb.store_many(tmp_path, IMAGES, LABELS)
    assert not isinstance(caught.value, storage.CorruptStoreError)


def test_an_image_larger_than_a_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leveldb, "MAX_RECORD", 3079)
    with pytest.raises(storage.InvalidInputError, match="3080 bytes, and a value of LevelDB at most 3079"):
        leveldb.store_many(tmp_path / "store", *make_set(1))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("version", "error", "words"),
    [
        ((3, 12), ModuleNotFoundError, "plyvel"),
        ((3, 13), storage.BackendUnavailableError, "apt-get install libleveldb-dev, python -m pip install plyvel"),
    ],
)
def test_without_plyvel_the_reason_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], error: type[Exception], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "plyvel", None)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(error, match=words):
        runpy.run_path(leveldb.__file__, run_name=leveldb.__name__)
