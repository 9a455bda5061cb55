"""What only the LevelDB backend has: folders of readers, checksums of blocks, a thread that no fork survives."""

import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import storage
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

leveldb = take_backend("leveldb")

import plyvel  # noqa: E402 - not before it is known to be here

from storage.backends import _leveldb as leveldb_folder  # noqa: E402

FIRST, LAST = (0).to_bytes(8, "big"), (49).to_bytes(8, "big")
SMALLEST = 64 << 10  # bytes that LevelDB collects at least


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store of fifty images."""
    leveldb.store_many(tmp_path / "store", *make_set(50))
    return tmp_path / "store"


def read_files(store: Path) -> dict[str, bytes]:
    """Read the files of a store."""
    return {path.name: path.read_bytes() for path in store.iterdir()}


def find_table(store: Path) -> Path:
    """Find the one table of a small store."""
    (table,) = store.glob("*.ldb")
    return table


def change(store: Path, records: Mapping[bytes, bytes | None]) -> None:
    """Change records of a store, None to delete one, as another program would."""
    with plyvel.DB(str(store)) as database:
        for key, value in records.items():
            database.delete(key) if value is None else database.put(key, value)
        database.compact_range()
    leveldb_folder.remove_logs(store)


def test_leveldb_itself_can_read_the_records(store: Path) -> None:
    images, labels = make_set(50)
    with plyvel.DB(str(store)) as database:
        assert database.get((7).to_bytes(8, "big")) == images[7].tobytes() + labels[7].tobytes()
        assert database.get(b"layout") == b"".join(number.to_bytes(8, "little") for number in (50, 32, 32))


def test_a_store_that_leveldb_itself_opened_is_still_one(store: Path) -> None:
    plyvel.DB(str(store)).close()
    assert_same(leveldb.read_many(store), make_set(50))


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
    leveldb.store_many(tmp_path, *make_set(50))
    assert_same(leveldb.read_many(tmp_path), make_set(50))
    with leveldb.open_reader(tmp_path) as reader:
        assert_same(reader.read(range(50)), make_set(50))


@pytest.mark.parametrize(
    "records",
    [
        {b"layout": None},
        {b"layout": b""},
        {b"layout": bytes(32)},
        {b"layout": b"".join(number.to_bytes(8, "little") for number in (51, 32, 32))},
        {b"layout": b"".join(number.to_bytes(8, "little") for number in (49, 32, 32))},
        {b"layout": b"".join(number.to_bytes(8, "little") for number in (50, 0, 32))},
        {b"layout": b"".join(number.to_bytes(8, "little") for number in (50, 32, 1 << 63))},
        {b"layout": b"\xff" * 24},
        {FIRST: b"too short"},
        {LAST: bytes(3081)},
        {LAST: None},
        {FIRST: None},
        {(7).to_bytes(8, "big"): None, (7).to_bytes(8, "big") + b"7": bytes(3080)},
    ],
)
def test_records_of_another_layout_are_refused(store: Path, records: dict[bytes, bytes | None]) -> None:
    change(store, records)
    for read in (leveldb.read_many, lambda path: leveldb.open_reader(path).read(range(50))):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


def test_a_damaged_record_is_refused_when_it_is_read_alone(store: Path) -> None:
    change(store, {FIRST: b"short", LAST: bytes(3080)})
    with leveldb.open_reader(store) as reader:
        with pytest.raises(storage.CorruptStoreError, match="record 0 is missing or damaged"):
            reader[0]
        assert reader[49][1] == 0


def test_a_flipped_bit_of_a_pixel_is_found_by_its_checksum(store: Path) -> None:
    images, labels = make_set(50)
    table = find_table(store)
    content = bytearray(table.read_bytes())
    content[content.index(images[7].tobytes())] ^= 1
    table.write_bytes(content)
    for read in (leveldb.read_many, lambda path: leveldb.read_single(path, 7)):
        with pytest.raises(storage.CorruptStoreError, match="checksum"):
            read(store)
    with leveldb.open_reader(store) as reader:
        assert_same(reader.read([6, 8]), (images[[6, 8]], labels[[6, 8]]))


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*"])
def test_damage_to_the_small_files_is_refused(store: Path, pattern: str) -> None:
    path = next(store.glob(pattern))
    path.write_bytes(path.read_bytes()[:9] + b"!" + path.read_bytes()[10:])
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        leveldb.read_many(store)


def test_a_store_that_leveldb_would_go_on_sorting_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leveldb, "is_settled", lambda _: False)
    with pytest.raises(storage.CorruptStoreError, match="would move"):
        leveldb.open_reader(store)


def test_storing_ends_when_leveldb_has_nothing_more_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False, False, True]
    monkeypatch.setattr(leveldb, "is_settled", lambda _: answers.pop(0))
    leveldb.store_many(tmp_path, *make_set(5))
    assert not answers


FORK = """
import os, sys
from pathlib import Path
from storage import BACKENDS
from tests.support.image_sets import assert_same, make_set

