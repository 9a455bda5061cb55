"""Metadata: a table with a row per image, kept beside each part as an Arrow IPC file, or as JSON lines without pyarrow.

A column has a name and a value per image: strings, integers of 64 bits, floats, booleans, or lists of these of any
depth; None where a value is missing.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendUnavailableError, CorruptStoreError, InvalidInputError, reading

ARROW, LINES = "arrow", "jsonl"  # suffixes of the files
MAX_DEPTH = 8  # of lists in lists
MAGIC = 8  # bytes before the first message of an Arrow file
COMPRESSION = 3  # number of the field of a record batch that says how it is compressed
VALUES_PER_BYTE = 8  # of a file, at most: a bit for each boolean in a list
VALUES_PER_IMAGE = 64  # besides: a column without any value takes no bytes
MIN_INTEGER, MAX_INTEGER = -(1 << 63), (1 << 63) - 1
HINT = "give a mapping of column names to values: str, int, float, bool, lists of these, or None"

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]


def check_columns(columns: Any, count: int) -> dict[str, list[Any]]:  # noqa: ANN401 - whatever a caller gives
    """Refuse what isn't a table with a row per image; copy its columns into lists."""
    if not isinstance(columns, Mapping):
        raise InvalidInputError(f"metadata is a {type(columns).__name__}", hint=HINT)
    checked = {}
    for name, given in columns.items():
        if not isinstance(name, str) or not name.isprintable():
            raise InvalidInputError(f"metadata has a column {name!r}", hint=HINT)
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise InvalidInputError(f"the column {name!r} is a {type(given).__name__}", hint=HINT)
        values = given.tolist() if isinstance(given, np.ndarray) else [_unwrap(value, 0) for value in given]
        if len(values) != count:
            hint = "give each image one value; None if there is none"
            raise InvalidInputError(f"the column {name!r} has {len(values)} values for {count} images", hint=hint)
        kinds = {kind for value in values for kind in _list_kinds(name, value, 0)}
        if len(kinds) > 1:
            raise _refuse_mixture(name, kinds)
        checked[name] = values
    return checked


def find_kinds(columns: Columns) -> dict[str, str | None]:
    """Find the type of the values of each column that `check_columns` accepted; None if it has no value."""
    return {
        name: next((kind for value in values for kind in _list_kinds(name, value, 0)), None)
        for name, values in columns.items()
    }


def merge_kinds(columns: Mapping[str, str | None], others: Mapping[str, str | None]) -> dict[str, str | None]:
    """Merge the types of columns of the same names; refuse two in one column."""
    for name, kind in columns.items():
        if None not in {kind, others[name]} and kind != others[name]:
            raise _refuse_mixture(name, {str(kind), str(others[name])})
    return {name: kind or others[name] for name, kind in columns.items()}


def _refuse_mixture(name: str, kinds: set[str]) -> InvalidInputError:
    problem = f"the column {name!r} mixes {' and '.join(sorted(kinds))}"
    return InvalidInputError(problem, hint="give all its values one type")


