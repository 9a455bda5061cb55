"""The LMDB backends share environments, transactions, and the two records that describe a store.

Library: py-lmdb (https://lmdb.readthedocs.io); the C library's documentation is http://www.lmdb.tech/doc/.
"""

import errno
import math
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

from ..contract import ANY_PIXELS, BackendInfo, Labels
from ..errors import CorruptStoreError, reading, writing
from ..limits import check_amount, check_memory, measure_content
from ..paths import create_file, open_file, stat_file
from ..reader import fork_lock, leak
from ._records import Layout, RecordSet, check_lengths, cut_batches, pack_key, unpack_layout, view_records

FILE = "data.mdb"
LABELS = b"labels"
LAYOUT = b"layout"
FILE_OFFSETS = b"file_offsets"  # of packed files
LABEL_SIZES = (1, 2, 4, 8)  # bytes
MAX_VALUE = 0x7FFFF000 - 16  # bytes: LMDB writes a value and its header with one call, and Linux writes no more
PART = 16 << 20  # bytes read under one transaction: what was touched of the map counts as memory of this process
TRANSACTION = 1_536 << 10  # bytes of pixels: they stay in the processor's cache until LMDB has written them
INFO = BackendInfo(
    {"py-lmdb": lmdb.__version__, "LMDB": ".".join(map(str, lmdb.version()))},
    "Symas, for the OpenLDAP project",
    "OLDAP-2.8",
    kinds=("pixels", "encoded"),
    dtypes=ANY_PIXELS,
)

PAGE_HEADER = struct.Struct("<10xHI")  # flags, and the number of pages if a value has pages to itself
OVERFLOW = 0x04  # LMDB's flag for such a value
META_PAGES = 2

# By device and inode: py-lmdb opens a file once per process, so the readers of a store share an environment. A forked
# child can't open a file that its parent has open, so it shares that environment: nothing but the map is used.
_shared: dict[tuple[int, int], "_SharedEnvironment"] = {}


