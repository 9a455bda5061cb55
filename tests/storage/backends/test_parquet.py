"""Parquet: a file that its own tools read, checksums of pages, and files of other programs that are read or refused."""

from pathlib import Path

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.foreign import Case, Change, cut, flip
from tests.support.image_sets import assert_same, check_reads, make_set

parquet = take_backend("parquet")

import pyarrow as pa  # noqa: E402 - it is here if the backend is
from pyarrow import parquet as library  # noqa: E402

IMAGES, LABELS = make_set(150)
TEN, TEN_LABELS = make_set(10)
NUMBERS = {"images": "10", "height": "32", "width": "32"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    parquet.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def save(
    images: object = None, labels: object = TEN_LABELS, numbers: object = NUMBERS, *sizes: int, rows: int = 64
) -> Change:
    pixels = pa.array([image.tobytes() for image in TEN], pa.binary(3072)) if images is None else images
    table = pa.table({"image": pixels, "label": labels}).replace_schema_metadata(numbers)

    def change(store: Path) -> None:
        with library.ParquetWriter(store / "images.parquet", table.schema) as writer:
            for size in sizes:
                writer.write_table(table.slice(0, size))
            if not sizes:
                writer.write_table(table, row_group_size=rows)

    return change


def replace_file(**columns: object) -> Change:
    return lambda store: library.write_table(pa.table(columns), store / "images.parquet", store_schema=False)


FOREIGN = {
    "no numbers": Case(save(numbers={})),
    "no metadata at all": Case(replace_file(x=[1])),
    **{f"{count} images": Case(save(numbers={**NUMBERS, "images": count})) for count in ("9", "0", "11")},
    "no height": Case(save(numbers={**NUMBERS, "height": "0"})),
    "another height": Case(save(numbers={**NUMBERS, "height": "16"})),
    "a word as the width": Case(save(numbers={**NUMBERS, "width": "wide"})),
    "bytes of any length": Case(save(pa.array([image.tobytes() for image in TEN]))),
    "bytes of another length": Case(save(pa.array([image[0].tobytes() for image in TEN], pa.binary(96)))),
    "labels of 32 bits": Case(save(labels=np.arange(10, dtype=np.int32))),
    "a label missing": Case(save(labels=pa.array([None, *range(9)]))),
    "row groups of several sizes": Case(save(None, TEN_LABELS, NUMBERS, 4, 3, 3), "different numbers"),
    "row groups of fewer images": Case(save(None, TEN_LABELS, NUMBERS, 4, 4), "8 of 10 images"),
    "a changed pixel": Case(flip("images.parquet", 20_000), "CRC checksum verification failed"),
    **{f"cut to {size} bytes": Case(cut("images.parquet", size)) for size in (0, 3, 9, 20_000, -9, -1)},
}


def test_parquet_itself_reads_the_file(store: Path) -> None:
    table = library.read_table(store / "images.parquet", page_checksum_verification=True)
    pixels = np.frombuffer(b"".join(table["image"].to_pylist()), np.uint8).reshape(IMAGES.shape)
    assert_same((pixels, table["label"].to_numpy()), (IMAGES, LABELS))
    assert table.schema.metadata == {b"images": b"150", b"height": b"32", b"width": b"32"}


def test_row_groups_are_small_and_their_pages_plain(store: Path) -> None:
    metadata = library.read_metadata(store / "images.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [64, 64, 22]
    for column in (metadata.row_group(1).column(number) for number in range(2)):
        assert (column.compression, column.has_dictionary_page, column.is_stats_set) == ("UNCOMPRESSED", False, False)


@pytest.mark.parametrize("value", [IMAGES[7].tobytes(), LABELS[7:11].tobytes()], ids=["pixels", "labels"])
def test_a_changed_page_costs_no_image_of_another_row_group(store: Path, value: bytes) -> None:
    flip("images.parquet", (store / "images.parquet").read_bytes().index(value) + 3)(store)
    with parquet.open_reader(store) as reader:
        with pytest.raises(storage.CorruptStoreError, match="CRC checksum verification failed"):
            reader.read([149, 0])
        assert_same(reader.read([64, 149]), (IMAGES[[64, 149]], LABELS[[64, 149]]))


@pytest.mark.parametrize("rows", [1, 3, 5, 10, 1000])
def test_a_file_of_another_program_is_read_right(tmp_path: Path, rows: int) -> None:
    save(rows=rows)(tmp_path)
    check_reads(parquet, tmp_path, (TEN, TEN_LABELS))


def test_an_empty_store_has_no_labels(tmp_path: Path) -> None:
    parquet.store_many(tmp_path, IMAGES[:0], LABELS[:0])
    with parquet.open_reader(tmp_path) as reader:
        assert reader.read_labels().shape == (0,)
