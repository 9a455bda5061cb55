"""Parquet files with a column of image files, as the Hugging Face hub writes them: one file, or a folder of shards.

The column is a struct of ``bytes`` and ``path``, or binary. The label is the column ``label``, or else the first one
that the schema's metadata ``huggingface`` calls a class label, or else the only one of integers; the names of classes
come from there too. Strings in ``label`` are the names of classes, in order. Paths are the names of the images if they
are names at all. All other columns become metadata.
The format: https://huggingface.co/docs/datasets/image_dataset.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..arrays import LABEL as LABEL_RANGE
from ..contract import Labels
from ..dataset.names import Names
from ..encoded import Content
from ..errors import CorruptStoreError, InvalidInputError, StorageError
from ..limits import check_memory
from ..parquet_footer import read_footer
from .files import open_input
from .pixels import describing, identify_files, importing

KIND = "a Parquet file"
BYTES, PATH, LABEL = "bytes", "path", "label"
CODECS = {"UNCOMPRESSED", "SNAPPY"}  # which can't unpack a page to far more than it has, as the others can
MAX_CLASSES = 4_096  # that are made of strings
ROWS = 8  # that are decoded together: one file may be there many times
VALUE = 64  # bytes of memory that a value takes at least
SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.parquet")


class Group(NamedTuple):
    """A row group: the number of its file, its own number there, and its first row among all."""

    file: int
    number: int
    start: int


class Columns(NamedTuple):
    """The columns of a file by their use, named as Parquet does: ``image.bytes`` is in a struct."""

    image: str
    path: str | None
    label: str | None
    others: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def described(self) -> list[str]:
        """The columns that describe images."""
        return [name for name in (self.path, self.label, *self.others) if name is not None]


@dataclass(frozen=True)
class ParquetSource:
    """Image files in Parquet files."""

    files: Sequence[Path]
    columns: Columns = field(repr=False)
    groups: Sequence[Group] = field(repr=False)
    labels: Labels = field(repr=False)
    names: Sequence[str] | None = field(repr=False)
    identity: str
    metadata: Mapping[str, Sequence[Any]] | None = field(repr=False)
    problems: tuple[()] = ()
    kind: Literal["encoded"] = "encoded"
    losses: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, if the file has them."""
        return self.columns.classes

    def identify(self) -> str:
        """Look at the files again."""
        return identify_files(self.files)

    def read_files(self, indices: Iterable[int]) -> Iterator[Content | StorageError]:
        """Read files one by one; in place of one that isn't there, yield the reason."""
        starts = np.array([group.start for group in self.groups])

        def find_group(index: int) -> Group:
            return self.groups[int(np.searchsorted(starts, index, "right")) - 1]

        for number, of_file in groupby(indices, lambda index: find_group(index).file):
            with _open_file(self.files[number]) as file:
                for group, of_group in groupby(of_file, find_group):
                    yield from self._read_group(file, group, of_group)

    def _read_group(self, file: Any, group: Group, indices: Iterable[int]) -> Iterator[Content | StorageError]:  # noqa: ANN401 - of pyarrow
        batches = _read_batches(file, group.number, [self.columns.image])
        values, first, end = [], group.start, group.start
        for index in indices:
            while index >= end:
                found = next(batches, None)
                if found is None:
                    problem = "a row group has fewer images than it should"
                    raise CorruptStoreError(problem, store=self.files[group.file])
                values = found[0]
                first, end = end, end + len(values)
            content = values[index - first].as_py()
            yield InvalidInputError("its content isn't in the file") if content is None else content


def read_parquet(root: Path, files: Sequence[Path]) -> ParquetSource:
    """Find the images of Parquet files with the same columns."""
    identity = identify_files(files)
    described = [_describe(path) for path in files]
    columns, _, schema = described[0]
    values: dict[str, list[Any]] = {name: [] for name in columns.described}
    groups, start = list[Group](), 0
    for number, (path, (_, rows, other)) in enumerate(zip(files, described, strict=True)):
        if other != schema:
            raise InvalidInputError(f"its columns aren't those of {files[0].name}", store=path)
        for place, count in enumerate(rows):
            groups.append(Group(number, place, start))
            start += count
        _read_values(path, columns, values)
    with describing(root, KIND):
        return _make_source(root, files, columns, groups, start, values, identity)


