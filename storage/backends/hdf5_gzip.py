"""HDF5 in chunks compressed with gzip.

On disk: ``images.h5`` as in `hdf5`, but ``images`` is in chunks of 12 KiB, 4 images of CIFAR-10, compressed by gzip at
level 4, the default of h5py, and so is ``content``. Labels and offsets are small, and stay contiguous. A chunk that
can't become smaller takes a thousandth more than its pixels.

What it costs: a batch unpacks each chunk that it needs once, and all of it. Chunks of 64 images make the file 0.3 %
smaller and shuffled batches four times as slow, while reading everything takes a fifth less. Chunks of one image make
batches a third faster, and all else a third slower or more. zlib's own checksum at the end of each chunk is verified,
so Fletcher32 is off. While it is written, a store needs space for its uncompressed pixels: HDF5 must find space for
what it writes when the file is closed, and nothing can say before how small that will be.

Library: h5py (https://docs.h5py.org/en/stable/high/dataset.html#lossless-compression-filters).
"""

from dataclasses import replace
from functools import partial

from . import hdf5
from .hdf5 import open_reader, read_many, read_single

__all__ = ["INFO", "open_reader", "read_many", "read_single", "store_many"]

INFO = replace(hdf5.INFO, compresses=True)
CHUNK = 12 << 10  # bytes of pixels
LEVEL = 4

store_many = partial(hdf5.store_many, chunk=CHUNK, compress_level=LEVEL)
