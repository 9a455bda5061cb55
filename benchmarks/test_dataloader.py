"""Question: what does training through PyTorch cost? Batches that its DataLoader collates and its parent receives."""

from collections.abc import Sequence
from itertools import repeat
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks.cell import Cell, compare
from benchmarks.workers import read_clock, shuffle
from fixtures.image_set import ImageSet, SessionImages
from storage import Image, Reader


class DecodedImages:
    """A dataset, as PyTorch expects one, of the image files of a reader at one size; each worker uses one thread."""

    def __init__(self, reader: Reader, side: int) -> None:
        self._reader, self._side = reader, side

    def __len__(self) -> int:
        """Count the images."""
        return len(self._reader)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Image, int]]:
        """Read a batch."""
        images, labels = self._reader.read(indices, size=(self._side, self._side), threads=1)
        return list(zip(images, labels.tolist(), strict=True))


@pytest.mark.default_cutoffs(10_000)
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # also with one processor
def test_read_epoch_dataloader(
    cell: Cell, cutoff: int, workers: int, image_set: ImageSet, session_images: SessionImages, torch: ModuleType
) -> None:
    """Receive each of `cutoff` images once, in shuffled batches; image files are decoded and scaled by the workers."""
    stored, labels = image_set.take(cutoff)
    images: Any = stored if isinstance(stored, np.ndarray) else session_images.load("pixels", cutoff).images
    batches = shuffle(cutoff, image_set.batch)
    store = cell.fill_store(stored, labels, cache="warm")
    with cell.backend.open_reader(store) as reader:
        dataset = reader if images is stored else DecodedImages(reader, images.shape[1])
        options = {"persistent_workers": True, "multiprocessing_context": "fork"} if workers else {}
        loader = torch.utils.data.DataLoader(
            dataset, batch_sampler=[batch.tolist() for batch in batches], num_workers=workers, **options
        )
        start = read_clock()
        received = iter(loader)
        next(received)
        cell.note(startup_seconds=read_clock() - start)  # until the first batch is here
        for _ in received:
            pass

        def read_epoch() -> None:
            for _ in loader:
                pass

        def check(_: None) -> None:
            for batch, (read_images, read_labels) in zip(batches, loader, strict=True):
                names = image_set.list_names(batch)
                compare((read_images.numpy(), read_labels.numpy()), images[batch], labels[batch], names)

        cell.measure_read(read_epoch, repeat(()), stored, check, measure_memory=not workers)
