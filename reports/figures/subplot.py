"""What a figure shows, whatever paints it: panels with a line for each backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Point = tuple[float, float, float, float]  # across, such as a number of images; first quartile, median, third quartile
Lines = Mapping[str, Sequence[Point]]
Scale = Literal["linear", "logarithmic", "fit"]


@dataclass(frozen=True)
class Panel:
    """One pair of axes and its lines, one a backend.

    `scale` is that of both axes; `fit` has a logarithmic x axis, and a logarithmic y axis where values differ more
    than tenfold. `reference` is a name and a value that they are to be compared with. Backends that are `marked` have a
    ring around their points.
    """

    title: str
    unit: str
    lines: Lines
    scale: Scale = "fit"
    across: str = "number of images"
    reference: tuple[str, float] | None = None
    marked: frozenset[str] = frozenset()

    @property
    def values(self) -> tuple[float, ...]:
        """All that the y axis has to show: medians, their spreads, the reference."""
        spreads = (value for line in self.lines.values() for _, *spread in line for value in spread)
        return (*spreads, self.reference[1]) if self.reference else tuple(spreads)

    @property
    def is_logarithmic(self) -> bool:
        """Whether the y axis is logarithmic; where `fit` has a value of zero, it is not."""
        if self.scale == "fit":
            return 0 < 10 * min(self.values) < max(self.values)
        return self.scale == "logarithmic"


@dataclass(frozen=True)
class Picture:
    """One figure: what it is about, the stem of its files' names, title, how it is read, panels from left to right."""

    subject: str
    stem: str
    title: str
    note: str
    panels: Sequence[Panel]


def space_out(wanted: Sequence[float], step: float) -> list[float]:
    """Move rising heights at least `step` apart, within 0 and 1 and by the least squares: isotonic regression."""
    blocks: list[list[float]] = []
    for place, height in enumerate(wanted):
        blocks.append([height - place * step])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    levels = [fmean(block) for block in blocks for _ in block]
    return [min(max(level, step / 2), 1 - (len(levels) - 0.5) * step) + n * step for n, level in enumerate(levels)]
