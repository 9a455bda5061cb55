"""Hostile manifests cost little: whatever numbers one names, 64 MB and ten times the size of the files, and 5 s."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import storage
from storage import BACKENDS, Backend
from storage.dataset.manifest import FILE
from storage.sources.opening import open_source
from tests.support.datasets import rewrite_manifest
from tests.support.hostile import find_excess
from tests.support.image_sets import make_set
from tests.support.properties import HealthCheck, given, settings, st

COUNT = 4
HUGE = [0, 1, COUNT, 2**31, 2**40, 2**61, 2**62 - 1, 2**63 - 1, 2**64, 10**30, -1, 1.5, True, None, "x"]
Change = Callable[[Path], object]


def read_source(_: Backend, path: Path) -> None:
    """Read all of a dataset as a conversion does."""
    with open_source(path) as source:
        for _batch in source.read(0):
            pass


READS = {
    "check": lambda _, path: storage.check(path),
    "load": lambda _, path: storage.load(path),
    "unverified": lambda _, path: storage.load(path, verify=False),
    "open": lambda _, path: storage.open(path).close(),
    "open unverified": lambda _, path: storage.open(path, verify=False).close(),
    "convert": read_source,
}


def make_dataset(path: Path, backend: str = "npy") -> Path:
    """Save four images."""
    storage.save(path, *make_set(COUNT, 5, 7), backend, durable=False)
    return path


def change(**fields: object) -> Change:
    """Change fields of a manifest whose checksum fits."""
    return lambda path: rewrite_manifest(path, **fields)


def name_many_files(path: Path) -> None:
    """Have a manifest name 2,000 files that aren't there."""
    rewrite_manifest(path, sizes={f"part-00000/{number}": 1 << 40 for number in range(2000)}, structure={})


def grow(*names: str, size: int = 1 << 40) -> Change:
    """Make files as large as that, with a hole, and let the manifest say so; all of them is structure."""

    def do(path: Path) -> None:
        manifest = json.loads((path / FILE).read_text())
        for name in names:
            os.truncate(path / name, size)
            if name in manifest["sizes"]:
                manifest["sizes"][name] = size
                manifest["structure"][name] = {"ranges": [[0, size]], "checksum": "0" * 16}
        rewrite_manifest(path, sizes=manifest["sizes"], structure=manifest["structure"])

    return do


def grow_checksums(path: Path) -> None:
    """Have as many checksums as a manifest claims, in a hole."""
    count = 1 << 36
    os.truncate(path / "checksums", 8 * (count + 1))
    rewrite_manifest(path, parts=[count], count=count, shape=[1 << 20, 1 << 20, 3])


def drop_checksums(*changes: Change) -> Change:
    """Change a dataset, then delete the file of checksums, which would bound the counts."""

    def do(path: Path) -> None:
        for each in changes:
            each(path)
        (path / "checksums").unlink()

    return do


HOSTILE: dict[str, Change] = {
    "2**61 images": change(parts=[2**61], count=2**61),
    "2**30 images": change(parts=[2**30], count=2**30),
    "2**61 images without checksums": drop_checksums(change(parts=[2**61], count=2**61)),
    "2**28 images without checksums": drop_checksums(change(parts=[2**28], count=2**28)),
    "a million empty parts": change(parts=[0] * 10**6, count=0),
    "a million parts": change(parts=[1] * 10**6, count=10**6),
    "images of 2**122 pixels": change(shape=[2**61, 2**61, 3]),
    "no images of 2**122 pixels": change(shape=[2**61, 2**61, 3], parts=[0], count=0),
    "2,000 missing files": name_many_files,
    "a file of 1 TiB in a hole": grow("part-00000/images.npy"),
    "two files of 1 TiB in holes": grow("part-00000/images.npy", "part-00000/labels.npy"),
    "a manifest of 1 GiB in a hole": lambda path: os.truncate(path / FILE, 1 << 30),
    "checksums of 512 GiB in a hole": grow_checksums,
    "2**61 ranges' end": change(structure={"part-00000/images.npy": {"ranges": [[0, 2**61]], "checksum": "0" * 16}}),
    "a name of lone surrogates": change(sizes={"part-00000/\ud800\udfff": 1}, structure={}),
    "classes of lone surrogates": change(classes=["\ud800"]),
    "a number of 5,000 digits": lambda path: rewrite_raw(path, b'"count": 4', b'"count": ' + b"9" * 5000),
    "nested a million times": lambda path: rewrite_raw(path, b'"count": 4', b'"count": ' + b"[" * 10**6),
}


def rewrite_raw(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes of a manifest, and make its checksum fit."""
    from xxhash import xxh3_64_hexdigest  # noqa: PLC0415 - as the manifest does

    rest = (path / FILE).read_bytes().partition(b"\n")[2].replace(old, new)
    (path / FILE).write_bytes(b'{"manifest_checksum": "' + xxh3_64_hexdigest(rest).encode() + b'",\n' + rest)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_dataset_costs_little(name: str, tmp_path: Path) -> None:
    HOSTILE[name](make_dataset(tmp_path / "set"))
    assert not find_excess(BACKENDS["npy"], tmp_path / "set", READS)


@pytest.mark.parametrize("target", ["part-00000", "part-00000/images.npy", "checksums"])
def test_what_links_out_of_a_dataset_is_refused(target: str, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "set")
    (path / target).rename(tmp_path / "elsewhere")
    (path / target).symlink_to(tmp_path / "elsewhere")
    for read in (storage.load, storage.open):
        with pytest.raises(storage.CorruptStoreError, match=r"link|isn't a regular file|is not a regular file"):
            read(path)


@pytest.mark.parametrize("target", ["part-00000/images.npy", "checksums", FILE])
def test_a_pipe_in_a_dataset_is_not_waited_for(target: str, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "set")
    (path / target).unlink()
    os.mkfifo(path / target)
    for read in (storage.load, storage.open):
        with pytest.raises(storage.CorruptStoreError):
            read(path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_absurd_numbers_in_any_field_of_a_manifest_cost_little(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = make_dataset(tmp_path_factory.mktemp("hostile") / "set")
    content = json.loads((path / FILE).read_text())
    del content["manifest_checksum"]
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(find_numbers(content))
        place = data.draw(st.sampled_from(places))
        holder = content
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = data.draw(st.sampled_from(HUGE) | st.integers())
    rewrite_manifest(path, **content)
    assert not find_excess(BACKENDS["npy"], path, READS)


def find_numbers(content: Any, place: tuple[Any, ...] = ()) -> Any:  # noqa: ANN401 - of JSON
    """Yield where each number is in a document, as a path of keys."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        if isinstance(value, (dict, list)):
            yield from find_numbers(value, (*place, key))
        elif not isinstance(value, str):
            yield (*place, key)