def list_shards(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Check that the files of a folder are the shards of one split, and that all are there."""
    found = [match for match in (SHARD.fullmatch(path.name) for path in files) if match]
    splits = Counter((match[1], int(match[3])) for match in found)
    if len(splits) > 1 or (splits and len(found) != len(files)):
        names = ", ".join(path.name for path in files)
        hint = "name one file, or a folder with the shards of one split; links to them will do"
        raise InvalidInputError(f"it has more than one split: {names:.300}", store=folder, hint=hint)
    for (split, count), number in splits.items():
        if number != count:
            raise InvalidInputError(f"it has {number} of the {count} shards of {split}", store=folder)
    return list(files)


def _make_source(
    root: Path,
    files: Sequence[Path],
    columns: Columns,
    groups: Sequence[Group],
    count: int,
    values: dict[str, list[Any]],
    identity: str,
) -> ParquetSource:
    if any(len(column) != count for column in values.values()):
        raise CorruptStoreError(f"a column hasn't {count:,} rows", store=root)
    labels = np.zeros(count, np.int64)
    if columns.label is not None:
        labels[:], classes = _make_labels(root, columns.label, values.pop(columns.label))
        columns = columns._replace(classes=classes or columns.classes)
    paths = values.pop(columns.path, None) if columns.path else None
    names = _make_names(paths)
    if names is None and paths and any(path is not None for path in paths):
        values.setdefault(PATH, paths)
    return ParquetSource(files, columns, groups, labels, names, identity, values or None)


def _make_labels(root: Path, column: str, found: list[Any]) -> tuple[list[int], tuple[str, ...]]:
    """Take integers as they are, and the distinct strings as the names of classes."""
    if None in found:
        raise InvalidInputError(f"row {found.index(None)} has no {column}", store=root)
    if not any(isinstance(label, str) for label in found):
        if any(label > LABEL_RANGE.max for label in found):
            problem = f"a {column} doesn't fit in 64 bits"
            raise InvalidInputError(problem, store=root, hint="give at most 2**63 - 1")
        return found, ()
    classes = sorted(set(found))
    if len(classes) > MAX_CLASSES:
        problem = f"its column {column} has {len(classes):,} distinct strings, more than {MAX_CLASSES:,} classes"
        raise InvalidInputError(problem, store=root, hint="write numbers, or name the column otherwise")
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[name] for name in found], tuple(classes)


def _make_names(paths: Sequence[Any] | None) -> Names | None:
    try:
        return Names.join(paths) if paths else None
    except InvalidInputError:  # not unique, not relative, or not there
        return None


def _describe(path: Path) -> tuple[Columns, list[int], Any]:
    """Find the columns of a file, how many rows its row groups have, and its schema."""
    with describing(path, KIND, TypeError), open_input(path) as file:
        groups, size = read_footer(file.fileno()), os.fstat(file.fileno()).st_size
    for group in groups:
        for chunk in group.chunks:
            if chunk.codec not in CODECS:
                problem = f"it is {KIND}, and a column is compressed by {chunk.codec}"
                raise InvalidInputError(problem, store=path, hint="write it again with compression='snappy', or 'none'")
            check_memory(path, chunk.packed + chunk.unpacked, size, "a row group of a column")
    rows = [group.rows for group in groups]
    with _open_file(path) as file:
        columns = _choose_columns(path, file.schema_arrow)
        check_memory(path, sum(rows) * VALUE * (1 + len(columns.described)), size, "the list of its rows")
        return columns, rows, file.schema_arrow.remove_metadata()


def _choose_columns(path: Path, schema: Any) -> Columns:  # noqa: ANN401 - of pyarrow
    from pyarrow import types  # noqa: PLC0415 - optional

    kinds = dict(zip(schema.names, schema.types, strict=True))
    inner = {name: {each.name: each.type for each in kind} for name, kind in kinds.items() if types.is_struct(kind)}
    _check_names(path, [*schema.names, *(f"{name}.{each}" for name, fields in inner.items() for each in fields)])
    structs = [name for name, fields in inner.items() if BYTES in fields and _is_binary(fields[BYTES])]
    files = structs or [name for name, kind in kinds.items() if _is_binary(kind)]
    simple = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
    others = [name for name in kinds if name not in files[:1]]
    if len(files) != 1 or not all(any(test(kinds[name]) for test in simple) for name in others):
        held = ", ".join(f"{name} {kind}" for name, kind in zip(schema.names, schema.types, strict=True))
        raise InvalidInputError(
            f"it is {KIND}, and its columns aren't one of image files beside numbers and strings: {held:.500}",
            store=path,
            hint="write it without the others: pyarrow.Table.drop_columns",
        )
    (image,) = files
    features = _read_features(schema.metadata)
    strings = [name for name in others if types.is_string(kinds[name]) or types.is_large_string(kinds[name])]
    integers = [name for name in others if types.is_integer(kinds[name])]
    named = [name for name in integers if name in features]
    chosen = [LABEL] if LABEL in {*integers, *strings} else named or (integers if len(integers) == 1 else [])
    label = chosen[0] if chosen else None
    return Columns(
        f"{image}.{BYTES}" if structs else image,
        f"{image}.{PATH}" if structs and kinds[image].get_field_index(PATH) >= 0 else None,
        label,
        tuple(name for name in others if name != label),
        features.get(label or "", ()),
    )


def _check_names(path: Path, names: Sequence[str]) -> None:
    ((name, count),) = Counter(names).most_common(1) or [("", 0)]
    if count > 1:
        raise InvalidInputError(f"it is {KIND}, and has {count} columns {name}", store=path, hint="rename all but one")


def _is_binary(kind: Any) -> bool:  # noqa: ANN401 - of pyarrow
    from pyarrow import types  # noqa: PLC0415 - optional

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _read_features(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Read the names of classes, by the columns that they belong to."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"].items()
        named = {name: feature["names"] for name, feature in features if feature.get("_type") == "ClassLabel"}
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        name: tuple(names)
        for name, names in named.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names)
    }


def _read_values(path: Path, columns: Columns, values: dict[str, list[Any]]) -> None:
    """Read the columns that describe images, as long as they aren't far larger than the file."""
    size, taken = path.stat().st_size, 0
    with _open_file(path) as file:
        for found in _read_batches(file, None, columns.described) if columns.described else ():
            for name, column in zip(columns.described, found, strict=True):
                taken += column.nbytes
                values[name] += column.to_pylist()
            check_memory(path, taken, size, "what describes the images")


def _read_batches(file: Any, group: int | None, names: Sequence[str]) -> Iterator[list[Any]]:  # noqa: ANN401 - of pyarrow
    """Decode a few rows of some columns at a time, of a row group or of all."""
    groups = range(file.metadata.num_row_groups) if group is None else [group]
    for batch in file.iter_batches(ROWS, groups, names, use_threads=False):
        yield [_find_column(batch, name) for name in names]


def _find_column(batch: Any, name: str) -> Any:  # noqa: ANN401 - of pyarrow
    if name in batch.schema.names:
        return batch.column(name)
    struct, _, inner = name.rpartition(".")
    column = batch.column(struct)
    return column.flatten()[column.type.get_field_index(inner)]


@contextmanager
def _open_file(path: Path) -> Iterator[Any]:
    with importing(path, KIND, "pyarrow"):
        import pyarrow as pa  # noqa: PLC0415 - optional
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - likewise
    with describing(path, KIND, pa.ArrowException, TypeError), open_input(path) as file, ParquetFile(file) as opened:
        yield opened
