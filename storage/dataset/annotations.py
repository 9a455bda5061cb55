"""What a caller says about images: labels, and if there are any, names, the names of classes, and metadata."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from xxhash import xxh3_64

from ..arrays import check_labels
from ..contract import Labels
from ..errors import InvalidInputError
from ..pictures import check_losses
from .details import Summary, check_texts
from .metadata import Columns, check_columns, find_kinds
from .names import Names


class Problem(NamedTuple):
    """A file of a source that isn't an image that can be used: its name, and why."""

    name: str
    reason: str


def format_problems(problems: Sequence[Problem]) -> bytes:
    """Write problems as JSON."""
    return json.dumps(problems).encode()


def parse_problems(content: bytes) -> tuple[Problem, ...]:
    """Read problems; raise ValueError for what `format_problems` never writes."""
    entries = json.loads(content)
    if not isinstance(entries, list) or not all(isinstance(entry, list) and len(entry) == 2 for entry in entries):  # noqa: PLR2004 - name and reason
        raise ValueError("problems that aren't pairs")
    for entry in entries:
        check_texts(entry)
    return tuple(Problem(*entry) for entry in entries)


@dataclass(frozen=True)
class Annotations:
    """What is known about some images, one entry each; what is None isn't known."""

    labels: Labels
    names: Names | None = None
    classes: tuple[str, ...] = ()  # the names of the labels 0, 1, ...
    metadata: Columns | None = None  # a table of columns, with a row per image
    skipped: tuple[Problem, ...] = ()  # what the source had besides
    losses: tuple[str, ...] = ()  # that decoding may cause, or has caused

    @classmethod
    def check(
        cls,
        labels: Labels,
        names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        metadata: Columns | None = None,
        losses: Iterable[str] = (),
    ) -> Self:
        """Refuse what isn't an annotation of images, or what has another length than the labels."""
        labels = check_labels(labels)
        joined = None if names is None else Names.join(_check_iterable("names", names))
        if joined is not None and len(joined) != len(labels):
            raise InvalidInputError(f"{len(joined)} names and {len(labels)} labels", hint="give each image one name")
        table = None if metadata is None else check_columns(metadata, len(labels))
        return cls(labels, joined, check_classes(classes or ()), table, losses=tuple(sorted(check_losses(losses))))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, start: int, stop: int) -> "Annotations":
        """Take those of some images that follow each other."""
        names = None if self.names is None else self.names[start:stop]
        table = self.metadata
        if table is not None:
            table = {name: values[start:stop] for name, values in table.items()}
        skipped = () if start else self.skipped  # kept beside the first part
        return Annotations(self.labels[start:stop], names, self.classes, table, skipped, self.losses)

    def summarize(self) -> Summary:
        """Say what an append must know."""
        max_label = int(self.labels.max()) if len(self.labels) else None
        return Summary(max_label, find_kinds(self.metadata or {}))

    def identify(self) -> str:
        """Hash everything but the classes."""
        digest = xxh3_64(np.ascontiguousarray(self.labels).data)
        if self.names is not None:
            digest.update(b"names")
            digest.update(self.names.content)
        if self.metadata is not None:
            digest.update(b"metadata")
            digest.update(json.dumps(self.metadata).encode())
        digest.update(json.dumps([self.skipped, self.losses]).encode())
        return digest.hexdigest()


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Refuse what aren't the names of classes."""
    hint = "give the names of the labels 0, 1, ... as distinct strings"
    classes = tuple(_check_iterable("classes", classes))
    try:
        check_texts(classes)
    except ValueError as error:
        raise InvalidInputError(f"classes have {error}", hint=hint) from None
    if len(set(classes)) != len(classes):
        raise InvalidInputError("two classes have one name", hint=hint)
    return classes


def _check_iterable(name: str, given: Any) -> Iterable[Any]:  # noqa: ANN401 - whatever a caller gives
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidInputError(f"{name} is a {type(given).__name__}", hint="give a sequence of strings")
    return given
