"""The SQLite backend: any SQLite reads its file; other tables, unfinished changes and damage are refused."""

import sqlite3 as library
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import CorruptStoreError, InvalidInputError, StorageError, StoreFullError
from tests.support.backends import take_backend
from tests.support.encoded_sets import assert_same_files, make_files
from tests.support.foreign import Case, Change, both, cut, store_files
from tests.support.image_sets import assert_same, make_set

sqlite = take_backend("sqlite")
FILE = "images.sqlite"
IMAGES, LABELS = make_set(50)
FILES, FILE_LABELS = make_files(10)


def execute(statement: str) -> Change:
    def change(store: Path) -> None:
        connection = library.connect(store / FILE, isolation_level=None)
        connection.execute(statement)
        connection.close()

    return change


STATEMENTS = (
    "PRAGMA application_id=0",
    "DROP TABLE layout",
    "DROP TABLE images",
    "CREATE TABLE other (id)",
    "CREATE INDEX labels ON images (label)",
    "ALTER TABLE images ADD COLUMN name",
    "DELETE FROM layout",
    "INSERT INTO layout VALUES (10, 32, 32)",
    "UPDATE layout SET count = 11",
    "UPDATE layout SET count = -1",
    "UPDATE layout SET count = 'ten'",
    "UPDATE layout SET height = 31",
    "UPDATE layout SET width = 32.5",
    "DELETE FROM images",
    "DELETE FROM images WHERE id = 7",
    "DELETE FROM images WHERE id = 9",
    "UPDATE images SET id = 10 WHERE id = 9",
    "UPDATE images SET label = 0.5 WHERE id = 7",
    "UPDATE images SET label = 'seven' WHERE id = 7",
    "UPDATE images SET pixels = 7 WHERE id = 7",
    "UPDATE images SET pixels = 'seven' WHERE id = 7",
    "UPDATE images SET pixels = zeroblob(3071) WHERE id = 7",
)
FOREIGN = {
    **{
        statement: Case(execute(statement), "record 7: " if statement.endswith("id = 7") else None)
        for statement in STATEMENTS
    },
    **{
        f"files: {statement}": Case(both(store_files(sqlite), execute(statement)), error=StorageError)
        for statement in (
            "UPDATE layout SET count = 11",
            "UPDATE layout SET bytes = -1",
            "UPDATE layout SET bytes = 'ten'",
            "UPDATE layout SET bytes = 1000000",
            "UPDATE layout SET bytes = 1000000000000",
            "INSERT INTO layout VALUES (10, 10)",
            "DELETE FROM images WHERE id = 9",
        )
    },
    "pixels without a width": Case(execute("UPDATE layout SET width = 0")),
    "another row": Case(execute("INSERT INTO images VALUES (-7, 0, zeroblob(3072))"), "rows"),
    "a journal": Case(lambda store: (store / f"{FILE}-journal").touch(), "did not finish"),
    "a write-ahead log": Case(lambda store: (store / f"{FILE}-wal").touch(), "did not finish"),
    "larger than memory": Case(
        execute("UPDATE layout SET height = 1000000000000, width = 1000000000000"), error=StorageError
    ),
    **{f"cut to {size} bytes": Case(cut(FILE, size)) for size in (0, 10, 100, 4096, 65536, -65536, -1)},
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    sqlite.store_many(tmp_path / "store", IMAGES, LABELS)
    return tmp_path / "store"


def test_sqlite_itself_can_read_the_files(tmp_path: Path) -> None:
    sqlite.store_many(tmp_path, FILES, FILE_LABELS)
    connection = library.connect(tmp_path / FILE)
    rows = connection.execute("SELECT id, label, file FROM images ORDER BY id").fetchall()
    assert rows == [(index, FILE_LABELS[index], bytes(FILES[index])) for index in range(10)]
    assert connection.execute("SELECT count, bytes FROM layout").fetchall() == [(10, FILES.content.nbytes)]
    connection.close()


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM images", "UPDATE images SET file = 'text'", "UPDATE images SET label = 0.5"],
)
def test_a_damaged_row_of_a_file_is_named(tmp_path: Path, change: str) -> None:
    sqlite.store_many(tmp_path, FILES, FILE_LABELS)
    execute(f"{change} WHERE id = 4")(tmp_path)
    with sqlite.open_reader(tmp_path) as reader:
        reads: list[Callable[[], object]] = [
            lambda: sqlite.read_many(tmp_path),
            lambda: sqlite.read_single(tmp_path, 4),
            lambda: reader.read_encoded([2, 4, 6]),
        ]
        for read in reads:
            with pytest.raises(CorruptStoreError, match="record 4: "):
                read()


def test_files_of_more_bytes_than_described_are_refused(tmp_path: Path) -> None:
    sqlite.store_many(tmp_path, FILES, FILE_LABELS)
    execute("UPDATE layout SET bytes = bytes - 1")(tmp_path)
    with pytest.raises(CorruptStoreError, match="record 7: "):
        sqlite.read_many(tmp_path)


def test_labels_of_missing_rows_are_refused(store: Path) -> None:
    execute("DELETE FROM images WHERE id = 7")(store)
    with sqlite.open_reader(store) as reader, pytest.raises(CorruptStoreError, match="a row is missing"):
        reader.read_labels()


