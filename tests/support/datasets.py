"""What the tests of datasets do to files, and what they ask of a backend."""

import json
from pathlib import Path

import pytest
from xxhash import xxh3_64_hexdigest

from storage import BACKENDS
from storage.dataset.manifest import FILE


def flip_bit(path: Path, place: int) -> None:
    """Flip one bit of the byte at `place`."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Change fields of a manifest, and make its checksum fit."""
    content = {**json.loads((folder / FILE).read_text()), **changes}
    del content["manifest_checksum"]
    rest = json.dumps(content)[1:].encode()
    (folder / FILE).write_bytes(f'{{"manifest_checksum": "{xxh3_64_hexdigest(rest)}",\n'.encode() + rest)


def require_pixels(backend: str) -> None:
    """Skip where a backend does not say which bytes are pixels: then its files are whole or refused, as `structure`."""
    if not hasattr(BACKENDS[backend], "find_pixels"):
        pytest.skip(f"{backend} has no find_pixels: damage anywhere refuses the file, so no record is found by itself")
