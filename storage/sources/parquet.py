"""Parquet files with a column of image files, as the Hugging Face hub writes them: one file, or a folder of shards.

`parquet_columns` says which columns are read, and `parquet_pages` what they may take. Paths are the names of the images
if they are names at all. Strings in the column of labels are the names of classes, in order.
"""

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
from numpy.typing import NDArray

from ..arrays import LABEL as LABEL_RANGE
from ..contract import Labels
from ..dataset.metadata import check_columns
from ..dataset.names import Names
from ..encoded import Content
from ..errors import CorruptStoreError, InvalidInputError, StorageError
from ..limits import check_memory
from ..parquet_footer import read_footer
from .base import Source
from .files import open_input
from .parquet_columns import KIND, PATH, Columns, choose_columns
from .parquet_pages import VALUE, check_described, weigh
from .pixels import describing, identify_files, importing

MAX_CLASSES = 4_096  # that are made of strings
SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.parquet")


class Group(NamedTuple):
    """A row group: the number of its file, its number there, its first row among all, and how many are read at once."""

    file: int
    number: int
    start: int
    together: int


@dataclass(frozen=True)
class Shard:
    """What is known about a file before any of its values is read."""

    columns: Columns
    kinds: Mapping[str, str]
    left_out: Mapping[str, str]
    groups: Sequence[tuple[int, int]]  # rows, and how many image files are decoded at once
    together: int  # rows of what describes the images


@dataclass(frozen=True)
class ParquetSource(Source):
    """Image files in Parquet files."""

    files: Sequence[Path]
    columns: Columns = field(repr=False)
    groups: Sequence[Group] = field(repr=False)
    labels: Labels = field(repr=False)
    names: Sequence[str] | None = field(repr=False)
    identity: str
    metadata: Mapping[str, Sequence[Any]] | None = field(repr=False)
    left_out: Mapping[str, str] = field(repr=False)  # columns that aren't read, and why
    unlabelled: Mapping[int, str] = field(repr=False)  # rows that can't be used, and why
    problems: tuple[()] = ()
    kind: Literal["encoded"] = "encoded"
    losses: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, if the file has them."""
        return self.columns.classes

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each row, on average."""
        size = sum(path.stat().st_size for path in self.files)
        return np.full(len(self.labels), size // max(1, len(self.labels)))

    def identify(self) -> str:
        """Look at the files again."""
        return identify_files(self.files)

    def list_left_out(self) -> Iterator[str]:
        """Say which columns aren't read, and why."""
        return (f"the column {name} is left out: {reason}" for name, reason in self.left_out.items())

    def read_files(self, indices: Iterable[int]) -> Iterator[Content | StorageError]:
        """Read files one by one; in place of one that isn't there, or has no label, yield the reason."""
        starts = np.array([group.start for group in self.groups])

        def find_group(index: int) -> Group:
            return self.groups[int(np.searchsorted(starts, index, "right")) - 1]

        for number, of_file in groupby(indices, lambda index: find_group(index).file):
            with _open_file(self.files[number]) as file:
                for group, of_group in groupby(of_file, find_group):
                    yield from self._read_group(file, group, of_group)

    def _read_group(self, file: Any, group: Group, indices: Iterable[int]) -> Iterator[Content | StorageError]:  # noqa: ANN401 - of pyarrow
        batches = _read_batches(file, group.number, [self.columns.image], group.together)
        values, first, end = [], group.start, group.start
        for index in indices:
            while index >= end:
                found = next(batches, None)
                if found is None:
                    problem = "a row group has fewer images than it should"
                    raise CorruptStoreError(problem, store=self.files[group.file])
                values = found[0]
                first, end = end, end + len(values)
            content, reason = values[index - first].as_py(), self.unlabelled.get(index)
            if content is None:
                reason = "its content isn't in the file"
            yield content if reason is None else InvalidInputError(reason)


def read_parquet(root: Path, files: Sequence[Path]) -> ParquetSource:
    """Find the images of Parquet files with the same columns."""
    identity = identify_files(files)
    shards = [_describe(path) for path in files]
    columns, left_out = _merge(files, shards)
    values: dict[str, list[Any]] = {name: [] for name in columns.described}
    groups, start = list[Group](), 0
    for number, (path, shard) in enumerate(zip(files, shards, strict=True)):
        for place, (count, together) in enumerate(shard.groups):
            groups.append(Group(number, place, start, together))
            start += count
        _read_values(path, columns, values, shard.together)
    with describing(root, KIND):
        return _make_source(root, files, columns, groups, start, values, identity, left_out)


def _merge(files: Sequence[Path], shards: Sequence[Shard]) -> tuple[Columns, dict[str, str]]:
    """Find the columns that can be read in all files, and why the others can't."""
    first = shards[0]
    left_out = {name: reason for shard in shards for name, reason in shard.left_out.items()}
    for path, shard in zip(files, shards, strict=True):
        if _identify(shard) != _identify(first):
            raise InvalidInputError(f"its columns aren't those of {files[0].name}", store=path)
        for name in {*first.columns.others, *shard.columns.others} - left_out.keys():
            if shard.kinds.get(name) != first.kinds.get(name):
                left_out[name] = "it isn't of one type in all files"
    others = tuple(name for name in first.columns.others if name not in left_out)
    named = None if first.columns.path in left_out else first.columns.path
    return first.columns._replace(others=others, path=named), left_out


def _identify(shard: Shard) -> tuple[Columns, str | None]:
    """Find what must be the same in all files."""
    return shard.columns._replace(others=()), shard.kinds.get(shard.columns.label or "")


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
    left_out: dict[str, str],
) -> ParquetSource:
    if any(len(column) != count for column in values.values()):
        raise CorruptStoreError(f"a column hasn't {count:,} rows", store=root)
    labels, unlabelled = np.zeros(count, np.int64), dict[int, str]()
    if columns.label is not None:
        labels[:], classes, unlabelled = _make_labels(root, columns.label, values.pop(columns.label))
        columns = columns._replace(classes=classes or columns.classes)
    paths = values.pop(columns.path, None) if columns.path else None
    names = _make_names(paths)
    for name in columns.others:
        try:
            check_columns({name: values[name]}, count)
        except InvalidInputError as error:  # a number of 64 bits without a sign, for one
            left_out[name] = error.problem
            del values[name]
    if names is None and paths and any(path is not None for path in paths):
        values.setdefault(PATH, paths)
    return ParquetSource(files, columns, groups, labels, names, identity, values or None, left_out, unlabelled)


