"""Bolt: one record per image in the memory-mapped B+ tree of a Go library.

On disk: ``images.bolt``, one file with one bucket, ``images``, with the records that `_go` describes. The last record
is written in the last transaction: a store without it isn't complete.

Why so: records are appended in transactions of 1.5 MiB, and pages are filled completely (``FillPercent`` 1). Pages have
32 KiB: a CIFAR-10 image takes 3,290 bytes, and 4,110 with 4 KiB, which take twice as long to store. 64 KiB take still
less, but a store of one image would take 400 KiB. Nothing is synced, and there is no list of free pages, because a
store is written once. A shuffled batch of 256 images takes about 1.3 microseconds per image. Bolt has no checksums and
trusts its pages, so the bridge checks the pages that lead to the leaves when a store is opened, and the header of a
leaf when it is first read.

Library: bbolt (https://pkg.go.dev/go.etcd.io/bbolt), through `storage.go_bridge`.
"""

from pathlib import Path

from ..contract import ANY_PIXELS, BackendInfo, Images, Labels
from ..encoded import Encoded
from ..errors import reading, writing
from ..go_bridge import BridgeError, Records, read_versions
from ..paths import create_file, stat_file
from ._go import RecordsReader, check_records, write_records

FILE = "images.bolt"
MAX_VALUE = (1 << 29) - 64  # bytes: a page has up to four values, and Bolt reads none beyond 2 GiB of a page
INFO = BackendInfo(
    read_versions("bbolt"),
    "the etcd project",
    "MIT",
    kinds=("pixels", "encoded"),
    dtypes=ANY_PIXELS,
    survives_damage=True,  # the bridge turns a panic, or a fault in the map, into an error
)


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    with writing(store, BridgeError):
        records, labels = check_records(images, labels, MAX_VALUE, "Bolt")
        write_records("bolt", create_file(store, FILE), images, records, labels)


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), BoltReader(store) as reader:
        return reader.read_all(out)


class BoltReader(RecordsReader):
    """Copies out of Bolt's memory map, with one call per batch."""

    def _open_records(self) -> Records:
        return Records("bolt", stat_file(self.store, FILE)[0])


open_reader = BoltReader
