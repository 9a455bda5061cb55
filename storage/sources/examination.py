"""Image files are examined before anything is written: one pass decodes all of them, and finds every problem."""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arrays
from ..arrays import CHANNELS, cut_indices
from ..contract import Encoded, Images, Kind, Labels
from ..dataset.annotations import Problem
from ..dataset.conversion import FileSource
from ..dataset.names import find_refused
from ..dataset.planning import RefusedError
from ..decoding import identify_decoders
from ..encoded import Content
from ..errors import CorruptStoreError, DecodingError, InvalidInputError, StorageError
from ..pictures import Size
from .archives import SECOND
from .folder import UNCLASSED
from .payload import Payload
from .threads import map_in_threads
from .tree import order_naturally

MAX_REASONS = 20  # that are counted one by one
AHEAD = 4  # batches that wait to be stored
HINTS = {  # of problems that were found in a listing
    UNCLASSED: "move it into one, or choose --class-depth",
    SECOND: "if it is an image of its own, unpack the archive and name the folder",
}


@dataclass(frozen=True)
class ExaminedSource:
    """The files of a source that can be used, as they will be stored."""

    source: FileSource
    payload: Payload
    kept: NDArray[np.intp] = field(repr=False)
    problems: tuple[Problem, ...] = field(repr=False)  # of the others
    hints: Mapping[str, str] = field(repr=False)  # by the reason of a problem
    size: Size  # of all images, if they are pixels
    threads: int | None = None  # that decode; see `map_in_threads`

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each image that is kept: of pixels, or of its file."""
        if self.kind == "pixels":
            return np.full(len(self.kept), self.size.height * self.size.width * CHANNELS)
        return self.source.sizes[self.kept]

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
        """The identity of the source, and what becomes of its files by which libraries."""
        return f"{self.source.identity} {self._making}"

    def list_left_out(self) -> Iterable[str]:
        """Say what the source leaves out."""
        return self.source.list_left_out()

    def close(self) -> None:
        """Close the source."""
        self.source.close()

    def check_in_place(self, destination: PurePath) -> None:
        """Refuse to replace the source if it was changed after it was opened."""
        self.source.check_in_place(destination)

    def identify(self) -> str:
        """Look at the source again."""
        return f"{self.source.identify()} {self._making}"

    @property
    def _making(self) -> str:
        return str(self.payload) if self.payload.is_copy else f"{self.payload} {identify_decoders()}"

    def _take(self, values: Any) -> list[Any]:  # noqa: ANN401 - a sequence of anything
        return [values[index] for index in self.kept.tolist()]

    def read(self, start: int) -> Generator[Images | Encoded]:
        """Read batches of 8 MiB."""
        return self._read_pixels(start) if self.kind == "pixels" else self._read_encoded(start)

    def _read_pixels(self, start: int) -> Generator[Images]:
        ahead = max(1, AHEAD * arrays.BATCH_BYTES // (self.size.height * self.size.width * CHANNELS))
        with closing(self._make(start, self.payload.decode, ahead)) as decoded:
            for indices in cut_indices(start, len(self.kept), *self.size):
                images = np.empty((len(indices), *self.size, CHANNELS), np.uint8)
                for image in images:
                    image[...] = next(decoded)
                yield images
        if not len(self.kept):
            yield np.empty((0, *self.size, CHANNELS), np.uint8)

    def _read_encoded(self, start: int) -> Generator[Encoded]:
        batch, size = list[Content](), 0
        with closing(self._make(start, self.payload.make_file)) as files:
            for file in files:
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
        threads = 0 if self.payload.is_copy else self.threads
        with closing(map_in_threads(attempt, files, ahead, threads)) as made:
            for index, result in zip(kept, made, strict=True):
                if isinstance(result, StorageError):
                    hint = "another program is changing the source"
                    raise CorruptStoreError(result.problem, store=name_file(self.source, index), hint=hint) from result
                yield result


class AssumedSource(ExaminedSource):
    """Files that weren't examined yet: each is when it is read, and one that can't be used ends the reading."""

    def _make(self, start: int, function: Callable[[Content], Any], ahead: int | None = None) -> Generator[Any]:  # noqa: ARG002
        files = self.source.read_files(self.kept[start:].tolist())
        with closing(map_in_threads(_Attempt(self.payload.examine_and_make), files, ahead, self.threads)) as results:
            for made in results:
                if isinstance(made, StorageError) or (self.kind == "pixels" and made.shape[:2] != self.size):
                    raise RefusedError("a file can't be used")
                yield made


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


def assume(source: FileSource, payload: Payload, check_names: Callable[[Sequence[str]], None]) -> AssumedSource | None:
    """Assume that all files can be used, and have the size of the first one; None if it is known that they can't."""
    count, size = len(source.labels), payload.size
    if not count or source.problems or find_refused(source.names or (), check_names):
        return None
    if payload.kind == "pixels" and size is None:
        (found,) = attempt_all(source, payload, range(1))
        if isinstance(found, StorageError):
            return None
        size = found
    return AssumedSource(source, payload, np.arange(count), (), {}, size or Size(0, 0))


