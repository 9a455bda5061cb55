"""Bolt: one record an image in the memory-mapped B+ tree of a Go library.

On disk: ``images.bolt``, one file with one bucket, ``images``. The key of an image is its index, 8 bytes big-endian;
its value is the raw pixels, H x W x 3 bytes, and then the label, a little-endian integer of 8 bytes. One more record
stands behind the images: ``metadata``, the number of images, height and width as little-endian integers of 8 bytes. It
is written in the last transaction: a store without it is not complete.

Why so: records are appended in transactions of 1.5 MiB, with pages filled whole (``FillPercent`` 1). Pages have
32 KiB: with 4 KiB a CIFAR-10 image takes 4,110 bytes, with 32 KiB 3,290, and storing takes half of the time; with
64 KiB still less, but a store of one image would take 400 KiB. Nothing is synced, no list of free pages is kept
(``NoSync``, ``NoGrowSync``, ``NoFreelistSync``): a store is written once. A shuffled batch of 256 images takes about
1.3 microseconds an image. Bolt has no checksums, and believes its pages: so the bridge checks the pages that lead to
the leaves when a store is opened, and the header of a leaf when it is first read.

Library: bbolt (https://pkg.go.dev/go.etcd.io/bbolt), through `storage.go_bridge`.
"""

import os
from pathlib import Path

from ..arrays import check_images
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import reading, writing
from ..go_bridge import BridgeError, Records, read_versions
from ..go_bridge.image_set import RecordsReader, count_bytes, read_image, read_image_set, write_image_set
from ..paths import claim_store, stat_file

FILE = "images.bolt"
INFO = BackendInfo(read_versions("bbolt"), "the etcd project", "MIT")


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with reading(store, BridgeError), _open(store) as records:
        return read_image(store, records, index)


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    count_bytes(images)
    path = os.fsencode(claim_store(store) / FILE)
    with writing(store, BridgeError):
        write_image_set("bolt", path, images, labels)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store, BridgeError), _open(store) as records:
        return read_image_set(store, records, out)


class BoltReader(RecordsReader):
    """Copies out of the memory map of Bolt, with one call a batch."""

    def _open_records(self) -> Records:
        with reading(self.store, BridgeError):
            return _open(self.store)


open_reader = BoltReader


def _open(store: Path) -> Records:
    return Records("bolt", stat_file(store, FILE)[0])
