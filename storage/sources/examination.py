"""Image files are examined before anything is written: one pass decodes all of them, and finds every problem."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arrays
from ..arrays import CHANNELS, cut_indices
from ..contract import Encoded, Images, Kind, Labels
from ..dataset.annotations import Problem
from ..dataset.conversion import FileSource
from ..dataset.names import find_refused
from ..encoded import Content
from ..errors import CorruptStoreError, DecodingError, InvalidInputError, StorageError
from ..pictures import Size
from .folder import UNCLASSED
from .payload import Payload
from .threads import map_in_threads
from .tree import order_naturally

MAX_REASONS = 20  # that are counted one by one
AHEAD = 4  # batches that wait to be stored


@dataclass(frozen=True)
class ExaminedSource:
    """The files of a source that can be used, as they will be stored."""

    source: FileSource
    payload: Payload
    kept: NDArray[np.intp] = field(repr=False)
    problems: tuple[Problem, ...] = field(repr=False)  # of the others
    hints: Mapping[str, str] = field(repr=False)  # by the reason of a problem
    sizes: Mapping[Size, int] = field(repr=False)  # of the images, each with the index of the first file that has it

    @property
    def count(self) -> int:
        """How many files there are, whether they can be used or not."""
        return len(self.kept) + len(self.problems)

    @property
    def kind(self) -> Kind:
        """What is stored."""
        return self.payload.kind

    @property
    def skipped(self) -> Sequence[Problem]:
        """What a dataset lacks already, then what can't be used."""
        return (*getattr(self.source, "skipped", ()), *self.problems)

    @property
    def losses(self) -> Sequence[str]:
        """What decoding may lose."""
        return self.payload.losses

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the source, also those of which no file is left."""
        return self.source.classes

    @property
    def labels(self) -> Labels:
        """The labels of the files that are kept."""
        return self.source.labels[self.kept]

    @property
    def names(self) -> Sequence[str] | None:
        """The names of the files that are kept."""
        return None if self.source.names is None else self._take(self.source.names)

    @property
    def metadata(self) -> Mapping[str, Sequence[Any]] | None:
        """The rows of the files that are kept."""
        if self.source.metadata is None:
            return None
        return {name: self._take(values) for name, values in self.source.metadata.items()}

    @property
    def identity(self) -> str:
        """The identity of the source, and what becomes of its files."""
        return f"{self.source.identity} {self.payload}"

    def identify(self) -> str:
        """Look at the source again."""
        return f"{self.source.identify()} {self.payload}"

    def _take(self, values: Any) -> list[Any]:  # noqa: ANN401 - a sequence of anything
        return [values[index] for index in self.kept.tolist()]

    def read(self, start: int) -> Iterator[Images | Encoded]:
        """Read batches of 8 MiB."""
        return self._read_pixels(start) if self.kind == "pixels" else self._read_encoded(start)

    def _read_pixels(self, start: int) -> Iterator[Images]:
        size = self.payload.size or next(iter(self.sizes))
        ahead = max(1, AHEAD * arrays.BATCH_BYTES // (size.height * size.width * CHANNELS))
        with closing(self._make(start, self.payload.decode, ahead)) as decoded:
            for indices in cut_indices(start, len(self.kept), *size):
                images = np.empty((len(indices), *size, CHANNELS), np.uint8)
                for image in images:
                    image[...] = next(decoded)
                yield images
        if not len(self.kept):
            yield np.empty((0, *size, CHANNELS), np.uint8)

    def _read_encoded(self, start: int) -> Iterator[Encoded]:
        batch, size = list[Content](), 0
        for file in self._make(start, self.payload.make_file):
            batch.append(file)
            size += len(file)
            if size >= arrays.BATCH_BYTES:
                yield Encoded.join(batch)
                batch, size = [], 0
        if batch or not len(self.kept):
            yield Encoded.join(batch)

    def _make(self, start: int, function: Callable[[Content], Any], ahead: int | None = None) -> Generator[Any]:
        """Read files and make something of each; they could be read before, so an error means that they changed."""
        kept = self.kept[start:].tolist()
        attempt, files = _Attempt(function), self.source.read_files(kept)
        made = map(attempt, files) if self.payload.is_copy else map_in_threads(attempt, files, ahead)
        for index, result in zip(kept, made, strict=True):
            if isinstance(result, StorageError):
                hint = "another program is changing the source"
                raise CorruptStoreError(result.problem, store=name_file(self.source, index), hint=hint) from result
            yield result


@dataclass(frozen=True)
class _Attempt:
    """Calls a function with a file; where it can't be read or decoded, the result is the error."""

    function: Callable[[Content], Any]

    def __call__(self, content: Content | StorageError) -> Any:  # noqa: ANN401 - whatever the function returns
        if isinstance(content, StorageError):
            return content
        try:
            return self.function(content)
        except DecodingError as error:
            return error


def examine(
    source: FileSource,
    payload: Payload,
    progress: Callable[[int, int], None],
    check_names: Callable[[Sequence[str]], None] = lambda _: None,
) -> ExaminedSource:
    """Decode all files of a source; `progress` is called with how many are done, and the number of all.

    `check_names` is that of the backend: an image whose name it refuses can't be used either.
    """
    count, problems = len(source.labels), list(source.problems)
    kept, sizes, hints = list[int](), dict[Size, int](), {UNCLASSED: "move it into one, or choose --class-depth"}
    refused = find_refused(source.names or (), check_names)
    progress(0, count)
    for index, made in enumerate(map_in_threads(_Attempt(payload.examine), source.read_files(range(count)))):
        found = refused.get(index, made)
        if isinstance(found, StorageError):
            problems.append(Problem(name_file(source, index), found.problem))
            hints[found.problem] = found.hint
        else:
            kept.append(index)
            sizes.setdefault(found, index)
        progress(index + 1, count)
    problems.sort(key=lambda problem: [order_naturally(part) for part in problem.name.split("/")])
    return ExaminedSource(source, payload, np.array(kept, np.intp), tuple(problems), hints, sizes)


def check_sizes(source: ExaminedSource) -> None:
    """Refuse pixels of different sizes, or of none."""
    if source.kind != "pixels" or source.payload.size is not None:
        return
    if not source.count:
        raise InvalidInputError("it has no images that show a size", hint="give one with --size=HxW")
    if len(source.sizes) > 1:
        (one, first), (size, other) = list(source.sizes.items())[:2]
        sizes = f"{size.height} x {size.width} pixels (height x width)"
        problem = f"it has {sizes}, and {name_file(source.source, first)} has {one.height} x {one.width}"
        hint = "scale all images to one size with --size=HxW, or keep them as files with --payload=encoded"
        raise InvalidInputError(problem, store=name_file(source.source, other), hint=hint)


def name_file(source: FileSource, index: int) -> str:
    """Name a file for a message."""
    return f"image {index}" if source.names is None else source.names[index]


def describe_problems(source: ExaminedSource) -> list[str]:
    """List all problems in lines, then count them by their reasons."""
    lines = [f"{problem.name}: {problem.reason}" for problem in source.problems]
    counts = Counter(problem.reason for problem in source.problems)
    lines.append(f"{len(source.problems):,} of {source.count:,} files can't be used:")
    for reason, count in counts.most_common(MAX_REASONS):
        hint = source.hints.get(reason)
        lines.append(f"  {count:,} {'file' if count == 1 else 'files'}: {reason}{f': {hint}' if hint else ''}")
    rest = len(counts) - MAX_REASONS
    return [*lines, f"  the others for {rest:,} other reasons"] if rest > 0 else lines
