"""TileDB: two dense arrays in one group, 96 KiB of pixels a tile.

On disk: a TileDB group with two dense arrays, of one fragment each. ``images`` has the dimensions ``image`` and ``byte``
and one attribute ``pixels``, of type blob: a cell is a byte, a row the H x W x 3 bytes of an image, a tile as many whole images as
fit into 96 KiB. ``labels`` has the dimension ``image`` and the attribute ``label``, int64. TileDB writes integers
little-endian. The group's metadata ``count``, ``height`` and ``width`` are written last. Sets of no image have no fragment.

Why so: TileDB opens the file anew for each tile that a query touches. Tiles of 8 to 32 images are read equally fast in
shuffled batches, about 30 microseconds an image; smaller ones take longer to write and to scan. Ranges of a batch are
sorted, and no gap between tiles is read (``vfs.min_batch_gap``), as TileDB would to save requests to a cloud: that alone
took 300. A blob is a third faster to write than numbers or text, whose least and greatest values TileDB keeps for each tile. Of
four dimensions, an image is copied byte by byte: 20 times as slow. Checksum filters are off, as they hash whole tiles: with
SHA-256 batches take two to three times as long, with MD5 longer still.

Library: TileDB-Py (https://tiledb-inc-tiledb.readthedocs-hosted.com/projects/tiledb-py/en/stable/).
"""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

with np.printoptions():  # tiledb sets how arrays are printed, for the whole process
    import tiledb
    from tiledb.libtiledb import LayoutType

from storage.arrays import make_array, make_result
from storage.checks import CHANNELS, Image, Images, Labels, check_image, check_images, check_index, check_shape
from storage.errors import CorruptStoreError, translate_errors
from storage.paths import claim_store, find_file
from storage.reader import Reader

MARKER = "__tiledb_group.tdb"  # what makes a folder a group
TILE = 96 << 10  # bytes at most, unless one image is larger
PART = 16 << 20  # bytes read by one query
CONFIG = {
    "sm.enable_signal_handlers": "false",  # Ctrl-C is Python's
    "sm.mem.malloc_trim": "false",
    "vfs.min_batch_gap": "0",
    "vfs.min_batch_size": "1",
}
VERSIONS = {"tiledb": tiledb.__version__, "TileDB": ".".join(map(str, tiledb.libtiledb.version()))}
MAINTAINER = "TileDB, Inc."
LICENCE = "MIT"


def store_single(store: Path, image: Image, label: int) -> None:
    """Store one image alone; see `storage.Backend`."""
    store_many(store, *check_image(image, label))


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with open_reader(store) as reader:
        return reader[index]


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    uri = str(claim_store(store).absolute())
    count, height, width, _ = images.shape
    rows = images.reshape(count, height * width * CHANNELS)
    with translate_errors(store, tiledb.TileDBError), _open_context() as context:
        tiledb.Group.create(uri, ctx=context)
        _write_array(f"{uri}/images", context, rows.view("S1"), {"name": "pixels", "dtype": "blob", "var": False})
        _write_array(f"{uri}/labels", context, labels, {"name": "label", "dtype": np.int64})
        with tiledb.Group(uri, "w", ctx=context) as group:
            for name in ("images", "labels"):
                group.add(name, name=name, relative=True)
            group.meta.update({"count": count, "height": height, "width": width})


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with TileDbReader(store) as reader:
        return reader.read_all(out)


def open_reader(store: Path) -> Reader:
    """Open a store for reading in any order; see `storage.Backend`."""
    return TileDbReader(store)
