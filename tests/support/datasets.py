"""Helpers of the tests of datasets: find and damage files, rewrite manifests, skip backends."""

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_hexdigest

import storage
from storage import BACKENDS
from storage.dataset.details import Details, Structure
from storage.dataset.files import read_details
from storage.dataset.manifest import FILE, read_manifest
from storage.dataset.metadata import ARROW, LINES
from storage.reader import read_stored

TABLE = ARROW if find_spec("pyarrow") else LINES  # the suffix that metadata gets here
TOKEN = re.compile(r"(part-\d{5})-[0-9a-f]{8}")


def flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def shorten(text: str) -> str:
    """Leave out the random token of each part's name."""
    return TOKEN.sub(r"\1", text)


def list_parts(dataset: Path) -> list[Path]:
    """List the stores of a dataset, or of an unfinished one, in order."""
    return sorted(path for path in dataset.glob("part-*") if path.is_dir())


def find_part(dataset: Path, number: int = 0) -> Path:
    return list_parts(dataset)[number]


def find_beside(dataset: Path, suffix: str, number: int = 0) -> Path:
    """Find a file beside a part."""
    part = find_part(dataset, number)
    return part.with_name(f"{part.name}.{suffix}")


def find_path(dataset: Path, name: str) -> Path:
    """Find a file of a dataset by its path without random tokens, such as ``part-00000/labels.npy``."""
    part, dot, rest = re.fullmatch(r"(part-\d+)?([./]?)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    if part is None:
        return dataset / name
    (found,) = (path for path in dataset.glob(f"{part}*") if TOKEN.fullmatch(path.name))
    return Path(f"{found}{dot}{rest}")


def list_details(dataset: Path) -> Iterator[tuple[str, Details]]:
    """List the details of all parts, and the names of their folders."""
    manifest = read_manifest(dataset)
    for number, part in enumerate(manifest.parts):
        yield part.name, read_details(dataset, manifest, number)


def list_structure(dataset: Path) -> dict[str, Structure]:
    """List the structure of all files, by their paths in a dataset."""
    return {
        f"{part}/{name}": entry for part, details in list_details(dataset) for name, entry in details.structure.items()
    }


def list_sizes(dataset: Path) -> dict[str, int]:
    """List the sizes of the files of all stores, by their paths in a dataset."""
    return {f"{part}/{name}": size for part, details in list_details(dataset) for name, size in details.sizes.items()}


def read_first(dataset: Path, *, verify: bool = True) -> None:
    """Open a dataset and read its first image, for which its first part is opened."""
    with storage.open(dataset, verify=verify) as reader:
        read_stored(reader, range(min(1, len(reader))))


def read_content(dataset: Path) -> dict[str, Any]:
    """Read the fields of a manifest."""
    content: dict[str, Any] = json.loads((dataset / FILE).read_text())
    del content["manifest_checksum"]
    return content


def rewrite_manifest(dataset: Path, **changes: object) -> None:
    """Change fields of a manifest, and update its checksum."""
    rest = json.dumps(read_content(dataset) | changes)[1:].encode()
    (dataset / FILE).write_bytes(f'{{"manifest_checksum": "{xxh3_64_hexdigest(rest)}",\n'.encode() + rest)


def rewrite_part(dataset: Path, number: int = 0, **changes: object) -> None:
    """Change fields of a part in the manifest."""
    parts = read_content(dataset)["parts"]
    parts[number] |= changes
    counts = [part["count"] for part in parts]
    total = {"count": sum(counts)} if all(isinstance(count, int) for count in counts) else {}
    rewrite_manifest(dataset, parts=parts, **total)


def rewrite_details(dataset: Path, number: int = 0, **changes: object) -> None:
    """Change fields of the details of a part, and update their checksum in the manifest."""
    path = find_beside(dataset, "json", number)
    content = (json.dumps(json.loads(path.read_text()) | changes)).encode()
    path.write_bytes(content)
    rewrite_part(dataset, number, details=xxh3_64_hexdigest(content))


def rewrite_beside(dataset: Path, suffix: str, content: bytes, number: int = 0) -> None:
    """Change a file beside a part, and update its size and checksum in the details."""
    find_beside(dataset, suffix, number).write_bytes(content)
    beside = json.loads(find_beside(dataset, "json", number).read_text())["beside"]
    entry = {"size": len(content), "checksum": xxh3_64_hexdigest(content)}
    rewrite_details(dataset, number, beside=beside | {suffix: entry})


def write_format1(dataset: Path) -> None:
    """Turn a dataset into one of format 1, as earlier versions wrote it."""
    manifest, content = read_manifest(dataset), read_content(dataset)
    sizes: dict[str, int] = {}
    structure: dict[str, object] = {}
    checksums = b""
    for number, (name, details) in enumerate(list(list_details(dataset))):
        part = dataset / f"part-{number:05}"
        checksums += (dataset / f"{name}.checksums").read_bytes()
        (dataset / name).rename(part)
        sizes |= {f"{part.name}/{file}": size for file, size in details.sizes.items()}
        structure |= {f"{part.name}/{file}": vars(entry) for file, entry in details.structure.items()}
        for beside in dataset.glob(f"{name}.*"):
            beside.unlink()
    (dataset / "checksums").write_bytes(checksums)
    former = {
        "format": 1,
        "backend": manifest.backend,
        "count": manifest.count,
        "shape": manifest.shape,
        "dtype": "uint8",
        "parts": [part.count for part in manifest.parts],
        "sizes": sizes,
        "structure": structure,
        "checksum": xxh3_64_hexdigest(checksums),
        "classes": content["classes"],
        "source": "",
    }
    rest = json.dumps(former)[1:].encode()
    (dataset / FILE).write_bytes(f'{{"manifest_checksum": "{xxh3_64_hexdigest(rest)}",\n'.encode() + rest)


def require_pixels(backend: str, dataset: Path) -> None:
    """Skip if a backend finds no pixels in a dataset: then damage anywhere in a file refuses the whole file."""
    if not BACKENDS[backend].find_pixels(find_part(dataset)):
        pytest.skip(f"{backend} finds no pixels, so damage refuses a whole file, not a record")
