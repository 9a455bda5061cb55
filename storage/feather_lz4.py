"""Feather, each record batch compressed with LZ4: the default of pyarrow's own ``write_feather``.

On disk: the file of `storage.feather`, cut into record batches of 192 KiB of pixels, 64 images of CIFAR-10. Each
column of a batch is one LZ4 frame.

Why so: a record batch is always decompressed as a whole. At 64 images of 3 KiB one takes 28 microseconds, 6 of them
for Arrow's own work; with 16 a shuffled image costs 12 and a read of everything a third more, with 1,024 a
shuffled image costs 350 and a read of everything a fifth less. The one used last is kept, for images read in
order. Pixels of photographs hardly become smaller, by 2 % here: this layout shows what the default costs.

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
