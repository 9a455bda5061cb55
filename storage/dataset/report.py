"""Finds what is damaged in a dataset, and advises how to save the rest."""

import faulthandler
import json
import multiprocessing
import os
import shlex
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import CorruptStoreError, StorageError
from ..registry import PACKAGE
from .files import CHECKSUMS, check_file, read_checksums
from .manifest import name_part, read_manifest
from .opening import Dataset, hold_dataset
from .reading import DatasetReader
from .verification import explain, find_damage

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
    """

    path: Path
    backend: str
    count: int
    files: Mapping[str, str]
    records: Reasons
    unread_files: Mapping[str, str] = field(default_factory=dict)
    unread_records: Reasons = field(default_factory=Reasons)

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
    >>> Path("photos/part-00000/00000001.png").unlink()
    >>> report = storage.check("photos")
    >>> sorted(report.files), sorted(report.records)
    (['part-00000/00000001.png'], [1])
    """
    with hold_dataset(path) as held:
        dataset, files, unread = held, *_check_files(held)
        try:
            with held.reading():
                dataset = replace(held, checksums=read_checksums(held.folder, held.manifest))
        except StorageError as error:
            (files if isinstance(error, CorruptStoreError) else unread)[CHECKSUMS] = str(error)
        findings = list(_check_parts(dataset, files, unread))
    damaged, hidden = (Reasons(found for found in findings if found.is_damage is kind) for kind in (True, False))
    return Report(dataset.path, dataset.manifest.backend, dataset.manifest.count, files, damaged, unread, hidden)


def _check_files(dataset: Dataset) -> tuple[dict[str, str], dict[str, str]]:
    """List the files that are damaged, and those that can't be read."""
    damaged: dict[str, str] = {}
    unread: dict[str, str] = {}
    for name in dataset.manifest.sizes:
        try:
            with dataset.reading():
                check_file(dataset.folder, dataset.manifest, name)
        except StorageError as error:
            (damaged if isinstance(error, CorruptStoreError) else unread)[name] = str(error)
    return damaged, unread


def _check_parts(dataset: Dataset, files: Mapping[str, str], unread: Mapping[str, str]) -> Iterator[Finding]:
    """Find what is wrong in each part. No library opens a part whose structure is damaged, or couldn't be verified."""
    structure = dataset.manifest.structure
    damaged, barred = (
        {name.partition("/")[0]: name for name in names if name in structure} for names in (files, unread)
    )
    for number, (start, stop) in enumerate(pairwise(dataset.manifest.starts)):
        part = name_part(number)
        if part in barred or CHECKSUMS in unread:
            yield Finding(start, stop, f"{barred.get(part, CHECKSUMS)} can't be read", is_damage=False)
        elif part in damaged and not dataset.checksums:
            yield Finding(start, stop, f"{damaged[part]} is damaged", is_damage=True)
        elif part in damaged:
            yield from find_damage_in_subprocess(dataset, number)
        else:
            found = _check_part(dataset, number)
            yield from found if dataset.checksums else _fill_gaps(found, start, stop)


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
    lines += [*_describe_records(report.records), *_describe_records(report.unread_records)]
    if report.outcome == "unreadable":
        hint = "correct permissions, end the other program or free memory, as the reasons say; then check again"
        return [*lines, f"{last}the others can't be read here and now, which isn't damage: {hint}"]
    first, *rest = _advise(report).split("\n")
    return [*lines, last + first, *rest]


def _describe_records(reasons: Reasons) -> Iterator[str]:
    for start, stop, reason in reasons.runs:
        name = f"record {start}" if stop == start + 1 else f"records {start} to {stop - 1}"
        yield f"{name}: {reason}"


def _advise(report: Report) -> str:
    """Say how to save what is whole: by records, by parts if the dataset can't be opened, or not at all."""
    path, verify = ascii(str(report.path)), ""
    if CHECKSUMS in report.files:
        return (
            "they cannot be verified: restore the dataset from a copy, or read them unverified, in Python "
            f"(import {PACKAGE}):\n"
            f"    images, labels = {PACKAGE}.load({path}, verify=False)"
        )
    if report.unread_records:
        return "first make the others readable, then check again; restore the damaged ones from a copy"
    if len(report.records) == report.count:
        return "restore the dataset from a copy"
    try:
        DatasetReader(report.path).close()
    except StorageError:
        starts = read_manifest(report.path).starts
        if any(report.records.count(start, stop) == stop - start for start, stop in pairwise(starts)):
            return f"the dataset cannot be opened, and {_advise_on_parts(report)}"
        verify = ", verify=False"  # the subprocess has read and verified the records that are whole
    return (
        f"save them elsewhere, in Python (import numpy, {PACKAGE}):\n"
        f"    reader = {PACKAGE}.open({path}{verify}); "
        f"whole = sorted({{*range(len(reader))}} - {{*{PACKAGE}.check({path}).records}})\n"
        f"    {PACKAGE}.save('DESTINATION', (reader[i][0][None] for i in whole), "
        f"numpy.array([reader[i][1] for i in whole]), {report.backend!r})"
    )


def _advise_on_parts(report: Report) -> str:
    ends = pairwise(read_manifest(report.path).starts)
    whole = [number for number, (start, stop) in enumerate(ends) if not report.records.count(start, stop)]
    if not whole:
        return "none of its parts is whole: restore it from a copy"
    runs = Reasons(Finding(number, number + 1, "", is_damage=True) for number in whole).runs
    names = ", ".join(
        name_part(start) if stop == start + 1 else f"{name_part(start)} to {name_part(stop - 1)}"
        for start, stop, _ in runs
    )
    part = shlex.quote(f"{report.path}/{name_part(whole[0])}")
    return f"whole are {names}, plain stores: python -m {PACKAGE} convert {part} DESTINATION --backend {report.backend}"
