"""What the LMDB backends share: environments, transactions, and the two records that describe a store.

Library: py-lmdb (https://lmdb.readthedocs.io); the C library's own documentation is http://www.lmdb.tech/doc/.
"""

import errno
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray

from ..arrays import check_shape
from ..contract import BackendInfo, Images, Labels
from ..errors import CorruptStoreError, reading, writing
from ..paths import create_file, stat_file
from ..reader import fork_lock, leak

FILE = "data.mdb"
LABELS = b"labels"
LAYOUT = b"layout"
LABEL_SIZES = (1, 2, 4, 8)  # bytes
LARGEST = 1 << 62  # number in a layout, so that NumPy can count with it
PART = 16 << 20  # bytes read before the map is let go: what was touched of it counts as memory of this process
INFO = BackendInfo(
    {"py-lmdb": lmdb.__version__, "LMDB": ".".join(map(str, lmdb.version()))},
    "Symas, for the OpenLDAP project",
    "OLDAP-2.8",
)
TRANSACTION = 1_536 << 10  # bytes of pixels: they stay in the processor's cache until LMDB has written them

PAGE_HEADER = struct.Struct("<10xHI")  # flags, and how many pages the value takes, if it has pages of its own
OWN_PAGES = 0x04  # P_OVERFLOW, the flag that says so
META_PAGES = 2

pack_key = struct.Struct(">Q").pack

# By device and inode: py-lmdb opens a file once per process, so the readers of a store share an environment. A forked
# child can't open a file that its parent has open, so it shares that environment: nothing but the map is used.
_shared: dict[tuple[int, int], "_SharedEnvironment"] = {}


