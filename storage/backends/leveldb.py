"""LevelDB: one record per image, in sorted tables with checksums.

On disk: a LevelDB database: ``CURRENT``, ``MANIFEST-NNNNNN`` and tables ``NNNNNN.ldb``. The key of an image is its
index, 8 bytes big-endian; its value is the raw pixels, or an image file, and then the label, little-endian int64. The
record ``layout``, written last, holds three little-endian integers of 8 bytes: the number of images, height and width;
or of files, their number, the bytes of all, and 0. Unless pixels are 8-bit RGB, 16 bytes follow: the number of
channels, 0 if images have no axis of them, and NumPy's name of the dtype, padded with zeros.

Why so: ascending keys are never merged, so each image is written twice, to LevelDB's log and to a table. A block of
2 KiB holds one image of CIFAR-10, so a random read verifies the checksum of that image alone (3.2 us per image; 24 in
blocks of 64 KiB). Snappy takes twice the time and saves 1 %. A reader doesn't have LevelDB verify its checksums of
image files: for photos of 108 KB, that takes 16 of 26 us. `read_many` does, and a dataset has a checksum of each file.

LevelDB locks and changes a database that it opens (https://github.com/google/leveldb/issues/1082), but never its
tables. So each reader opens a temporary folder with symbolic links to the tables, and copies of the files that name
them. The links go through a descriptor of the store's folder, so a store that is later moved to its path is never read.
The folder is in memory if possible, because LevelDB syncs it: opening and closing takes 1 ms there and 25 ms on a disk.
It is removed with its reader and when the process ends. If the process is killed, a later one removes it,
because the lock on it is gone.

Library: plyvel (https://plyvel.readthedocs.io); LevelDB itself: https://github.com/google/leveldb/tree/main/doc.
"""

import fcntl
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import lru_cache
from itertools import islice
from multiprocessing.util import Finalize
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import make_all, make_array, make_result, refuse_out, view_bytes
from ..contract import ANY_PIXELS, BackendInfo, Image, Images, Labels
from ..encoded import Encoded
from ..errors import BackendUnavailableError, CorruptStoreError, StorageError, reading, writing
from ..filling import report_filled
from ..paths import claim_store, find_file, open_regular, read_small, refuse_special_files
from ..reader import Description, Reader, fork_lock, leak
from ._records import (
    MISSING,
    NUMBERS,
    Layout,
    RecordSet,
    check_lengths,
    check_set,
    collect_files,
    cut_batches,
    describe,
    join_files,
    pack_form,
    pack_key,
    unpack_layout,
    view_records,
)

try:
    import plyvel
except ModuleNotFoundError:
    if sys.version_info < (3, 13):
        raise
    raise BackendUnavailableError(
        "plyvel has wheels for Python below 3.13 only",
        hint="use an older Python, or build it: apt-get install libleveldb-dev, python -m pip install plyvel",
    ) from None

INFO = BackendInfo(
    {"plyvel": plyvel.__version__, "LevelDB": plyvel.__leveldb_version__},
    "Google; plyvel: Wouter Bolsterlee",
    "BSD-3-Clause",
    kinds=("pixels", "encoded"),
    dtypes=ANY_PIXELS,
)

LAYOUT = b"layout"
LABEL = np.dtype("<i8")
MAX_RECORD = 0x7FFFF000 - 4096  # bytes: LevelDB reads a block with one call, and Linux reads no more than 0x7FFFF000
BLOCK = 2 << 10  # bytes
BUFFER = 16 << 20  # bytes that LevelDB collects before it writes a table; it holds two such buffers
MAX_BUFFER = 1 << 30  # bytes
OPTIONS = {"create_if_missing": True, "block_size": BLOCK, "compression": None}
OVERHEAD = 64  # bytes, at most, that a record takes in the buffer in addition to its value
BATCH = 1 << 20  # bytes that are written or copied at once: they stay in the processor's cache
PART = 32 << 20  # bytes read before the database is reopened: touched pages of tables count as memory of this process
AFTER_ALL = b"\xff"  # no record has such a key

CURRENT = "CURRENT"  # names the MANIFEST, which names the tables
MANIFEST = re.compile(rb"(MANIFEST-\d{1,20})\n")
MAX_CURRENT, MAX_MANIFEST = 64, 16 << 20  # bytes; a table takes about 60 in a MANIFEST, and has 16 MiB
TABLES = (".ldb", ".sst")
TABLE = re.compile(rb"^ \d+:(\d+)\[", re.MULTILINE)  # number and bytes of a table in LevelDB's list of them
MAX_FIRST_LEVEL = 4  # tables: as many are merged
FOOTER = 48  # bytes at the end of a table: two block handles of two varints each, padding, and
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
TRAILER = 5  # bytes after a block: compression and checksum

