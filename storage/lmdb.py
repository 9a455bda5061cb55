"""LMDB: one record an image in a memory-mapped B+ tree.

On disk: ``data.mdb``, one environment with one unnamed database. The key of an image is its index, 8 bytes
big-endian, so that LMDB's order is the order of the images and they are appended rather than inserted; its value is
the raw pixels, H x W x 3 bytes. Two more records stand behind the images: ``labels``, all of them as little-endian
int64, and ``layout``, JSON with the number of images, height and width. ``layout`` is written in the last transaction:
a store without it is not complete.

The environment is opened without a lock file, because a store is never written again, and without ``sync``, because
durability is not a backend's decision. Values are read as views of the map and copied once, into the result.

Library: py-lmdb (https://lmdb.readthedocs.io); the C library's own documentation is http://www.lmdb.tech/doc/.
"""

import errno
import json
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeAlias

import lmdb
import numpy as np
from numpy.typing import NDArray

from storage.checks import (
    CHANNELS,
    Image,
    Images,
    Labels,
    check_image,
    check_images,
    check_index,
    check_shape,
    claim_store,
    find_file,
    make_array,
)
from storage.errors import CorruptStoreError, translate_errors
from storage.reader import Reader

FILE = "data.mdb"
LABELS = b"labels"
LAYOUT = b"layout"
VERSIONS = {"py-lmdb": lmdb.__version__, "LMDB": ".".join(map(str, lmdb.version()))}
TRANSACTION = 2048  # images; larger transactions spend their time sorting dirty pages

pack_key = struct.Struct(">Q").pack

# LMDB opens a file once a process, so the readers of one store share its environment.
_shared: dict[tuple[int, int, int], "_SharedEnvironment"] = {}
_sharing = Lock()
os.register_at_fork(before=_sharing.acquire, after_in_parent=_sharing.release, after_in_child=_sharing.release)

Value: TypeAlias = bytes | memoryview


class Layout(NamedTuple):
    """What the ``layout`` record says."""

    images: int
    height: int
    width: int


def store_single(store: Path, image: Image, label: int) -> None:
    """Store one image alone; see `storage.Backend`."""
    store_many(store, *check_image(image, label))


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _begin(store) as transaction:
        layout = _read_layout(store, transaction)
        position = check_index(store, index, layout.images)
        image = make_array(store, (layout.height, layout.width, CHANNELS))
        _copy_records(store, _get_records(transaction, [position]), image[np.newaxis])
        return image, int(_view_labels(store, transaction, layout)[position])


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    path = claim_store(store)
    count, height, width, _ = images.shape
    layout = Layout(count, height, width)
    with (
        translate_errors(store, lmdb.Error),
        lmdb.open(
            os.fsencode(path), map_size=compute_map_size(images), sync=False, metasync=False, lock=False
        ) as environment,
    ):
        for records in _pack_records(images):
            _append_records(environment, records)
        _append_records(environment, [(LABELS, labels.astype("<i8", copy=False).tobytes())])
        _append_records(environment, [(LAYOUT, json.dumps(layout._asdict()).encode())])


def read_many(store: Path) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _begin(store) as transaction:
        layout = _read_layout(store, transaction)
        images = make_array(store, (layout.images, layout.height, layout.width, CHANNELS))
        with transaction.cursor() as cursor:
            values = (value for _, value in zip(range(layout.images), cursor.iternext(keys=False), strict=False))
            _copy_records(store, values, images)
        return images, _view_labels(store, transaction, layout).astype(np.int64)


def open_reader(store: Path) -> Reader:
    """Open a store for reading in any order; see `storage.Backend`."""
    return LmdbReader(store)


class LmdbReader(Reader):
    """Reads under one transaction that stays open."""

    def _open(self) -> tuple[int, int, int]:
        with ExitStack() as stack:
            self._transaction = stack.enter_context(_begin(self.store))
            layout = _read_layout(self.store, self._transaction)
            self._labels = _view_labels(self.store, self._transaction, layout)
            self._resources = stack.pop_all()
        return layout

    def _read(self, positions: NDArray[np.intp], images: Images, labels: Labels) -> None:
        with translate_errors(self.store, lmdb.Error):
            _copy_records(self.store, _get_records(self._transaction, positions), images)
        np.take(self._labels, positions, out=labels, mode="clip")

    def _read_one(self, position: int) -> tuple[Image, int]:
        try:
            value = self._transaction.get(pack_key(position))
            pixels = np.frombuffer(value, np.uint8)  # type: ignore[arg-type] # no record is None: a TypeError
            return pixels.reshape(self._shape).copy(), int(self._labels[position])
        except (TypeError, ValueError, lmdb.Error):  # a damaged record: reading a batch says what is wrong
            return super()._read_one(position)

    def _close(self) -> None:
        del self._labels, self._transaction
        self._resources.close()


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


