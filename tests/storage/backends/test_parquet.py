"""Parquet: a file that its own tools read, checksums of pages, and files of other programs that are read or refused."""

import os
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import Encoded
from tests.support.backends import take_backend
from tests.support.encoded_sets import check_file_reads, make_files
from tests.support.foreign import Case, Change, cut, flip
from tests.support.image_sets import assert_same, check_reads, make_set

parquet = take_backend("parquet")

import pyarrow as pa  # noqa: E402 - it is here if the backend is
from pyarrow import parquet as library  # noqa: E402

IMAGES, LABELS = make_set(150)
TEN, TEN_LABELS = make_set(10)
NUMBERS = {"images": "10", "height": "32", "width": "32"}
FILES, FILE_LABELS = make_files(10)


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


def save_files(*, rows: int = 10, sizes: object = FILES.lengths, kind: object = None, **options: object) -> Change:
    """Replace the file by one with image files, laid out as `store_many` does unless the options differ."""
    columns = {"image": pa.array(map(bytes, FILES), kind or pa.large_binary()), "size": sizes, "label": FILE_LABELS}
    table = pa.table(columns).replace_schema_metadata({"images": "10"})
    table = table.cast(
        pa.schema([field.with_nullable(nullable=False) for field in table.schema], table.schema.metadata)
    )
    usual = {"compression": "none", "use_dictionary": False, "data_page_size": 1 << 30, "write_statistics": False}
    return lambda store: library.write_table(
        table, store / "images.parquet", **{**usual, "row_group_size": rows, **options}
    )


def replace_file(**columns: object) -> Change:
    return lambda store: library.write_table(pa.table(columns), store / "images.parquet", store_schema=False)


FOREIGN = {
    "no numbers": Case(save(numbers={})),
    "no metadata at all": Case(replace_file(x=[1])),
    **{f"{count} images": Case(save(numbers={**NUMBERS, "images": count})) for count in ("9", "0", "11")},
    "no height": Case(save(numbers={**NUMBERS, "height": "0"})),
    "another height": Case(save(numbers={**NUMBERS, "height": "16"})),
    "another dtype": Case(save(numbers={**NUMBERS, "dtype": "uint16"}), "has columns"),
    "a word as the dtype": Case(save(numbers={**NUMBERS, "dtype": "wide"}), "pixels of dtype 'wide'"),
    "no channels": Case(save(numbers={**NUMBERS, "channels": "0"}), "has columns"),
    "a word as the width": Case(save(numbers={**NUMBERS, "width": "wide"})),
    "bytes of any length": Case(save(pa.array([image.tobytes() for image in TEN]))),
    "bytes of another length": Case(save(pa.array([image[0].tobytes() for image in TEN], pa.binary(96)))),
    "labels of 32 bits": Case(save(labels=np.arange(10, dtype=np.int32))),
    "a label missing": Case(save(labels=pa.array([None, *range(9)]))),
    "row groups of several sizes": Case(save(None, TEN_LABELS, NUMBERS, 4, 3, 3), "different numbers"),
    "row groups of fewer images": Case(save(None, TEN_LABELS, NUMBERS, 4, 4), "8 of 10 images"),
    "a changed pixel": Case(flip("images.parquet", 20_000), "CRC checksum verification failed"),
    "compressed files": Case(save_files(compression="snappy"), "is compressed"),
    "files in a dictionary": Case(save_files(use_dictionary=["image"])),
    "files of another type": Case(save_files(kind=pa.binary()), "has columns"),
    "sizes of more than there is": Case(save_files(sizes=FILES.lengths + 9), "don't hold its files"),
    "a negative size": Case(save_files(sizes=FILES.lengths - 1), "sizes that no page can hold"),
    "a size above 2**31": Case(save_files(sizes=FILES.lengths + 2**31), "sizes that no page can hold"),
    **{f"cut to {size} bytes": Case(cut("images.parquet", size)) for size in (0, 3, 9, 20_000, -9, -1)},
}


def test_parquet_itself_reads_the_file(store: Path) -> None:
    table = library.read_table(store / "images.parquet", page_checksum_verification=True)
    pixels = np.frombuffer(b"".join(table["image"].to_pylist()), np.uint8).reshape(IMAGES.shape)
    assert_same((pixels, table["label"].to_numpy()), (IMAGES, LABELS))
    assert table.schema.metadata == {b"images": b"150", b"height": b"32", b"width": b"32"}


def test_parquet_itself_reads_image_files(tmp_path: Path) -> None:
    parquet.store_many(tmp_path, FILES, FILE_LABELS)
    table = library.read_table(tmp_path / "images.parquet", page_checksum_verification=True)
    assert table["image"].to_pylist() == [bytes(file) for file in FILES]
    assert table["size"].to_pylist() == FILES.lengths.tolist()
    assert table["label"].to_pylist() == FILE_LABELS.tolist()
    assert table.schema.metadata == {b"images": b"10"}


