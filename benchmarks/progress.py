"""How long a session still takes."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean


class Progress:
    """The cells of a session, by id, each with its number of images, and how long those took that are done."""

    def __init__(self, cells: Mapping[str, int]) -> None:
        self._cells = cells
        self._seconds: dict[str, float] = {}

    def note(self, cell: str, seconds: float) -> None:
        """Add seconds that a cell took."""
        if cell in self._cells:
            self._seconds[cell] = self._seconds.get(cell, 0.0) + seconds

    def describe(self) -> str:
        """Estimate the rest: a cell takes as long as those of as many images did, or if there are none, as all did."""
        done = defaultdict(list)
        for cell, seconds in self._seconds.items():
            done[self._cells[cell]].append(seconds)
        usual = fmean(self._seconds.values()) if self._seconds else 0.0
        left = [images for cell, images in self._cells.items() if cell not in self._seconds]
        minutes = sum(fmean(done[images]) if images in done else usual for images in left) / 60
        return f"{minutes:.0f} min left" if minutes >= 1 else "under 1 min left"
