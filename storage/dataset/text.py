"""What a report says in words."""

import shlex
from collections.abc import Iterator, Mapping
from itertools import groupby, pairwise

from ..errors import StorageError
from . import reading as datasets
from .files import CHECKSUMS
from .manifest import name_part, read_manifest
from .report import Report


def describe(report: Report) -> str:
    """Describe what was found in a dataset: what is damaged, a line each, and last what can be saved.

    Parameters
    ----------
    report : Report

    Returns
    -------
    str
        One line if all is whole.
    """
    images = f"{report.count:,} image{'' if report.count == 1 else 's'}"
    if report.is_whole:
        return f"{report.path}: whole, {images} in {report.backend}\n"
    last = f"{report.count - len(report.records):,} of {images} are whole; {_advise(report)}"
    return "".join(f"{line}\n" for line in (*report.files.values(), *_describe_records(report), last))


def _describe_records(report: Report) -> Iterator[str]:
    """Describe runs of records that have one reason."""
    for first, last, reason in _find_runs(report.records):
        name = f"record {first}" if first == last else f"records {first} to {last}"
        yield f"{name}: {reason}"


def _find_runs(reasons: Mapping[int, str]) -> Iterator[tuple[int, int, str]]:
    """Find runs of numbers that have one reason: the first number, the last, and the reason."""
    found = enumerate(sorted(reasons.items()))
    for (_, reason), run in groupby(found, key=lambda each: (each[1][0] - each[0], each[1][1])):
        numbers = [number for _, (number, _) in run]
        yield numbers[0], numbers[-1], reason


def _advise(report: Report) -> str:
    """Say how to save what is whole: as one, by parts where the dataset cannot be opened, or not at all."""
    path = str(report.path)
    if CHECKSUMS in report.files:
        return (
            "nothing proves them: restore the dataset from a copy, or read them unproved, in Python: import storage; "
            f"images, labels = storage.load({path!r}, verify=False)"
        )
    if len(report.records) == report.count:
        return "restore the dataset from a copy"
    try:
        datasets.open(report.path).close()
    except StorageError:
        starts = read_manifest(report.path).starts
        if any(report.records.keys() >= set(range(*ends)) for ends in pairwise(starts)):
            return f"the dataset cannot be opened, and {_advise_on_parts(report)}"
        return _advise_on_records(report, f"{path!r}, verify=False")  # a process of its own has read them already
    return _advise_on_records(report, repr(path))


def _advise_on_records(report: Report, arguments: str) -> str:
    """Say how to save the records that are whole."""
    return (
        f"save them elsewhere, in Python: import numpy, storage; reader = storage.open({arguments}); "
        f"whole = sorted({{*range(len(reader))}} - {{*storage.check({str(report.path)!r}).records}}); "
        "storage.save('DESTINATION', (reader[index][0][None] for index in whole), "
        f"numpy.array([reader[index][1] for index in whole]), {report.backend!r})"
    )


def _advise_on_parts(report: Report) -> str:
    """Say how to save the parts that are whole."""
    starts = read_manifest(report.path).starts
    damaged = report.records.keys()
    whole = [number for number, ends in enumerate(pairwise(starts)) if damaged.isdisjoint(range(*ends))]
    if not whole:
        return "none of its parts is whole: restore it from a copy"
    names = ", ".join(
        name_part(first) if first == last else f"{name_part(first)} to {name_part(last)}"
        for first, last, _ in _find_runs(dict.fromkeys(whole, ""))
    )
    part = shlex.quote(f"{report.path}/{name_part(whole[0])}")
    return f"whole are {names}, plain stores: python -m storage convert {part} DESTINATION --backend {report.backend}"
