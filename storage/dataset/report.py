"""Finds what is damaged in a dataset, and advises how to save the rest."""

import faulthandler
import json
import multiprocessing
import os
import shlex
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple

from ..contract import Kind
from ..errors import CorruptStoreError, StorageError
from ..registry import PACKAGE
from .details import Details
from .files import (
    CHECKSUMS,
    DETAILS,
    NAMES,
    PartChecksums,
    check_file,
    find_group,
    name_checksums,
    read_checksums,
    read_details,
)
from .metadata import ARROW, LINES
from .names import Names
from .opening import Dataset, hold_dataset
from .verification import explain, find_damage, rebuild_checksums

Outcome = Literal["whole", "damaged", "unreadable"]

UNVERIFIED = "it can be read, but not verified: the checksums are damaged"
LOST = "it cannot be read: the process that tried crashed or hung"
TIMEOUT, TIMEOUT_PER_RECORD = 60.0, 0.001  # seconds


class Finding(NamedTuple):
    """Why the records from `start` to before `stop` aren't what was saved or, if that isn't damage, can't be read."""

    start: int
    stop: int
    reason: str
    is_damage: bool


class Reasons(Mapping[int, str]):
    """Reasons by the index of a record. A run with one reason takes the memory of one record, however long it is."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self.runs: list[tuple[int, int, str]] = []
        for start, stop, reason, _ in findings:
            is_longer = self.runs and self.runs[-1][1:] == (start, reason)
            self.runs.append((self.runs.pop()[0] if is_longer else start, stop, reason))
        self._totals = list(accumulate((stop - start for start, stop, _ in self.runs), initial=0))

    def count(self, start: int, stop: int) -> int:
        """Count the records from `start` to before `stop`."""
        return self._count_before(stop) - self._count_before(start)

    def _count_before(self, index: int) -> int:
        number = bisect_left(self.runs, (index,))  # of the runs that start before it
        return (
            self._totals[number - 1] + min(index, self.runs[number - 1][1]) - self.runs[number - 1][0] if number else 0
        )

    def __getitem__(self, index: int) -> str:
        """Return the reason of a record."""
        if not self.count(index, index + 1):
            raise KeyError(index)
        return self.runs[bisect_left(self.runs, (index + 1,)) - 1][2]

    def __iter__(self) -> Iterator[int]:
        """Return the indices, in order."""
        return (index for start, stop, _ in self.runs for index in range(start, stop))

    def __len__(self) -> int:
        """Count the records."""
        return self._totals[-1]

    def __repr__(self) -> str:
        """Show the runs."""
        return repr({range(start, stop): reason for start, stop, reason in self.runs})


@dataclass(frozen=True)
class Report:
    """The result of `check`.

    Attributes
    ----------
    path : Path
    backend : str
    count : int
        How many images were saved.
    files : mapping of str to str
        What is wrong with a damaged file, by its path below the dataset.
    records : mapping of int to str
        What is wrong with a damaged record, by its index.
    unread_files, unread_records : mapping
        Why a file or a record couldn't be read here and now, though it may be whole: permissions, another program's
        lock, a failing disk, too little memory. All other records can be read, and are what was saved.
    names : sequence of str
        The names of all images; empty if they have none, or these can't be read.
    kind : {"pixels", "encoded"}
    """

    path: Path
    backend: str
    count: int
    files: Mapping[str, str]
    records: Reasons
    unread_files: Mapping[str, str] = field(default_factory=dict)
    unread_records: Reasons = field(default_factory=Reasons)
    names: Sequence[str] = ()
    kind: Kind = "pixels"

    @property
    def outcome(self) -> Outcome:
        """``damaged`` if any damage was found, else ``unreadable`` if anything couldn't be read, else ``whole``."""
        if self.files or self.records:
            return "damaged"
        return "unreadable" if self.unread_files or self.unread_records else "whole"

    @property
    def is_whole(self) -> bool:
        """Whether everything was read, and is what was saved."""
        return self.outcome == "whole"


def check(path: Path | str) -> Report:
    """Read all of a dataset, and list what is not what was saved, and what couldn't be read.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote.

    Returns
    -------
    Report

    Raises
    ------
    StoreNotFoundError
        There is no dataset at `path`.
    CorruptStoreError
        Its manifest is damaged, so the rest cannot be checked.
    StorageError
        Its backend is not here, or the operating system refused to read the manifest.

    Examples
    --------
    >>> import numpy as np
    >>> import storage
    >>> storage.save("photos", np.zeros((3, 32, 32, 3), np.uint8), np.array([7, 0, 7]), "png")
    >>> storage.check("photos").is_whole
    True
    >>> next(Path("photos").glob("*/00000001.png")).unlink()
    >>> report = storage.check("photos")
    >>> len(report.files), sorted(report.records)
    (1, [1])
    """
    with hold_dataset(path) as held:
        return inspect(held)[0]


