"""A conversion by the workers of a cluster: each opens the source once, examines files, and writes parts.

Where it isn't known that some files can't be used, a worker examines and writes a range at once, so that each image is
decoded once; the first file that can't be used ends this, and then all are examined.
"""

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from ..dataset.conversion import Described, FileSource, ImageSource
from ..dataset.planning import Job, RangeWriter, Written, plan_ranges
from ..decoding import identify_decoders
from ..errors import StorageError
from ..pictures import Size
from ..sources.examination import ExaminedSource, attempt_all
from ..sources.opening import StoreSource, open_source
from ..sources.payload import Payload
from ..urls import Location
from .workers import Cluster, put_in_order

_opened: dict["Origin", tuple[Any, ExitStack]] = {}  # sources, in a worker


@dataclass(frozen=True)
class Origin:
    """Where workers find the source, and how they see that it is the same."""

    path: Location
    class_depth: int | None
    identity: str
    decoders: str  # the libraries that make pixels of files
    may_be_plain: bool  # a plain store

    def open(self) -> Any:  # noqa: ANN401 - an ImageSource or a FileSource
        """Open the source, once in each process."""
        if self not in _opened:
            close_sources()
            with ExitStack() as stack:
                source = stack.enter_context(self._open())
                if source.identity != self.identity or self.decoders not in {"", identify_decoders()}:
                    problem = "a worker finds something else there, or has other libraries to decode it"
                    hint = "give all workers the same files and libraries; end what changes them"
                    raise StorageError(problem, store=self.path, hint=hint)
                _opened[self] = source, stack.pop_all()
        return _opened[self][0]

    def _open(self) -> AbstractContextManager[Any]:
        return open_source(self.path, self.class_depth, may_be_plain=self.may_be_plain)


def close_sources() -> None:
    """Close what this process opened."""
    while _opened:
        _opened.popitem()[1][1].close()


class ExamineTask(NamedTuple):
    """Files that are to be examined."""

    origin: Origin
    payload: Payload
    files: range


class WriteTask(NamedTuple):
    """A range that is to be written: of the source as it is, or of `files` of it, which are without their source."""

    origin: Origin
    job: Job
    files: ExaminedSource | None


def examine_files(task: ExamineTask) -> list[Size | StorageError]:
    """Examine files in a worker."""
    return list(attempt_all(task.origin.open(), task.payload, task.files, threads=0))


def write_range(task: WriteTask) -> Written:
    """Write a range in a worker."""
    source = task.origin.open()
    files = task.files
    batches: Any = source.read(task.job.images.start) if files is None else replace(files, source=source).read(0)
    with closing(batches):
        if task.job.folder is not None:
            return RangeWriter(task.job, task.job.folder).write(batches)
        from ..remote.writing import BucketRangeWriter  # noqa: PLC0415 - needs obstore

        with BucketRangeWriter.open(task.job) as writer:
            return writer.write(batches)


class Workers(NamedTuple):
    """Has the work done for a source at a path."""

    cluster: Cluster
    path: Location
    class_depth: int | None

    def attempt(self, source: FileSource, payload: Payload) -> Generator[Size | StorageError]:
        """Decode all files; see `attempt_all`."""
        origin = self._find_origin(source, payload)
        tasks = ((place, ExamineTask(origin, payload, found)) for place, found in enumerate(plan_ranges(source.sizes)))
        with closing(put_in_order(self.cluster.run(examine_files, tasks))) as results:
            for examined in results:
                yield from examined

    def write(self, source: ImageSource, jobs: Iterable[Job]) -> Generator[tuple[int, Written]]:
        """Write ranges."""
        if isinstance(source, ExaminedSource):
            origin = self._find_origin(source.source, source.payload)
        else:
            origin = self._find_origin(source, None)
        tasks = ((job.number, WriteTask(origin, job, _cut(source, job.images))) for job in jobs)
        yield from self.cluster.run(write_range, tasks)
        self.cluster.call(close_sources)  # so that a dataset can be replaced

    def _find_origin(self, source: Described, payload: Payload | None) -> Origin:
        decoders = "" if payload is None else identify_decoders()
        path = self.path.absolute() if isinstance(self.path, Path) else self.path
        return Origin(path, self.class_depth, source.identity, decoders, isinstance(source, StoreSource))


def _cut(source: ImageSource, images: range) -> ExaminedSource | None:
    """Take the files of a range, without their source; None if it is stored as it is."""
    if not isinstance(source, ExaminedSource):
        return None
    kept = source.kept[images.start : images.stop]
    return replace(source, source=cast("FileSource", None), kept=kept, problems=(), hints={}, threads=0)
