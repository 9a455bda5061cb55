"""Question: what does a bucket cost? Datasets that are written to an object store and read from it.

These cells belong to sessions with ``--remote``. `remote_download` and `remote_requests` are references: what the
client library takes for the same bytes, without a dataset.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, cycle, repeat
from typing import Any, Literal

import numpy as np
import pytest

from benchmarks.cell import Content, compare, select
from benchmarks.remote import Epoch, RemoteCell, open_dataset
from benchmarks.workers import find_read
from fixtures.image_set import ImageSet, SessionImages
from storage import Labels, load

pytestmark = [pytest.mark.kinds("encoded", "pixels"), pytest.mark.default_cutoffs(10_000)]

WINDOW = 1  # parts: 100,000 images of CIFAR-10 have three
REQUESTS = 32  # that follow each other in a round

Order = Literal["shuffled", "windowed"]
Source = Literal["bucket", "cache", "folder"]

by_order = pytest.mark.parametrize("order", ["shuffled", "windowed"])


@pytest.fixture
def epoch(order: Order, cutoff: int, image_set: ImageSet, session_images: SessionImages) -> Epoch:
    """Describe the batches of a cell; image files are decoded and scaled."""
    images, labels = image_set.take(cutoff)
    decoded: Any = images if isinstance(images, np.ndarray) else session_images.load("pixels", cutoff).images
    size = None if decoded is images else decoded.shape[1:3]
    return Epoch(decoded, labels, image_set.batch, size, WINDOW if order == "windowed" else None)


def test_remote_save(remote_cell: RemoteCell, cutoff: int, image_set: ImageSet) -> None:
    """Save `cutoff` images, each round as another dataset."""
    images, labels = image_set.take(cutoff)

    def check(_: None, url: str) -> None:
        compare(load(url), images, labels, image_set.names)

    urls = ((f"{remote_cell.url}/{number}",) for number in count())
    save = partial(remote_cell.save, images=images, labels=labels)
    remote_cell.measure(save, urls, images, check, store_images=cutoff)


def test_remote_load(remote_cell: RemoteCell, cutoff: int, image_set: ImageSet) -> None:
    """Load `cutoff` images; the local cache is empty."""
    images, labels = image_set.take(cutoff)
    url = remote_cell.fill(images, labels)

    def check(result: tuple[Content, Labels], _: str) -> None:
        compare(result, images, labels, image_set.names)

    remote_cell.measure(load, repeat((url,)), images, check, store_images=cutoff)


@by_order
@pytest.mark.parametrize("source", ["bucket", "cache", "folder"])
def test_remote_epoch(remote_cell: RemoteCell, cutoff: int, source: Source, image_set: ImageSet, epoch: Epoch) -> None:
    """Read each of `cutoff` images once, in shuffled batches.

    From the ``bucket``, the dataset is opened inside the clock, and the local cache is empty. From the ``cache``, and
    for comparison from a local ``folder``, it is open, and was read once before.
    """
    images, labels = image_set.take(cutoff)
    place = remote_cell.fill(images, labels, in_folder=source == "folder")

    def open_and_read() -> None:
        with open_dataset(place) as reader:
            epoch.read(reader)

    def check(_: None) -> None:
        with open_dataset(place) as reader:
            epoch.check(reader)

    if source == "bucket":
        remote_cell.measure(open_and_read, repeat(()), images, check, store_images=cutoff)
    else:
        with open_dataset(place) as reader:
            epoch.read(reader)
            remote_cell.measure(
                epoch.read, repeat((reader,)), images, lambda *_: check(None), store_images=cutoff, keep_cache=True
            )


@by_order
def test_remote_first_batch(remote_cell: RemoteCell, cutoff: int, image_set: ImageSet, epoch: Epoch) -> None:
    """Open a dataset of `cutoff` images, and wait for the first shuffled batch; the local cache is empty."""
    images, labels = image_set.take(cutoff)
    place = remote_cell.fill(images, labels)
    remote_cell.measure(
        epoch.read_first,
        repeat((place,)),
        images[: epoch.batch],
        lambda batch, _: epoch.check_first(batch),
        store_images=cutoff,
    )


def test_remote_single(remote_cell: RemoteCell, cutoff: int, image_set: ImageSet) -> None:
    """Open a dataset of `cutoff` images and read one, another one each round; the local cache is empty."""
    images, labels = image_set.take(cutoff)
    place = remote_cell.fill(images, labels)
    order = np.random.default_rng(0).permutation(cutoff).tolist()

    def read(index: int) -> tuple[Content, Labels]:
        with open_dataset(place) as reader:
            return find_read(reader)(np.array([index]))

    def check(result: tuple[Content, Labels], index: int) -> None:
        compare(result, images[index : index + 1], labels[index : index + 1], image_set.list_names([index]))

    remote_cell.measure(read, zip(cycle(order)), images[:1], check, store_images=cutoff)


def test_remote_download(remote_cell: RemoteCell, cutoff: int, image_set: ImageSet) -> None:
    """Download all objects of a dataset of `cutoff` images with the client library, one request after the other."""
    obstore = pytest.importorskip("obstore")
    images, labels = image_set.take(cutoff)
    remote_cell.fill(images, labels)
    store, names = remote_cell.find_store(), [name for name, _ in remote_cell.list_objects()]

    def download() -> list[Any]:
        return [obstore.get(store, name).bytes() for name in names]

    def check(contents: list[Any]) -> None:
        for name, content in zip(names, contents, strict=True):
            path = remote_cell.folder / "copy" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        compare(load(remote_cell.folder / "copy" / "set"), images, labels, image_set.names)

    remote_cell.measure(download, repeat(()), images, check, store_images=cutoff)


def test_remote_requests(remote_cell: RemoteCell, cutoff: int, concurrency: int, image_set: ImageSet) -> None:
    """Read as many bytes as an image has with one request for each, so many at once, from the largest object."""
    obstore = pytest.importorskip("obstore")
    images, labels = image_set.take(cutoff)
    remote_cell.fill(images, labels)
    store, (name, size) = remote_cell.find_store(), max(remote_cell.list_objects(), key=lambda each: each[1])
    generator = np.random.default_rng(0)
    sample = select(images, generator.integers(cutoff, size=REQUESTS * concurrency))
    lengths = [min(memoryview(image).nbytes, size) for image in sample]
    starts = [int(generator.integers(size - length + 1)) for length in lengths]

    def read(start: int, length: int) -> Any:  # noqa: ANN401 - a buffer
        return obstore.get_range(store, name, start=start, length=length)

    def check(contents: list[Any]) -> None:
        whole = memoryview(obstore.get(store, name).bytes())
        expected = [whole[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        if [*map(bytes, contents)] != [*map(bytes, expected)]:
            pytest.fail("a range has other bytes than its object")

    with ThreadPoolExecutor(concurrency) as pool:
        remote_cell.measure(lambda: [*pool.map(read, starts, lengths)], repeat(()), sample, check, store_images=cutoff)
