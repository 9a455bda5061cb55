"""Finds what is damaged in a dataset, and advises how to save the rest."""

import faulthandler
import json
import multiprocessing
import os
import shlex
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple

from ..contract import Kind
from ..errors import CorruptStoreError, StorageError, StoreNotFoundError
from ..registry import PACKAGE
from ..urls import Location
from .details import Details
from .files import (
    CHECKSUMS,
    DETAILS,
    NAMES,
    PartChecksums,
    check_file,
    find_group,
    name_checksums,
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

    path: Location
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


def check(path: Location | str) -> Report:
    """Read all of a dataset, and list what is not what was saved, and what couldn't be read.

    Parameters
    ----------
    path : Path or str
        A dataset that `storage.save` wrote, or its URL, such as s3://bucket/photos: then the bucket is read, not the
        cache.

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
    >>> from pathlib import Path
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
    return check_shared(path, None)


def check_shared(path: Location | str, share: "Share | None") -> Report:
    """Do what `check` does; `share` has groups of parts inspected elsewhere."""
    with hold_dataset(path, fresh=True) as held:
        return inspect(held, share)[0]


@dataclass(frozen=True)
class Inspection:
    """What was found in some parts, and as far as they could be read, their details and checksums."""

    damaged: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    details: dict[int, Details] = field(default_factory=dict)
    checksums: dict[int, PartChecksums] = field(default_factory=dict)

    def add(self, other: "Inspection") -> None:
        """Add what was found in the next parts."""
        self.findings.extend(other.findings)
        for name in ("damaged", "unread", "details", "checksums"):
            getattr(self, name).update(getattr(other, name))

    @contextmanager
    def noting(self, held: Dataset, name: str) -> Iterator[None]:
        """Note what is wrong with a file."""
        try:
            with held.reading():
                yield
        except StorageError as error:
            (self.damaged if isinstance(error, CorruptStoreError) else self.unread)[name] = str(error)


Share = Callable[[Dataset, Sequence[range]], Generator[Inspection]]  # of groups of parts, in their order


def inspect(held: Dataset, share: Share | None = None) -> tuple[Report, Dataset]:
    """Check a held dataset; return also what could be read of its details and checksums."""
    manifest, found = held.manifest, Inspection()
    groups = dict.fromkeys(find_group(manifest, number) for number in range(len(manifest.parts)))
    with closing((share or _inspect_here)(held, list(groups))) as inspections:
        for each in inspections:
            found.add(each)
    details: Mapping[int, Details] = held.make_lazy(verify=True).details if share else found.details
    dataset = replace(held, details=details, checksums=found.checksums)
    names = _read_names(dataset, found)
    records, unread = (Reasons(each for each in found.findings if each.is_damage is kind) for kind in (True, False))
    counts = dataset.path, manifest.backend, manifest.count
    return Report(*counts, found.damaged, records, found.unread, unread, names, manifest.kind), dataset


def _inspect_here(held: Dataset, groups: Sequence[range]) -> Generator[Inspection]:
    return (inspect_group(held, group) for group in groups)


def inspect_group(
    held: Dataset, group: range, isolate: Callable[[Dataset, int], Iterable[Finding]] | None = None
) -> Inspection:
    """Check parts whose checksums are in one file; `isolate` reads one that may crash or hang the process."""
    with ExitStack() as stack:
        return _inspect_group(held, group, isolate or find_damage_in_subprocess, stack)


def _inspect_group(
    held: Dataset, group: range, isolate: Callable[[Dataset, int], Iterable[Finding]], stack: ExitStack
) -> Inspection:
    found = Inspection()
    for number in group:
        with found.noting(held, f"{held.manifest.parts[number].name}.{DETAILS}"):
            found.details[number] = held.read_details(number)
    for number, details in found.details.items():
        with found.noting(held, held.manifest.parts[number].name):  # of what can't be fetched, nothing is here
            stack.enter_context(held.origin.hold(number, held))
            _check_files(held, number, details, found)
        _check_beside(held, number, details, found)
    if group.start in found.details:
        with found.noting(held, name_checksums(held.manifest, group.start)):
            found.checksums.update(replace(held, details=found.details).read_checksums(group))
    dataset = replace(held, details=found.details, checksums=found.checksums)
    for number in sorted(found.details.keys() - found.checksums.keys()):
        if not (_find_barrier(dataset, number, found.damaged) or _find_barrier(dataset, number, found.unread)):
            with suppress(StorageError):  # it is found again where its records are checked
                found.checksums[number] = rebuild_checksums(dataset, number)
    for number in group:
        found.findings.extend(_check_part_or_file(dataset, number, found, isolate))
    return found


def _check_files(held: Dataset, number: int, details: Details, found: Inspection) -> None:
    """Check all files of the store of a part that its details list."""
    part = held.manifest.parts[number].name
    for name in details.sizes:
        with found.noting(held, f"{part}/{name}"):
            check_file(held.folder, part, details, name)


def _check_beside(held: Dataset, number: int, details: Details, found: Inspection) -> None:
    """Check all files beside a part that its details list, but the checksums."""
    part = held.manifest.parts[number].name
    for suffix in details.beside.keys() - {CHECKSUMS}:
        with found.noting(held, f"{part}.{suffix}"):
            held.read_beside(number, details, suffix)


def _read_names(dataset: Dataset, found: Inspection) -> Sequence[str]:
    """Read the names of all images; note names and tables of parts that don't fit together."""
    names: list[Names] = []
    parts, last = dataset.manifest.parts, len(dataset.manifest.parts) - 1
    noted = {*found.damaged, *found.unread}
    if not noted.isdisjoint(f"{part.name}.{DETAILS}" for part in parts):
        return ()
    reads = (
        ((NAMES,), lambda: names.append(dataset.read_names() or Names())),
        ((ARROW, LINES), dataset.read_metadata),
    )
    for suffixes, read in reads:
        if not any(name.endswith(suffixes) for name in noted):
            suffix = next((each for each in suffixes if each in dataset.details[last].beside), suffixes[0])
            with found.noting(dataset, f"{parts[last].name}.{suffix}"):
                read()
    return names[0] if names else ()


def _find_barrier(dataset: Dataset, number: int, names: Mapping[str, str]) -> str | None:
    """Find a file in the way of a part: one without which no library may open it."""
    part = dataset.manifest.parts[number].name
    for name in (f"{part}.{DETAILS}", part):
        if name in names:
            return name
    structure = dataset.details[number].structure if number in dataset.details else ()
    return next((f"{part}/{name}" for name in structure if f"{part}/{name}" in names), None)


def _check_part_or_file(
    dataset: Dataset, number: int, found: Inspection, isolate: Callable[[Dataset, int], Iterable[Finding]]
) -> Iterable[Finding]:
    """Find what is wrong in a part. No library opens one whose structure is damaged, or couldn't be verified."""
    start, stop = dataset.manifest.starts[number : number + 2]
    unread, damaged = (_find_barrier(dataset, number, names) for names in (found.unread, found.damaged))
    checksums = name_checksums(dataset.manifest, number)
    if unread is None and checksums in found.unread:
        unread = checksums
    if unread is not None:
        return [Finding(start, stop, f"{unread} can't be read", is_damage=False)]
    if damaged is not None and number not in dataset.checksums:
        return [Finding(start, stop, f"{damaged} is damaged", is_damage=True)]
    if damaged is not None:
        return isolate(dataset, number)
    findings = _check_part(dataset, number)
    return findings if number in dataset.checksums else _fill_gaps(findings, start, stop)


def _check_part(dataset: Dataset, number: int) -> list[Finding]:
    start, stop = dataset.manifest.starts[number : number + 2]
    try:
        return [_describe_error(dataset, index, index + 1, error) for index, error in find_damage(dataset, number)]
    except StorageError as error:
        return [_describe_error(dataset, start, stop, error)]


def _describe_error(dataset: Dataset, start: int, stop: int, error: StorageError) -> Finding:
    is_damage = isinstance(error, CorruptStoreError | StoreNotFoundError)  # a part that isn't there is no dataset's
    return Finding(start, stop, explain(dataset.path, error), is_damage)


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
