"""Batches: as many images as are read at once where memory is to stay bounded."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..arrays import CHANNELS

BATCH = 8 << 20  # bytes of pixels


def cut_indices(start: int, count: int, height: int, width: int) -> Iterator[NDArray[np.intp]]:
    """Cut the indices from `start` to `count` - 1 into batches.

    Parameters
    ----------
    start, count : int
    height, width : int
        Of each image, pixels.

    Yields
    ------
    ndarray of intp, shape (n,)
        In order; one image at least.
    """
    per_batch = max(1, BATCH // (height * width * CHANNELS))
    for first in range(start, count, per_batch):
        yield np.arange(first, min(first + per_batch, count))
