"""A check by the workers of a cluster: each inspects some parts of the dataset."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import NamedTuple, NoReturn

from ..dataset.opening import Dataset, hold_dataset
from ..dataset.report import Inspection, inspect_group
from ..errors import StorageError
from ..urls import Location
from .workers import Cluster, put_in_order


class InspectTask(NamedTuple):
    """Parts that are to be inspected."""

    path: Location
    checksum: str  # of the dataset
    group: range


class _IsolationError(Exception):
    """A part must be read in a process that may die, and a worker can't start one."""


def inspect_parts(task: InspectTask) -> Inspection | None:
    """Inspect parts in a worker; None if only the caller can."""
    with hold_dataset(task.path, fresh=True) as held:
        if held.manifest.checksum != task.checksum:
            raise StorageError("a worker finds another dataset there", store=task.path, hint="check it again")
        try:
            found = inspect_group(held, task.group, _refuse)
        except _IsolationError:
            return None
    return Inspection(found.damaged, found.unread, found.findings)


def _refuse(_: Dataset, __: int) -> NoReturn:
    raise _IsolationError


def inspect_elsewhere(cluster: Cluster, held: Dataset, groups: Sequence[range]) -> Generator[Inspection]:
    """Have groups of parts inspected, and inspect here what may kill a process."""
    tasks = ((number, InspectTask(held.path, held.manifest.checksum, group)) for number, group in enumerate(groups))
    with closing(put_in_order(cluster.run(inspect_parts, tasks))) as results:
        for group, found in zip(groups, results, strict=True):
            yield inspect_group(held, group) if found is None else found
