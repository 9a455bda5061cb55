"""Colours of figures; those of a backend, its marker and dashes are chosen by its name, the same in every run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

# Okabe and Ito, "Color Universal Design", 2008: those that contrast most with white come first, black last; orange, sky
# blue and yellow are darker than theirs, so that all have a contrast of 3 with white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C28500", "#3A9BCF", "#9C9300", "#000000")
DARK_COLOURS = ("#4DA3E8", "#FF8A3D", "#2BC79A", "#E59AC5", "#F2B632", "#9AD8FF", "#F7EE6E", "#FFFFFF")
# of the matrix, as in page.css
SCHEMES: Mapping[str, Mapping[str, str]] = {
    "light": {
        "ground": "#fff",
        "raised": "#f6f7f9",
        "ink": "#1c2024",
        "quiet": "#565d66",
        "best": "#bfe8c5",
        "heat-1": "#fdf6d8",
        "heat-2": "#fbe7b2",
        "heat-3": "#f8cf8d",
        "heat-4": "#f4b27c",
        "heat-5": "#ee9673",
        "heat-6": "#e27f6c",
    },
    "dark": {
        "ground": "#14171a",
        "raised": "#1e2226",
        "ink": "#e8eaed",
        "quiet": "#a9b1ba",
        "best": "#1d5a2c",
        "heat-1": "#37341d",
        "heat-2": "#463a1a",
        "heat-3": "#573a18",
        "heat-4": "#653416",
        "heat-5": "#702a1c",
        "heat-6": "#7e2222",
    },
}
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
