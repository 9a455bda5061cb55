"""Conversion of any source into a dataset; one that was interrupted resumes after its last finished part."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..contract import Encoded, Images, Kind, Labels
from ..encoded import Content
from ..errors import InvalidInputError, StorageError, UnfinishedConversionError
from ..urls import Location, Url
from .annotations import Annotations, Problem
from .metadata import Columns
from .planning import Job, PlannedWriter, RangesWriter, RefusedError, Written, plan_ranges
from .writer import DatasetWriter, make_writer

Write = Callable[[Iterable[Job]], Generator[tuple[int, Written]]]


class Described(Protocol):
    """What every source says about its images."""

    @property
    def labels(self) -> Labels:
        """Labels of all images, ndarray of int64, shape (N,)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ...; empty if the source has none."""

    @property
    def names(self) -> Sequence[str] | None:
        """Names of the images; None if the source has none."""

    @property
    def identity(self) -> str:
        """Changes if images or labels may have changed: made of checksums, or of file names, sizes and times."""

    @property
    def metadata(self) -> Columns | None:
        """A table of columns with a value per image; None if the source has none."""

    @property
    def losses(self) -> Iterable[str]:
        """What decoding may lose; see `storage.decode`."""

    @property
    def kind(self) -> Kind:
        """What is read: pixels, or image files."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """About how many bytes each image has in the source, shape (N,), found without reading any."""

    def list_left_out(self) -> Iterable[str]:
        """Say which columns or files aren't read, and why."""

    def close(self) -> None:
        """Close what reading keeps open, so that it can be replaced; nothing is read any more."""

    def check_in_place(self, destination: PurePath) -> None:
        """Refuse to replace the source if it was changed after it was opened."""

    def identify(self) -> str:
        """Compute the identity again, to find out whether the source changed while it was read."""


class FileSource(Described, Protocol):
    """Image files as they were found: none was decoded."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What was found besides that can't be read as a file, and why."""

    def read_files(self, indices: Iterable[int]) -> Iterator[Content | StorageError]:
        """Read files one by one, in increasing order; in place of one that can't be read, yield the reason.

        What has nothing to do with the file, such as too many open files, is raised.
        """


class ImageSource(Described, Protocol):
    """An image set that is read in order, starting at any image."""

    @property
    def skipped(self) -> Sequence[Problem]:
        """Files that are known not to be among the images, and why; the dataset keeps this list."""

    def read(self, start: int) -> Generator[Images | Encoded]:
        """Read batches of pixels or of image files, from image `start` on; an empty set yields one empty batch.

        It is closed if it isn't read to the end.
        """


def convert(
    source: ImageSource,
    destination: Location,
    backend: str,
    *,
    overwrite: bool,
    progress: Callable[[int, int], None],
    lock: bool = True,
    write: Write | None = None,
) -> int:
    """Save all images of a source; return how many an earlier conversion of the same source had finished.

    `progress` is called with the number of images done and of all, at the start and after each batch. An error before
    the first image is that of `storage.save`; after that, or if the source was changed meanwhile, it is
    `UnfinishedConversionError`. With `write`, which writes ranges of images elsewhere, the parts are those of
    `plan_ranges`; if it raises `RefusedError`, so does this, and nothing is kept.
    """
    count = len(source.labels)
    annotations = Annotations.check(source.labels, source.names, source.classes, source.metadata, source.losses)
    annotations = replace(annotations, skipped=tuple(source.skipped))
    make: Any = make_writer if write is None else _plan(source, destination)
    with make(
        destination, annotations, backend, durable=True, overwrite=overwrite, source=source.identity, lock=lock
    ) as writer:
        source.check_in_place(destination)
        finished: int = writer.done
        try:
            progress(finished, count)
            with closing(_add_batches(writer, source) if write is None else _add_ranges(writer, write)) as additions:
                for _ in additions:
                    progress(writer.done, count)
            source.close()
            is_changed = source.identify() != source.identity
            if not is_changed:
                writer.commit()
        except StorageError as error:
            if isinstance(error, RefusedError) or (isinstance(error, InvalidInputError) and not writer.done):
                raise  # the backend can't store such images
            raise _explain(error, writer) from error
        if is_changed:
            writer.abandon()
            problem = "nothing was saved, as the source was changed while it was read"
            hint = "end the program that writes to it, then convert it again, from the beginning"
            raise UnfinishedConversionError(problem, store=destination, hint=hint)
    return finished


def _plan(source: ImageSource, destination: Location) -> Callable[..., Any]:
    """Plan what several workers write."""
    ranges = plan_ranges(source.sizes)
    if not isinstance(destination, Url):
        return partial(PlannedWriter, ranges=ranges)
    from ..remote.writing import PlannedBucketWriter  # noqa: PLC0415 - needs obstore

    return partial(PlannedBucketWriter, ranges=ranges)


def _add_batches(writer: DatasetWriter, source: ImageSource) -> Generator[None]:
    """Write the images that an earlier writer hadn't written, one after the other."""
    add = writer.add if len(source.labels) else writer.write_part  # without images, the batch has their kind
    with closing(source.read(writer.done)) as batches:
        for batch in batches:
            add(batch)
            yield


def _add_ranges(writer: RangesWriter, write: Write) -> Generator[None]:
    """Have the ranges written that an earlier writer hadn't taken."""
    try:
        with closing(write(writer.list_jobs())) as results:
            for number, written in results:
                writer.insert(number, written)
                yield
    except RefusedError:
        writer.abandon()
        raise


def _explain(error: StorageError, writer: DatasetWriter) -> UnfinishedConversionError:
    """Add to an error how the conversion can be resumed."""
    hint = error.hint
    if writer.kept:
        advice = (
            f"{writer.kept:,} images are kept in {writer.keeps_in}; the same conversion "
            "resumes after them, unless its source was changed"
        )
        hint = f"{hint}; {advice}" if hint else advice
    return UnfinishedConversionError(error.problem, store=error.store, record=error.record, name=error.name, hint=hint)