PREFIX = "image-storage-leveldb-"
MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by mkdtemp
MIN_SPACE = 1 << 20  # bytes: far more than LevelDB writes into a reader's folder, beside another MANIFEST
MAX_ATTEMPTS = 100  # to make a folder

_thread_owners: set[int] = set()  # the first process that used LevelDB: its thread doesn't exist in forked children


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    with writing(store, plyvel.Error):
        records, labels = check_set(images, labels)
        check_lengths(records.lengths + LABEL.itemsize, MAX_RECORD, "a value of LevelDB")
        has_thread = not _thread_owners or os.getpid() in _thread_owners
        size = records.content.nbytes + len(records) * (LABEL.itemsize + OVERHEAD)
        if not has_thread and size > MAX_BUFFER:
            raise StorageError(
                "a process that was forked after its parent used LevelDB can store 1 GiB at most",
                store=store,
                hint="store fewer images, or use a process that was started with spawn",
            )
        folder = claim_store(store)
        options = {**OPTIONS, "write_buffer_size": BUFFER if has_thread else MAX_BUFFER}
        with closing(_open(folder, error_if_exists=True, **options)) as database:  # of two writers, one is refused
            _write_records(database, records, labels)
            database.put(LAYOUT, NUMBERS.pack(*describe(images)) + pack_form(images))
            if has_thread:
                _write_tables(database)
        if not has_thread:  # nothing but opening a database makes a table of its log
            with closing(_open(folder, **options)) as database:
                _read_layout(store, database)  # LevelDB ignores a log that it doesn't find
        _remove_logs(folder)


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), closing(ReaderFolder(store)) as folder:
        with _open_database(store, folder) as database:
            layout = _read_layout(store, database)
        if not layout.shape:
            refuse_out(store, out)
            return _read_files(store, folder, layout)
        images = make_all(store, (layout.images, *layout.shape), out, layout.dtype)
        labels: Labels = make_array(store, (layout.images,), np.int64)
        step = max(1, PART // layout.image_size)
        for start in range(0, layout.images, step):
            with _open_database(store, folder) as database:
                _read_part(store, database, start, images[start : start + step], labels[start : start + step])
    return images, labels


class LevelDBReader(Reader):
    """Gets record by record, through a temporary folder."""

    def _open(self) -> Description:
        with ExitStack() as stack:
            folder = stack.enter_context(closing(ReaderFolder(self.store)))
            self._database = stack.enter_context(_open_database(self.store, folder))
            self._layout = _read_layout(self.store, self._database)
            self._resources = stack.pop_all()
        return Description(self._layout.images, self._layout.shape, self._layout.dtype)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        labels = np.empty(len(positions), np.int64)
        step = _count_records(images)
        get = self._database.get
        with reading(self.store, plyvel.Error):
            for start in range(0, len(positions), step):
                part = slice(start, start + step)
                values = [get(pack_key(position), verify_checksums=True) for position in positions[part].tolist()]
                _copy_values(self.store, values, images[part], labels[part])
        return images, labels

    def _read_one(self, position: int) -> tuple[Image, int]:
        with reading(self.store, plyvel.Error):
            value = self._database.get(pack_key(position), verify_checksums=True)
        try:
            image = np.frombuffer(value[: -LABEL.itemsize], self._dtype).reshape(self._shape).copy()
            return image, int.from_bytes(value[-LABEL.itemsize :], "little", signed=True)
        except (TypeError, ValueError) as error:
            raise CorruptStoreError(MISSING, store=self.store, record=position) from error

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        get = self._database.get
        labels = bytearray()

        def cut_label(value: bytes | None) -> memoryview | None:
            if value is None or len(value) < LABEL.itemsize:
                return None
            labels.extend(value[-LABEL.itemsize :])
            return memoryview(value)[: -LABEL.itemsize]

        with reading(self.store, plyvel.Error):
            values = map(get, map(pack_key, positions.tolist()))
            files = join_files(self.store, self._layout, map(cut_label, values), positions)
        return files, np.frombuffer(labels, LABEL).astype(np.int64)

    def _read_labels(self) -> Labels:
        labels = bytearray()
        with reading(self.store, plyvel.Error):
            for position in range(self._count):
                value = self._database.get(pack_key(position), verify_checksums=True)
                if _is_short(value):
                    raise CorruptStoreError(MISSING, store=self.store, record=position)
                labels += value[-LABEL.itemsize :]
        return np.frombuffer(labels, LABEL).astype(np.int64)

    def _close(self) -> None:
        del self._database
        self._resources.close()


open_reader = LevelDBReader


class ReaderFolder:
    """A temporary folder with links to the tables of a store, and copies of the files that name them."""

    def __init__(self, store: Path) -> None:
        find_file(store, CURRENT)
        with ExitStack() as stack, reading(store):
            held = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, held)
            refuse_special_files(store)
            source = Path(f"/proc/self/fd/{held}")
            copies = _read_names(Path(store), source)
            size = sum(map(len, copies.values()))
            place = MEMORY if _has_space(MEMORY, size) else Path(tempfile.gettempdir())
            remove_leftovers(place)
            self.path = _make_folder(place, stack)
            # exitpriority: processes of multiprocessing, such as a DataLoader's, end without atexit
            self.close = Finalize(self, stack.pop_all().close, exitpriority=0)
            try:
                for path in source.iterdir():
                    _link_table(Path(store), path, self.path / path.name)
                for name, content in copies.items():
                    (self.path / name).write_bytes(content)
            except BaseException:
                self.close()
                raise


