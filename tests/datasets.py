"""What the tests of datasets do to files, and what they ask of a backend."""

from pathlib import Path

import pytest

from storage import BACKENDS


def flip_bit(path: Path, place: int) -> None:
    """Flip one bit of the byte at `place`."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def require_pixels(backend: str) -> None:
    """Skip where a backend does not say which bytes are pixels: then its files are whole or refused, as `structure`."""
    if not hasattr(BACKENDS[backend], "find_pixels"):
        pytest.skip(f"{backend} has no find_pixels: damage anywhere refuses the file, so no record is found by itself")
