"""The measurements of the gate: pairs of sessions, and recordings of them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from reports.errors import WrongInputError
from reports.files import append_file, read_file
from reports.reading import RANGES

SideName = Literal["baseline", "candidate"]
Seconds = Mapping[str, float]  # of a call, by cell


@dataclass(frozen=True)
class Session:
    """The measurements of one process, by cell: median seconds, threshold, backend, why it wasn't measured."""

    seconds: Seconds
    thresholds: Mapping[str, float] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


class Pair(NamedTuple):
    """Two sessions, seconds apart, one of each side."""

    baseline: Session
    candidate: Session


class Recording(NamedTuple):
    """Pairs of sessions of the same cells, under one background load: seconds of the baseline, of the candidate."""

    load: str
    pairs: tuple[tuple[Seconds, Seconds], ...]


def write_pair(path: Path, load: str, pair: Pair) -> None:
    """Append the seconds of a pair to a recording, as one line of JSON."""
    line = {"condition": load, "base": dict(pair.baseline.seconds), "new": dict(pair.candidate.seconds)}
    append_file(path, json.dumps(line) + "\n")


def read_recordings(path: Path) -> list[Recording]:
    """Read recorded pairs, one recording for each background load; pairs of suspects alone are left out."""
    found: dict[str, list[tuple[Seconds, Seconds]]] = {}
    for load, base, new in _parse(path):
        found.setdefault(load, []).append((base, new))
    if not found:
        raise WrongInputError(f"{path} is empty; name a file that --record wrote")
    recordings = []
    for load, pairs in found.items():
        most = max((base for base, _ in pairs), key=len).keys()
        whole = tuple((base, new) for base, new in pairs if base.keys() == new.keys() == most)
        if not whole:
            raise WrongInputError(
                f"{path}: no pair has the same cells on both sides; record one storage against itself"
            )
        recordings.append(Recording(load, whole))
    return recordings


def _parse(path: Path) -> Iterator[tuple[str, Seconds, Seconds]]:
    try:
        for line in read_file(path).decode().splitlines():
            fields = json.loads(line)
            yield str(fields["condition"]), _check_seconds(fields["base"]), _check_seconds(fields["new"])
    except OSError as problem:
        raise WrongInputError(
            f"{path} can't be read ({problem.strerror}); name a file that --record wrote"
        ) from problem
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise WrongInputError(f"{path} isn't a recording; name a file that --record wrote") from problem


def _check_seconds(times: Mapping[str, object]) -> Seconds:
    low, high = RANGES[float]
    checked = {cell: each for cell, each in times.items() if isinstance(each, float) and low <= each <= high}
    if not times or len(checked) < len(times):
        raise ValueError
    return checked