def _has_space(place: Path, size: int) -> bool:
    return os.access(place, os.W_OK | os.X_OK) and shutil.disk_usage(place).free > MIN_SPACE + 2 * size


def _make_folder(place: Path, stack: ExitStack) -> Path:
    """Make a folder that is locked, so that other processes leave it alone, for as long as this process lives."""
    for _ in range(MAX_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        with suppress(OSError), ExitStack() as made:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            made.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():  # else another process locked it first, and removed it
                made.callback(_remove_folder, folder)
                stack.push(made.pop_all())
                return folder
    raise StorageError(f"other processes remove new folders in {place}", hint="try again")


@lru_cache(maxsize=1)
def remove_leftovers(place: Path) -> None:
    """Remove the folders of this user's processes that were killed: a process has its folders locked while it lives."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError), ExitStack() as stack:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            stack.callback(os.close, lock)
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    with suppress(OSError):  # not `shutil.rmtree`, which needs more open files, and there may be none left
        for path in list(folder.iterdir()):
            path.unlink()
        folder.rmdir()


def _remove_logs(folder: Path) -> None:
    """Keep the tables of a new store, and the files that name them."""
    kept = {CURRENT, (folder / CURRENT).read_text(encoding="ascii").strip()}
    for path in folder.iterdir():
        if path.suffix not in TABLES and path.name not in kept:
            path.unlink()


def _read_names(store: Path, source: Path) -> dict[str, bytes]:
    """Read the files that name the tables: CURRENT, and the MANIFEST that it names."""
    current = read_small(store, source / CURRENT, MAX_CURRENT)
    match = MANIFEST.fullmatch(current)
    manifest = match[1].decode("ascii") if match else ""
    if not match or not os.path.lexists(source / manifest):
        raise CorruptStoreError(
            f"{CURRENT} holds {current[:40]!r}, not the name of a MANIFEST of the store", store=store
        )
    return {CURRENT: current, manifest: read_small(store, source / manifest, MAX_MANIFEST)}


def _link_table(store: Path, path: Path, link: Path) -> None:
    if path.suffix in TABLES:
        _check_table(store, path)
        link.symlink_to(path)
    elif path.suffix == ".log" and path.stat().st_size:
        raise CorruptStoreError(
            f"it has records that are in no table yet ({path.name}): it isn't complete, or another program wrote to it",
            store=store,
        )


def _check_table(store: Path, path: Path) -> None:
    """Refuse a table whose index can't be where its footer says: LevelDB would run out of memory and abort."""
    descriptor, status = open_regular(path)
    try:
        end = status.st_size - FOOTER
        footer = os.pread(descriptor, FOOTER, max(end, 0))
    finally:
        os.close(descriptor)
    _, _, start, size, *_ = _read_varints(footer[: -len(MAGIC)])
    if not footer.endswith(MAGIC) or start + size + TRAILER > end:
        raise CorruptStoreError(f"{path.name} is cut short or damaged", store=store)


def _read_varints(content: bytes) -> list[int]:
    """Read numbers of 7 bits per byte, the last byte of each below 128; those after the content are huge."""
    numbers = []
    number = shift = 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follows
            numbers.append(number)
            number = shift = 0
    return [*numbers, *[1 << 64] * 4]


def is_settled(tables: bytes) -> bool:
    """Whether each level is small enough, by ``leveldb.sstables``, that LevelDB moves no table to the next one."""
    levels = [[int(size) for size in TABLE.findall(level)] for level in tables.split(b"--- level ")[1:]]
    return len(levels[0]) < MAX_FIRST_LEVEL and all(
        sum(sizes) < 10**level << 20 for level, sizes in enumerate(levels[1:], 1)
    )


def _open(folder: Path, **options: object) -> plyvel.DB:
    with fork_lock:
        if not _thread_owners:
            _thread_owners.add(os.getpid())
        return plyvel.DB(os.fsencode(folder), paranoid_checks=True, **options)  # else it ignores what it can't read


@contextmanager
def _open_database(store: Path, folder: ReaderFolder) -> Iterator[plyvel.DB]:
    with reading(store, plyvel.Error):
        database = _open(folder.path)
    if not is_settled(database.get_property(b"leveldb.sstables")):
        leak(database)  # closing it would wait for a thread, which a forked child doesn't have
        raise CorruptStoreError(
            "it has tables that LevelDB would move: it isn't complete, or another program wrote to it", store=store
        )
    try:
        yield database
    finally:
        with fork_lock:
            database.close()


def _write_records(database: plyvel.DB, records: RecordSet, labels: Labels) -> None:
    codes = labels.astype(LABEL).tobytes()
    for numbers in cut_batches(records.offsets + LABEL.itemsize * np.arange(len(records) + 1), BATCH):
        with database.write_batch() as batch:
            for number, image in zip(numbers, view_records(records, numbers), strict=True):
                label = codes[number * LABEL.itemsize : (number + 1) * LABEL.itemsize]
                batch.put(pack_key(number), b"".join((image, label)))


def _write_tables(database: plyvel.DB) -> None:
    """Have LevelDB write the last table, and wait until it has nothing more to do."""
    database.compact_range(start=AFTER_ALL, stop=AFTER_ALL)  # without records there, no table is written again
    database.write_batch().write()  # an empty one, which raises the errors of LevelDB's thread
    while not is_settled(database.get_property(b"leveldb.sstables")):
        time.sleep(0.001)
        database.write_batch().write()


def _read_layout(store: Path, database: plyvel.DB) -> Layout:
    with reading(store, plyvel.Error):
        content = database.get(LAYOUT, b"", verify_checksums=True)
        layout, _ = unpack_layout(store, content)
        expected = [pack_key(number) for number in range(layout.images)[-1:]] + [LAYOUT]
        start = expected[0] if layout.images else None  # without images, nothing comes before the layout
        with database.iterator(start=start, include_value=False, verify_checksums=True) as keys:
            if list(islice(keys, 2)) != expected:
                raise CorruptStoreError(f"its records aren't those of {layout.images} images", store=store)
    return layout


def _is_short(value: bytes | None) -> bool:
    """Whether a value is missing, or has no label."""
    return value is None or len(value) < LABEL.itemsize


def _read_files(store: Path, folder: ReaderFolder, layout: Layout) -> tuple[Encoded, Labels]:
    labels = bytearray()

    def cut_labels(records: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, memoryview]]:
        for key, value in records:
            if _is_short(value):
                break
            labels.extend(value[-LABEL.itemsize :])
            yield key, memoryview(value)[: -LABEL.itemsize]

    @contextmanager
    def begin(number: int) -> Iterator[Iterator[tuple[bytes, memoryview]]]:
        with (
            _open_database(store, folder) as database,
            reading(store, plyvel.Error),
            database.iterator(start=pack_key(number), stop=LAYOUT, verify_checksums=True, fill_cache=False) as records,
        ):
            yield cut_labels(records)

    files = collect_files(store, layout, begin, PART)
    return files, np.frombuffer(labels, LABEL).astype(np.int64)


