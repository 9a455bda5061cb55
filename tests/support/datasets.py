"""Helpers of the tests of datasets: damage files, rewrite manifests, skip backends."""

import json
from pathlib import Path

import pytest
from xxhash import xxh3_64_hexdigest

from storage import BACKENDS
from storage.dataset.manifest import FILE


def flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Change fields of a manifest, and update its checksum."""
    content = {**json.loads((folder / FILE).read_text()), **changes}
    del content["manifest_checksum"]
    rest = json.dumps(content)[1:].encode()
    (folder / FILE).write_bytes(f'{{"manifest_checksum": "{xxh3_64_hexdigest(rest)}",\n'.encode() + rest)


def require_pixels(backend: str, dataset: Path) -> None:
    """Skip if a backend finds no pixels in a dataset: then damage anywhere in a file refuses the whole file."""
    if not BACKENDS[backend].find_pixels(dataset / "part-00000"):
        pytest.skip(f"{backend} finds no pixels, so damage refuses a whole file, not a record")