@contextmanager
def begin_reading(store: Path, *, readahead: bool = True) -> Iterator[lmdb.Transaction]:
    """Begin a transaction that reads views of the map; the first reader of a store decides on `readahead`."""
    with reading(store, lmdb.Error):
        key, environment = _acquire(store, readahead=readahead)
        try:
            with environment.begin(buffers=True) as transaction:
                yield transaction
        finally:
            _release(key)


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the pages of images and labels alone; a wrong byte in any other page can kill the process."""
    found = []
    with begin_reading(store) as transaction, open_file(store, FILE) as (descriptor, status):
        size, used = transaction.stat()["psize"], _shared[status.st_dev, status.st_ino].size
        check_memory(store, used, measure_content(descriptor, status), "a list of all pages")
        content = mmap.mmap(descriptor, used, prot=mmap.PROT_READ)
        offsets = bytes(transaction.get(FILE_OFFSETS, b""))
        number, end = META_PAGES, used // size
        while number < end:
            flags, pages = PAGE_HEADER.unpack_from(content, number * size)
            step = max(1, pages) if flags & OVERFLOW else 1
            value = number * size + PAGE_HEADER.size
            is_structure = offsets and content[value : value + len(offsets)] == offsets
            if flags & OVERFLOW and not is_structure:
                found.append(range(number * size, (number + step) * size))
            number += step
    return {FILE: found}


@contextmanager
def refuse_replacement(store: Path) -> Iterator[None]:
    """Refuse a store that was replaced while it was read under more than one transaction."""
    before = _identify(store)
    yield
    if _identify(store) != before:
        raise CorruptStoreError("it was replaced while it was read", store=store, hint="read it again")


def write_store(store: Path, records: RecordSet, labels: Labels, layout: bytes, offsets: bytes = b"") -> None:
    """Write a store, unsynced and without locks; the last record, in a separate transaction, marks it as complete."""
    codes = labels.astype(_choose_type(labels)).tobytes()
    lengths = np.append(records.lengths, [len(codes), len(offsets)])
    check_lengths(lengths, MAX_VALUE, "a value of LMDB")
    path = create_file(store, FILE)
    with (
        writing(store, lmdb.Error),
        lmdb.open(
            path, subdir=False, map_size=compute_map_size(lengths), sync=False, metasync=False, lock=False
        ) as environment,
    ):
        for numbers in cut_batches(records.offsets, TRANSACTION):
            _append(environment, list(zip(map(pack_key, numbers), view_records(records, numbers), strict=True)))
        if offsets:
            _append(environment, [(FILE_OFFSETS, offsets)])
        _append(environment, [(LABELS, codes)])
        _append(environment, [(LAYOUT, layout)])


def compute_map_size(lengths: NDArray[np.int64]) -> int:
    """Compute enough bytes of addresses for records: each may take whole pages, and one more."""
    page = mmap.PAGESIZE
    return int((lengths // page * page + 2 * page + 64).sum()) + 64 * page


def _append(environment: lmdb.Environment, records: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
    while True:
        try:
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(records, append=True)
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
        except lmdb.Error as error:
            if error.code == errno.EIO:  # LMDB's code for a write that was cut short
                raise OSError(errno.ENOSPC, f"a full or a failing disk: {error}") from error
            raise
        else:
            return


def read_layout(store: Path, transaction: lmdb.Transaction, numbers: struct.Struct) -> Layout:
    """Read what the store holds, and check that its records fit."""
    layout, packed = unpack_layout(store, bytes(transaction.get(LAYOUT, b"")), numbers)
    count = layout.images
    size = layout.image_size * math.prod(packed) if layout.shape or packed else 0
    others = [LABELS, LAYOUT] if layout.shape or not packed else [FILE_OFFSETS, LABELS, LAYOUT]
    records = transaction.stat()["entries"] - len(others)
    first = len(transaction.get(pack_key(0), b""))
    if (
        packed == [0]
        or records != (-(-layout.size // size) if size else count)
        or (size and first != min(layout.size, size))
    ):
        raise CorruptStoreError(f"its records aren't those of {count} images", store=store)
    check_amount(f"{count} images", layout.size, stat_file(store, FILE)[1].st_size, store=store)
    return layout._replace(record=size)


def view_labels(store: Path, transaction: lmdb.Transaction, count: int) -> NDArray[np.signedinteger]:
    """View the labels in the map, of the smallest type that holds them."""
    record = transaction.get(LABELS, b"")
    size = len(record) // count if count else LABEL_SIZES[0]
    if len(record) != size * count or size not in LABEL_SIZES:
        raise CorruptStoreError(f"there are {len(record)} bytes of labels for {count} images", store=store)
    return np.frombuffer(record, f"<i{size}")


def _identify(store: Path) -> tuple[int, int, int]:
    status = stat_file(store, FILE)[1]
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _choose_type(labels: Labels) -> str:
    extremes = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    bits = 1 + max((label if label >= 0 else ~label).bit_length() for label in extremes)
    return next(f"<i{size}" for size in LABEL_SIZES if bits <= 8 * size)


@dataclass
class _SharedEnvironment:
    """A read-only environment, the size that its file must have, and the number of its users; the last closes it."""

    environment: lmdb.Environment
    size: int
    users: int = 0


def _acquire(store: Path, *, readahead: bool) -> tuple[tuple[int, int], lmdb.Environment]:
    path, status = stat_file(store, FILE)
    with fork_lock:
        key = status.st_dev, status.st_ino
        if key not in _shared:
            environment = lmdb.open(path, subdir=False, readonly=True, lock=False, create=False, readahead=readahead)
            size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            _shared[key] = _SharedEnvironment(environment, size)
        shared = _shared[key]
        shared.users += 1
    if status.st_size < shared.size:  # reading beyond the end of a map kills the process
        _release(key)
        raise CorruptStoreError(f"{FILE} was cut short: {status.st_size} of {shared.size} bytes are left", store=store)
    return key, shared.environment


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