def _make_labels(root: Path, column: str, found: list[Any]) -> tuple[list[int], tuple[str, ...], dict[int, str]]:
    """Take integers as they are, and the distinct strings as the names of classes; say why a row has no label."""
    wrong = {row: f"it has no {column}" for row, label in enumerate(found) if label is None}
    classes = sorted({label for label in found if isinstance(label, str)})
    if not classes:
        for row, label in enumerate(found):
            if row not in wrong and label > LABEL_RANGE.max:
                wrong[row] = f"its {column} doesn't fit in 64 bits"
        return [0 if row in wrong else label for row, label in enumerate(found)], (), wrong
    if len(classes) > MAX_CLASSES:
        problem = f"its column {column} has {len(classes):,} distinct strings, more than {MAX_CLASSES:,} classes"
        raise InvalidInputError(problem, store=root, hint="write numbers, or name the column otherwise")
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers.get(name, 0) for name in found], tuple(classes), wrong


def _make_names(paths: Sequence[Any] | None) -> Names | None:
    try:
        return Names.join(paths) if paths else None
    except InvalidInputError:  # not unique, not relative, or not there
        return None


def _describe(path: Path) -> Shard:
    """Find the columns of a file, and what reading them takes."""
    with describing(path, KIND, TypeError), open_input(path) as file:
        groups, size = read_footer(file.fileno()), os.fstat(file.fileno()).st_size
    with _open_file(path) as opened:
        columns, left_out = choose_columns(path, opened.schema_arrow)
        kinds = {field.name: str(field.type) for field in opened.schema_arrow}
    rows = sum(group.rows for group in groups)
    check_memory(path, rows * VALUE * (1 + len(columns.described)), size, "the list of its rows")
    with describing(path, KIND, TypeError), open_input(path) as file:
        images = [weigh(file.fileno(), group, columns.image) for group in groups]
        check_memory(path, max((weight.memory for weight in images), default=0), size, "a row group of its images")
        together = check_described(path, file.fileno(), groups, columns, left_out)
    return Shard(
        columns,
        kinds,
        left_out,
        [(group.rows, weight.together) for group, weight in zip(groups, images, strict=True)],
        together,
    )


def _read_values(path: Path, columns: Columns, values: dict[str, list[Any]], together: int) -> None:
    """Read the columns that describe images, as long as they aren't far larger than the file."""
    size, taken = path.stat().st_size, 0
    with _open_file(path) as file:
        for found in _read_batches(file, None, columns.described, together) if columns.described else ():
            taken += sum(column.nbytes for column in found)
            check_memory(path, taken, size, "what describes the images")
            for name, column in zip(columns.described, found, strict=True):
                values[name] += column.to_pylist()


def _read_batches(file: Any, group: int | None, names: Sequence[str], together: int) -> Iterator[list[Any]]:  # noqa: ANN401 - of pyarrow
    """Decode a few rows of some columns at a time, of a row group or of all."""
    groups = range(file.metadata.num_row_groups) if group is None else [group]
    for batch in file.iter_batches(together, groups, names, use_threads=False):
        yield [_find_column(batch, name) for name in names]


def _find_column(batch: Any, name: str) -> Any:  # noqa: ANN401 - of pyarrow
    if name in batch.schema.names:
        found = batch.column(name)
        return found.dictionary_decode() if hasattr(found, "dictionary_decode") else found
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
