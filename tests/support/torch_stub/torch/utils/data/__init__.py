"""A loader whose workers are started by multiprocessing, as PyTorch's are."""

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ... import Tensor, from_numpy  # noqa: TID252 - it is called torch only where it stands in


class IterableDataset:
    """A dataset that chooses its order itself."""


class DataLoader:
    """Reads batches in workers, or receives those of an iterable dataset."""

    def __init__(
        self,
        dataset: Any,  # noqa: ANN401 - any
        *,
        batch_size: int | None,
        shuffle: bool = False,
        num_workers: int = 0,
    ) -> None:
        self._dataset, self._size, self._shuffle, self._workers = dataset, batch_size, shuffle, num_workers

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches in order."""
        if self._size is None:
            yield from ((from_numpy(images), from_numpy(labels)) for images, labels in self._dataset)
            return
        order = list(range(len(self._dataset)))
        if self._shuffle:
            random.shuffle(order)
        batches = [order[start : start + self._size] for start in range(0, len(order), self._size)]
        with multiprocessing.Pool(self._workers) as pool:
            yield from pool.imap(partial(fetch, self._dataset), batches)


def fetch(dataset: Any, indices: Sequence[int]) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - any
    """Read a batch as PyTorch does."""
    images, labels = zip(*dataset.__getitems__(indices), strict=True)
    return from_numpy(np.stack(images)), from_numpy(np.array(labels))
