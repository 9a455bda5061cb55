"""A loader whose workers are started by multiprocessing, as PyTorch's are."""

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np


class Batch(np.ndarray[Any, Any]):
    """An array with the methods of a tensor that the loop calls."""

    def permute(self, *axes: int) -> "Batch":
        """Put the axes into another order."""
        return self.transpose(axes)

    def float(self) -> "Batch":
        """Convert to 32-bit floats."""
        return self.astype(np.float32).view(Batch)


class DataLoader:
    """Reads batches in workers."""

    def __init__(self, dataset: Any, *, batch_size: int, shuffle: bool, num_workers: int) -> None:  # noqa: ANN401 - any
        order = list(range(len(dataset)))
        if shuffle:
            random.shuffle(order)
        self._batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        self._dataset, self._workers = dataset, num_workers

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        """Yield batches in order."""
        with multiprocessing.Pool(self._workers) as pool:
            yield from pool.imap(partial(fetch, self._dataset), self._batches)


def fetch(dataset: Any, indices: Sequence[int]) -> tuple[Batch, Batch]:  # noqa: ANN401 - any
    """Read a batch as PyTorch does."""
    images, labels = zip(*dataset.__getitems__(indices), strict=True)
    return np.stack(images).view(Batch), np.array(labels).view(Batch)