def inspect(held: Dataset) -> tuple[Report, Dataset]:
    """Check a held dataset; return also what could be read of its details and checksums."""
    files = _FileReport(held)
    dataset = replace(held, details=files.read_details())
    dataset = replace(dataset, checksums=files.read_checksums())
    dataset = replace(dataset, checksums={**files.rebuild_checksums(dataset), **dataset.checksums})
    findings = list(_check_parts(dataset, files))
    names = files.read_names(dataset)
    records, unread = (Reasons(found for found in findings if found.is_damage is kind) for kind in (True, False))
    manifest = dataset.manifest
    counts = dataset.path, manifest.backend, manifest.count
    return Report(*counts, files.damaged, records, files.unread, unread, names, manifest.kind), dataset


class _FileReport:
    """Which files of a dataset are damaged, and which can't be read."""

    def __init__(self, held: Dataset) -> None:
        self._held = held
        self.damaged: dict[str, str] = {}
        self.unread: dict[str, str] = {}
        self._details: dict[int, Details] = {}

    def read_details(self) -> dict[int, Details]:
        """Read the details of all parts, and check all files that they list but the checksums."""
        for number, part in enumerate(self._held.manifest.parts):
            with self._noting(f"{part.name}.{DETAILS}"):
                self._details[number] = read_details(self._held.folder, self._held.manifest, number)
        for number, details in self._details.items():
            part = self._held.manifest.parts[number]
            for name in details.sizes:
                with self._noting(f"{part.name}/{name}"):
                    check_file(self._held.folder, part.name, details, name)
            for suffix in details.beside.keys() - {CHECKSUMS}:
                with self._noting(f"{part.name}.{suffix}"):
                    self._held.read_beside(number, details, suffix)
        return self._details

    def read_checksums(self) -> dict[int, PartChecksums]:
        """Read the checksums of all parts."""
        found: dict[int, PartChecksums] = {}
        for number in range(len(self._held.manifest.parts)):
            group = find_group(self._held.manifest, number)
            if number == group.start and number in self._details:
                with self._noting(name_checksums(self._held.manifest, group.start)):
                    details = self._details[group.start]
                    found |= read_checksums(self._held.folder, self._held.manifest, group, details)
        return found

    def rebuild_checksums(self, dataset: Dataset) -> dict[int, PartChecksums]:
        """Compute the checksums of parts whose file of them is damaged: the manifest has their sum."""
        found: dict[int, PartChecksums] = {}
        for number in self._details.keys() - dataset.checksums.keys():
            if not (self.find_barrier(self.damaged, number) or self.find_barrier(self.unread, number)):
                with suppress(StorageError):  # it is found again where its records are checked
                    found[number] = rebuild_checksums(dataset, number)
        return found

    def read_names(self, dataset: Dataset) -> Sequence[str]:
        """Read the names of all images; note names and tables of parts that don't fit together."""
        names: list[Names] = []
        number, last = len(self._held.manifest.parts) - 1, self._held.manifest.parts[-1].name
        reads = (
            ((NAMES,), lambda: names.append(dataset.read_names() or Names())),
            ((ARROW, LINES), dataset.read_metadata),
        )
        for suffixes, read in reads:
            is_noted = any(name.endswith(suffixes) for name in (*self.damaged, *self.unread))
            if not is_noted and len(self._details) == number + 1:
                found = [suffix for suffix in suffixes if suffix in self._details[number].beside]
                with self._noting(f"{last}.{(*found, *suffixes)[0]}"):
                    read()
        return names[0] if names else ()

    def find_barrier(self, names: Mapping[str, str], number: int) -> str | None:
        """Find a file in the way of a part: one without which no library may open it."""
        part = self._held.manifest.parts[number].name
        if f"{part}.{DETAILS}" in names:
            return f"{part}.{DETAILS}"
        structure = self._details[number].structure if number in self._details else ()
        return next((f"{part}/{name}" for name in structure if f"{part}/{name}" in names), None)

    @contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        try:
            with self._held.reading():
                yield
        except StorageError as error:
            (self.damaged if isinstance(error, CorruptStoreError) else self.unread)[name] = str(error)


