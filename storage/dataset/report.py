"""Finds what is damaged in a dataset, and advises how to save the rest."""

import faulthandler
import json
import multiprocessing
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from multiprocessing.connection import Connection
from pathlib import Path

from ..errors import CorruptStoreError, StorageError
from ..registry import PACKAGE
from .files import CHECKSUMS, check_file, read_checksums
from .manifest import name_part, read_manifest
from .opening import Dataset, hold_dataset
from .reading import DatasetReader
from .verification import explain, find_damage

UNVERIFIED = "it can be read, but not verified: the checksums are damaged"
LOST = "it cannot be read: the process that tried crashed or hung"
TIMEOUT, TIMEOUT_PER_RECORD = 60.0, 0.001  # seconds


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
        What is wrong with a file, by its path below the dataset.
    records : mapping of int to str
        What is wrong with a record, by its index; all others can be read, and are what was saved.
    """

    path: Path
    backend: str
    count: int
    files: Mapping[str, str]
    records: Mapping[int, str]

    @property
    def is_whole(self) -> bool:
        """Whether everything is what was saved."""
        return not self.files and not self.records


def check(path: Path | str) -> Report:
    """Read all of a dataset, and list what is not what was saved.

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
        Its backend is not here, or the operating system refused.

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
        files, dataset = _check_files(held), held
        try:
            with held.reading():
                dataset = replace(held, checksums=read_checksums(held.folder, held.manifest))
        except CorruptStoreError as error:
            files[CHECKSUMS] = str(error)
        records: dict[int, str] = {}
        for number in range(len(dataset.manifest.parts)):
            records.update(_check_part(dataset, number, files))
    return Report(dataset.path, dataset.manifest.backend, dataset.manifest.count, files, records)


def _check_files(dataset: Dataset) -> dict[str, str]:
    files = {}
    for name in dataset.manifest.sizes:
        try:
            with dataset.reading():
                check_file(dataset.folder, dataset.manifest, name)
        except StorageError as error:
            files[name] = str(error)
    return files


def _check_part(dataset: Dataset, number: int, files: Mapping[str, str]) -> dict[int, str]:
    """List the damaged records of a part; if its structure is damaged, read it in a subprocess."""
    starts = dataset.manifest.starts
    records = range(starts[number], starts[number + 1])
    prefix = f"{name_part(number)}/"
    damaged = [name for name in files if name in dataset.manifest.structure and name.startswith(prefix)]
    if damaged and not dataset.checksums:
        return dict.fromkeys(records, f"{damaged[0]} is damaged")
    if damaged:
        return find_damage_in_subprocess(dataset, number)
    try:
        found = {index: explain(dataset.path, error) for index, error in find_damage(dataset, number)}
    except StorageError as error:
        return dict.fromkeys(records, explain(dataset.path, error))
    return found if dataset.checksums else {**dict.fromkeys(records, UNVERIFIED), **found}


def find_damage_in_subprocess(dataset: Dataset, number: int) -> dict[int, str]:
    """Find the damaged records of a part in a process that may crash or hang: libraries trust a file's structure."""
    start, count = dataset.manifest.starts[number], dataset.manifest.parts[number]
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send_damage, args=(dataset, number, sender))
    process.start()
    sender.close()
    try:
        answer = receiver.recv_bytes() if receiver.poll(TIMEOUT + count * TIMEOUT_PER_RECORD) else b"null"
    except EOFError:
        answer = b"null"
    finally:
        receiver.close()
        process.kill()
        process.join()
    found = json.loads(answer)
    if isinstance(found, list):
        return dict(found)
    return dict.fromkeys(range(start, start + count), found or LOST)


def _send_damage(dataset: Dataset, number: int, sender: Connection) -> None:
    """Send a list of what is damaged, or the reason why nothing can be read."""
    faulthandler.disable()
    answer: object
    try:
        answer = [(index, explain(dataset.path, error)) for index, error in find_damage(dataset, number)]
    except StorageError as error:
        answer = explain(dataset.path, error)
    sender.send_bytes(json.dumps(answer).encode())
    os._exit(0)


def describe(report: Report) -> str:
    """Describe a report in text: a line for each thing that is damaged, then how to save the rest."""
    images = f"{report.count:,} image{'' if report.count == 1 else 's'}"
    if report.is_whole:
        return f"{report.path}: whole, {images} in {report.backend}\n"
    last = f"{report.count - len(report.records):,} of {images} are whole; {_advise(report)}"
    return "".join(f"{line}\n" for line in (*report.files.values(), *_describe_records(report), last))


def _describe_records(report: Report) -> Iterator[str]:
    for first, last, reason in _find_runs(report.records):
        name = f"record {first}" if first == last else f"records {first} to {last}"
        yield f"{name}: {reason}"


def _find_runs(reasons: Mapping[int, str]) -> Iterator[tuple[int, int, str]]:
    """Find runs of numbers with the same reason: the first number, the last, and the reason."""
    found = enumerate(sorted(reasons.items()))
    for (_, reason), run in groupby(found, key=lambda each: (each[1][0] - each[0], each[1][1])):
        numbers = [number for _, (number, _) in run]
        yield numbers[0], numbers[-1], reason


def _advise(report: Report) -> str:
    """Say how to save what is whole: by records, by parts if the dataset can't be opened, or not at all."""
    path, verify = repr(str(report.path)), ""
    if CHECKSUMS in report.files:
        return (
            "they cannot be verified: restore the dataset from a copy, or read them unverified, in Python "
            f"(import {PACKAGE}):\n"
            f"    images, labels = {PACKAGE}.load({path}, verify=False)"
        )
    if len(report.records) == report.count:
        return "restore the dataset from a copy"
    try:
        DatasetReader(report.path).close()
    except StorageError:
        if any(report.records.keys() >= set(range(*ends)) for ends in pairwise(read_manifest(report.path).starts)):
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
    damaged = report.records.keys()
    ends = pairwise(read_manifest(report.path).starts)
    whole = [number for number, (start, end) in enumerate(ends) if damaged.isdisjoint(range(start, end))]
    if not whole:
        return "none of its parts is whole: restore it from a copy"
    names = ", ".join(
        name_part(first) if first == last else f"{name_part(first)} to {name_part(last)}"
        for first, last, _ in _find_runs(dict.fromkeys(whole, ""))
    )
    part = shlex.quote(f"{report.path}/{name_part(whole[0])}")
    return f"whole are {names}, plain stores: python -m {PACKAGE} convert {part} DESTINATION --backend {report.backend}"
