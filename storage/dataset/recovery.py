"""Recovery: what is whole of a damaged dataset is saved as a new one, with all that is known about it."""

from collections.abc import Generator
from contextlib import closing, suppress
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import cut_batches
from ..contract import Encoded, Images, Labels
from ..errors import CorruptStoreError, StorageError
from ..reader import read_stored
from ..urls import Location
from .annotations import Annotations, Problem
from .checksums import hash_records
from .files import LABELS, NAMES, SKIPPED
from .metadata import ARROW, LINES, check_columns
from .names import END, Names
from .opening import Dataset, hold_dataset
from .report import UNVERIFIED, Report, describe_records, inspect
from .verification import CHANGED, measure_images, name_record
from .writer import make_writer

LOST = "lost-names"  # the folder in names that are made up


def recover(path: Location | str, destination: Location, *, unverified: bool = False) -> int:
    """Save the records that are whole, and if `unverified`, those that can't be verified; return how many these are.

    What is lost of the names gets new ones, and what is lost of the metadata is None. The new dataset keeps a list of
    all that was damaged.
    """
    with hold_dataset(path, fresh=True) as held:
        report, dataset = inspect(held)
        if report.unread_files or report.unread_records:
            reason = next(iter((*report.unread_files.values(), *report.unread_records.values())))
            raise StorageError(f"not all of it can be read here ({reason})", store=held.path, hint="correct that first")
        kept = _choose(report, unverified=unverified)
        if not len(kept):
            raise CorruptStoreError("none of its images is whole", store=held.path, hint="restore it from a copy")
        parts = _Parts(dataset, report, kept)
        with make_writer(destination, parts.describe(), report.backend, durable=True, overwrite=False) as writer:
            with closing(parts.read()) as batches:
                for images in batches:
                    writer.add(images)
            writer.commit()
    return len(kept)


def _choose(report: Report, *, unverified: bool) -> NDArray[np.intp]:
    is_kept = np.ones(report.count, np.bool_)
    for start, stop, reason in report.records.runs:
        is_kept[start:stop] = unverified and reason == UNVERIFIED
    return np.flatnonzero(is_kept)


class _Parts:
    """The parts of a damaged dataset, and which of their records are kept."""

    def __init__(self, dataset: Dataset, report: Report, kept: NDArray[np.intp]) -> None:
        self._dataset, self._report = dataset, report
        starts = pairwise(dataset.manifest.starts)
        ranges = ((start, kept[np.searchsorted(kept, start) : np.searchsorted(kept, stop)]) for start, stop in starts)
        self._positions = {number: indices - start for number, (start, indices) in enumerate(ranges) if len(indices)}

    def describe(self) -> Annotations:
        """Collect what is known about the records that are kept."""
        self._labels = {number: self._read_labels(number) for number in self._positions}
        problems = [Problem(*each) for each in describe_records(self._report.records, self._report.names)]
        problems += [Problem(name, reason) for name, reason in self._report.files.items()]
        skipped = [problem for number in self._dataset.details for problem in self._read(number, SKIPPED) or ()]
        manifest = self._dataset.manifest
        return Annotations(
            np.concatenate(list(self._labels.values())),
            self._collect_names(),
            manifest.classes,
            self._collect_metadata(),
            (*skipped, *problems),
            manifest.losses,
        )

    def _read(self, number: int, *suffixes: str) -> Any:  # noqa: ANN401 - what is in the file
        """Read a file beside a part; None if there is none, or if it is damaged."""
        details = self._dataset.details[number]
        for suffix in details.beside.keys() & {*suffixes}:
            with suppress(CorruptStoreError), self._dataset.reading():
                return self._dataset.read_beside(number, details, suffix)
        return None

    def _read_labels(self, number: int) -> Labels:
        """Read labels from the file beside a part or, if that is damaged, from the part; images verify them."""
        content = self._read(number, LABELS)
        if content is not None:
            return np.frombuffer(content, "<i8").astype(np.int64)[self._positions[number]]
        with self._dataset.hold_part(number) as part, self._dataset.module.open_reader(part) as reader:
            return reader.read_labels()[self._positions[number]]

    def _collect_names(self) -> Names | None:
        if not any(NAMES in details.beside for details in self._dataset.details.values()):
            return None
        found: dict[bytes, None] = {}
        for number, positions in self._positions.items():
            names, start = self._read(number, NAMES), self._dataset.manifest.starts[number]
            encoded = None if names is None else names.split()
            for position in positions.tolist():
                lost = f"{LOST}/{start + position:08}".encode()
                name = lost if encoded is None or encoded[position] in found else encoded[position]
                while name in found:  # an earlier recovery may have made up the same one
                    name += b"+"
                found[name] = None
        return Names.parse(b"".join(name + END for name in found))

    def _collect_metadata(self) -> dict[str, list[Any]] | None:
        tables = {number: self._read(number, ARROW, LINES) for number in self._positions}
        columns = dict.fromkeys(name for table in tables.values() for name in table or {})
        if all(table is None for table in tables.values()):
            return None
        collected: dict[str, list[Any]] = {name: [] for name in columns}
        for number, positions in self._positions.items():
            for name, values in collected.items():
                column = (tables[number] or {}).get(name)
                values += [None if column is None else column[position] for position in positions.tolist()]
        return check_columns(collected, sum(map(len, self._positions.values())))

    def read(self) -> Generator[Images | Encoded]:
        """Read the records that are kept, each verified again if it can be."""
        for number, positions in self._positions.items():
            checksums, start = self._dataset.checksums.get(number), self._dataset.manifest.starts[number]
            with self._dataset.hold_part(number) as part, self._dataset.module.open_reader(part) as reader:
                for batch in cut_batches(0, len(positions), measure_images(self._dataset, number)):
                    some, labels = positions[batch], self._labels[number][batch]
                    images, _ = read_stored(reader, some)
                    if checksums is not None:
                        wrong = hash_records(images, labels, start + some) != checksums.records[some]
                        if wrong.any():
                            raise name_record(self._dataset, start + int(some[wrong.argmax()]), CHANGED)
                    yield images
