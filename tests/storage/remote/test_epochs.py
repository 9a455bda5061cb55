"""A dataset in a bucket is read as one on a disk is, and only what is read is fetched."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from benchmarks.proxy import Proxy
from storage import BACKENDS, CorruptStoreError, Encoded
from storage.contract import Kind
from storage.urls import Url, find_location
from tests.faults.children import run_child
from tests.support.backends import require_backend
from tests.support.datasets import find_part
from tests.support.encoded_sets import encode
from tests.support.image_sets import make_set

pytest.importorskip("obstore", reason="obstore is not installed")
from storage.remote import ranges
from storage.remote.bucket import Bucket
from storage.remote.cache import cache

COUNT, PARTS = 120, 6
PIXELS = make_set(COUNT, 64, 64)[0]  # 12,288 bytes each
SETS: dict[str, Any] = {"pixels": PIXELS, "files": Encoded.join([encode(picture) for picture in PIXELS])}


class Remote:
    """A dataset of several parts in a bucket, and the same in a folder."""

    def __init__(self, url: str, folder: Path, kind: str, backend: str) -> None:
        images, size = SETS[kind], COUNT // PARTS
        self.url, self.local, self.folder = url, folder / "local", folder / "cache"
        storage.save(self.local, images[:size], np.arange(size), backend, durable=False)
        for start in range(size, COUNT, size):
            storage.append(self.local, images[start : start + size], np.arange(start, start + size), durable=False)
        self.size = sum(path.stat().st_size for path in self.local.glob("part-*/*"))
        self.upload()

    def make_bucket(self) -> Bucket:
        """Make what talks to the server."""
        location = find_location(self.url)
        assert isinstance(location, Url)
        return Bucket(location)

    def upload(self) -> None:
        """Copy the folder into the bucket."""
        files = [path for path in self.local.rglob("*") if path.is_file()]
        self.make_bucket().upload_all((path, str(path.relative_to(self.local))) for path in files)

    def find_cached(self, number: int = 0) -> Path:
        """Find the largest file of a part in the cache."""
        (part,) = self.folder.glob(f"*/*/{find_part(self.local, number).name}")
        return max(part.iterdir(), key=lambda path: path.stat().st_blocks)


@pytest.fixture
def remote(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> Iterator[Remote]:
    """Have a dataset in a bucket, and an empty cache."""
    kind, backend = getattr(request, "param", ("pixels", "npy"))
    require_backend(backend)
    made = Remote(bucket, tmp_path, kind, backend)
    cache(made.folder)
    yield made
    cache()


def read_epoch(reader: storage.Reader, **options: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    """Read the batches of an epoch."""
    size: Any = {} if reader.kind == "pixels" else {"image_size": (8, 8)}
    return [(images.copy(), labels) for images, labels in reader.batches(16, seed=3, **size, **options)]


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize(
    "remote",
    [("pixels", "npy"), ("files", "tar"), pytest.param(("files", "sqlite"), marks=pytest.mark.slow)],
    indirect=True,
)
def test_an_epoch_is_that_of_the_same_dataset_in_a_folder(remote: Remote, window: int | None) -> None:
    batches = {}
    for path in (remote.url, remote.local):
        with storage.open(path) as reader:
            batches[path] = [*read_epoch(reader, window=window), *read_epoch(reader, window=window, epoch=1)]
            assert reader.labels.tolist() == list(range(COUNT))
    found, expected = batches.values()
    for (images, labels), (expected_images, expected_labels) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(images, expected_images)
        assert labels.tolist() == expected_labels.tolist()


@pytest.mark.parametrize("remote", [("pixels", "hdf5"), ("files", "feather")], indirect=True)
def test_some_images_come_from_several_parts(remote: Remote) -> None:
    positions = [3, 110, 41, 3]
    with storage.open(remote.url) as reader:
        if reader.kind == "pixels":
            images, labels = reader.read(positions)
            np.testing.assert_array_equal(images, SETS["pixels"][positions])
            np.testing.assert_array_equal(reader[77][0], SETS["pixels"][77])
        else:
            files, labels = reader.read_encoded(positions)
            assert list(files) == list(SETS["files"].take(positions))
    assert labels.tolist() == positions


@pytest.mark.parametrize("window", [None, 1])
def test_an_epoch_fetches_hardly_more_than_it_uses_and_the_next_one_nothing(
    remote: Remote, bucket_proxy: Proxy, window: int | None
) -> None:
    with storage.open(remote.url) as reader:
        before = bucket_proxy.count()
        read_epoch(reader, window=window)
        after = bucket_proxy.count()
        read_epoch(reader, window=window, epoch=1)
        assert bucket_proxy.count() == after
    assert after["received"] - before["received"] < 1.05 * remote.size


def test_one_image_costs_little_of_its_part(
    remote: Remote, bucket_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "GAP", 0)
    with storage.open(remote.url) as reader:
        before = bucket_proxy.count()
        assert reader[45][1] == 45
        assert bucket_proxy.count()["received"] - before["received"] < remote.size / PARTS / 2


@pytest.mark.parametrize("window", [None, 1])
def test_another_reader_finds_what_is_in_the_cache(remote: Remote, bucket_proxy: Proxy, window: int | None) -> None:
    with storage.open(remote.url) as reader:
        read_epoch(reader, window=window)
    before = bucket_proxy.count()
    with storage.open(remote.url) as reader:
        read_epoch(reader, window=window)
    assert bucket_proxy.count()["requests"] == before["requests"] + 1, "more was asked for than the manifest"


def damage(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff\x00" * 50)


def test_an_image_that_was_damaged_in_the_cache_is_fetched_once_more(remote: Remote) -> None:
    with storage.open(remote.url) as reader:
        read_epoch(reader)
    damage(remote.find_cached(), 5_000)
    damage(remote.find_cached(1), 50_000)
    with storage.open(remote.url) as reader:
        np.testing.assert_array_equal(reader.read(range(30))[0], SETS["pixels"][:30])
        np.testing.assert_array_equal(reader[0][0], SETS["pixels"][0])
    damage(remote.find_cached(), 5_000)
    with storage.open(remote.url) as reader:
        np.testing.assert_array_equal(reader[0][0], SETS["pixels"][0])


def test_structure_and_files_that_were_damaged_in_the_cache_are_fetched_once_more(remote: Remote) -> None:
    with storage.open(remote.url) as reader:
        read_epoch(reader)
    damage(remote.find_cached(), 0)
    damage(next(remote.folder.glob("*/*/*.checksums")), 0)
    with storage.open(remote.url) as reader:
        assert len(read_epoch(reader)) == -(-COUNT // 16)


def test_an_image_that_is_damaged_in_the_bucket_is_named(remote: Remote) -> None:
    part = find_part(remote.local, 2)
    damage(part / "images.npy", 128 + 3 * 12_288)
    remote.upload()
    with storage.open(remote.url) as reader, pytest.raises(CorruptStoreError) as caught:
        reader.read(range(COUNT))
    assert caught.value.record == 43


@pytest.mark.parametrize("remote", [("files", "npy")], indirect=True)
def test_of_a_dataset_that_does_not_fit_in_the_cache_only_some_images_are_fetched(
    remote: Remote, bucket_proxy: Proxy
) -> None:
    cache(remote.folder, max_bytes=1)
    with storage.open(remote.url) as reader:
        next(reader.batches(4, seed=0, image_size=(8, 8)))
        assert bucket_proxy.count()["GET"]


def test_a_forked_process_reads_on(remote: Remote) -> None:
    with storage.open(remote.url) as reader:
        reader.read([1, 50])
        assert run_child(lambda: str(reader.read([2, 51, 100])[1].tolist())).told == "[2, 51, 100]"


def test_all_of_it_is_loaded(remote: Remote) -> None:
    images, labels = storage.load(remote.url)
    assert labels.tolist() == list(range(COUNT))
    np.testing.assert_array_equal(images, SETS["pixels"])


def test_a_part_that_is_fetched_whole_needs_no_server_any_more(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "GAP", 0)
    with storage.open(remote.url) as reader:
        part = reader._pool._take(1)  # noqa: SLF001 - what an epoch asks
        assert part.filling
        assert not part.filling.is_complete
        part.fetch(None, whole_requests=True)
        remote.make_bucket().remove([entry.name for entry in remote.make_bucket().list_objects()])
        first = COUNT // PARTS
        np.testing.assert_array_equal(part.read(np.arange(first))[0], PIXELS[first : 2 * first])


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in BACKENDS for kind in BACKENDS[name].INFO.kinds])
def test_datasets_of_every_backend_are_read_from_a_bucket(name: str, kind: Kind, bucket: str) -> None:
    some: Any = PIXELS[:7] if kind == "pixels" else SETS["files"][:7]
    sets = {"some": some, "none": some[:0]} | ({"empty": Encoded.join([b""])} if kind == "encoded" else {})
    for place, images in sets.items():
        url = f"{bucket}/{place}"
        storage.save(url, images, np.arange(len(images)), name)
        assert storage.check(url).is_whole, url
        found, labels = storage.load(url)
        assert labels.tolist() == list(range(len(images)))
        assert [bytes(each) for each in found] == [bytes(each) for each in images], url
        with storage.open(url) as reader:
            assert len(reader) == len(images)
