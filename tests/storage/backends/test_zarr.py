"""Zarr: shards that zarr itself reads, verified chunks, and no zeros for what is missing."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.encoded_sets import assert_same_files, check_file_reads, make_files
from tests.support.foreign import Case, Change, cut, delete, flip, write
from tests.support.image_sets import assert_same, check_reads, make_set

zarr = take_backend("zarr")
library = pytest.importorskip("zarr")

IMAGES, LABELS = make_set(50, 5, 7)
SIZE = IMAGES[0].nbytes
READS: dict[str, Callable[[Path], object]] = {
    "read_single": lambda path: zarr.read_single(path, 0),
    "read_many": zarr.read_many,
    "reader": lambda path: zarr.open_reader(path).read([0]),
}


def edit(*path: Any, value: object) -> Change:  # noqa: ANN401 - keys and positions
    def change(store: Path) -> None:
        file = store / "images" / "zarr.json"
        metadata = json.loads(file.read_bytes())
        place = metadata
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        file.write_text(json.dumps(metadata), encoding="utf-8")

    return change


def create_images(*shape: int, name: str = "images") -> Change:
    def change(store: Path) -> None:
        library.open_group(store, mode="r+").create_array(
            name,
            shape=shape,
            dtype=np.uint8,
            chunks=shape,
            shards=shape,
            compressors=library.codecs.Crc32cCodec(),
            chunk_key_encoding={"name": "default", "separator": "."},
            overwrite=True,
        )[:] = 7

    return change


METADATA, SHARD = "images/zarr.json", "images/c.0.0.0.0"
CODEC = "codecs", 0, "configuration"
GRID = "chunk_grid", "configuration", "chunk_shape"
FOREIGN = {
    **{f"no {name}": Case(delete(name), name) for name in (SHARD, "labels/c.0", METADATA, "zarr.json")},
    **{
        f"metadata {content[:2]!r}": Case(write(METADATA, content))
        for content in (b"", b"\xff\xfe", b"{", b"{}", b"[1]")
    },
    "metadata nested too deep": Case(write(METADATA, b"[" * 10**5)),
    "format 2": Case(edit("zarr_format", value=2)),
    "a group": Case(edit("node_type", value="group")),
    "far more images": Case(edit("shape", value=[10**15, 32, 32, 3])),
    "fewer images": Case(edit("shape", value=[9, 32, 32, 3])),
    "a negative number of images": Case(edit("shape", value=[-1, 32, 32, 3])),
    "a shape of three numbers": Case(edit("shape", value=[10, 32, 32])),
    "smaller chunks": Case(edit(*CODEC, "chunk_shape", value=[5, 32, 32, 3])),
    "chunks of no images": Case(edit(*CODEC, "chunk_shape", value=[0, 32, 32, 3])),
    "chunks of one channel": Case(edit(*CODEC, "chunk_shape", value=[10, 32, 32, 1])),
    "larger shards": Case(edit(*GRID, value=[20, 32, 32, 3])),
    "compressed chunks": Case(edit(*CODEC, "codecs", value=[{"name": "bytes"}, {"name": "gzip"}])),
    "no checksums": Case(edit(*CODEC, "codecs", value=[{"name": "bytes"}])),
    "the index first": Case(edit(*CODEC, "index_location", value="start")),
    "other names of chunks": Case(edit("chunk_key_encoding", "name", value="v2")),
    "no codecs": Case(edit("codecs", value=[])),
    "rank 2": Case(create_images(10, 32), r"images \(10, 32\)"),
    "rank 5": Case(create_images(10, 32, 8, 4, 3), r"images \(10, 32, 8, 4, 3\)"),
    "another dtype": Case(edit("data_type", value="float64"), "another layout"),
    "a changed pixel": Case(flip(SHARD, 0), "images 0 to 9"),
    "a changed checksum": Case(flip(SHARD, 10 * 3072), "images 0 to 9"),
    "a changed label": Case(flip("labels/c.0", 0), "labels 0 to 9"),
    "a changed index": Case(flip(SHARD, -15), "index of this shard"),
    **{f"a shard of {size} bytes": Case(cut(SHARD, size)) for size in (0, 19, 20, 9999, -1)},
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(zarr, "CHUNK", 4 * SIZE)
    monkeypatch.setattr(zarr, "SHARD", 20 * SIZE)
    zarr.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_zarr_itself_reads_the_arrays(store: Path) -> None:
    group = library.open_group(store, mode="r")
    assert (group["images"].chunks, group["images"].shards) == ((4, 5, 7, 3), (20, 5, 7, 3))
    assert (group["images"].dtype, group["labels"].dtype) == (np.dtype(np.uint8), np.dtype("<i8"))
    assert_same((group["images"][:], group["labels"][:]), (IMAGES, LABELS))


def test_a_store_of_many_shards_comes_back(store: Path) -> None:
    shards = [f"c.{number}.0.0.0" for number in range(3)]
    assert sorted(path.name for path in (store / "images").iterdir()) == [*shards, "zarr.json"]
    check_reads(zarr, store, (IMAGES, LABELS))


@pytest.mark.parametrize(("limit", "count"), [(8, 8), (100, 50)])
def test_images_larger_than_a_chunk_have_a_shard_each_up_to_the_number_that_a_reader_may_have_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, count: int
) -> None:
    monkeypatch.setattr(zarr, "CHUNK", 1)
    monkeypatch.setattr(zarr, "SHARD", 1)
    monkeypatch.setattr(zarr, "MAX_SHARDS", limit)
    zarr.store_many(tmp_path, IMAGES, LABELS)
    assert len(list((tmp_path / "images").glob("c.*"))) == count
    assert_same(zarr.read_many(tmp_path), (IMAGES, LABELS))


def test_black_images_are_written(tmp_path: Path) -> None:
    zarr.store_many(tmp_path, np.zeros_like(IMAGES), LABELS)
    assert (tmp_path / SHARD).stat().st_size > IMAGES.nbytes
    assert not zarr.read_many(tmp_path)[0].any()


def fill_chunk(store: Path) -> None:
    library.open_group(store, mode="r+")["images"][4:8] = 0  # zarr leaves out a chunk of fill values


def keep_index(store: Path) -> None:
    (store / SHARD).write_bytes((store / SHARD).read_bytes()[-(5 * 16 + 4) :])


@pytest.mark.parametrize("change", [fill_chunk, keep_index])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_index_whose_chunks_are_missing_is_refused(
    store: Path, change: Change, read: Callable[[Path], object]
) -> None:
    change(store)
    with pytest.raises(storage.CorruptStoreError, match="images are missing"):
        read(store)


def test_an_array_that_is_a_link_is_refused(store: Path, tmp_path: Path) -> None:
    elsewhere = (store / "images").rename(tmp_path / "elsewhere")
    (store / "images").symlink_to(elsewhere)
    with pytest.raises(storage.CorruptStoreError, match="it is a link: another program made it"):
        zarr.read_many(store)


@pytest.mark.parametrize("place", [0, 4 * SIZE - 1, 4 * SIZE])
def test_a_changed_byte_costs_no_image_of_another_chunk(store: Path, place: int) -> None:
    flip(SHARD, place)(store)
    with zarr.open_reader(store) as reader:
        with pytest.raises(
            storage.CorruptStoreError, match=f"{store / SHARD}: at least one of images 0 to 3 is damaged"
        ):
            reader.read([4, 3])
        assert_same(reader.read([4]), (IMAGES[[4]], LABELS[[4]]))


def test_a_changed_byte_of_the_padding_is_refused(store: Path) -> None:
    flip("images/c.2.0.0.0", 10 * SIZE + 2 * 4)(store)
    with pytest.raises(storage.CorruptStoreError, match="images 48 to 49"):
        zarr.read_many(store)


def test_all_bytes_but_the_indices_are_pixels_or_labels(store: Path) -> None:
    pixels = zarr.find_pixels(store)
    assert pixels["images/c.0.0.0.0"] == [range(5 * (4 * SIZE + 4))]
    assert pixels["images/c.2.0.0.0"] == [range(3 * (4 * SIZE + 4))]
    assert len(pixels) == 3 + len(list((store / "labels").glob("c.*")))


FILES, FILE_LABELS = make_files(20)
CONTENT = "content/c.0"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store twenty files in chunks that are smaller than some of them, in three shards."""
    monkeypatch.setattr(zarr, "CHUNK", 1_000)
    monkeypatch.setattr(zarr, "SHARD", 60_000)
    zarr.store_many(tmp_path / "store", FILES, FILE_LABELS)
    return tmp_path / "store"