@contextmanager
def begin_reading(store: Path, *, readahead: bool = True) -> Iterator[lmdb.Transaction]:
    """Begin a transaction that reads, in an environment that all readers of the store share.

    Parameters
    ----------
    store : Path
        A store of an LMDB backend.
    readahead : bool
        Whether the kernel may read more of the file than is asked for. The first who opens a store decides.

    Yields
    ------
    lmdb.Transaction
        Its values are views of the memory map.

    Raises
    ------
    StoreNotFoundError, CorruptStoreError
        There is no store, or its file is shorter than it should be.
    """
    with reading(store, lmdb.Error):
        key, environment = _acquire(store, readahead=readahead)
        try:
            with environment.begin(buffers=True) as transaction:
                yield transaction
        finally:
            _release(key)


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the pages that hold nothing but a value each; see `storage.Backend`.

    All others are pages of the tree. LMDB believes what they say: a wrong number of a page kills the process.
    """
    with begin_reading(store) as transaction:
        size = transaction.stat()["psize"]
    path, status = stat_file(store, FILE)
    found = []
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:  # noqa: PTH123 - bytes
        number, end = META_PAGES, status.st_size // size
        while number < end:
            flags, pages = PAGE_HEADER.unpack_from(content, number * size)
            step = pages if flags & OWN_PAGES else 1
            if flags & OWN_PAGES:
                found.append(range(number * size, (number + step) * size))
            number += step
    return {FILE: found}


@contextmanager
def refuse_change(store: Path) -> Iterator[None]:
    """Refuse a store that was replaced while it was read under more than one transaction."""
    before = _identify(store)
    yield
    if _identify(store) != before:
        raise CorruptStoreError(f"{store} was replaced while it was read: read it again")


@contextmanager
def create_environment(store: Path, images: Images) -> Iterator[lmdb.Environment]:
    """Create the environment of a new store, large enough for `images`; nothing is synced, nothing is locked."""
    path = create_file(store, FILE)
    size = compute_map_size(images)
    with (
        writing(store, lmdb.Error),
        lmdb.open(path, subdir=False, map_size=size, sync=False, metasync=False, lock=False) as environment,
    ):
        yield environment


def compute_map_size(images: Images) -> int:
    """Compute an address range that the records of `images` cannot fill: each may take whole pages, and one more.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)

    Returns
    -------
    int
        Bytes. They are addresses only: the file grows as it is written.
    """
    page = mmap.PAGESIZE
    record = images[0].nbytes // page * page + 2 * page if len(images) else page
    return len(images) * (record + 64) + 64 * page


def append_pixels(environment: lmdb.Environment, images: Images, images_per_record: int) -> None:
    """Append the records that hold pixels: a key is the number of a record, a value the pixels of its images."""
    pixels = images.reshape(-1).data
    size = images_per_record * (images.nbytes // max(len(images), 1))
    records = -(-len(images) // images_per_record)
    step = max(1, TRANSACTION // max(size, 1))
    for start in range(0, records, step):
        numbers = range(start, min(start + step, records))
        append_records(
            environment, [(pack_key(number), pixels[number * size : (number + 1) * size]) for number in numbers]
        )


def append_description(
    environment: lmdb.Environment, layout: struct.Struct, numbers: Sequence[int], labels: Labels
) -> None:
    """Append the records that describe a store; the last one in a transaction of its own: it marks the end."""
    append_records(environment, [(LABELS, labels.astype(_choose_type(labels)).tobytes())])
    append_records(environment, [(LAYOUT, layout.pack(*numbers))])


def append_records(environment: lmdb.Environment, records: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
    """Append records in one transaction; a map that is too small grows."""
    while True:
        try:
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(records, append=True)
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
        except lmdb.Error as error:
            if error.code == errno.EIO:  # what LMDB makes of a write that was cut short
                raise OSError(errno.ENOSPC, f"a full or a failing disk: {error}") from error
            raise
        else:
            return


def read_layout(store: Path, transaction: lmdb.Transaction, layout: struct.Struct) -> tuple[int, ...]:
    """Read the numbers in the record ``layout``; the first three are the shape of the image set."""
    try:
        numbers: tuple[int, ...] = layout.unpack(transaction.get(LAYOUT, b""))
    except struct.error:
        raise CorruptStoreError(
            f"{store} has no record 'layout' of {layout.size} bytes: the store is not complete, or another program or "
            "backend wrote it: store the images again"
        ) from None
    if max(numbers) > LARGEST:
        raise CorruptStoreError(f"{store} has a record 'layout' that holds too large a number: {max(numbers)}")
    check_shape(store, *numbers[:3])
    return numbers


def count_records(transaction: lmdb.Transaction) -> int:
    """Count the records that hold pixels."""
    return int(transaction.stat()["entries"]) - len((LABELS, LAYOUT))


def view_labels(store: Path, transaction: lmdb.Transaction, count: int) -> NDArray[np.signedinteger]:
    """View the labels in the map, of the smallest type that holds them."""
    record = transaction.get(LABELS, b"")
    size = len(record) // count if count else LABEL_SIZES[0]
    if len(record) != size * count or size not in LABEL_SIZES:
        raise CorruptStoreError(f"{store}: {len(record)} bytes of labels for {count} images: another program wrote it")
    return np.frombuffer(record, f"<i{size}")


def _identify(store: Path) -> tuple[int, int, int]:
    status = stat_file(store, FILE)[1]
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _choose_type(labels: Labels) -> str:
    extremes = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    kinds = [f"<i{size}" for size in LABEL_SIZES]
    return next(kind for kind in kinds if all(np.iinfo(kind).min <= label <= np.iinfo(kind).max for label in extremes))


@dataclass
class _SharedEnvironment:
    """A read-only environment, the bytes that its file must have, and how many use it; the last one closes it."""

    environment: lmdb.Environment
    size: int
    users: int = 0


def _acquire(store: Path, *, readahead: bool) -> tuple[tuple[int, int], lmdb.Environment]:
    path, status = stat_file(store, FILE)
    with fork_lock:
        key = status.st_dev, status.st_ino
        if key not in _shared:
            _shared[key] = _open_shared(path, readahead=readahead)
        shared = _shared[key]
        shared.users += 1
    if status.st_size < shared.size:  # reading behind the end of a map kills the process
        _release(key)
        raise CorruptStoreError(
            f"{store}: {FILE} has {status.st_size} of {shared.size} bytes: the store was cut short: store it again"
        )
    return key, shared.environment


def _open_shared(path: bytes, *, readahead: bool) -> _SharedEnvironment:
    environment = lmdb.open(path, subdir=False, readonly=True, lock=False, create=False, readahead=readahead)
    size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    return _SharedEnvironment(environment, size)


def _release(key: tuple[int, int]) -> None:
    with fork_lock:
        shared = _shared[key]
        shared.users -= 1
        if not shared.users:
            _shared.pop(key).environment.close()


def _keep_inherited() -> None:  # pragma: no cover - runs in children only
    """Never close an environment of the parent: py-lmdb would wait for the parent's threads that are reading."""
    for shared in _shared.values():
        shared.users += 1
        leak(shared)


os.register_at_fork(after_in_child=_keep_inherited)