def attempt_all(
    source: FileSource, payload: Payload, files: range | None = None, threads: int | None = None
) -> Generator[Size | StorageError]:
    """Decode files, by default all; yield the size of each, or what is wrong with it."""
    contents = source.read_files(range(len(source.labels)) if files is None else files)
    return map_in_threads(_Attempt(payload.examine), contents, threads=threads)


def examine(
    source: FileSource,
    payload: Payload,
    progress: Callable[[int, int], None],
    check_names: Callable[[Sequence[str]], None] = lambda _: None,
    attempt: Callable[[FileSource, Payload], Generator[Size | StorageError]] = attempt_all,
) -> ExaminedSource:
    """Decode all files of a source; `progress` is called with how many are done, and the number of all.

    `check_names` is that of the backend: an image whose name it refuses can't be used either. Nor can one that has
    another size than most, if pixels aren't scaled. `attempt` decodes files as `attempt_all` does.
    """
    count, problems = len(source.labels), list(source.problems)
    kept, hints = list[int](), dict(HINTS)
    refused = find_refused(source.names or (), check_names)
    examined = list[Size | StorageError]()
    progress(0, count)
    with closing(attempt(source, payload)) as results:
        for index, made in enumerate(results):
            examined.append(refused.get(index, made))
            progress(index + 1, count)
    size = payload.size or _find_usual_size(examined)
    if payload.kind == "pixels" and not (count or problems or payload.size):
        raise InvalidInputError("it has no images that show a size", hint="give one with --size=HxW")
    for index, found in enumerate(examined):
        problem = _compare(found, size) if payload.kind == "pixels" else found
        if isinstance(problem, StorageError):
            problems.append(Problem(name_file(source, index), problem.problem))
            hints[problem.problem] = problem.hint
        else:
            kept.append(index)
    problems.sort(key=lambda problem: [order_naturally(part) for part in problem.name.split("/")])
    return ExaminedSource(source, payload, np.array(kept, np.intp), tuple(problems), hints, size)


def _find_usual_size(examined: Iterable[Size | StorageError]) -> Size:
    """Find the size that most images have, of several such the first."""
    counts = Counter(found for found in examined if isinstance(found, Size))
    return max(counts, key=counts.__getitem__, default=Size(0, 0))


def _compare(found: Size | StorageError, usual: Size) -> Size | StorageError:
    """Make an error of another size than the usual one."""
    if found == usual or isinstance(found, StorageError):
        return found
    return InvalidInputError(
        f"it has {found.height} x {found.width} pixels (height x width), and most have {usual.height} x {usual.width}",
        hint="scale all to one size with --size=HxW, or keep them as files with --payload=encoded",
    )


def name_file(source: FileSource, index: int) -> str:
    """Name a file for a message."""
    return f"image {index}" if source.names is None else source.names[index]


def describe_problems(source: ExaminedSource) -> list[str]:
    """List all problems in lines, then count them by their reasons."""
    lines = [f"{problem.name}: {problem.reason}" for problem in source.problems]
    counts = Counter(problem.reason for problem in source.problems)
    lines.append(f"{len(source.problems):,} of {source.count:,} files can't be used:")
    said: str | None = None
    for reason, count in counts.most_common(MAX_REASONS):
        hint = source.hints.get(reason)
        advice = f": {hint}" if hint and hint != said else ""  # once for what differs in a number alone
        lines.append(f"  {count:,} {'file' if count == 1 else 'files'}: {reason}{advice}")
        said = hint
    rest = len(counts) - MAX_REASONS
    return [*lines, f"  the others for {rest:,} other reasons"] if rest > 0 else lines
