"""Hostile manifests cost little: whatever numbers one names, 64 MB and ten times the size of the files, and 5 s."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_hexdigest

import storage
from storage import BACKENDS, Backend
from storage.dataset.manifest import FILE
from storage.sources.opening import open_source
from tests.support.datasets import (
    find_beside,
    find_part,
    find_path,
    read_content,
    read_first,
    rewrite_details,
    rewrite_manifest,
    rewrite_part,
    write_format1,
)
from tests.support.hostile import find_excess
from tests.support.image_sets import make_set
from tests.support.properties import given, settings, st

COUNT = 4
HUGE = [0, 1, COUNT, 2**31, 2**40, 2**61, 2**62 - 1, 2**63 - 1, 2**64, 10**30, -1, 1.5, True, None, "x"]
Change = Callable[[Path], object]


def read_source(_: Backend, path: Path) -> None:
    """Read all of a dataset as a conversion does."""
    with open_source(path) as source:
        for _batch in source.read(0):
            pass


def read_annotations(_: Backend, path: Path) -> None:
    """Read labels and names."""
    with storage.open(path, verify=False) as reader:
        assert len(reader.targets) == len(reader)
        assert len(list(reader.names)) in {0, len(reader)}


READS = {
    "check": lambda _, path: storage.check(path),
    "load": lambda _, path: storage.load(path),
    "unverified": lambda _, path: storage.load(path, verify=False),
    "open": lambda _, path: read_first(path),
    "annotations": read_annotations,
    "open unverified": lambda _, path: read_first(path, verify=False),
    "convert": read_source,
}


def make_dataset(path: Path, backend: str = "npy") -> Path:
    """Save four images."""
    storage.save(path, *make_set(COUNT, 5, 7), backend, names=[f"{n}.png" for n in range(COUNT)], durable=False)
    return path


def change(**fields: object) -> Change:
    """Change fields of a manifest whose checksum fits."""
    return lambda path: rewrite_manifest(path, **fields)


def change_count(count: int, **fields: object) -> Change:
    """Have a manifest claim as many images in its only part."""

    def do(path: Path) -> None:
        rewrite_part(path, count=count)
        rewrite_manifest(path, **fields)

    return do


def change_details(**fields: Any) -> Change:  # noqa: ANN401 - of JSON
    """Change fields of the details of a part, whose checksum fits."""
    return lambda path: rewrite_details(path, **fields)


def repeat_part(path: Path, times: int, count: int) -> None:
    """Have a manifest name that many parts, with that many images each."""
    part = read_content(path)["parts"][0]
    parts = [part | {"name": f"part-{number:05}-0123abcd", "count": count} for number in range(times)]
    rewrite_manifest(path, parts=parts, count=times * count)


def name_many_files(path: Path) -> None:
    """Have details name 2,000 files that aren't there."""
    rewrite_details(path, sizes={str(number): 1 << 40 for number in range(2000)}, structure={})


def grow(*names: str, size: int = 1 << 40) -> Change:
    """Make files as large as that, with a hole, and let the details say so; all of them is structure."""

    def do(path: Path) -> None:
        details = json.loads(find_beside(path, "json").read_text())
        for name in names:
            os.truncate(find_part(path) / name, size)
            details["sizes"][name] = size
            details["structure"][name] = {"ranges": [[0, size]], "checksum": "0" * 16}
        rewrite_details(path, **details)

    return do


def grow_beside(suffix: str, size: int, count: int) -> Change:
    """Have a file beside a part as large as that, in a hole, and claim as many images."""

    def do(path: Path) -> None:
        os.truncate(find_beside(path, suffix), size)
        beside = json.loads(find_beside(path, "json").read_text())["beside"]
        rewrite_details(path, beside=beside | {suffix: {"size": size, "checksum": "0" * 16}})
        rewrite_part(path, count=count)
        rewrite_manifest(path, shape=[1 << 20, 1 << 20, 3])

    return do


def drop_checksums(*changes: Change) -> Change:
    """Change a dataset, then delete the file of checksums, which would bound the counts."""

    def do(path: Path) -> None:
        for each in changes:
            each(path)
        find_beside(path, "checksums").unlink()

    return do


def nest_details(path: Path) -> None:
    """Nest the details of a part deeply."""
    content = b'{"sizes": ' + b"[" * 10**6
    find_beside(path, "json").write_bytes(content)
    rewrite_part(path, details=xxh3_64_hexdigest(content))


def as_format1(*changes: Change) -> Change:
    """Change a dataset of format 1."""

    def do(path: Path) -> None:
        write_format1(path)
        for each in changes:
            each(path)

    return do


