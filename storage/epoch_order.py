"""The order of an epoch: a permutation of which any part is computed without the rest.

A generalized Feistel network [1]_ permutes the cells of a rectangle, whose rows hold the places of the order one after
the other. A place that it sends beyond the last image goes through it again. SHAKE-256 of the number of images, seed
and epoch gives the keys of the rounds, so the order is the same with every version of Python and NumPy.

The order of a windowed epoch permutes the parts of a dataset like this, then the images of some parts at a time.

.. [1] John Black and Phillip Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002).
"""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

ROUNDS = 16  # with 12, some orders of 6 images are measurably more frequent than others
FACTOR, OTHER_FACTOR, HALF = (  # the factors of SplitMix64, odd numbers that mix bits well, and half of 64 bits
    np.array(number, np.uint64)  # NumPy takes longer for numbers
    for number in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 32)
)
BLOCK = 1 << 13  # places that are computed at once: they fit in a processor's cache


class EpochOrder:
    """A permutation of the images 0 to `count` - 1, chosen by a seed and an epoch, and by what else it is `of`."""

    def __init__(self, count: int, seed: int, epoch: int, of: str = "") -> None:
        self._count = count
        width = math.isqrt(max(count - 1, 0)) + 1  # square or nearly so, or some orders would be impossible
        self._width: NDArray[np.uint64] = np.array([width], np.uint64)
        self._height: NDArray[np.uint64] = np.array([-(-count // width)], np.uint64)
        digest = hashlib.shake_256(f"{count} {seed} {epoch}{of}".encode("ascii")).digest(8 * ROUNDS)
        self._keys = np.frombuffer(digest, "<u8").astype(np.uint64)[:, np.newaxis]

    def find(self, places: NDArray[np.integer]) -> NDArray[np.intp]:
        """Find which images come at these places of the order; each is at least 0 and below `count`."""
        images = self._permute(places.astype(np.uint64))
        while (outside := images >= self._count).any():
            images[outside] = self._permute(images[outside])
        return images.astype(np.intp)

    def cut(self, starts: range, size: int) -> Iterator[NDArray[np.intp]]:
        """Yield the images of each batch: `size` from each of these places on, fewer at the end of the order."""
        batches, within = max(1, BLOCK // size), np.arange(min(size, self._count))
        for number in range(0, len(starts), batches):
            first = starts[number : number + batches]
            places = (np.arange(first.start, first.stop, first.step)[:, np.newaxis] + within).ravel()
            images = self.find(places[places < self._count])
            yield from (images[start : start + size] for start in range(0, len(images), size))

    def find_windows(self) -> list[NDArray[np.intp]]:
        """Find the parts of each window; none if there are no windows."""
        return []

    def _permute(self, cells: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Permute the cells of the rectangle: its rows are shifted by amounts that depend on the column, and so on."""
        one, other = np.divmod(cells, self._width)
        length, next_length = self._height, self._width
        for key in self._keys:
            shift = other ^ key
            shift *= FACTOR
            shift ^= shift >> HALF
            shift *= OTHER_FACTOR
            shift >>= HALF
            shift *= length  # sizes have at most 32 bits
            shift >>= HALF
            shift += one
            one, other = other, np.minimum(shift, shift - length)  # below 0 is far above
            length, next_length = next_length, length
        return one * self._width + other


class WindowedOrder(EpochOrder):
    """A permutation of images that takes `window` parts at a time, in a shuffled order; `starts` are those of parts.

    It is the usual one if all parts fit in a window.
    """

    def __init__(self, starts: NDArray[np.integer], window: int, seed: int, epoch: int) -> None:
        super().__init__(int(starts[-1]), seed, epoch)
        parts = EpochOrder(len(starts) - 1, seed, epoch, " parts").find(np.arange(len(starts) - 1))
        self._seed, self._epoch, self._window, self._parts = seed, epoch, window, parts
        self._firsts = starts[parts]  # the first image of each part, in the order of the parts
        self._places = np.append(0, np.cumsum(starts[parts + 1] - self._firsts))  # where each part begins in the order
        self._cuts = np.append(self._places[:-1:window], self._count)  # where each window begins, then the end

    def find_windows(self) -> list[NDArray[np.intp]]:
        """Find the parts of each window."""
        return [self._parts[start : start + self._window] for start in range(0, len(self._parts), self._window)]

    def find(self, places: NDArray[np.integer]) -> NDArray[np.intp]:
        """Find which images come at these places of the order; each is at least 0 and below `count`."""
        if len(self._firsts) <= self._window:
            return super().find(places)
        images = np.empty(len(places), np.intp)
        windows = np.searchsorted(self._cuts, places, side="right") - 1
        for window in np.unique(windows).tolist():
            start, end = self._cuts[window : window + 2].tolist()
            inside = windows == window
            order = EpochOrder(end - start, self._seed, self._epoch, f" window {window}")
            shuffled = start + order.find(places[inside] - start)
            parts = np.searchsorted(self._places, shuffled, side="right") - 1
            images[inside] = self._firsts[parts] + shuffled - self._places[parts]
        return images