def test_zarr_itself_reads_the_files(files: Path) -> None:
    group = library.open_group(files, mode="r")
    content, offsets = group["content"][:], group["offsets"][:]
    assert (group["content"].chunks, group["content"].shards) == ((1_000,), (60_000,))
    assert (content.dtype, offsets.dtype) == (np.dtype(np.uint8), np.dtype("<i8"))
    assert [content[start:end].tobytes() for start, end in itertools.pairwise(offsets)] == list(map(bytes, FILES))
    np.testing.assert_array_equal(group["labels"][:], FILE_LABELS)


def test_files_in_pieces_come_back(files: Path) -> None:
    assert len(list((files / "content").glob("c.*"))) == 3
    check_file_reads(zarr, files, (FILES, FILE_LABELS))


def test_a_file_that_fills_a_chunk_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr, "CHUNK", 100)
    exact = storage.Encoded.join([bytes(100), b"", b"x" * 200, b"", b""])
    zarr.store_many(tmp_path, exact, np.arange(5))
    check_file_reads(zarr, tmp_path, (exact, np.arange(5)))


def test_a_changed_byte_costs_no_file_of_another_chunk(files: Path) -> None:
    flip(CONTENT, 0)(files)
    with pytest.raises(storage.CorruptStoreError, match="content 0 to 999 is damaged"):
        zarr.read_many(files)
    others = [index for index in range(20) if FILES.offsets[index] >= 1_000]
    with zarr.open_reader(files) as reader:
        assert_same_files(reader.read_encoded(others), (FILES.take(others), FILE_LABELS[others]))
        assert bytes(reader.read_encoded([0])[0][0]) == b""
        with pytest.raises(storage.CorruptStoreError, match="content 0 to 999 is damaged"):
            reader.read_encoded([1])