def test_more_files_than_a_statement_takes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MAX_BATCH", 3)
    sqlite.store_many(tmp_path, FILES, FILE_LABELS)
    with sqlite.open_reader(tmp_path) as reader:
        files, labels = reader.read_encoded(range(9, -1, -1))
    assert_same_files((files, labels), (FILES.take(range(9, -1, -1)), FILE_LABELS[::-1]))


def test_sqlite_itself_can_read_the_rows(store: Path) -> None:
    connection = library.connect(store / FILE)
    rows = connection.execute("SELECT * FROM images ORDER BY id").fetchall()
    assert rows == [(index, LABELS[index], IMAGES[index].tobytes()) for index in range(50)]
    assert connection.execute("SELECT count, height, width FROM layout").fetchall() == [(50, 32, 32)]
    assert connection.execute("PRAGMA page_size").fetchone() == (65536,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_same_images_make_the_same_file_with_nothing_beside_it(store: Path, tmp_path: Path) -> None:
    sqlite.store_many(tmp_path / "other", IMAGES, LABELS)
    with sqlite.open_reader(store) as reader:
        reader.read([7, 7])
        assert [path.name for path in store.iterdir()] == [FILE]
    assert (store / FILE).read_bytes() == (tmp_path / "other" / FILE).read_bytes()


def test_a_store_that_sqlite_vacuumed_is_read_right(store: Path) -> None:
    execute("PRAGMA page_size=4096")(store)
    execute("VACUUM")(store)
    assert_same(sqlite.read_many(store), (IMAGES, LABELS))


def test_an_unfinished_change_of_another_program_is_refused(store: Path) -> None:
    connection = library.connect(store / FILE, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("DELETE FROM images WHERE id = 7")
    with pytest.raises(CorruptStoreError, match="sqlite-wal"):
        sqlite.read_many(store)
    connection.close()
    with pytest.raises(CorruptStoreError, match="record 7: its row is missing"):
        sqlite.read_many(store)


@pytest.mark.parametrize(
    ("code", "when_writing", "when_reading"),
    [
        (library.SQLITE_FULL, StoreFullError, StorageError),
        (library.SQLITE_IOERR_WRITE, StoreFullError, StorageError),
        (library.SQLITE_IOERR_READ, StorageError, StorageError),
        (library.SQLITE_CANTOPEN_ISDIR, StorageError, StorageError),
        (library.SQLITE_IOERR_SHORT_READ, StorageError, CorruptStoreError),
        (library.SQLITE_CORRUPT, StorageError, CorruptStoreError),
        (None, StorageError, CorruptStoreError),
    ],
)
def test_only_a_failed_read_can_be_corruption(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int | None,
    when_writing: type[StorageError],
    when_reading: type[StorageError],
) -> None:
    def fail(*_: object, **__: object) -> None:
        error = library.OperationalError("so it said")
        if code is not None:
            error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(library, "connect", fail)
    with pytest.raises(StorageError, match="so it said") as caught:
        sqlite.store_many(tmp_path / "new", IMAGES, LABELS)
    assert type(caught.value) is when_writing
    with pytest.raises(StorageError, match="so it said") as caught:
        sqlite.read_many(store)
    assert type(caught.value) is when_reading


def test_an_image_larger_than_a_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MAX_IMAGE", 3071)
    with pytest.raises(InvalidInputError, match="3072 bytes, and a row of SQLite at most 3071"):
        sqlite.store_many(tmp_path / "store", *make_set(1))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["50%25", "what?mode=memory", "a#b", ":memory:", "file:x"])
def test_a_path_is_never_taken_for_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    sqlite.store_many(Path(name), *make_set(3))
    for path in (Path(name), tmp_path / name):
        assert_same(sqlite.read_many(path), make_set(3))
    assert not list((tmp_path / "x").iterdir())


def test_opening_a_store_that_is_replaced_all_the_time_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.store_many(tmp_path, *make_set(3))
    monkeypatch.setattr("os.path.samestat", lambda *_: False)
    with pytest.raises(StorageError, match="replaced again and again"):
        sqlite.open_reader(tmp_path)


def test_a_store_that_moves_while_it_is_opened_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite.store_many(tmp_path / "one", *make_set(3))
    link, connect = tmp_path / "link", library.connect
    link.symlink_to("one")

    def move_and_connect(*arguments: object, **options: object) -> library.Connection:
        monkeypatch.setattr(library, "connect", connect)
        (tmp_path / "one").rename(tmp_path / "two")
        link.unlink()
        link.symlink_to("two")
        return connect(*arguments, **options)  # type: ignore[call-overload, no-any-return] # as it was called

    monkeypatch.setattr(library, "connect", move_and_connect)
    assert_same(sqlite.read_many(link), make_set(3))


def test_a_path_too_long_for_sqlite_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < 440:
        folder /= "a" * 40
    folder.mkdir(parents=True)
    spare = 504 - len(str(folder)) - len("//images.sqlite")
    sqlite.store_many(folder / ("b" * spare), *make_set(3))
    assert_same(sqlite.read_many(folder / ("b" * spare)), make_set(3))
    with pytest.raises(InvalidInputError, match="longer than 504 bytes"):
        sqlite.store_many(folder / ("c" * (spare + 1)), *make_set(3))
    assert [path.name[0] for path in folder.iterdir()] == ["b"]
