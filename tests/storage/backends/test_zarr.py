"""What only the Zarr backend has: shards that zarr reads, proven chunks, no zeros for what is missing."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend

zarr = take_backend("zarr")
library = pytest.importorskip("zarr")

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 5, 7, 3), np.uint8)
LABELS = np.arange(50) - 7
INDICES = [3, 49, 3, 0, 20, 19]
SIZE = IMAGES[0].nbytes

READS: dict[str, Callable[[Path], object]] = {
    "read_single": lambda path: zarr.read_single(path, 0),
    "read_many": zarr.read_many,
    "reader": lambda path: zarr.open_reader(path).read([0]),
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a store of fifty images, four a chunk, five chunks a shard, with padding behind the last image."""
    monkeypatch.setattr(zarr, "CHUNK", 4 * SIZE)
    monkeypatch.setattr(zarr, "SHARD", 20 * SIZE)
    zarr.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def flip(path: Path, place: int) -> None:
    """Change the byte at a place of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_zarr_itself_can_read_the_arrays(store: Path) -> None:
    group = library.open_group(store, mode="r")
    assert (group["images"].chunks, group["images"].shards) == ((4, 5, 7, 3), (20, 5, 7, 3))
    assert (group["images"].dtype, group["labels"].dtype) == (np.dtype(np.uint8), np.dtype("<i8"))
    np.testing.assert_array_equal(group["images"][:], IMAGES)
    np.testing.assert_array_equal(group["labels"][:], LABELS)


def test_a_store_of_many_shards_comes_back(store: Path) -> None:
    assert sorted(path.name for path in (store / "images").iterdir()) == [
        *(f"c.{number}.0.0.0" for number in range(3)),
        "zarr.json",
    ]
    images, labels = zarr.read_many(store)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    for index in INDICES:
        np.testing.assert_array_equal(zarr.read_single(store, index)[0], IMAGES[index])
    with zarr.open_reader(store) as reader:
        for _ in range(2):
            images, labels = reader.read(INDICES)
            np.testing.assert_array_equal(images, IMAGES[INDICES])
            np.testing.assert_array_equal(labels, LABELS[INDICES])


def test_images_that_do_not_fit_into_a_chunk_are_one_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr, "CHUNK", 1)
    monkeypatch.setattr(zarr, "SHARD", 1)
    zarr.store_many(tmp_path, IMAGES[:3], LABELS[:3])
    assert len(list((tmp_path / "images").glob("c.*"))) == 3
    np.testing.assert_array_equal(zarr.read_many(tmp_path)[0], IMAGES[:3])


def test_no_store_has_more_shards_than_a_reader_may_have_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr, "CHUNK", SIZE)
    monkeypatch.setattr(zarr, "SHARD", SIZE)
    monkeypatch.setattr(zarr, "SHARDS", 8)
    zarr.store_many(tmp_path, IMAGES, LABELS)
    assert len(list((tmp_path / "images").glob("c.*"))) == 8
    np.testing.assert_array_equal(zarr.read_many(tmp_path)[0], IMAGES)


def test_black_images_are_written(tmp_path: Path) -> None:
    zarr.store_many(tmp_path, np.zeros_like(IMAGES), LABELS)
    assert (tmp_path / "images" / "c.0.0.0.0").stat().st_size > IMAGES.nbytes
    assert not zarr.read_many(tmp_path)[0].any()


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("name", ["images/c.1.0.0.0", "labels/c.0", "images/zarr.json", "zarr.json"])
def test_a_file_that_is_lost_is_refused(store: Path, name: str, read: Callable[[Path], object]) -> None:
    (store / name).unlink()
    with pytest.raises(storage.CorruptStoreError, match=name):
        read(store)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_chunk_that_was_never_written_is_refused(store: Path, read: Callable[[Path], object]) -> None:
    group = library.open_group(store, mode="r+")
    group["images"][4:8] = 0  # zarr leaves out a chunk of fill values
    assert not group["images"][4:8].any()
    with pytest.raises(storage.CorruptStoreError, match="images are missing"):
        read(store)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("place", [0, 4 * SIZE - 1, 4 * SIZE])
def test_a_chunk_with_a_changed_byte_is_refused(store: Path, place: int, read: Callable[[Path], object]) -> None:
    flip(store / "images" / "c.0.0.0.0", place)
    with pytest.raises(storage.CorruptStoreError, match="images of records 0 to 3 are damaged"):
        read(store)
    with zarr.open_reader(store) as reader:
        np.testing.assert_array_equal(reader.read([4])[0], IMAGES[[4]])


def test_a_changed_byte_of_the_padding_is_refused(store: Path) -> None:
    path = store / "images" / "c.2.0.0.0"
    flip(path, 10 * SIZE + 2 * 4)
    with pytest.raises(storage.CorruptStoreError, match="images of records 48 to 49 are damaged"):
        zarr.read_many(store)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_labels_with_a_changed_byte_are_refused(store: Path, read: Callable[[Path], object]) -> None:
    flip(store / "labels" / "c.0", 0)
    with pytest.raises(storage.CorruptStoreError, match="labels of records 0 to"):
        read(store)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_index_with_a_changed_byte_is_refused(store: Path, read: Callable[[Path], object]) -> None:
    path = store / "images" / "c.0.0.0.0"
    flip(path, path.stat().st_size - 30)
    with pytest.raises(storage.CorruptStoreError, match="index of a shard"):
        read(store)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_shard_cut_short_is_refused_before_it_is_mapped(store: Path, read: Callable[[Path], object]) -> None:
    path = store / "images" / "c.0.0.0.0"
    content = path.read_bytes()
    for size in [*range(0, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)
    path.write_bytes(content[-(5 * 16 + 4) :])  # a whole index with nothing before it
    with pytest.raises(storage.CorruptStoreError, match="images are missing"):
        read(store)


def replace(document: dict[str, Any], *path: Any, value: object) -> dict[str, Any]:  # noqa: ANN401 - keys and positions
    """Copy metadata, with another value at one place."""
    changed = json.loads(json.dumps(document))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return dict(changed)


CODEC = "codecs", 0, "configuration"
GRID = "chunk_grid", "configuration", "chunk_shape"
LAYOUTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "format 2": lambda document: replace(document, "zarr_format", value=2),
    "a group": lambda document: replace(document, "node_type", value="group"),
    "signed": lambda document: replace(document, "data_type", value="int8"),
    "longer": lambda document: replace(document, "shape", value=[10**15, 5, 7, 3]),
    "shorter": lambda document: replace(document, "shape", value=[40, 5, 7, 3]),
    "negative": lambda document: replace(document, "shape", value=[-1, 5, 7, 3]),
    "grey": lambda document: replace(document, "shape", value=[50, 5, 7]),
    "text": lambda document: replace(document, "shape", value="NHWC"),
    "other chunks": lambda document: replace(document, *CODEC, "chunk_shape", value=[2, 5, 7, 3]),
    "chunks of none": lambda document: replace(document, *CODEC, "chunk_shape", value=[0, 5, 7, 3]),
    "parts of images": lambda document: replace(document, *CODEC, "chunk_shape", value=[4, 5, 7, 1]),
    "other shards": lambda document: replace(document, *GRID, value=[22, 5, 7, 3]),
    "larger shards": lambda document: replace(document, *GRID, value=[4 * 10**12, 5, 7, 3]),
    "compressed": lambda document: replace(document, *CODEC, "codecs", value=[{"name": "bytes"}, {"name": "gzip"}]),
    "no checksums": lambda document: replace(document, *CODEC, "codecs", value=[{"name": "bytes"}]),
    "index at the start": lambda document: replace(document, *CODEC, "index_location", value="start"),
    "other names": lambda document: replace(document, "chunk_key_encoding", "name", value="v2"),
    "no codecs": lambda document: replace(document, "codecs", value=[]),
    "a list": lambda _: [1],
}


@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS)
def test_another_layout_is_refused(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = store / "images" / "zarr.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    for read in READS.values():
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe!", b"{", b"[" * 10**5, b"{}"], ids=len)
def test_metadata_that_cannot_be_read_are_refused(store: Path, content: bytes) -> None:
    (store / "images" / "zarr.json").write_bytes(content)
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        zarr.read_many(store)


@pytest.mark.parametrize("shape", [(50, 5, 7, 4), (50, 5, 7), (50,)])
def test_an_array_of_other_images_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    zarr.store_many(tmp_path, IMAGES, LABELS)
    library.open_group(tmp_path, mode="r+").create_array(
        "images",
        shape=shape,
        dtype=np.uint8,
        chunks=shape,
        shards=shape,
        compressors=library.codecs.Crc32cCodec(),
        chunk_key_encoding={"name": "default", "separator": "."},
        overwrite=True,
    )[:] = 7
    with pytest.raises(storage.CorruptStoreError, match="another program"):
        zarr.read_many(tmp_path)


def test_a_child_of_a_process_that_stored_can_store(tmp_path: Path) -> None:
    zarr.store_many(tmp_path / "parent", IMAGES, LABELS)
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        zarr.store_many(tmp_path / "child", IMAGES, LABELS)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(zarr.read_many(tmp_path / "child")[0], IMAGES)


def test_all_bytes_but_the_indices_are_pixels(store: Path) -> None:
    pixels = zarr.find_pixels(store)
    assert pixels["images/c.0.0.0.0"] == [range(5 * (4 * SIZE + 4))]
    assert pixels["images/c.2.0.0.0"] == [range(3 * (4 * SIZE + 4))]
    assert len(pixels) == 3 + len(list((store / "labels").glob("c.*")))
