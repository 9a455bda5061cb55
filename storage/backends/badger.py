"""Badger: one record per image in a log-structured tree that keeps its values in a log.

On disk: a database of Badger 2 with the records that `_go` describes. All values are in ``*.vlog``, all keys in
``*.sst``. ``files.json``, written last, lists Badger's files with their sizes, and XXH3 of those that aren't value
logs. Badger aborts the process, or deletes files, if they are damaged, so they are checked first.

Why so: the stream writer puts sorted records straight into tables, without compaction. Values of any size go to the log
(``ValueThreshold`` 0), each with a CRC-32C that every read verifies (``VerifyValueChecksum``). The log is mapped: with
file access a shuffled image takes about 20 microseconds instead of 4. Bloom filters have one bit per key, because every
key that is asked for exists. Badger always syncs its tables, its manifest and the directory: this is why opening a
store takes milliseconds.

Library: Badger (https://pkg.go.dev/github.com/dgraph-io/badger/v2), through `storage.go_bridge`.
"""

import json
import os
from pathlib import Path

from xxhash import xxh3_64_hexdigest

from ..contract import ANY_PIXELS, BackendInfo, Images, Labels
from ..encoded import Encoded
from ..errors import CorruptStoreError, reading, writing
from ..go_bridge import BridgeError, Records, read_versions
from ..paths import create_file, find_file, read_small, refuse_special_files
from ._go import RecordsReader, check_records, write_records

FILES = "files.json"
MAX_LIST = 16 << 20  # bytes of this list
LOG = ".vlog"  # of a value log
NAMES = {"KEYREGISTRY", "MANIFEST"}  # Badger's files besides value logs and tables; it ignores all others
MAX_VALUE = (1 << 30) + 8  # bytes: a value log begins a new file after 1 GiB
INFO = BackendInfo(
    read_versions("badger"),
    "Dgraph Labs",
    "Apache-2.0",
    kinds=("pixels", "encoded"),
    dtypes=ANY_PIXELS,
    survives_damage=True,  # what Badger trusts is compared with `FILES` first
)


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    with writing(store, BridgeError):
        records, labels = check_records(images, labels, MAX_VALUE, "Badger")
        listed = create_file(store, FILES)  # empty until the store is complete
        write_records("badger", os.fsencode(store), images, records, labels)
        text = json.dumps(_list_files(Path(store)), indent=1, sort_keys=True)
        Path(os.fsdecode(listed)).write_text(text, encoding="utf-8")


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), BadgerReader(store) as reader:
        return reader.read_all(out)


class BadgerReader(RecordsReader):
    """Copies out of Badger, with one call per batch."""

    def _open_records(self) -> Records:
        path = find_file(self.store, FILES)
        with reading(self.store, AttributeError, TypeError):
            refuse_special_files(self.store)
            listed = json.loads(read_small(self.store, path, MAX_LIST))
            sizes = {name: facts[0] for name, facts in listed.items()}
            if sizes != _list_sizes(self.store) or listed != _list_files(self.store):  # a file may be sparse
                raise CorruptStoreError(f"the files aren't those in {FILES}", store=self.store)
        return Records("badger", os.fsencode(self.store))


open_reader = BadgerReader


def _list_sizes(folder: Path) -> dict[str, int]:
    """List the sizes of Badger's files."""
    paths = [path for path in folder.iterdir() if path.suffix in {LOG, ".sst"} or path.name in NAMES]
    return {path.name: path.stat().st_size for path in paths}


def _list_files(folder: Path) -> dict[str, list[int | str]]:
    """List size and checksum of Badger's files; of a value log only the size: its values have checksums."""
    return {
        name: [size] if name.endswith(LOG) else [size, xxh3_64_hexdigest((folder / name).read_bytes())]
        for name, size in _list_sizes(folder).items()
    }
