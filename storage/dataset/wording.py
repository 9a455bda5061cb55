"""What a report says in words."""

from collections.abc import Iterator
from itertools import groupby

import storage.dataset.reading as datasets
from storage.dataset.files import CHECKSUMS
from storage.dataset.report import Report
from storage.errors import StorageError


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
    found = sorted(report.records.items())
    for (_, reason), run in groupby(enumerate(found), key=lambda each: (each[1][0] - each[0], each[1][1])):
        indices = [index for _, (index, _) in run]
        name = f"record {indices[0]}" if len(indices) == 1 else f"records {indices[0]} to {indices[-1]}"
        yield f"{name}: {reason}"


def _advise(report: Report) -> str:
    """Say how to save what is whole: as one, by parts where the dataset cannot be opened, or not at all."""
    path = str(report.path)
    if CHECKSUMS in report.files:
        return (
            f"nothing proves them: restore the dataset from a copy, or read them unproved: storage.load({path!r}, "
            "verify=False)"
        )
    if len(report.records) == report.count:
        return "restore the dataset from a copy"
    try:
        datasets.open(report.path).close()
    except StorageError:
        return (
            f"the dataset cannot be opened, but its parts are plain stores: `python -m storage convert {path}/part-N "
            f"DESTINATION --backend {report.backend}` saves one that holds none of these records"
        )
    return (
        f"save them elsewhere: report = storage.check({path!r}); reader = storage.open({path!r}); "
        "storage.save(DESTINATION, *reader.read([index for index in range(len(reader)) if index not in "
        "report.records]))"
    )
