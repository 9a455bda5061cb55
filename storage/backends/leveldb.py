"""LevelDB: one record an image, in sorted tables with checksums.

On disk: a LevelDB database: ``CURRENT``, ``MANIFEST-NNNNNN`` and tables ``NNNNNN.ldb``. The key of an image is its
index, 8 bytes big-endian; its value is the raw pixels, H x W x 3 bytes, and the label, little-endian int64. The record
``layout`` holds the number of images, height and width, little-endian integers of 8 bytes. It is written last: without
it a store is not complete. Log and lock files are removed: LevelDB makes them anew.

Why so: keys that ascend are never merged, so each image is written twice, into LevelDB's log and into a table. A block
of 2 KiB holds one image of CIFAR-10, so that a random read proves the checksum of that image alone (3.2 us an image;
4.0 in blocks of 4 KiB, 24 in blocks of 64 KiB). Snappy takes twice the time and saves 1 %. A label beside its pixels
costs no more than labels apart. A reader has a folder of its own: see `_leveldb`.

Library: plyvel (https://plyvel.readthedocs.io); LevelDB itself: https://github.com/google/leveldb/tree/main/doc.
"""

import ctypes
import os
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_images, check_index, check_shape, make_array, make_result
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import BackendUnavailableError, CorruptStoreError, InvalidInputError, StorageError, reading, writing
from ..paths import claim_store
from ..reader import Reader, fork_lock
from ._leveldb import ReaderFolder, is_settled, remove_logs

try:
    import plyvel
except ModuleNotFoundError:
    if sys.version_info < (3, 13):
        raise
    raise BackendUnavailableError(
        "plyvel has wheels for Python below 3.13 only: use an older Python, or build it: "
        "apt-get install libleveldb-dev, python -m pip install plyvel"
    ) from None

INFO = BackendInfo(
    {"plyvel": plyvel.__version__, "LevelDB": plyvel.__leveldb_version__},
    "Google; plyvel: Wouter Bolsterlee",
    "BSD-3-Clause",
)

LAYOUT = b"layout"
NUMBERS = struct.Struct("<3Q")  # number of images, height, width
LABEL = np.dtype("<i8")
LARGEST = 1 << 62  # number in a layout, so that NumPy can count with it
LARGEST_RECORD = (1 << 32) - 1  # bytes: LevelDB counts them with 32 bits
BLOCK = 2 << 10  # bytes
BUFFER = 16 << 20  # bytes that LevelDB collects before it writes a table; it holds two such buffers
WHOLE_BUFFER = 1 << 30  # bytes: the most that it can collect
OVERHEAD = 64  # bytes that a record takes in the buffer, at most, beside its value
BATCH = 1 << 20  # bytes that are written or copied at once: they stay in the processor's cache
PART = 32 << 20  # bytes read before the tables are let go: what was touched of a map counts as memory of this process
BEHIND = b"\xff"  # no record comes after this key

pack_key = struct.Struct(">Q").pack

_threaded: set[int] = set()  # the process where LevelDB may have started its thread: those that it forks have none


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with closing(ReaderFolder(store)) as folder, _open_database(store, folder) as database:
        count, height, width = _read_shape(store, database)
        return _read_record(store, database, check_index(store, index, count), (height, width, CHANNELS))


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    size = images.nbytes // max(len(images), 1) + LABEL.itemsize
    if size > LARGEST_RECORD:
        raise InvalidInputError(
            f"an image of {size} bytes is too large for a record of LevelDB: choose another backend"
        )
    folder = claim_store(store)
    with writing(store, plyvel.Error):
        if _has_thread():
            with closing(_create_database(folder, BUFFER)) as database:
                _write_records(database, images, labels)
                _write_tables(database)
        else:
            _refuse_large(store, len(images) * (size + OVERHEAD))
            with closing(_create_database(folder, WHOLE_BUFFER)) as database:
                _write_records(database, images, labels)
            with closing(_create_database(folder, WHOLE_BUFFER)) as database:  # a table is made of the log by now
                _read_shape(store, database)  # a log that LevelDB does not find in its folder is none to it
        remove_logs(folder)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with closing(ReaderFolder(store)) as folder:
        with _open_database(store, folder) as database:
            count, height, width = _read_shape(store, database)
        images = make_result(store, (count, height, width, CHANNELS), out)
        labels: Labels = make_array(store, (count,), np.int64)
        step = max(1, PART // (height * width * CHANNELS))
        for start in range(0, count, step):
            with _open_database(store, folder) as database:
                _read_part(store, database, start, images[start : start + step], labels[start : start + step])
    return images, labels


class LevelDBReader(Reader):
    """Gets record by record, through a folder of its own."""

    def _open(self) -> tuple[int, int, int]:
        with ExitStack() as stack:
            folder = stack.enter_context(closing(ReaderFolder(self.store)))
            self._database = stack.enter_context(_open_database(self.store, folder))
            shape = _read_shape(self.store, self._database)
            self._resources = stack.pop_all()
        return shape

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out)
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
        return _read_record(self.store, self._database, position, self._shape)

    def _close(self) -> None:
        del self._database
        self._resources.close()


open_reader = LevelDBReader


