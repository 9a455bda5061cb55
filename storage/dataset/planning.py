"""A conversion in parallel: ranges of images that are planned before any is read, and written in any order.

A range becomes a part, or several if its images are larger than the source tells. The plan depends on the source alone,
not on how many workers there are, so the parts of one that was stopped fit in.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest

from ..errors import InvalidInputError, StorageError
from ..registry import find_backend
from ..urls import Location
from .annotations import Annotations
from .details import Summary
from .manifest import Form, Manifest, Part
from .replacement import remove_unreferenced
from .writer import PART, DatasetWriter, ImageWriter, Writer, describe_failure

MIN_PART, MIN_RANGES = 16 << 20, 64  # bytes of an image set below which, and ranges up to which, parts are smaller


class Written(NamedTuple):
    """What a range of images became."""

    parts: tuple[Part, ...]
    form: Form


@dataclass(frozen=True)
class Job:
    """A range of images that is to be written, by any process that has the same folder or bucket."""

    number: int
    images: range
    annotations: Annotations  # of these images
    summary: Summary  # of all images
    is_last: bool  # of all ranges
    folder: Path | None  # where parts are written; None if each worker uploads its own
    path: Location  # of the dataset
    backend: str
    durable: bool


class RefusedError(StorageError):
    """An image isn't what was assumed when the ranges were planned, so nothing is kept of what was written."""


def plan_ranges(sizes: NDArray[np.int64]) -> list[range]:
    """Plan ranges of about equal bytes for images of these sizes: as large as parts are, or smaller in a small set."""
    total, ends = int(sizes.sum()), np.cumsum(sizes)
    largest = min(int(sizes.max(initial=0)), PART // 2)  # a range ends with the image that crosses a mark
    capacity = min(max(total // MIN_RANGES, MIN_PART), PART - largest)
    count = max(1, -(-total // capacity))
    marks = [int(np.searchsorted(ends, total * number // count)) + 1 for number in range(1, count)]
    stops = sorted({min(mark, len(sizes)) for mark in marks} | {len(sizes)})
    return [range(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def make_pending(number: int, images: range) -> Part:
    """Make what is in the place of a part that isn't written yet."""
    return Part(f"part-{number:05}-{0:08x}", len(images), f"{0:016x}", f"{0:016x}")


class RangeWriter(ImageWriter):
    """Writes the images of one range."""

    def __init__(self, job: Job, folder: Path) -> None:
        super().__init__(job.annotations, durable=job.durable)
        self._path, self._folder, self._summary = job.path, folder, job.summary
        self._module, self._manifest = find_backend(job.backend), Manifest(job.backend)
        self._first_part, self._first_image, self._is_last = job.number, job.images.start, job.is_last

    def write(self, batches: Any) -> Written:  # noqa: ANN401 - a generator, or an iterator
        """Write the images of the range; only the last one is read to the end, where a source may be verified."""
        count = len(self._annotations)
        for batch in batches:
            images = batch if self._is_last else batch[: count - self.done]
            (self.add if count else self.write_part)(images)
            if self.done == count and not self._is_last:
                break
        self._check_end()
        return Written(self._manifest.parts, self._manifest.form)


class RangesWriter(DatasetWriter):
    """Takes the parts of planned ranges in any order; those that an earlier writer took are kept, as its source is.

    What is published, and how, is a base class after this one.
    """

    _writes_here = True  # whether workers write into the folder of this writer

    def __init__(
        self,
        path: Location,
        annotations: Annotations,
        backend: str,
        *,
        ranges: Sequence[range],
        **options: Any,  # noqa: ANN401 - those of the base class
    ) -> None:
        super().__init__(path, annotations, backend, **options)  # type: ignore[call-arg,arg-type]
        self._ranges, self._written = ranges, dict[int, tuple[Part, ...]]()
        if self._manifest.source:
            stops = np.array([images.stop for images in ranges])
            self._manifest = replace(self._manifest, source=f"{self._manifest.source} {xxh3_64_hexdigest(stops.data)}")

    @property
    def finished(self) -> int:
        """The number of images in finished parts."""
        return sum(part.count for parts in self._written.values() for part in parts)

    def __enter__(self) -> Self:
        """Do what the base class does, and find out which ranges are written already."""
        super().__enter__()  # type: ignore[safe-super]
        self._written = self._find_written(self._manifest.parts) or {}
        return self

    def _find_written(self, parts: Sequence[Part]) -> dict[int, tuple[Part, ...]] | None:
        """Find the parts of each range that is written; None if they aren't those of these ranges."""
        written, rest = dict[int, tuple[Part, ...]](), iter(parts)
        for number, images in enumerate(self._ranges):
            found = [*islice(rest, 1)]
            count = sum(part.count for part in found)
            while count < len(images) and (part := next(rest, None)):
                found.append(part)
                count += part.count
            if count != len(images) or not found or (len(found) > 1 and any(part.is_pending for part in found)):
                return None
            if not found[0].is_pending:
                written[number] = tuple(found)
        return None if next(rest, None) else written

    def list_jobs(self) -> Iterator[Job]:
        """List the ranges that aren't written yet."""
        for number, images in enumerate(self._ranges):
            if number not in self._written:
                yield Job(
                    number,
                    images,
                    self._annotations.take(images.start, images.stop),
                    self._summary,
                    images.stop == len(self._annotations),
                    self._folder if self._writes_here else None,
                    self._path,
                    self._manifest.backend,
                    self._durable,
                )

    def insert(self, number: int, written: Written) -> None:
        """Take the parts of a range."""
        if self._written and written.form != self._manifest.form:
            raise InvalidInputError(f"images {self._ranges[number]} are of another size or kind than the others")
        self._written[number] = written.parts
        kind, shape, dtype = written.form
        groups = (
            self._written.get(place) or [make_pending(place, images)] for place, images in enumerate(self._ranges)
        )
        parts = tuple(chain.from_iterable(groups))
        self._manifest = replace(self._manifest, kind=kind, shape=shape, dtype=dtype, parts=parts)
        with describe_failure(self._path):
            self._note_progress()


class PlannedWriter(RangesWriter, Writer):
    """Publishes planned ranges in a folder, which the workers share."""

    def commit(self) -> None:
        """Publish the dataset, without what was left by workers that died."""
        with suppress(OSError):  # a worker that was thought to be dead may still write there
            remove_unreferenced(self._folder, self._manifest)
        super().commit()