def _unwrap(value: object, depth: int) -> object:
    """Make what NumPy has of its own, on its own or in lists, what Python has for it."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple) and depth < MAX_DEPTH:
        return [_unwrap(each, depth + 1) for each in value]
    return value


def _list_kinds(name: str, value: object, depth: int) -> Iterator[str]:
    """List the types in a value, each with the depth of its lists."""
    if isinstance(value, list | tuple) and depth < MAX_DEPTH:
        for each in value:
            yield from _list_kinds(name, each, depth + 1)
        return
    if value is None:
        return
    if type(value) not in {str, int, float, bool} or (type(value) is int and not MIN_INTEGER <= value <= MAX_INTEGER):
        raise InvalidInputError(f"the column {name!r} has a value {value!r:.80}", hint=HINT)
    if isinstance(value, str) and not _is_text(value):
        raise InvalidInputError(f"the column {name!r} has text that isn't Unicode, {value!r:.80}", hint=HINT)
    yield f"{'list of ' * depth}{type(value).__name__}"


def _is_text(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def format_columns(columns: Columns) -> tuple[str, bytes]:
    """Write a table; return the suffix of its file, and the content."""
    pyarrow = _find_pyarrow()
    if pyarrow is None:
        rows = zip(*columns.values(), strict=True)
        lines = [list(columns), *(dict(zip(columns, row, strict=True)) for row in rows)]
        return LINES, "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    table = pyarrow.table({name: _make_array(pyarrow, list(values)) for name, values in columns.items()})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    return ARROW, sink.getvalue().to_pybytes()


def _make_array(pyarrow: Any, values: list[Any]) -> Any:  # noqa: ANN401 - of pyarrow
    """Make a column; one that has no value but None is one of booleans, so that each takes a bit of the file."""
    array = pyarrow.array(values)
    return array.cast(_replace_null(pyarrow, array.type))


def _replace_null(pyarrow: Any, kind: Any) -> Any:  # noqa: ANN401 - likewise
    if pyarrow.types.is_list(kind):
        return pyarrow.list_(_replace_null(pyarrow, kind.value_type))
    return pyarrow.bool_() if pyarrow.types.is_null(kind) else kind


def parse_columns(store: Path, suffix: str, content: bytes, count: int) -> dict[str, list[Any]]:
    """Read a table of a part; refuse one that hasn't a row per image, or that `format_columns` doesn't write."""
    with reading(store, TypeError, AttributeError):
        return _parse_lines(store, content, count) if suffix == LINES else _parse_arrow(store, content, count)


def _parse_lines(store: Path, content: bytes, count: int) -> dict[str, list[Any]]:
    first, *lines = content.splitlines()
    names = list(json.loads(first))
    _check_rows(store, names, len(lines), count)
    rows = [json.loads(line) for line in lines]
    try:
        return check_columns({name: [row[name] for row in rows] for name in names}, count)
    except InvalidInputError as error:
        raise ValueError(error.problem) from None


def _check_rows(store: Path, names: list[Any], rows: int, count: int) -> None:
    if names and rows != count:
        raise CorruptStoreError(f"its metadata hasn't {count} rows", store=store)
    if len(set(names)) != len(names) or not all(isinstance(name, str) and name.isprintable() for name in names):
        raise CorruptStoreError("its metadata has impossible names of columns", store=store)


def _parse_arrow(store: Path, content: bytes, count: int) -> dict[str, list[Any]]:
    pyarrow = _find_pyarrow()
    if pyarrow is None:
        hint = "python -m pip install pyarrow"
        raise BackendUnavailableError("reading this metadata needs pyarrow", hint=hint)
    with reading(store, pyarrow.ArrowException):
        messages = pyarrow.BufferReader(content)
        messages.seek(MAGIC)
        while messages.tell() < len(content) and (message := _read_message(pyarrow, messages)) is not None:
            if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
                raise ValueError("a compressed table, which may need any amount of memory")
        messages.seek(MAGIC)
        file = pyarrow.ipc.open_stream(messages)
        for kind in file.schema.types:
            _check_kind(pyarrow, kind, 0)
        table = file.read_all()
        _check_rows(store, table.schema.names, table.num_rows, count)
        table.validate(full=True)
        values = sum(_count_values(pyarrow, chunk) for column in table.columns for chunk in column.chunks)
        if values > VALUES_PER_BYTE * len(content) + VALUES_PER_IMAGE * count:
            raise ValueError(f"{values:,} values in {len(content):,} bytes")
        columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def _check_kind(pyarrow: Any, kind: Any, depth: int) -> None:  # noqa: ANN401 - of pyarrow
    """Refuse a type of columns that `format_columns` doesn't write."""
    if pyarrow.types.is_list(kind) and depth < MAX_DEPTH:
        _check_kind(pyarrow, kind.value_type, depth + 1)
    elif kind not in {pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_(), pyarrow.null()}:
        raise ValueError(f"a column of type {kind!s:.80}")


def _count_values(pyarrow: Any, array: Any) -> int:  # noqa: ANN401 - of pyarrow
    """Count the values of a column, those in its lists included."""
    inner = _count_values(pyarrow, array.values) if pyarrow.types.is_list(array.type) else 0
    return len(array) + inner


def _read_message(pyarrow: Any, messages: Any) -> Any:  # noqa: ANN401 - of pyarrow
    try:
        message = pyarrow.ipc.read_message(messages)
    except EOFError:  # how the end of the messages is told
        return None
    if message.type not in {"schema", "record batch"}:
        raise ValueError(f"a message of type {message.type}")
    return message


def _is_compressed(message: bytes) -> bool:
    """Look at the flatbuffer of a message, whose third field is a record batch, for the field about compression."""
    start = _find_field(message, struct.unpack_from("<I", message)[0], 2)
    batch = start + struct.unpack_from("<I", message, start)[0]
    return bool(_find_field(message, batch, COMPRESSION) > batch)


def _find_field(message: bytes, table: int, number: int) -> int:
    """Find where a field of a table is in a flatbuffer: where the table is, if it has none."""
    fields = table - struct.unpack_from("<i", message, table)[0]
    place, size = 4 + 2 * number, struct.unpack_from("<H", message, fields)[0]
    return table + (struct.unpack_from("<H", message, fields + place)[0] if place < size else 0)


def _find_pyarrow() -> Any:  # noqa: ANN401 - a module
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        return None
    return pa
