"""Footers of Parquet files, as pyarrow writes them and as it never would."""

from pathlib import Path

import pytest

from storage.parquet_footer import Chunk, RowGroup, read_footer
from tests.support.source_files import write_parquet

CHUNK = b"\x39\x28\x01a\x01b\x15\x02\x16\x0a\x16\x14\x16\x12\x26\x08\0"  # a.b, codec 1, 5 values, 10 and 9 bytes, at 4
GROUP = b"\x19\x1c" + b"\x3c" + CHUNK + b"\0" + b"\x26\x06" + b"\0"  # field 1: a list of one column; field 3: 3 rows
GROUPS = b"\x1c" + GROUP  # of field 4: a list of one


def read(path: Path, footer: bytes, length: int | None = None) -> list[RowGroup]:
    count = len(footer) if length is None else length
    path.write_bytes(b"PAR1" + footer + count.to_bytes(4, "little") + b"PAR1")
    with path.open("rb") as file:
        return read_footer(file.fileno())


def test_the_footer_of_pyarrow_is_read(tmp_path: Path) -> None:
    columns = {"image": [b"file"] * 7, "label": [1] * 7}
    path = write_parquet(tmp_path / "set", columns, row_group_size=4, compression={"image": "none", "label": "zstd"})
    with path.open("rb") as file:
        groups = read_footer(file.fileno())
    assert [group.rows for group in groups] == [4, 3]
    assert [[chunk.codec for chunk in group.chunks] for group in groups] == [["UNCOMPRESSED", "ZSTD"]] * 2
    parquet = pytest.importorskip("pyarrow.parquet")
    metadata = parquet.read_metadata(path)
    for number, group in enumerate(groups):
        for place, chunk in enumerate(group.chunks):
            found = metadata.row_group(number).column(place)
            assert (chunk.name, chunk.values) == (found.path_in_schema, found.num_values)
            assert (chunk.page, chunk.packed) == (found.data_page_offset, found.total_compressed_size)
            assert (chunk.codec, chunk.unpacked) == (found.compression, found.total_uncompressed_size)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\x49", b""),
        (b"\x11\x13\x07\x17" + bytes(8) + b"\x19", b""),
        (
            b"\x49",
            b"\x18\x03abc" + b"\x1a\x21\x01\x02" + b"\x19\xf5\x10" + b"\x02" * 16 + b"\x05\xc8\x01\x02" + b"\x12",
        ),
        (b"\x49", b"\x16" + b"\xff" * 9 + b"\x01"),
    ],
    ids=["alone", "after others", "before others", "a long number"],
)
def test_values_of_all_types_are_skipped(before: bytes, after: bytes, tmp_path: Path) -> None:
    footer = before + GROUPS + after + b"\0"
    assert read(tmp_path / "set", footer) == [RowGroup(3, (Chunk("a.b", "SNAPPY", 5, 4, 9, 10),))]


@pytest.mark.parametrize(
    ("footer", "reason"),
    [
        (b"", "its footer has 0 bytes"),
        (b"\x49" + GROUPS, "its footer is cut short"),
        (b"\x18\xff\xff\xff\xff\x0f", "its footer is cut short"),
        (b"\x1c" * 20, "its footer is nested too deeply"),
        (b"\x19" * 20, "its footer is nested too deeply"),
        (b"\x1b\x00", "its footer has a value of type 11"),
        (b"\x49" + GROUPS.replace(b"\x15\x02", b"\x15\x01") + b"\0", "its footer has -1 where a number should be"),
    ],
)
def test_what_is_no_footer_is_an_error(footer: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        read(tmp_path / "set", footer)


def test_a_codec_without_a_name_is_a_number(tmp_path: Path) -> None:
    footer = b"\x49" + GROUPS.replace(b"\x15\x02", b"\x15\x50") + b"\0"
    assert read(tmp_path / "set", footer)[0].chunks[0].codec == "number 40"


def test_a_footer_that_is_longer_than_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its footer has 4,096 bytes"):
        read(tmp_path / "set", b"\x49" + GROUPS + b"\0", 4_096)
