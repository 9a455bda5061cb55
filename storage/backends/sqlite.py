"""SQLite: one file with a row for each image.

On disk: ``images.sqlite``, in pages of 64 KiB. Table ``images``: ``id INTEGER PRIMARY KEY``, from 0; ``label INTEGER``;
``pixels BLOB``. Table ``layout``: one row, the number of images, height and width. Unless pixels are 8-bit RGB, it has
two more columns: the number of channels, 0 if images have no axis of them, and NumPy's name of the dtype, such as
``float16``, little-endian. Of files, the third column is ``file BLOB``, and ``layout`` has their number and the bytes
of all. The application id is set last: a store without it isn't complete.

Why it is fast: rows are appended in one transaction without a journal, which a store that is written once doesn't need.
A page of 64 KiB holds 21 images of CIFAR-10 (pages of 16 KiB: 5 % more disk, a fifth more time to store; 4 KiB: 32 %
and twice the time). A batch is one statement that joins the wanted numbers, a JSON array, with the table: 3 us an image
out of pages that are mapped into memory. A statement or a BLOB handle for each image takes twice that. Reading
everything copies the pages, because mapped ones would count as memory of this process. SQLite has no checksums, so
damaged pixels go unnoticed.

Library: sqlite3 (https://docs.python.org/3/library/sqlite3.html); SQLite itself: https://sqlite.org/docs.html, above
all https://sqlite.org/intern-v-extern-blob.html and, for ``immutable``, https://sqlite.org/uri.html.
"""

import errno
import json
import operator
import os
import sqlite3
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import chain, count, repeat
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ..arrays import check_index, check_shape, make_all, make_array, make_result, refuse_out, view_bytes
from ..contract import ANY_PIXELS, BackendInfo, Image, Images, Labels
from ..encoded import Encoded
from ..errors import CorruptStoreError, InvalidInputError, StorageError, reading, writing
from ..limits import MAX_MEMORY, check_amount
from ..paths import claim_store, join_path, stat_file
from ..reader import Description, Reader, fork_lock
from ._records import (
    RGB,
    Layout,
    check_layout,
    check_lengths,
    check_set,
    collect_files,
    cut_batches,
    describe,
    find_form,
    join_files,
    pack_key,
    view_records,
)

INFO = BackendInfo(
    {"SQLite": sqlite3.sqlite_version},
    "Hipp, Wyrick & Company (SQLite)",
    "blessing",
    kinds=("pixels", "encoded"),
    dtypes=ANY_PIXELS,
)

FILE = "images.sqlite"
MAX_ATTEMPTS = 100  # to connect to a file whose folder is renamed meanwhile
JOURNALS = ("-journal", "-wal")  # not read beside an immutable file
APPLICATION = int.from_bytes(b"imgs", "big")
TABLES = (
    "CREATE TABLE images (id INTEGER PRIMARY KEY, label INTEGER NOT NULL, pixels BLOB NOT NULL)",
    "CREATE TABLE layout (count INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL)",
)
FORM_TABLES = (TABLES[0], TABLES[1].replace(")", ", channels INTEGER NOT NULL, dtype TEXT NOT NULL)"))
FILE_TABLES = (
    "CREATE TABLE images (id INTEGER PRIMARY KEY, label INTEGER NOT NULL, file BLOB NOT NULL)",
    "CREATE TABLE layout (count INTEGER NOT NULL, bytes INTEGER NOT NULL)",
)
MAX_LENGTH = 1_000_000_000  # bytes: SQLite's limit for a row
MAX_IMAGE = 999_999_000  # bytes, less what else is in a row
MAX_PATH = 504  # bytes of a path, where SQLITE_MAX_PATHLEN is 512
REFUSALS = {  # what the operating system refused, as far as SQLite passes it on; a code's lowest byte is its kind
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR_WRITE: errno.EFBIG,  # or a quota, or a failing disk
    sqlite3.SQLITE_IOERR_SHORT_READ: None,  # the file ends early
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}
STEP = 1 << 20  # bytes of images of which there are views at once
MAX_BATCH = 1 << 20  # images, whose numbers are one text
MAPPED = 1 << 40  # bytes; SQLite reduces it to its own limit, 2 GiB
WRITING = ("page_size=65536", "journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE")
READING = ("cell_size_check=ON", "trusted_schema=OFF")
AGAIN = "store the images again"