def test_a_row_group_has_4_mib_of_files_or_one_file(tmp_path: Path) -> None:
    lengths = [0, 4 << 20, 0, 1, (4 << 20) - 2, 1, 1, 5 << 20, 0]
    files = Encoded.join(map(bytes, lengths))
    parquet.store_many(tmp_path, files, np.arange(9))
    metadata = library.read_metadata(tmp_path / "images.parquet")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [3, 3, 1, 1, 1]
    assert {group.column(0).compression for group in groups} == {"UNCOMPRESSED"}
    check_file_reads(parquet, tmp_path, (files, np.arange(9)))


def test_a_row_group_of_empty_files_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "FILE_ROWS", 4)
    files = Encoded.join([b""] * 9)
    parquet.store_many(tmp_path, files, np.arange(9))
    assert library.read_metadata(tmp_path / "images.parquet").num_row_groups == 3
    check_file_reads(parquet, tmp_path, (files, np.arange(9)))


def test_row_groups_are_larger_rather_than_too_many_for_arrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_GROUPS", 4)
    monkeypatch.setattr(parquet, "GROUP", 1)
    monkeypatch.setattr(parquet, "FILE_GROUP", 1)
    parquet.store_many(tmp_path / "pixels", *make_set(9))
    check_reads(parquet, tmp_path / "pixels", make_set(9))
    files = Encoded.join([bytes(10)] * 40)
    parquet.store_many(tmp_path / "files", files, np.arange(40))
    check_file_reads(parquet, tmp_path / "files", (files, np.arange(40)))
    for name in ("pixels", "files"):
        assert library.read_metadata(tmp_path / name / "images.parquet").num_row_groups in {2, 3, 4}


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_image_files_of_another_program_in_the_same_layout_are_read(tmp_path: Path, rows: int) -> None:
    save_files(rows=rows)(tmp_path)
    check_file_reads(parquet, tmp_path, (FILES, FILE_LABELS))


def test_a_file_too_large_for_a_page_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2**31 - 4
    files = Encoded(np.zeros(size, np.uint8), np.array([0, 0, size]))  # memory that is never touched
    with pytest.raises(
        storage.InvalidInputError, match=r"record 1: it has 2,147,483,644 bytes.* at most 2,147,483,643"
    ):
        parquet.store_many(tmp_path / "store", files, np.arange(2))
    monkeypatch.setattr(parquet, "MAX_FILE", 69_999)
    with pytest.raises(storage.InvalidInputError, match=r"record 6: .* at most 69,999"):
        parquet.store_many(tmp_path / "store", FILES, FILE_LABELS)
    assert not (tmp_path / "store").exists()
    monkeypatch.setattr(parquet, "MAX_FILE", 70_000)
    parquet.store_many(tmp_path / "store", FILES, FILE_LABELS)
    check_file_reads(parquet, tmp_path / "store", (FILES, FILE_LABELS))


@pytest.mark.parametrize(
    "change",
    [save_files(data_page_size=1, write_batch_size=1), save_files(sizes=np.roll(FILES.lengths, 1))],
    ids=["several pages", "other sizes"],
)
def test_a_length_that_is_not_before_its_file_is_refused(tmp_path: Path, change: Change) -> None:
    change(tmp_path)
    with parquet.open_reader(tmp_path) as reader, pytest.raises(storage.CorruptStoreError, match="isn't its") as caught:
        reader.read_encoded([5, 1])
    assert caught.value.record in {1, 5}
    with pytest.raises(storage.CorruptStoreError, match="isn't its size"):
        parquet.read_many(tmp_path)


@pytest.mark.parametrize(("codec", "reason"), [(b"\x50", "is compressed"), (b"\x09", "-5 where a number should be")])
def test_a_footer_with_a_codec_that_pyarrow_dies_of_is_an_error(codec: bytes, reason: str, tmp_path: Path) -> None:
    parquet.store_many(tmp_path, FILES, FILE_LABELS)
    content = (tmp_path / "images.parquet").read_bytes()
    assert content.count(b"\x15\x00\x16") >= 3  # codec 0 of each column, then its number of values
    (tmp_path / "images.parquet").write_bytes(content.replace(b"\x15\x00\x16", b"\x15" + codec + b"\x16"))
    with pytest.raises(storage.CorruptStoreError, match=reason):
        parquet.read_many(tmp_path)


def test_a_read_that_stops_halfway_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_some(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return preadv(descriptor, [buffer[:50_000] for buffer in buffers], offset)

    preadv = os.preadv
    parquet.store_many(tmp_path, FILES, FILE_LABELS)
    monkeypatch.setattr(os, "preadv", read_some)
    check_file_reads(parquet, tmp_path, (FILES, FILE_LABELS))


def test_a_file_that_is_cut_short_while_it_is_open_is_noticed(tmp_path: Path) -> None:
    parquet.store_many(tmp_path, FILES, FILE_LABELS)
    with parquet.open_reader(tmp_path) as reader:
        os.truncate(tmp_path / "images.parquet", 1000)
        with pytest.raises(storage.CorruptStoreError, match="cut short"):
            reader.read_encoded([6])


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
