"""What only the Parquet backend has: a file that its own tools read, checksums, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same

parquet = take_backend("parquet")

import pyarrow as pa  # noqa: E402 - it is here if the backend is
from pyarrow import parquet as library  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, (150, 32, 32, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 150)
NUMBERS = {"images": "150", "height": "32", "width": "32"}
READS: dict[str, Callable[[Path], object]] = {
    "read_single": lambda path: parquet.read_single(path, 0),
    "read_many": parquet.read_many,
    "open_reader": lambda path: parquet.open_reader(path).read([0]),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store of three row groups."""
    parquet.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


PIXELS = pa.array([image.tobytes() for image in IMAGES], pa.binary(3072))


def write(
    store: Path, *, images: object = PIXELS, labels: object = LABELS, numbers: object = NUMBERS, rows: int = 64
) -> None:
    """Write a file as a stranger would, with the library's own defaults."""
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata(numbers)
    library.write_table(table, store / "images.parquet", row_group_size=rows)


def test_parquets_own_reader_reads_it(store: Path) -> None:
    table = library.read_table(store / "images.parquet", page_checksum_verification=True)
    pixels = np.frombuffer(b"".join(table["image"].to_pylist()), np.uint8).reshape(IMAGES.shape)
    assert_same((pixels, table["label"].to_numpy()), (IMAGES, LABELS))
    assert table.schema.metadata == {name.encode(): number.encode() for name, number in NUMBERS.items()}


def test_row_groups_are_small_and_their_pages_plain(store: Path) -> None:
    metadata = library.read_metadata(store / "images.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [64, 64, 22]
    for column in (metadata.row_group(1).column(number) for number in range(2)):
        assert (column.compression, column.has_dictionary_page, column.is_stats_set) == ("UNCOMPRESSED", False, False)
    with pytest.raises(IndexError):
        metadata.row_group(3)


@pytest.mark.parametrize("value", [IMAGES[7].tobytes(), LABELS[7].tobytes()], ids=["pixels", "labels"])
def test_a_changed_page_is_refused_by_its_checksum(store: Path, value: bytes) -> None:
    path = store / "images.parquet"
    content = bytearray(path.read_bytes())
    content[content.index(value) + 3] ^= 16
    path.write_bytes(content)
    reader = parquet.open_reader(store)
    reads: list[Callable[[Path], object]] = [*READS.values(), lambda _: reader[7], lambda _: reader.read([149, 0])]
    for read in reads:
        with pytest.raises(storage.CorruptStoreError, match=f"{store}.*CRC checksum verification failed"):
            read(store)
    assert_same(reader.read([64, 149]), (IMAGES[[64, 149]], LABELS[[64, 149]]))
    reader.close()


@pytest.mark.parametrize("rows", [64, 50, 150, 1000, 1])
def test_a_file_of_another_program_is_read_right(tmp_path: Path, rows: int) -> None:
    write(tmp_path, rows=rows)
    assert_same(parquet.read_many(tmp_path), (IMAGES, LABELS))
    with parquet.open_reader(tmp_path) as reader:
        order = np.random.default_rng(2).permutation(150)
        assert_same(reader.read(order), (IMAGES[order], LABELS[order]))
        np.testing.assert_array_equal(reader.read_labels(), LABELS)


FOREIGN: dict[str, dict[str, object]] = {
    "no numbers": {"numbers": {}},
    "fewer images": {"numbers": {**NUMBERS, "images": "140"}},
    "no images": {"numbers": {**NUMBERS, "images": "0"}},
    "more images": {"numbers": {**NUMBERS, "images": "200"}},
    "no height": {"numbers": {**NUMBERS, "height": "0"}},
    "another height": {"numbers": {**NUMBERS, "height": "16"}},
    "words": {"numbers": {**NUMBERS, "width": "wide"}},
    "bytes of any length": {"images": pa.array([image.tobytes() for image in IMAGES])},
    "bytes of another length": {"images": pa.array([image[0].tobytes() for image in IMAGES], pa.binary(96))},
    "labels of 32 bits": {"labels": np.arange(150, dtype=np.int32)},
    "labels missing": {"labels": pa.array([None, *range(149)])},
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    write(tmp_path, **content)  # type: ignore[arg-type] # a case a line
    for read in READS.values():
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
            read(tmp_path)


def test_a_file_without_metadata_of_its_own_is_refused(tmp_path: Path) -> None:
    library.write_table(pa.table({"x": [1]}), tmp_path / "images.parquet", store_schema=False)
    with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
        parquet.read_many(tmp_path)


def test_row_groups_of_several_sizes_are_refused(tmp_path: Path) -> None:
    table = pa.table({"image": PIXELS, "label": LABELS})
    schema = table.schema.with_metadata(NUMBERS)
    with library.ParquetWriter(tmp_path / "images.parquet", schema) as writer:
        for start, end in ((0, 60), (60, 110), (110, 150)):
            writer.write_table(table.slice(start, end - start).replace_schema_metadata(NUMBERS))
    with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
        parquet.read_many(tmp_path)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_file_cut_short_is_refused(store: Path, read: Callable[[Path], object]) -> None:
    path = store / "images.parquet"
    content = path.read_bytes()
    for size in [*range(0, len(content), 9973), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


def test_a_file_that_holds_fewer_images_than_were_stored_is_refused(store: Path) -> None:
    table = library.read_table(store / "images.parquet")
    library.write_table(table.slice(0, 128), store / "images.parquet", row_group_size=64)
    with pytest.raises(storage.CorruptStoreError, match="128 of 150 images"):
        parquet.read_many(store)


def test_no_images_have_no_labels(tmp_path: Path) -> None:
    parquet.store_many(tmp_path, IMAGES[:0], LABELS[:0])
    with parquet.open_reader(tmp_path) as reader:
        assert reader.read_labels().shape == (0,)