def _read_part(store: Path, database: plyvel.DB, start: int, images: Images, labels: Labels) -> None:
    step = _count_records(images)
    with (
        reading(store, plyvel.Error),
        database.iterator(start=pack_key(start), stop=LAYOUT, verify_checksums=True, fill_cache=False) as records,
    ):
        for first in range(0, len(images), step):
            part = slice(first, min(first + step, len(images)))
            keys, values = zip(*islice(records, part.stop - part.start), strict=True)
            if b"".join(keys) != np.arange(start + first, start + part.stop, dtype=">u8").tobytes():
                raise CorruptStoreError(f"a record before {start + part.stop} is missing", store=store)
            _copy_values(store, values, images[part], labels[part])
            report_filled(images[part])


def _count_records(images: Images) -> int:
    """Count the records that are written or copied at once."""
    return max(1, BATCH // (images.nbytes // max(len(images), 1) + LABEL.itemsize))


def _copy_values(store: Path, values: Sequence[bytes | None], images: Images, labels: Labels) -> None:
    size = images.nbytes // max(len(images), 1)
    whole = [value for value in values if value is not None and len(value) == size + LABEL.itemsize]
    if len(whole) != len(images):
        raise CorruptStoreError(f"a record is missing, or doesn't hold {size} bytes and a label", store=store)
    rows = np.frombuffer(b"".join(whole), np.uint8).reshape(len(images), size + LABEL.itemsize)
    view_bytes(images).reshape(len(images), size)[...] = rows[:, :size]
    labels[...] = np.ascontiguousarray(rows[:, size:]).view(LABEL)[:, 0]
