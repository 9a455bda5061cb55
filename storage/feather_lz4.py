"""Feather, each record batch compressed with LZ4: the default of pyarrow's own write_feather.

On disk: the file of `storage.feather`, cut into record batches of 192 KiB of pixels, 64 images of CIFAR-10. Each
column of a batch is one LZ4 frame.

Why so: a record batch is always decompressed as a whole. Of 64 images of 3 KiB that takes 28 microseconds, 6 of them
for Arrow's own work. With 16 it takes 12, so a shuffled image costs half as much, but to decompress everything 75 %
more; with 1,024 it takes 350, and everything 20 % less. The batch used last is kept, for images read in order.
Pixels of photographs hardly become smaller, by 2 % here: this layout shows what the default costs. Nothing but the
integrity of LZ4's own format is checked: a changed pixel may be read as another one.

Library: pyarrow (https://arrow.apache.org/docs/python/feather.html#using-compression).
"""

from functools import partial

from storage import feather
from storage.feather import LICENCE, MAINTAINER, VERSIONS, open_reader, read_many, read_single

__all__ = [
    "COMPRESSES",
    "LICENCE",
    "MAINTAINER",
    "VERSIONS",
    "open_reader",
    "read_many",
    "read_single",
    "store_many",
    "store_single",
]

COMPRESSES = True

store_single = partial(feather.store_single, compression="lz4")
store_many = partial(feather.store_many, compression="lz4")
