"""HDF5 in chunks compressed with gzip.

On disk: ``images.h5`` as in `hdf5`, but ``images`` is in chunks of 12 KiB, 4 images of CIFAR-10, each packed by
gzip at level 4, the default of h5py. A chunk that cannot become smaller takes a thousandth more than its pixels.

What it costs: a batch unpacks each chunk that it needs once, and all of it. Larger chunks make the file hardly smaller
(64 images a chunk: 0.3 %) and shuffled batches dearer: four times as long, while a read of everything takes a fifth
less. One image a chunk makes batches a third quicker, all else a third slower or more. zlib's own checksum stands at
the end of each chunk and is verified, so Fletcher32 is off. While it is written, a store needs room for its pixels
unpacked: what HDF5 still has to write when it is closed must find room, and nobody knows before how small it will be.

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
