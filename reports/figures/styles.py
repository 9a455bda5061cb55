"""The colour, marker and dashes of a backend: by its name, so the same in every figure of every run."""

import hashlib
from dataclasses import dataclass

# Okabe and Ito, "Color Universal Design", 2008: those that contrast most with white come first, black last; orange, sky
# blue and yellow are darker than theirs, so that all have a contrast of 3 with white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C28500", "#3A9BCF", "#9C9300", "#000000")
DARK_COLOURS = ("#4DA3E8", "#FF8A3D", "#2BC79A", "#E59AC5", "#F2B632", "#9AD8FF", "#F7EE6E", "#FFFFFF")
MARKERS = 12
DASHES = 4
_SEED = b"13269"  # with it, no two backends of this repository have the same colour and marker


@dataclass(frozen=True)
class Style:
    """Indexes below the lengths of `COLOURS`, `MARKERS` and `DASHES`."""

    colour: int
    marker: int
    dashes: int


def choose_style(backend: str) -> Style:
    """Choose the style of a backend by its name alone."""
    digest = hashlib.blake2b(backend.encode(), digest_size=3, key=_SEED).digest()
    return Style(digest[0] % len(COLOURS), digest[1] % MARKERS, digest[2] % DASHES)
