"""Batches are gathered into parts: the images of the next part, as far as they have come."""

import numpy as np

from ..contract import Encoded, Images
from .manifest import FILES, find_form


class PixelBuffer:
    """Pixels of at most so many bytes and images, or one image."""

    def __init__(self, first: Images, capacity: int, remaining: int) -> None:
        count = min(max(1, capacity // first[0].nbytes), remaining)
        self._images = np.empty((count, *first.shape[1:]), first.dtype)
        self.form = find_form(first)
        self.waiting = 0

    def add(self, images: Images) -> Images:
        """Add as many images as fit; return the others."""
        batch = images[: len(self._images) - self.waiting]
        self._images[self.waiting : self.waiting + len(batch)] = batch
        self.waiting += len(batch)
        return images[len(batch) :]

    @property
    def is_full(self) -> bool:
        """Whether no image fits any more."""
        return self.waiting == len(self._images)

    def take(self) -> Images:
        """Return what was added."""
        return self._images[: self.waiting]


class FileBuffer:
    """Image files of at most so many bytes, or one file; they end with the last of `remaining`."""

    form = FILES

    def __init__(self, capacity: int, remaining: int) -> None:
        self._content = np.empty(capacity, np.uint8)
        self._ends = [0]
        self._remaining = remaining
        self._is_cut = False

    @property
    def waiting(self) -> int:
        """The number of files that were added."""
        return len(self._ends) - 1

    def add(self, files: Encoded) -> Encoded:
        """Add as many files as fit; return the others."""
        start = self._ends[-1]
        count = int(np.searchsorted(files.offsets, len(self._content) - start, side="right")) - 1
        if len(files) and not count and not self.waiting:  # it's larger than a part should be
            count, self._content = 1, np.empty(files.offsets[1], np.uint8)
        ends = files.offsets[1 : count + 1]
        size = int(files.offsets[count])
        self._content[start : start + size] = files.content[:size]
        self._ends += (start + ends).tolist()
        self._is_cut = count < len(files)
        return files[count:]

    @property
    def is_full(self) -> bool:
        """Whether a file didn't fit, or none is to come."""
        return self._is_cut or self.waiting == self._remaining

    def take(self) -> Encoded:
        """Return what was added."""
        return Encoded(self._content[: self._ends[-1]], np.array(self._ends, np.int64))


def make_buffer(first: Images | Encoded, capacity: int, remaining: int) -> PixelBuffer | FileBuffer:
    """Make a buffer for a part that begins with these images."""
    if isinstance(first, Encoded):
        return FileBuffer(capacity, remaining)
    return PixelBuffer(first, capacity, remaining)
