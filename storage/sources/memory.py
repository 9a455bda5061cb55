"""Images in memory as an image source."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import Images, Labels
from .base import Source


@dataclass(frozen=True)
class ArraySource(Source):
    """Images in memory."""

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    identity: str
    names: Sequence[str] | None = None
    metadata: Mapping[str, Sequence[Any]] | None = None

    skipped = ()
    losses = ()

    @property
    def kind(self) -> Literal["pixels", "encoded"]:
        """What the images are."""
        return "pixels" if hasattr(self.images, "shape") else "encoded"

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each image, on average."""
        return np.full(len(self.labels), self.images.nbytes // max(1, len(self.labels)))

    def identify(self) -> str:
        """Return the same identity: no other program can change the arrays."""
        return self.identity

    def read(self, start: int) -> Generator[Images]:
        """Read all images as one batch."""
        yield self.images[start:]