HOSTILE: dict[str, Change] = {
    "2**61 images": change_count(2**61),
    "2**30 images": change_count(2**30),
    "2**61 images without checksums": drop_checksums(change_count(2**61)),
    "2**28 images without checksums": drop_checksums(change_count(2**28)),
    "1,000 empty parts": lambda path: repeat_part(path, 10**3, 0),
    "1,000 parts": lambda path: repeat_part(path, 10**3, 1),
    "10,000 empty parts": lambda path: repeat_part(path, 10**4, 0),
    "10,000 parts": lambda path: repeat_part(path, 10**4, 1),
    "images of 2**122 pixels": change(shape=[2**61, 2**61, 3]),
    "no images of 2**122 pixels": change_count(0, shape=[2**61, 2**61, 3]),
    "2**61 image files": change_count(2**61, kind="encoded", shape=None, dtype=None),
    "2,000 missing files": name_many_files,
    "a file of 1 TiB in a hole": grow("images.npy"),
    "two files of 1 TiB in holes": grow("images.npy", "labels.npy"),
    "a manifest of 1 GiB in a hole": lambda path: os.truncate(path / FILE, 1 << 30),
    "details of 1 TiB in a hole": lambda path: os.truncate(find_beside(path, "json"), 1 << 40),
    "checksums of 512 GiB in a hole": grow_beside("checksums", 8 * ((1 << 36) + 1), 1 << 36),
    "labels of 512 GiB in a hole": grow_beside("labels", 8 << 36, 4),
    "names of 1 TiB in a hole": grow_beside("names", 1 << 40, 4),
    "2**61 ranges' end": change_details(structure={"images.npy": {"ranges": [[0, 2**61]], "checksum": "0" * 16}}),
    "a name of lone surrogates": change_details(sizes={"\ud800\udfff": 1}, structure={}),
    "classes of lone surrogates": change(classes=["\ud800"]),
    "a number of 5,000 digits": lambda path: rewrite_raw(path, b'"count": 4', b'"count": ' + b"9" * 5000),
    "nested a million times": lambda path: rewrite_raw(path, b'"count": 4', b'"count": ' + b"[" * 10**6),
    "details nested a million times": nest_details,
    "format 1, 2**61 images": as_format1(change(parts=[2**61], count=2**61)),
    "format 1, a million parts": as_format1(change(parts=[1] * 10**6, count=10**6)),
}


def rewrite_raw(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes of a manifest, and make its checksum fit."""
    rest = (path / FILE).read_bytes().partition(b"\n")[2].replace(old, new)
    (path / FILE).write_bytes(b'{"manifest_checksum": "' + xxh3_64_hexdigest(rest).encode() + b'",\n' + rest)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("10,000") else []) for name in HOSTILE]
)
def test_a_hostile_dataset_costs_little(name: str, tmp_path: Path) -> None:
    HOSTILE[name](make_dataset(tmp_path / "set"))
    assert not find_excess(BACKENDS["npy"], tmp_path / "set", READS)


@pytest.mark.parametrize("target", ["part-00000", "part-00000/images.npy", "part-00000.checksums", "part-00000.json"])
def test_what_links_out_of_a_dataset_is_refused(target: str, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "set")
    place = find_path(path, target)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    for read in (storage.load, read_first):
        with pytest.raises(storage.CorruptStoreError, match=r"link|isn't a regular file|is not a regular file"):
            read(path)


@pytest.mark.parametrize("target", ["part-00000/images.npy", "part-00000.checksums", "part-00000.json", FILE])
def test_a_pipe_in_a_dataset_is_not_waited_for(target: str, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "set")
    place = find_path(path, target)
    place.unlink()
    os.mkfifo(place)
    for read in (storage.load, read_first):
        with pytest.raises(storage.CorruptStoreError):
            read(path)


@settings(max_examples=8)
@given(data=st.data())
def test_absurd_numbers_in_any_field_of_a_manifest_cost_little(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = make_dataset(tmp_path_factory.mktemp("hostile") / "set")
    details = json.loads(find_beside(path, "json").read_text())
    content = {"manifest": read_content(path), "details": details}
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(find_numbers(content))
        place = data.draw(st.sampled_from(places))
        holder: Any = content
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = data.draw(st.sampled_from(HUGE) | st.integers())
    rewrite_manifest(path, **content["manifest"])
    rewrite_details(path, **details)
    assert not find_excess(BACKENDS["npy"], path, READS)


def find_numbers(content: Any, place: tuple[Any, ...] = ()) -> Any:  # noqa: ANN401 - of JSON
    """Yield where each number is in a document, as a path of keys."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        if isinstance(value, (dict, list)):
            yield from find_numbers(value, (*place, key))
        elif not isinstance(value, str):
            yield (*place, key)
