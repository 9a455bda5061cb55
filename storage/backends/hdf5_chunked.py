"""HDF5 in chunks, not compressed.

On disk: ``images.h5`` as in `hdf5`, but ``images`` is in chunks of 192 KiB, 64 images of CIFAR-10, and so is
``content``. Labels and offsets are small, and stay contiguous. Only datasets in chunks can grow, be compressed, or be
checked by HDF5.

What it costs: HDF5 writes chunk by chunk, without a cache whose content a full disk could make it lose, and reads
everything into the result. A reader asks once where the chunks are and copies images out of the map of the file; HDF5's
own selections take 40 microseconds an image. Fletcher32, HDF5's checksum, is off: it makes reading everything four
times as slow, and a batch would have to read whole chunks, 30 times its images or more.

Library: h5py (https://docs.h5py.org/en/stable/high/dataset.html#chunked-storage).
"""

from functools import partial

from . import hdf5
from .hdf5 import INFO, find_pixels, open_reader, read_many, read_single

__all__ = ["INFO", "find_pixels", "open_reader", "read_many", "read_single", "store_many"]

CHUNK = 192 << 10  # bytes of pixels

store_many = partial(hdf5.store_many, chunk=CHUNK)