SIZE = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
ALL = "SELECT * FROM images WHERE id >= ? ORDER BY id"
ONE = "SELECT * FROM images WHERE id = ?"
LABELS = "SELECT id, label FROM images ORDER BY id"
BATCH = (
    "SELECT images.* FROM json_each(?) AS wanted "
    "CROSS JOIN images ON images.id = wanted.value"  # CROSS: in the order of the array
)


def read_single(store: Path, index: int) -> tuple[Image | bytes, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with fork_lock, _open_file(store) as connection:
        layout = _read_layout(store, connection)
        position = check_index(store, index, layout.images)
        if layout.shape:
            return _read_row(store, connection, position, layout)
        files, labels = _read_files(store, connection, [position], layout)
        return files.content.tobytes(), int(labels[0])


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    with fork_lock, _translate_errors(store, writing):
        records, labels = check_set(images, labels)
        check_lengths(records.lengths, MAX_IMAGE, "a row of SQLite")
        if len(os.path.realpath(join_path(store, FILE))) > MAX_PATH:
            raise InvalidInputError(
                f"SQLite can't open a file whose path is longer than {MAX_PATH} bytes", store=store, hint="shorten it"
            )
        layout: tuple[int | str, ...] = describe(images)
        tables = TABLES
        if isinstance(images, Encoded):
            layout, tables = layout[:2], FILE_TABLES
        elif find_form(images) != RGB:
            layout, tables = layout + find_form(images), FORM_TABLES
        files = chain.from_iterable(view_records(records, part) for part in cut_batches(records.offsets, STEP))
        rows = zip(count(), labels.tolist(), files, strict=False)
        path = quote(os.path.abspath(os.fsencode(claim_store(store) / FILE)))  # noqa: PTH100 - a Path is slower
        uri = f"file://{path}?nolock=1"  # nobody else opens it yet, and some file systems have no locks
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            for statement in (*(f"PRAGMA {pragma}" for pragma in WRITING), "BEGIN", *tables):
                connection.execute(statement)
            connection.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
            places = ", ".join("?" * len(layout))
            connection.execute(f"INSERT INTO layout VALUES ({places})", layout)  # noqa: S608 - question marks
            connection.execute("COMMIT")
            connection.execute(f"PRAGMA application_id={APPLICATION}")


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with fork_lock, _open_file(store) as connection:
        layout = _read_layout(store, connection)
        if not layout.shape:
            refuse_out(store, out)
            return _read_all_files(store, connection, layout)
        images = make_all(store, (layout.images, *layout.shape), out, layout.dtype)
        with _translate_errors(store):
            return images, _copy_rows(store, connection.execute(ALL, (0,)), range(layout.images), images)


class SqliteReader(Reader):
    """Reads a batch with one statement; threads take turns."""

    def _open(self) -> Description:
        with fork_lock, ExitStack() as stack:
            self._connection = stack.enter_context(_open_file(self.store))
            self._layout = _read_layout(self.store, self._connection)
            with _translate_errors(self.store):
                self._connection.execute(f"PRAGMA mmap_size={MAPPED}").close()
                self._connection.execute("BEGIN")  # else each statement would begin by looking at the file
            self._resources = stack.pop_all()
        return Description(self._layout.images, self._layout.shape, self._layout.dtype)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        labels: Labels = make_array(self.store, (len(positions),), np.int64)
        for start in range(0, len(positions), MAX_BATCH):
            part = slice(start, start + MAX_BATCH)
            wanted = positions[part].tolist()
            with fork_lock, _translate_errors(self.store):
                rows = self._connection.execute(BATCH, (json.dumps(wanted),))
                labels[part] = _copy_rows(self.store, rows, wanted, images[part])
        return images, labels

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        with fork_lock:
            return _read_files(self.store, self._connection, positions.tolist(), self._layout)

    def _read_one(self, position: int) -> tuple[Image, int]:
        with fork_lock:
            return _read_row(self.store, self._connection, position, self._layout)

    def _read_labels(self) -> Labels:
        with fork_lock, _translate_errors(self.store), closing(self._connection.execute(LABELS)) as rows:
            found = (
                label for expected, (number, label) in enumerate(rows) if number == expected and type(label) is int
            )
            labels = array("q", found)
        if len(labels) != self._count:
            raise CorruptStoreError("a row is missing or damaged", store=self.store, hint=AGAIN)
        return np.array(labels, np.int64)

    def _close(self) -> None:
        del self._connection
        with fork_lock:
            self._resources.close()


open_reader = SqliteReader


@contextmanager
def _open_file(store: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as one that nothing changes, so SQLite takes no locks."""
    path, status = stat_file(store, FILE)
    with reading(store):
        path = os.path.abspath(path)  # noqa: PTH100 - bytes
    for journal in JOURNALS:
        if os.path.lexists(path + journal.encode()):
            raise CorruptStoreError(
                f"there is a file {FILE}{journal}: another program wrote to the store, and did not finish",
                store=store,
                hint="open it with that program, or store the images again",
            )
    with _translate_errors(store), closing(_connect(store, path, status)) as connection:
        size = connection.execute(SIZE).fetchone()[0]
        if size != status.st_size:  # SQLite itself notices only whole pages that are missing
            raise CorruptStoreError(
                f"{FILE} has {status.st_size} of {size} bytes: it was cut short", store=store, hint=AGAIN
            )
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(max(size, MAX_MEMORY), MAX_LENGTH))  # of a damaged row
        yield connection


def _connect(store: Path, path: bytes, status: os.stat_result) -> sqlite3.Connection:
    """Connect to the file of this status: SQLite follows links, whose targets may be replaced meanwhile."""
    for _ in range(MAX_ATTEMPTS):
        real = os.path.realpath(path)
        uri = f"file://{quote(real)}?mode=ro&immutable=1"
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError:
            if _is_at(real, status):
                raise
            continue
        with ExitStack() as stack:
            stack.callback(connection.close)
            if _is_at(real, status):
                stack.pop_all()
                return connection
    raise StorageError(
        f"{FILE} is replaced again and again", store=store, hint="open the store when its writer has finished"
    )


def _is_at(path: bytes, status: os.stat_result) -> bool:
    """Whether a path leads to the file of this status."""
    try:
        return os.path.samestat(os.stat(path), status)  # noqa: PTH116 - bytes
    except OSError:
        return False


def _read_layout(store: Path, connection: sqlite3.Connection) -> Layout:
    with _translate_errors(store):
        for pragma in READING:
            connection.execute(f"PRAGMA {pragma}")
        application = connection.execute("PRAGMA application_id").fetchone()
        tables = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchmany(len(TABLES) + 1)
        statements = tuple(table for (table,) in tables)
        if application != (APPLICATION,) or statements not in {TABLES, FORM_TABLES, FILE_TABLES}:
            raise CorruptStoreError(
                f"{FILE} has other tables: it isn't complete, or another program or backend wrote it", store=store
            )
        layouts = connection.execute("SELECT * FROM layout").fetchmany(2)
        if len(layouts) != 1:
            raise CorruptStoreError(
                f"table layout of {FILE} doesn't have one row: another program wrote to it", store=store
            )
        numbers = (*layouts[0], 0) if statements == FILE_TABLES else layouts[0]
        if statements != FILE_TABLES:
            check_shape(store, *numbers[:3])
        layout = check_layout(store, *numbers)
        size = connection.execute(SIZE).fetchone()[0]
        check_amount(f"{layout.images} images", layout.size, size, store=store)
        ends = connection.execute("SELECT (SELECT min(id) FROM images), (SELECT max(id) FROM images)").fetchone()
        if ends != ((0, layout.images - 1) if layout.images else (None, None)):
            raise CorruptStoreError(
                f"the rows of {FILE} aren't those of {layout.images} images", store=store, hint=AGAIN
            )
    return layout


def _read_row(store: Path, connection: sqlite3.Connection, position: int, layout: Layout) -> tuple[Image, int]:
    with _translate_errors(store):
        row = connection.execute(ONE, (position,)).fetchone()
    try:
        _, label, pixels = row
        return np.frombuffer(pixels, layout.dtype).reshape(layout.shape).copy(), operator.index(label)
    except (TypeError, ValueError) as error:
        raise CorruptStoreError("its row is missing or damaged", store=store, record=position, hint=AGAIN) from error


def _copy_rows(store: Path, rows: sqlite3.Cursor, wanted: Sequence[int], images: Images) -> Labels:
    """Copy the rows of `wanted` into images; return their labels."""
    pixels = view_bytes(images).data
    size = images.nbytes // max(len(images), 1)
    labels = array("q")
    complete = False
    with closing(rows), suppress(TypeError, ValueError):  # a value of another type or size; more rows, or fewer
        for place, (position, (number, label, value)) in enumerate(zip(wanted, rows, strict=True)):
            if number != position:
                break
            pixels[place * size : (place + 1) * size] = value
            labels.append(label)
        else:
            complete = True
    if not complete:
        record = wanted[len(labels)] if len(labels) < len(wanted) else None
        raise CorruptStoreError("its row is missing or damaged", store=store, record=record, hint=AGAIN)
    return np.array(labels, np.int64)


def _read_files(
    store: Path, connection: sqlite3.Connection, wanted: Sequence[int], layout: Layout
) -> tuple[Encoded, Labels]:
    """Read the files of `wanted`, and their labels."""
    labels = array("q")

    def find_files() -> Generator[bytes | None, None, None]:
        for start in range(0, len(wanted), MAX_BATCH):
            part = wanted[start : start + MAX_BATCH]
            with closing(connection.execute(BATCH, (json.dumps(part),))) as rows:
                for position, (number, label, file) in zip(part, chain(rows, repeat((None, None, None))), strict=False):
                    is_whole = number == position and type(label) is int and type(file) is bytes
                    labels.append(label if is_whole else 0)
                    yield file if is_whole else None

    with _translate_errors(store), closing(find_files()) as files:
        return join_files(store, layout, files, wanted), np.array(labels, np.int64)


def _read_all_files(store: Path, connection: sqlite3.Connection, layout: Layout) -> tuple[Encoded, Labels]:
    labels = array("q")

    def check_rows(rows: sqlite3.Cursor) -> Iterator[tuple[bytes, bytes]]:
        for number, label, file in rows:
            if type(label) is int and type(file) is bytes:
                labels.append(label)
                yield pack_key(number), file

    @contextmanager
    def begin(number: int) -> Iterator[Iterator[tuple[bytes, bytes]]]:
        with _translate_errors(store), closing(connection.execute(ALL, (number,))) as rows:
            yield check_rows(rows)

    return collect_files(store, layout, begin, layout.size + 1), np.array(labels, np.int64)


@contextmanager
def _translate_errors(store: Path, translate: type[reading] = reading) -> Iterator[None]:
    with translate(store, sqlite3.Error):
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)  # the module's own errors have none
            refusal = REFUSALS.get(code, REFUSALS.get(code & 0xFF))
            if refusal is None:
                raise
            raise OSError(refusal, f"SQLite: {error}") from error