def create_array(name: str, values: list[int], dtype: str) -> Change:
    """Replace an array by one of another program, in the same layout."""

    def change(store: Path) -> None:
        library.open_group(store, mode="r+").create_array(
            name,
            shape=(len(values),),
            dtype=dtype,
            chunks=(len(values),),
            shards=(len(values),),
            compressors=library.codecs.Crc32cCodec(),
            chunk_key_encoding={"name": "default", "separator": "."},
            overwrite=True,
        )[:] = values

    return change


TOTAL, OFFSETS = len(FILES.content), FILES.offsets.tolist()
FILE_CASES = {
    **{f"no {name}": Case(delete(name), name) for name in (CONTENT, "offsets/c.0", "labels/c.0", "content/zarr.json")},
    "content that was cut short": Case(cut(CONTENT, -1)),
    "a changed offset": Case(flip("offsets/c.0", 0), "offsets 0 to 20"),
    "a changed label": Case(flip("labels/c.0", 0), "labels 0 to 19"),
    "offsets that don't start at 0": Case(create_array("offsets", [1, *OFFSETS[1:]], "<i8"), "offsets"),
    "offsets that go back": Case(create_array("offsets", [0, TOTAL, *OFFSETS[2:]], "<i8"), "offsets|bytes"),
    "offsets that end too early": Case(create_array("offsets", [0] * 21, "<i8"), "offsets"),
    "fewer offsets": Case(create_array("offsets", OFFSETS[1:], "<i8"), r"shapes \[.*\(20,\)\]"),
    "fewer labels": Case(create_array("labels", [1] * 19, "<i8"), r"shapes"),
    "offsets of 32 bits": Case(create_array("offsets", OFFSETS, "<i4"), "another layout"),
    "content of pixels": Case(create_images(10, 5, 7, 3, name="content"), "shapes"),
}


@pytest.mark.parametrize("case", FILE_CASES.values(), ids=FILE_CASES)
def test_a_damaged_store_of_files_is_refused(case: Case, files: Path) -> None:
    case.change(files)
    for read in (zarr.read_many, zarr.open_reader):
        with pytest.raises(storage.CorruptStoreError, match=case.message) as caught:
            read(files)
        assert str(files) in str(caught.value)


def test_a_file_outside_the_content_is_refused_alone(files: Path) -> None:
    create_array("offsets", [*OFFSETS[:-2], TOTAL + 1, TOTAL], "<i8")(files)
    for index in (18, 19):
        with pytest.raises(storage.CorruptStoreError, match=f"record {index}: "):
            zarr.read_single(files, index)


def test_all_bytes_but_offsets_and_indices_are_content_or_labels(files: Path) -> None:
    found = zarr.find_pixels(files)
    assert sorted(found) == ["content/c.0", "content/c.1", "content/c.2", "labels/c.0"]
    assert found["content/c.0"] == [range(60 * 1_004)]
