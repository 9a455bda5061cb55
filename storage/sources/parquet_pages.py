"""What reading columns of a Parquet file takes, by the headers of their pages, before pyarrow reads any of them.

pyarrow allocates what the header of a page claims, and refuses a page that unpacks to anything else, whatever its
codec. What the footer claims it ignores. Two encodings let a few bytes stand for any number of values.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InvalidInputError, StorageError
from ..limits import check_memory
from ..parquet_footer import RowGroup, read_pages
from .parquet_columns import Columns

CODECS = {"UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW"}  # that pyarrow knows
ENCODINGS = {0, 2, 3, 4, 5, 8, 9}  # whose values are limited by the bytes and values of a page
UNLIMITED = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}
ROWS = 8  # that are decoded together: one value of a dictionary may be there many times
LARGE = 8 << 20  # bytes of a dictionary from which one row is decoded at a time
VALUE = 64  # bytes of memory that a value takes at least


class Weight(NamedTuple):
    """What a column of a row group takes: bytes of memory, and values; and how many rows may be decoded at once."""

    memory: int
    values: int
    together: int


def check_described(
    path: Path, descriptor: int, groups: Sequence[RowGroup], columns: Columns, left_out: dict[str, str]
) -> int:
    """Leave out what would take too much beside the labels; return how many rows may be decoded at once."""
    size, together, values = os.fstat(descriptor).st_size, ROWS, Counter[str]()
    for group in groups:
        memory = 0
        for name in columns.described:
            if name in left_out:
                continue
            try:
                weight = weigh(descriptor, group, name)
                values[name] += weight.values
                check_memory(path, memory + weight.memory, size, f"a row group of {name}")
                check_memory(path, values[name] * VALUE, size, f"the list of all {name}")
            except StorageError as error:
                if name == columns.label:
                    raise
                left_out[name] = error.problem
            else:
                memory += weight.memory
                together = min(together, weight.together)
    return together


def weigh(descriptor: int, group: RowGroup, column: str) -> Weight:
    """Add up what a column of a row group takes by the headers of its pages; refuse what they don't limit."""
    memory, values, together = 0, 0, ROWS
    for chunk in group.chunks:
        if chunk.name != column and not chunk.name.startswith(f"{column}."):
            continue
        if chunk.codec not in CODECS:
            problem, hint = f"{column} is compressed by {chunk.codec}", "write it again with compression='zstd'"
            raise InvalidInputError(problem, hint=hint)
        pages = read_pages(descriptor, chunk)
        unlimited = {page.encoding for page in pages} - ENCODINGS
        if unlimited:
            encoding = UNLIMITED.get(min(unlimited), f"number {min(unlimited)}")
            problem = f"{column} is encoded as {encoding}, in which a few bytes may stand for any number of values"
            raise InvalidInputError(problem, hint="write it again with pyarrow.parquet.write_table")
        dictionary = sum(page.unpacked + page.values * VALUE for page in pages if page.is_dictionary)
        largest = max((page.unpacked for page in pages if not page.is_dictionary), default=0)
        rows = ROWS if dictionary <= LARGE else 1
        memory += chunk.packed + largest + (2 + rows) * dictionary
        values += sum(page.values for page in pages if not page.is_dictionary)
        together = min(together, rows)
    return Weight(memory, values, together)