def _pack_records(images: Images) -> Iterator[list[tuple[bytes, memoryview]]]:
    pixels = images.reshape(-1).data
    size = images.nbytes // max(len(images), 1)
    for start in range(0, len(images), TRANSACTION):
        indices = range(start, min(start + TRANSACTION, len(images)))
        yield [(pack_key(index), pixels[index * size : (index + 1) * size]) for index in indices]


def _append_records(environment: lmdb.Environment, records: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
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


@dataclass
class _SharedEnvironment:
    """A read-only environment, and how many use it; the last one closes it."""

    environment: lmdb.Environment
    users: int = 0


@contextmanager
def _begin(store: Path) -> Iterator[lmdb.Transaction]:
    path = find_file(store, FILE)
    with (
        translate_errors(store, lmdb.Error),
        _share_environment(path) as environment,
        environment.begin(buffers=True) as transaction,
    ):
        yield transaction


@contextmanager
def _share_environment(path: Path) -> Iterator[lmdb.Environment]:
    status = path.stat()
    key = os.getpid(), status.st_dev, status.st_ino
    with _sharing:
        for other in [other for other in _shared if other[0] != os.getpid()]:  # inherited through a fork
            _shared.pop(other).environment.close()
        if key not in _shared:
            _shared[key] = _SharedEnvironment(
                lmdb.open(os.fsencode(path.parent), readonly=True, lock=False, create=False)
            )
        shared = _shared[key]
        shared.users += 1
    try:
        _check_size(path, shared.environment)
        yield shared.environment
    finally:
        with _sharing:
            shared.users -= 1
            if not shared.users:
                shared.environment.close()
                _shared.pop(key, None)


def _check_size(path: Path, environment: lmdb.Environment) -> None:
    """Refuse a file that ends before its last page: reading behind the end of a map kills the process."""
    expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    found = path.stat().st_size
    if found < expected:
        raise CorruptStoreError(f"{path} has {found} of {expected} bytes: the store was cut short: store it again")


def _read_layout(store: Path, transaction: lmdb.Transaction) -> Layout:
    try:
        layout = Layout(**json.loads(bytes(transaction.get(LAYOUT, b""))))
        check_shape(store, *layout)
        first = transaction.get(pack_key(0), b"")
        size = layout.height * layout.width * CHANNELS if layout.images else 0
        complete = transaction.stat()["entries"] == layout.images + 2 and len(first) == size
    except (TypeError, ValueError, RecursionError):
        complete = False
    if not complete:
        raise CorruptStoreError(
            f"{store}: the record 'layout' is missing or does not fit the other records: the store is not complete, "
            "or another program wrote it: store the images again"
        )
    return layout


def _view_labels(store: Path, transaction: lmdb.Transaction, layout: Layout) -> NDArray[np.int64]:
    labels = transaction.get(LABELS, b"")
    if len(labels) != 8 * layout.images:
        raise CorruptStoreError(f"{store}: {len(labels)} bytes of labels for {layout.images} images")
    return np.frombuffer(labels, "<i8")


def _get_records(transaction: lmdb.Transaction, positions: Iterable[int]) -> Iterator[Value | None]:
    return (transaction.get(pack_key(position)) for position in positions)


def _copy_records(store: Path, values: Iterable[Value | None], images: Images) -> None:
    pixels = images.reshape(-1).data
    size = images.nbytes // max(len(images), 1)
    start = 0
    try:
        for value in values:
            pixels[start : start + size] = value  # type: ignore[assignment] # no record is None: a TypeError
            start += size
    except (TypeError, ValueError):
        raise CorruptStoreError(
            f"{store}: a record is missing or has another size than {size} bytes: store the images again"
        ) from None
