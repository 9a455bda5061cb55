"""The measurements of the gate: pairs of sessions, and how many of them there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, NamedTuple

SCREEN_PAIRS = 4  # of all cells
FIRST_LOOK = 4  # pairs after which suspects may be cleared, and none is confirmed
ANALYSES = (12, 24, 36, 48, 60)  # pairs after which suspects are judged: the interim analyses, and the last one

NO_BACKEND = "it isn't a backend here"  # of benchmarks/gate_session.py: why a side lacks what was removed or is new

SideName = Literal["baseline", "candidate"]
Seconds = Mapping[str, float]  # of a call, by cell


@dataclass(frozen=True)
class Session:
    """The measurements of one process, by cell: seconds of a fast round, threshold, backend, why it wasn't measured.

    `images` describes the image set by its digest. `unavailable` says why backends weren't there.
    """

    seconds: Seconds
    thresholds: Mapping[str, float] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)

    def choose(self, keep: Callable[[str], bool]) -> "Session":
        """Return what was measured of some cells."""
        names = ("seconds", "thresholds", "backends", "absent")
        return replace(self, **{name: {k: v for k, v in getattr(self, name).items() if keep(k)} for name in names})

    def join(self, other: "Session") -> "Session":
        """Add what another process measured of other cells."""
        return Session(*({**getattr(self, each.name), **getattr(other, each.name)} for each in fields(self)))


class Pair(NamedTuple):
    """Two sessions, seconds apart, one of each side."""

    baseline: Session
    candidate: Session

    def join(self, other: "Pair") -> "Pair":
        """Add what other processes measured of other cells."""
        return Pair(*(mine.join(each) for mine, each in zip(self, other, strict=True)))