def _has_thread() -> bool:
    """Whether LevelDB's thread, which writes the tables, lives or can be started: it does not survive a fork."""
    return not _threaded or os.getpid() in _threaded


def _note_thread() -> None:
    if not _threaded:
        _threaded.add(os.getpid())


def _refuse_large(store: Path, size: int) -> None:
    if size > WHOLE_BUFFER:
        raise StorageError(
            f"{store}: a process that was forked after its parent used LevelDB stores at most 1 GiB, since LevelDB's "
            "thread does not survive a fork: store fewer images, or from a process that was started anew (spawn)"
        )


def _create_database(folder: Path, buffer: int) -> plyvel.DB:
    with fork_lock:
        _note_thread()
        return plyvel.DB(
            os.fsencode(folder),
            create_if_missing=True,
            paranoid_checks=True,  # otherwise it opens without what it could not read
            write_buffer_size=buffer,
            block_size=BLOCK,
            compression=None,
        )


def _write_records(database: plyvel.DB, images: Images, labels: Labels) -> None:
    pixels, codes = images.reshape(-1).data, labels.astype(LABEL).tobytes()
    size = images.nbytes // max(len(images), 1)
    step = _count_records(images)
    for start in range(0, len(images), step):
        with database.write_batch() as batch:
            for index in range(start, min(start + step, len(images))):
                label = codes[index * LABEL.itemsize : (index + 1) * LABEL.itemsize]
                batch.put(pack_key(index), b"".join((pixels[index * size : (index + 1) * size], label)))
    database.put(LAYOUT, NUMBERS.pack(*images.shape[:3]))


def _write_tables(database: plyvel.DB) -> None:
    """Have LevelDB write the last table, and wait until it has nothing more to do."""
    database.compact_range(start=BEHIND, stop=BEHIND)  # no record lies there: no table is written again
    database.write_batch().write()  # of nothing: raises what LevelDB's thread met
    while not is_settled(database.get_property(b"leveldb.sstables")):
        time.sleep(0.001)
        database.write_batch().write()


@contextmanager
def _open_database(store: Path, folder: ReaderFolder) -> Iterator[plyvel.DB]:
    process = os.getpid()
    with reading(store, plyvel.Error), fork_lock:
        _note_thread()
        database = plyvel.DB(os.fsencode(folder.path), paranoid_checks=True)
    settled = is_settled(database.get_property(b"leveldb.sstables"))
    try:
        if not settled:
            raise CorruptStoreError(
                f"{store} has tables that LevelDB would move: the store is not complete, or another program wrote to "
                "it: store the images again"
            )
        yield database
    finally:
        if settled and process == os.getpid():
            with fork_lock:
                database.close()
        else:
            _abandon(database)


def _abandon(database: plyvel.DB) -> None:
    """Never close a database: after a fork that may wait for ever, for a thread that is not there."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))


def _read_shape(store: Path, database: plyvel.DB) -> tuple[int, int, int]:
    with reading(store, plyvel.Error):
        layout = database.get(LAYOUT, b"", verify_checksums=True)
        if len(layout) != NUMBERS.size:
            raise CorruptStoreError(
                f"{store} has no record 'layout' of {NUMBERS.size} bytes: the store is not complete, or another "
                "program or backend wrote it: store the images again"
            )
        count, height, width = check_shape(store, *NUMBERS.unpack(layout))
        expected = [pack_key(number) for number in range(count)[-1:]] + [LAYOUT]
        with database.iterator(start=expected[0], include_value=False, verify_checksums=True) as keys:
            if max(count, height, width) > LARGEST or list(islice(keys, 2)) != expected:
                raise CorruptStoreError(f"{store}: {count} images do not fit the records: store the images again")
    return count, height, width


def _read_record(store: Path, database: plyvel.DB, position: int, shape: tuple[int, ...]) -> tuple[Image, int]:
    with reading(store, plyvel.Error):
        value = database.get(pack_key(position), verify_checksums=True)
    try:
        image = np.frombuffer(value[: -LABEL.itemsize], np.uint8).reshape(shape).copy()
        return image, int.from_bytes(value[-LABEL.itemsize :], "little", signed=True)
    except (TypeError, ValueError) as error:
        raise CorruptStoreError(f"{store}: record {position} is missing or damaged: store the images again") from error


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
                raise CorruptStoreError(
                    f"{store}: a record before {start + part.stop} is missing: store the images again"
                )
            _copy_values(store, values, images[part], labels[part])


def _count_records(images: Images) -> int:
    """Count the records that are written or copied at once."""
    return max(1, BATCH // (images.nbytes // max(len(images), 1) + LABEL.itemsize))


def _copy_values(store: Path, values: Sequence[bytes | None], images: Images, labels: Labels) -> None:
    size = images.nbytes // max(len(images), 1)
    whole = [value for value in values if value is not None and len(value) == size + LABEL.itemsize]
    if len(whole) != len(images):
        raise CorruptStoreError(
            f"{store}: a record is missing or has another size than {size} bytes and a label: store the images again"
        )
    rows = np.frombuffer(b"".join(whole), np.uint8).reshape(len(images), size + LABEL.itemsize)
    images.reshape(len(images), size)[...] = rows[:, :size]
    labels[...] = np.ascontiguousarray(rows[:, size:]).view(LABEL)[:, 0]
