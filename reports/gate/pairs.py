"""The measurements of the gate: pairs of sessions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

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

    def choose(self, keep: Callable[[str], bool]) -> "Session":
        """Return what was measured of some cells."""
        names = ("seconds", "thresholds", "backends", "absent")
        return replace(self, **{name: {k: v for k, v in getattr(self, name).items() if keep(k)} for name in names})


class Pair(NamedTuple):
    """Two sessions, seconds apart, one of each side."""

    baseline: Session
    candidate: Session
