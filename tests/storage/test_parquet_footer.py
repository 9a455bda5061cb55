"""Footers of Parquet files, as pyarrow writes them and as it never would."""

from pathlib import Path

import pytest

from storage.parquet_footer import Chunk, Page, RowGroup, read_footer, read_pages
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
        (b"\x49" + GROUPS.replace(b"\x15\x02", b"\x15\x01") + b"\0", "it says -1 where a number should be"),
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


def make_page(field: int, *, values: int, unpacked: int, content: bytes, extra: bytes = b"") -> bytes:
    """Make a page: `field` of its header describes it, with encoding 0 and numbers below 64."""
    kind = {5: 0, 6: 1, 7: 2, 8: 3}[field]
    numbers = [number << 1 for number in (kind, unpacked, len(content))]
    head = b"\x15%c\x15%c\x15%c" % tuple(numbers)
    encoding = b"\x35\0" if field == 8 else b"\x15\0"
    inner = b"\x15%c" % (values << 1) + encoding + b"\0"
    return head + extra + b"\x0c%c" % (field << 1) + inner + b"\0" + content


def list_pages(path: Path, *pages: bytes, start: int = 0, dictionary: int = 0, cut: int = 0) -> list[Page]:
    """Read the pages of a column of five values that is all of a file but one byte before it."""
    content = b"P" + b"".join(pages)
    path.write_bytes(content)
    packed = len(content) - 1 - cut
    with path.open("rb") as file:
        return read_pages(file.fileno(), Chunk("a", "ZSTD", 5, start or 1, packed, 0, dictionary))


def test_the_pages_of_pyarrow_are_read(tmp_path: Path) -> None:
    files = [b"a", b"a", b"long" * 500] * 3
    path = write_parquet(tmp_path / "set", {"image": files}, compression="none")
    with path.open("rb") as file:
        (chunk,) = read_footer(file.fileno())[0].chunks
        dictionary, page = read_pages(file.fileno(), chunk)
    assert (dictionary.is_dictionary, dictionary.values, dictionary.unpacked) == (True, 2, 2 * 4 + 1 + 2_000)
    assert (page.is_dictionary, page.values) == (False, 9)


def test_pages_of_all_kinds_are_read_as_far_as_there_are_values(tmp_path: Path) -> None:
    dictionary = make_page(7, values=9, unpacked=40, content=b"dict")
    pages = [
        dictionary,
        make_page(6, values=1, unpacked=1, content=b"an index"),
        make_page(5, values=2, unpacked=30, content=b"data"),
        make_page(8, values=3, unpacked=20, content=b""),
        make_page(5, values=1, unpacked=50, content=b"behind"),
    ]
    found = list_pages(tmp_path / "set", *pages, start=1 + len(dictionary), dictionary=1)
    assert found == [Page(True, 0, 9, 40), Page(False, 0, 2, 30), Page(False, 0, 3, 20)]  # noqa: FBT003 - fields


def test_a_header_of_many_bytes_is_read(tmp_path: Path) -> None:
    statistics = b"\x28\x88\x27" + bytes(5_000)  # 5,000 bytes in field 5, which no page has
    page = make_page(8, values=5, unpacked=9, content=b"x", extra=statistics)
    assert list_pages(tmp_path / "set", page) == [Page(False, 0, 5, 9)]  # noqa: FBT003 - a field


def test_pages_that_pyarrow_reads_behind_a_column_are_read(tmp_path: Path) -> None:
    pages = [make_page(5, values=2, unpacked=1, content=b""), make_page(5, values=3, unpacked=60, content=b"")]
    assert [page.unpacked for page in list_pages(tmp_path / "set", *pages, cut=len(pages[1]))] == [1, 60]


@pytest.mark.parametrize(
    ("page", "options", "reason"),
    [
        (b"\x15", {}, "the header of a page is cut short"),
        (make_page(5, values=5, unpacked=9, content=b"x"), {"cut": -1}, "a column ends at 17, and it has 16 bytes"),
        (make_page(5, values=5, unpacked=9, content=b"x"), {"start": 2, "dictionary": 1}, "aren't behind that of"),
        (b"\x15\0\x15\0\x05\2\2\0", {}, "the header of a page has field 1 twice"),
        (b"\x15\0\x15\1\x15\0\0", {}, "it says -1 where a number should be"),
    ],
)
def test_what_are_no_pages_is_an_error(page: bytes, options: dict[str, int], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        list_pages(tmp_path / "set", page, **options)