folder, leveldb = Path(sys.argv[1]), BACKENDS["leveldb"]
leveldb.store_many(folder / "parent", *make_set(50))
child = os.fork()
if not child:
    leveldb.store_many(folder / "child", *make_set(50))
    assert_same(leveldb.read_many(folder / "child"), make_set(50))
    assert_same(leveldb.read_many(folder / "parent"), make_set(50))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_stores_without_the_thread_of_its_parent(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", FORK, tmp_path], check=True, cwd=ROOT, timeout=60)
    assert_same(leveldb.read_many(tmp_path / "child"), make_set(50))
    assert {path.suffix for path in (tmp_path / "child").iterdir()} == {"", ".ldb"}


def test_a_forked_child_refuses_more_than_leveldb_can_collect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leveldb, "_threaded", {-1})
    monkeypatch.setattr(leveldb, "WHOLE_BUFFER", 50 * (3080 + leveldb.OVERHEAD))
    leveldb.store_many(tmp_path / "whole", *make_set(50))
    assert_same(leveldb.read_many(tmp_path / "whole"), make_set(50))
    with pytest.raises(storage.StorageError, match="does not survive a fork"):
        leveldb.store_many(tmp_path / "more", *make_set(51))


def spoil_log(folder: Path) -> None:
    """Change a byte of LevelDB's log."""
    (log,) = folder.glob("*.log")
    content = bytearray(log.read_bytes())
    content[1000] ^= 1
    log.write_bytes(content)


def lose_log(folder: Path) -> None:
    """Have LevelDB's log be nowhere."""
    (log,) = folder.glob("*.log")
    log.unlink()


@pytest.mark.parametrize("harm", [spoil_log, lose_log])
def test_a_forked_child_notices_what_leveldb_cannot_read_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    open_database = plyvel.DB

    def harm_and_open(folder: bytes, **options: object) -> plyvel.DB:
        if (tmp_path / "CURRENT").exists():
            harm(tmp_path)
        return open_database(folder, **options)

    monkeypatch.setattr(leveldb, "_threaded", {-1})
    monkeypatch.setattr(plyvel, "DB", harm_and_open)
    with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
        leveldb.store_many(tmp_path, *make_set(50))


def test_an_image_larger_than_a_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leveldb, "LARGEST_RECORD", 3079)
    with pytest.raises(storage.InvalidInputError, match="too large"):
        leveldb.store_many(tmp_path / "store", *make_set(1))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("version", "error", "words"),
    [
        ((3, 12), ModuleNotFoundError, "plyvel"),
        ((3, 13), storage.BackendUnavailableError, "apt-get install libleveldb-dev, python -m pip install plyvel"),
    ],
)
def test_where_plyvel_is_missing_the_reason_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], error: type[Exception], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "plyvel", None)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(error, match=words):
        runpy.run_path(leveldb.__file__)