def _check_parts(dataset: Dataset, files: _FileReport) -> Iterator[Finding]:
    """Find what is wrong in each part. No library opens a part whose structure is damaged, or couldn't be verified."""
    for number, (start, stop) in enumerate(pairwise(dataset.manifest.starts)):
        unread, damaged = (files.find_barrier(names, number) for names in (files.unread, files.damaged))
        checksums = name_checksums(dataset.manifest, number)
        if unread is None and checksums in files.unread:
            unread = checksums
        if unread is not None:
            yield Finding(start, stop, f"{unread} can't be read", is_damage=False)
        elif damaged is not None and number not in dataset.checksums:
            yield Finding(start, stop, f"{damaged} is damaged", is_damage=True)
        elif damaged is not None:
            yield from find_damage_in_subprocess(dataset, number)
        else:
            found = _check_part(dataset, number)
            yield from found if number in dataset.checksums else _fill_gaps(found, start, stop)


def _check_part(dataset: Dataset, number: int) -> list[Finding]:
    start, stop = dataset.manifest.starts[number : number + 2]
    try:
        return [_describe_error(dataset, index, index + 1, error) for index, error in find_damage(dataset, number)]
    except StorageError as error:
        return [_describe_error(dataset, start, stop, error)]


def _describe_error(dataset: Dataset, start: int, stop: int, error: StorageError) -> Finding:
    return Finding(start, stop, explain(dataset.path, error), isinstance(error, CorruptStoreError))


def _fill_gaps(findings: Iterable[Finding], start: int, stop: int) -> Iterator[Finding]:
    """Add the records that can be read, but not verified."""
    for found in (*findings, Finding(stop, stop, "", is_damage=True)):
        if start < found.start:
            yield Finding(start, found.start, UNVERIFIED, is_damage=True)
        if found.start < found.stop:
            yield found
        start = found.stop


def find_damage_in_subprocess(dataset: Dataset, number: int) -> list[Finding]:
    """Find the damaged records of a part in a process that may crash or hang: libraries trust a file's structure."""
    start, stop = dataset.manifest.starts[number : number + 2]
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send_damage, args=(dataset, number, sender))
    process.start()
    sender.close()
    try:
        answer = receiver.recv_bytes() if receiver.poll(TIMEOUT + (stop - start) * TIMEOUT_PER_RECORD) else b"null"
    except EOFError:
        answer = b"null"
    finally:
        receiver.close()
        process.kill()
        process.join()
    found = json.loads(answer)
    return [Finding(start, stop, LOST, is_damage=True)] if found is None else [Finding(*each) for each in found]


def _send_damage(dataset: Dataset, number: int, sender: Connection) -> None:
    """Send what is wrong with the records of a part."""
    faulthandler.disable()
    sender.send_bytes(json.dumps(_check_part(dataset, number)).encode())
    os._exit(0)


def describe(report: Report) -> list[str]:
    """Describe a report in lines: one for each thing that is damaged or unread, then how to save the rest."""
    images = f"{report.count:,} image{'' if report.count == 1 else 's'}"
    if report.is_whole:
        return [f"{report.path}: whole, {images} in {report.backend}"]
    whole = report.count - len(report.records) - len(report.unread_records)
    last = f"{whole:,} of {images} are whole; "
    lines = [*report.files.values(), *report.unread_files.values()]
    for reasons in (report.records, report.unread_records):
        lines += [f"{what}: {reason}" for what, reason in describe_records(reasons, report.names)]
    if report.outcome == "unreadable":
        hint = "correct permissions, end the other program or free memory, as the reasons say; then check again"
        return [*lines, f"{last}the others can't be read here and now, which isn't damage: {hint}"]
    return [*lines, last + _advise(report)]


def describe_records(reasons: Reasons, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name each run of records, and say what is wrong with it."""
    for start, stop, reason in reasons.runs:
        record, last = f"record {start}", stop - 1
        if stop > start + 1:
            record = f"records {start} to {last}"
        if names:
            record += f" ({names[start]})" if stop == start + 1 else f" ({names[start]} to {names[last]})"
        yield record, reason


def _advise(report: Report) -> str:
    """Say how to save what is whole, and what can be read but not verified."""
    if report.unread_records or report.unread_files:
        return "first make the others readable, then check again; restore the damaged ones from a copy"
    command = f"python -m {PACKAGE} recover {shlex.quote(str(report.path))} DESTINATION"
    unverified = sum(stop - start for start, stop, reason in report.records.runs if reason == UNVERIFIED)
    if len(report.records) < report.count:
        more = f"; with --unverified, also {unverified:,} that can be read, but not verified" if unverified else ""
        return f"save them with all that is known about them{more}: {command}"
    if unverified:
        return f"restore the dataset from a copy, or save what can't be verified: {command} --unverified"
    return "restore the dataset from a copy"
