"""Images in memory as an image source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .. import Images, Labels


@dataclass(frozen=True)
class ArraySource:
    """Images in memory."""

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    identity: str
    names: Sequence[str] | None = None

    def identify(self) -> str:
        """Return the same identity: no other program can change the arrays."""
        return self.identity

    def read(self, start: int) -> Iterator[Images]:
        """Read all images as one batch."""
        yield self.images[start:]
