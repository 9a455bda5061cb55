"""The interface of image sources, and images in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from .. import Images, Labels


class ImageSource(Protocol):
    """An image set that is read in order, starting at any image."""

    @property
    def labels(self) -> Labels:
        """Labels of all images, ndarray of int64, shape (N,)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ...; empty if the source has none."""

    @property
    def identity(self) -> str:
        """Changes if images or labels may have changed: made of checksums, or of file names, sizes and times."""

    def identify(self) -> str:
        """Compute the identity again, to find out whether the source changed while it was read."""

    def read(self, start: int) -> Iterator[Images]:
        """Read batches of shape (n, H, W, 3), from image `start` on; a set without images yields one empty batch."""


@dataclass(frozen=True)
class ArraySource:
    """Images in memory."""

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    identity: str

    def identify(self) -> str:
        """Return the same identity: no other program can change the arrays."""
        return self.identity

    def read(self, start: int) -> Iterator[Images]:
        """Read all images as one batch."""
        yield self.images[start:]
