"""Badger: one record an image in a log-structured tree that keeps its values in a log.

On disk: a database of Badger 2. The key of an image is its index, 8 bytes big-endian; its value is the raw pixels,
H x W x 3 bytes, and then the label, a little-endian integer of 8 bytes. One more record stands behind the images:
``metadata``, the number of images, height and width as little-endian integers of 8 bytes. All values are in
``*.vlog``, all keys in ``*.sst``. ``files.json``, written last, lists Badger's files: their sizes, and XXH3 of those
that are no value log. Badger ends the process, or deletes files, where it cannot believe them: they are checked first.

Why so: the stream writer puts sorted records straight into tables, with no compaction before or after. Values of any
size go into the log (``ValueThreshold`` 0), each with its CRC-32C, which every read verifies (``VerifyValueChecksum``).
The log is mapped: with file access a shuffled image takes four times as long, about 20 microseconds in place of 4.
Bloom filters have one bit a key, since no key is asked for that is not there. Nothing is compressed, and no conflict is
looked for. Badger syncs its tables, its manifest and the directory by itself, and no option of it prevents that:
opening a store takes milliseconds for that reason.

Library: Badger (https://pkg.go.dev/github.com/dgraph-io/badger/v2), through `storage.go_bridge`.
"""

import json
import os
from pathlib import Path

from xxhash import xxh3_64_hexdigest

from ..arrays import check_images
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import CorruptStoreError, reading, writing
from ..go_bridge import BridgeError, Records, read_versions
from ..go_bridge.image_set import RecordsReader, count_bytes, read_image, read_image_set, write_image_set
from ..paths import claim_store, find_file, refuse_special_files

FILES = "files.json"
NAMES = {"KEYREGISTRY", "MANIFEST"}  # of Badger's files, beside value logs and tables; it passes over all others
INFO = BackendInfo(read_versions("badger"), "Dgraph Labs", "Apache-2.0")


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with reading(store, BridgeError), _open(store) as records:
        return read_image(store, records, index)


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    count_bytes(images)
    folder = claim_store(store)
    with writing(store, BridgeError):
        write_image_set("badger", os.fsencode(folder), images, labels)
        text = json.dumps(_list_files(folder), indent=1, sort_keys=True)
        (folder / FILES).write_text(text, encoding="utf-8")


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store, BridgeError), _open(store) as records:
        return read_image_set(store, records, out)


class BadgerReader(RecordsReader):
    """Copies out of Badger, with one call a batch."""

    def _open_records(self) -> Records:
        with reading(self.store, BridgeError):
            return _open(self.store)


open_reader = BadgerReader


def _open(store: Path) -> Records:
    path = find_file(store, FILES)
    with reading(store, ValueError):
        refuse_special_files(path.parent)
        listed = json.loads(path.read_bytes())
    found = _list_files(path.parent)
    if found != listed:
        raise CorruptStoreError(f"{store}: the files are not those that {FILES} lists: the store is damaged")
    return Records("badger", os.fsencode(path.parent))


def _list_files(folder: Path) -> dict[str, list[int | str]]:
    """List size and checksum of Badger's files; of a value log, the size: each of its values has its own checksum."""
    files: dict[str, list[int | str]] = {}
    for path in folder.iterdir():
        if path.suffix == ".vlog":
            files[path.name] = [path.stat().st_size]
        elif path.suffix == ".sst" or path.name in NAMES:
            content = path.read_bytes()
            files[path.name] = [len(content), xxh3_64_hexdigest(content)]
    return files
