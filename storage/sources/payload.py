"""What becomes of image files: they are kept byte for byte, encoded anew, or decoded to pixels of one size."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..contract import Image, Kind
from ..decoding import MAX_PIXELS, Budget, decode_scaled
from ..encoded import Content, view_file
from ..errors import DecodingError, InvalidInputError
from ..pictures import Size, check_losses, import_pillow, open_picture

MAX_QUALITY = 100
PROFILE_SPACE = slice(16, 20)  # where an ICC profile says of which colours it is


class Encoder(NamedTuple):
    """A format that images can be encoded in."""

    name: str  # in Pillow
    max_side: int  # pixels that height and width may have
    has_quality: bool


ENCODERS: Mapping[str, Encoder] = {
    "png": Encoder("PNG", (1 << 31) - 1, has_quality=False),
    "webp": Encoder("WEBP", 16_383, has_quality=True),
    "jpeg": Encoder("JPEG", 65_500, has_quality=True),
}
FREE_PIXELS = 1 << 24  # that any file may have
PIXELS_PER_BYTE = 512  # that it may have besides: a plain picture of 182 megapixels has 303 as PNG, and 65 as JPEG


@dataclass(frozen=True)
class Payload:
    """How image files are stored, and what decoding may lose."""

    kind: Kind = "encoded"
    size: Size | None = None
    format: str | None = None
    quality: int | None = None
    losses: tuple[str, ...] = ()
    max_pixels: int | None = None  # by default MAX_PIXELS, or fewer in a small file
    budget: Budget = field(default_factory=lambda: Budget(MAX_PIXELS), compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse choices that don't fit together."""
        if self.size is not None and self.kind != "pixels":
            raise InvalidInputError("a size is for pixels", hint="add --payload=pixels, or leave --size out")
        if self.format is not None and self.kind != "encoded":
            raise InvalidInputError("a format is for image files", hint="leave --format or --payload=pixels out")
        if self.quality is not None:
            if self.format is None or not ENCODERS[self.format].has_quality:
                raise InvalidInputError("a quality is for JPEG and WebP", hint="add --format=jpeg or --format=webp")
            if not 1 <= self.quality <= MAX_QUALITY:
                raise InvalidInputError(f"a quality of {self.quality}", hint=f"give one from 1 to {MAX_QUALITY}")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise InvalidInputError(f"at most {self.max_pixels} pixels", hint="give a number above 0")
        object.__setattr__(self, "losses", tuple(sorted(check_losses(self.losses))))

    @property
    def is_copy(self) -> bool:
        """Whether the files are stored as they are."""
        return self.kind == "encoded" and self.format is None

    def decode(self, content: Content) -> Image:
        """Decode a file, scaled and cropped if there is a size."""
        view, limit = view_file(content), self._get_limit(content)
        return decode_scaled(view, self.size, max_pixels=limit, losses=self.losses, budget=self.budget)

    def _get_limit(self, content: Content) -> int:
        """Get how many pixels a file may have."""
        if self.max_pixels is not None:
            return self.max_pixels
        return min(MAX_PIXELS, FREE_PIXELS + PIXELS_PER_BYTE * len(content))

    def examine(self, content: Content) -> Size:
        """Decode a file and find its size; refuse one that can't be stored so."""
        return self._check(self.decode(content))

    def _check(self, image: Image) -> Size:
        size = Size(*image.shape[:2])
        if self.format is not None and max(size) > (limit := ENCODERS[self.format].max_side):
            problem = f"it is {max(size):,} pixels high or wide, more than the {limit:,} of {self.format}"
            raise DecodingError(problem, hint="choose another format, or leave it out")
        return size

    def make_file(self, content: Content) -> Content:
        """Make the file that is stored: the same, or one of another format, upright, with the same colour profile."""
        return content if self.format is None else self._encode(content, self.decode(content), self.format)

    def examine_and_make(self, content: Content) -> Any:  # noqa: ANN401 - pixels or a file
        """Make what is stored of a file that wasn't examined, with one decoding."""
        image = self.decode(content)
        self._check(image)
        if self.kind == "pixels":
            return image
        return content if self.format is None else self._encode(content, image, self.format)

    def _encode(self, content: Content, image: Image, form: str) -> bytes:
        profile = open_picture(content, self._get_limit(content)).info.get("icc_profile") or b""
        options: dict[str, Any] = {} if self.quality is None else {"quality": self.quality}
        if profile[PROFILE_SPACE] == b"RGB ":
            options["icc_profile"] = profile
        file = io.BytesIO()
        import_pillow().fromarray(image).save(file, ENCODERS[form].name, **options)
        return file.getvalue()
