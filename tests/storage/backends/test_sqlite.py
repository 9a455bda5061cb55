"""What only the SQLite backend has: a file that any SQLite reads, journals beside it, rows of another layout."""

import random
import sqlite3 as library
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same, make_set

sqlite = take_backend("sqlite")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store of fifty images."""
    sqlite.store_many(tmp_path / "store", *make_set(50))
    return tmp_path / "store"


def change(store: Path, *statements: str) -> None:
    """Change a store, as another program would."""
    connection = library.connect(store / "images.sqlite", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


READS: Sequence[Callable[[Path], object]] = (
    sqlite.read_many,
    lambda store: sqlite.open_reader(store).read(range(50)),
    lambda store: [sqlite.open_reader(store)[index] for index in range(50)],
)


def test_sqlite_itself_can_read_the_rows(store: Path) -> None:
    images, labels = make_set(50)
    connection = library.connect(store / "images.sqlite")
    rows = connection.execute("SELECT * FROM images ORDER BY id").fetchall()
    assert rows == [(index, labels[index], images[index].tobytes()) for index in range(50)]
    assert connection.execute("SELECT count, height, width FROM layout").fetchall() == [(50, 32, 32)]
    assert connection.execute("PRAGMA page_size").fetchone() == (65536,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_file_is_alone_in_the_store_and_the_same_images_make_the_same_file(store: Path, tmp_path: Path) -> None:
    sqlite.store_many(tmp_path / "other", *make_set(50))
    with sqlite.open_reader(store) as reader:
        reader.read([7, 7])
        assert [path.name for path in store.iterdir()] == ["images.sqlite"]
    one, other = (folder / "images.sqlite" for folder in (store, tmp_path / "other"))
    assert one.read_bytes() == other.read_bytes()


def test_a_store_that_sqlite_itself_packed_is_still_one(store: Path) -> None:
    change(store, "PRAGMA page_size=4096", "VACUUM")
    assert_same(sqlite.read_many(store), make_set(50))


@pytest.mark.parametrize("journal", ["-journal", "-wal"])
def test_a_journal_beside_the_file_is_refused(store: Path, journal: str) -> None:
    (store / f"images.sqlite{journal}").touch()
    for read in READS:
        with pytest.raises(storage.CorruptStoreError, match="another program wrote to it"):
            read(store)


def test_what_another_program_wrote_and_did_not_finish_is_refused(store: Path) -> None:
    connection = library.connect(store / "images.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("DELETE FROM images WHERE id = 7")
    with pytest.raises(storage.CorruptStoreError, match="sqlite-wal"):
        sqlite.read_many(store)
    connection.close()
    with pytest.raises(storage.CorruptStoreError, match="a row is missing"):
        sqlite.read_many(store)


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA application_id=0",
        "DROP TABLE layout",
        "DROP TABLE images",
        "CREATE TABLE other (id)",
        "CREATE INDEX labels ON images (label)",
        "ALTER TABLE images ADD COLUMN name",
        "DELETE FROM layout",
        "INSERT INTO layout VALUES (50, 32, 32)",
        "UPDATE layout SET count = 49",
        "UPDATE layout SET count = 51",
        "UPDATE layout SET count = -1",
        "UPDATE layout SET count = 'fifty'",
        "UPDATE layout SET height = 0",
        "UPDATE layout SET height = 31",
        "UPDATE layout SET width = 32.5",
        "DELETE FROM images",
        "DELETE FROM images WHERE id = 0",
        "DELETE FROM images WHERE id = 7",
        "DELETE FROM images WHERE id = 49",
        "UPDATE images SET id = 50 WHERE id = 49",
        "UPDATE images SET id = -1 WHERE id = 0",
        "INSERT INTO images VALUES (-7, 0, zeroblob(3072))",
        "UPDATE images SET label = 0.5 WHERE id = 7",
        "UPDATE images SET label = 'seven' WHERE id = 7",
        "UPDATE images SET pixels = 7 WHERE id = 7",
        "UPDATE images SET pixels = 'seven' WHERE id = 7",
        "UPDATE images SET pixels = zeroblob(3071) WHERE id = 7",
        "UPDATE images SET pixels = zeroblob(3073) WHERE id = 7",
    ],
)
def test_rows_of_another_layout_are_refused(store: Path, statement: str) -> None:
    change(store, statement)
    for read in READS:
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


def test_a_shape_that_fits_no_memory_is_an_error_of_ours(tmp_path: Path) -> None:
    sqlite.store_many(tmp_path, *make_set(1))
    change(tmp_path, "UPDATE layout SET height = 1000000000000, width = 1000000000000")
    with pytest.raises(storage.StorageError, match="does not fit in memory"):
        sqlite.read_many(tmp_path)


def test_a_file_that_ends_early_is_refused_before_it_is_mapped(store: Path) -> None:
    path = store / "images.sqlite"
    content = path.read_bytes()
    for size in (0, 10, 100, 4096, *range(65536, len(content), 65536), len(content) - 1):
        path.write_bytes(content[:size])
        for read in READS:
            with pytest.raises(storage.CorruptStoreError, match=str(store)):
                read(store)


def test_damaged_structure_ends_in_an_error_of_ours(store: Path) -> None:
    path = store / "images.sqlite"
    content = path.read_bytes()
    chance = random.Random(7)  # noqa: S311 - the same damage each time
    places = [page + chance.randrange(200) for page in range(0, len(content), 65536) for _ in range(25)]
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            images, labels = sqlite.read_many(store)
        except storage.CorruptStoreError:
            refused += 1
        else:
            assert (images.shape, labels.shape) == ((50, 32, 32, 3), (50,))
    assert refused > 10


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (library.SQLITE_FULL, storage.StoreFullError, "no room left"),
        (library.SQLITE_IOERR_WRITE, storage.StoreFullError, "no room left"),
        (library.SQLITE_IOERR_READ, storage.StorageError, "refused: .*SQLite: so it said"),
        (library.SQLITE_CANTOPEN_ISDIR, storage.StorageError, "refused: .*SQLite: so it said"),
        (library.SQLITE_IOERR_SHORT_READ, storage.CorruptStoreError, "so it said"),
        (library.SQLITE_CORRUPT, storage.CorruptStoreError, "so it said"),
        (None, storage.CorruptStoreError, "so it said"),
    ],
)
def test_what_the_operating_system_refused_is_told_from_damage(
    store: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, kind: type[Exception], words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        error = library.OperationalError("so it said")
        if code is not None:
            error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(library, "connect", fail)
    with pytest.raises(storage.StorageError, match=words) as caught:
        sqlite.read_many(store)
    assert type(caught.value) is kind


def test_an_image_larger_than_a_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LARGEST", 3071)
    with pytest.raises(storage.InvalidInputError, match="too large"):
        sqlite.store_many(tmp_path / "store", *make_set(1))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["50%25", "what?mode=memory", "a#b", ":memory:", "file:x"])
def test_a_name_is_no_address(tmp_path: Path, name: str) -> None:
    sqlite.store_many(tmp_path / name, *make_set(3))
    assert_same(sqlite.read_many(tmp_path / name), make_set(3))


def test_an_image_that_fills_many_pages_comes_back(tmp_path: Path) -> None:
    images, labels = make_set(3, 300, 300)
    sqlite.store_many(tmp_path, images, labels)
    with sqlite.open_reader(tmp_path) as reader:
        assert_same(reader.read([2, 0, 2]), (images[[2, 0, 2]], labels[[2, 0, 2]]))
        np.testing.assert_array_equal(reader[1][0], images[1])


def test_a_path_that_looks_like_a_uri_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    sqlite.store_many(Path("file:other"), *make_set(3))
    assert_same(sqlite.read_many(Path("file:other")), make_set(3))
    assert not list((tmp_path / "other").iterdir())


def test_a_store_that_is_replaced_while_it_is_opened_is_not_mixed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.store_many(tmp_path, *make_set(3))
    monkeypatch.setattr("os.path.samestat", lambda *_: False)
    with pytest.raises(storage.StorageError, match="replaced again and again"):
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


def test_a_file_that_sqlite_cannot_open_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise library.OperationalError("unable to open database file")

    sqlite.store_many(tmp_path, *make_set(3))
    monkeypatch.setattr(library, "connect", refuse)
    with pytest.raises(storage.CorruptStoreError, match="unable to open database file"):
        sqlite.read_many(tmp_path)


def test_a_path_that_is_too_long_for_sqlite_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < 440:
        folder /= "a" * 40
    folder.mkdir(parents=True)
    spare = 504 - len(str(folder)) - len("//images.sqlite")
    sqlite.store_many(folder / ("b" * spare), *make_set(3))
    assert_same(sqlite.read_many(folder / ("b" * spare)), make_set(3))
    with pytest.raises(storage.InvalidInputError, match="longer than 504 bytes"):
        sqlite.store_many(folder / ("c" * (spare + 1)), *make_set(3))
    assert [path.name[0] for path in folder.iterdir()] == ["b"]
