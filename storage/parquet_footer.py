"""Reads from a Parquet file where its columns are, how they are compressed, and what each of their pages claims.

pyarrow ends the process when it is asked for that and the footer is damaged: for a codec whose number it doesn't know,
for example. It allocates what the header of a page claims, whatever the footer says. Footer and headers are structs of
Thrift's compact protocol (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md); their
fields are in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

import os
from typing import Any, NamedTuple

MAX_FOOTER = 4 << 20  # bytes: a hundred for each column of each row group
MAX_DEPTH = 16
TAIL = 8  # bytes after the footer: its length, and four letters
ROW_GROUPS, ROWS, COLUMNS, METADATA = 4, 3, 1, 3  # numbers of fields
PATH, NUMBERS = 3, (5, 9, 7, 6)  # of a column: its name, and the numbers of a chunk
CODEC, DICTIONARY = 4, 11
KIND, UNPACKED, PACKED = 1, 2, 3  # of the header of a page
VALUES, PLACES = 1, {0: (5, 2), 2: (7, 2), 3: (8, 4)}  # by its kind: the field of its values, and the encoding in it
DICTIONARY_PAGE = 2
HEADER, MAX_HEADER = 1 << 10, 1 << 24  # bytes: it may hold the least and the largest value of the page
PADDING = 100  # bytes that pyarrow reads behind a column of an old writer, as the size that it wrote was too small
CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 7, 8, 9, 10, 12  # types
INTEGERS = {4, 5, 6}
LONG = 15  # a list has as many elements or more
MAX_SHIFT = 63


class Chunk(NamedTuple):
    """A column of a row group: its name and codec, its values, where its pages of data begin, and its bytes.

    `packed` are those that it has in the file, `unpacked` those that it has when its pages are unpacked; `dictionary`
    is where the page of its distinct values begins, if there is one, else 0.
    """

    name: str
    codec: str
    values: int
    page: int
    packed: int
    unpacked: int
    dictionary: int = 0

    @property
    def start(self) -> int:
        """Where its first page begins."""
        return self.dictionary if 0 < self.dictionary < self.page else self.page


class Page(NamedTuple):
    """What the header of a page claims: whether it is a dictionary, its encoding, values and unpacked bytes."""

    is_dictionary: bool
    encoding: int
    values: int
    unpacked: int


class RowGroup(NamedTuple):
    """A row group: how many rows it has, and its columns."""

    rows: int
    chunks: tuple[Chunk, ...]


def read_footer(descriptor: int, limit: int = MAX_FOOTER) -> list[RowGroup]:
    """Read what all row groups claim; ValueError, LookupError or TypeError if it isn't a footer."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, TAIL, max(0, size - TAIL))
    length = int.from_bytes(tail[:4], "little")
    if not 0 < length <= min(limit, size - TAIL):
        raise ValueError(f"its footer has {length:,} bytes")
    footer = _Compact(os.pread(descriptor, length, size - TAIL - length), "its footer").read_struct(0)
    return [RowGroup(_check(group[ROWS]), tuple(map(_read_chunk, group[COLUMNS]))) for group in footer[ROW_GROUPS]]


def _read_chunk(column: dict[int, Any]) -> Chunk:
    fields = column[METADATA]
    codec = _check(fields[CODEC])
    name = b".".join(fields[PATH]).decode()
    known = CODECS[codec] if codec < len(CODECS) else f"number {codec}"
    numbers = [*(fields[number] for number in NUMBERS), fields.get(DICTIONARY, 0)]
    return Chunk(name, known, *map(_check, numbers))


def read_pages(descriptor: int, chunk: Chunk) -> list[Page]:
    """Read what the pages of a column claim, as far as pyarrow reads them; errors as those of `read_footer`."""
    place, size, values = chunk.start, os.fstat(descriptor).st_size, 0
    end = place + chunk.packed
    if end > size:
        raise ValueError(f"a column ends at {end:,}, and it has {size:,} bytes")
    end = min(end + PADDING, size)
    pages, places = list[Page](), {place}
    while values < chunk.values and place < end:
        header, length = _read_header(descriptor, place, end - place)
        kind, unpacked, packed = (_check(header[number]) for number in (KIND, UNPACKED, PACKED))
        place += length + packed
        places.add(place)
        if kind in PLACES:  # pyarrow passes by the others
            field, encoding = PLACES[kind]
            inner = header[field]
            pages.append(Page(kind == DICTIONARY_PAGE, _check(inner[encoding]), _check(inner[VALUES]), unpacked))
            values += 0 if pages[-1].is_dictionary else pages[-1].values
    if chunk.page not in places:
        raise ValueError("its pages of data aren't behind that of their dictionary")
    return pages


def _read_header(descriptor: int, place: int, available: int, size: int = HEADER) -> tuple[dict[int, Any], int]:
    """Read the header of a page, of which `size` bytes may be enough; return it and its length."""
    compact = _Compact(os.pread(descriptor, min(size, available), place), "the header of a page")
    try:
        return compact.read_struct(0), compact.place
    except _CutShortError:
        if size >= min(available, MAX_HEADER):
            raise
        return _read_header(descriptor, place, available, MAX_HEADER)


def _check(number: object) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"it says {number!r:.20} where a number should be")
    return number


class _CutShortError(ValueError):
    """More bytes are needed."""


class _Compact:
    """Values that follow each other in `what`."""

    def __init__(self, content: bytes, what: str) -> None:
        self._content, self._what = content, what
        self.place = 0

    def read_struct(self, depth: int) -> dict[int, Any]:
        fields, field = dict[int, Any](), 0
        while head := self._read_byte():
            field = field + (head >> 4) if head >> 4 else self._read_signed()
            if field in fields:  # pyarrow may take the other one
                raise ValueError(f"{self._what} has field {field} twice")
            fields[field] = self._read_value(head & 0x0F, depth)
        return fields

    def _read_value(self, kind: int, depth: int) -> Any:  # noqa: ANN401 - of any type
        if depth > MAX_DEPTH:
            raise ValueError(f"{self._what} is nested too deeply")
        if kind in {TRUE, FALSE}:
            return kind == TRUE
        if kind in INTEGERS:
            return self._read_signed()
        if kind in {BYTE, DOUBLE}:
            return self._take(1 if kind == BYTE else 8)
        if kind == BINARY:
            return self._take(self._read_number())
        if kind in {LIST, SET}:
            return self._read_list(depth)
        if kind == STRUCT:
            return self.read_struct(depth + 1)
        raise ValueError(f"{self._what} has a value of type {kind}")

    def _read_list(self, depth: int) -> list[Any]:
        head = self._read_byte()
        count, kind = head >> 4, head & 0x0F
        count = self._read_number() if count == LONG else count
        if kind in {TRUE, FALSE}:
            return list(self._take(count))
        return [self._read_value(kind, depth + 1) for _ in range(count)]

    def _read_signed(self) -> int:
        number = self._read_number()
        return (number >> 1) ^ -(number & 1)

    def _read_number(self) -> int:
        number = shift = 0
        while (byte := self._read_byte()) & 0x80 and shift < MAX_SHIFT:
            number |= (byte & 0x7F) << shift
            shift += 7
        return number | byte << shift

    def _read_byte(self) -> int:
        place = self.place
        if place >= len(self._content):
            raise _CutShortError(f"{self._what} is cut short")
        self.place = place + 1
        return self._content[place]

    def _take(self, count: int) -> bytes:
        end = self.place + count
        if end > len(self._content):
            raise _CutShortError(f"{self._what} is cut short")
        taken = self._content[self.place : end]
        self.place = end
        return taken
