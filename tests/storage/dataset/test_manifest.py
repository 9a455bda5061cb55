"""The manifest of a dataset: damage is always found, and it never names a file outside the dataset."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_hexdigest

import storage
from storage import CorruptStoreError, StorageError, StoreNotFoundError
from storage.dataset.details import Beside, Details, Structure, format_details, parse_details
from storage.dataset.manifest import FILE, Manifest, Part, format_manifest, read_manifest
from tests.support.datasets import read_first, rewrite_details, rewrite_manifest, rewrite_part, write_format1
from tests.support.image_sets import assert_same, make_set
from tests.support.properties import given, st

PARTS = (
    Part("part-00000-5d1c0a9e", 4, "0" * 15 + "7", "f" * 16),
    Part("part-00017-00000000", 5, "f" * 16, "0" * 16),
)
MANIFEST = Manifest("hdf5", "pixels", (2, 3, 3), PARTS, ("cat", 'a "quoted" naïve dog'), "somewhere")
DETAILS = Details(
    {"images.h5": 900, "deep/er.h5": 0},
    {"images.h5": Structure(((0, 10), (20, 900)), "0" * 16)},
    {"checksums": Beside(32, "1" * 16), "labels": Beside(16, "2" * 16)},
)


def put_manifest(folder: Path, manifest: Manifest = MANIFEST, name: str = FILE, key: bytes = b"") -> None:
    (folder / name).write_bytes(format_manifest(manifest, name, key))


@pytest.mark.parametrize("manifest", [MANIFEST, replace(MANIFEST, kind="encoded", shape=None)], ids=["pixels", "files"])
def test_a_manifest_is_json_and_is_read_as_it_was_written(manifest: Manifest, tmp_path: Path) -> None:
    put_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    content = json.loads((tmp_path / FILE).read_text())
    assert (content["format"], content["backend"], content["count"]) == (2, "hdf5", 9)
    expected = ("pixels", [2, 3, 3], "uint8") if manifest.shape else ("encoded", None, None)
    assert (content["kind"], content["shape"], content["dtype"]) == expected
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    rewrite_manifest(tmp_path)
    assert read_manifest(tmp_path) == manifest


NUMBERS = st.integers(0, (1 << 62) - 1)
CHECKSUMS = st.text("0123456789abcdef", min_size=16, max_size=16)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0."), min_size=1), min_size=1)


@given(
    counts=st.lists(st.integers(0, 1 << 40), min_size=1),
    checksums=st.tuples(CHECKSUMS, CHECKSUMS),
    shape=st.none() | st.tuples(*[st.integers(1, (1 << 62) - 1)] * 2).map(lambda size: (*size, 3)),
    classes=st.lists(TEXTS, unique=True),
)
def test_any_manifest_is_read_as_it_was_written(
    counts: list[int],
    checksums: tuple[str, str],
    shape: tuple[int, ...] | None,
    classes: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    parts = tuple(Part(f"part-{number:05}-{number:08x}", count, *checksums) for number, count in enumerate(counts))
    manifest = Manifest("npy", "pixels" if shape else "encoded", shape, parts, tuple(classes))
    put_manifest(folder, manifest)
    assert read_manifest(folder) == manifest


@given(
    sizes=st.dictionaries(NAMES.map("/".join), NUMBERS),
    ends=st.lists(NUMBERS, max_size=6),
    checksum=CHECKSUMS,
    size=NUMBERS,
)
def test_any_details_are_read_as_they_were_written(
    sizes: dict[str, int], ends: list[int], checksum: str, size: int
) -> None:
    ends = sorted(ends[: len(ends) // 2 * 2])
    ranges = tuple(zip(ends[::2], ends[1::2], strict=True))
    structure = {name: Structure(ranges, checksum) for name in sizes if not ends or sizes[name] >= ends[-1]}
    details = Details(sizes, structure, {"labels": Beside(size, checksum)})
    assert parse_details(json.loads(format_details(details))) == details


@given(data=st.data())
def test_every_changed_byte_of_a_manifest_is_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    put_manifest(folder)
    content = bytearray((folder / FILE).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / FILE).write_bytes(content)
    with pytest.raises(CorruptStoreError, match=r"manifest.json is damaged.*restore it from a copy"):
        read_manifest(folder)


def test_a_truncated_manifest_is_refused(tmp_path: Path) -> None:
    put_manifest(tmp_path)
    for size in reversed(range((tmp_path / FILE).stat().st_size)):
        os.truncate(tmp_path / FILE, size)
        with pytest.raises(CorruptStoreError):
            read_manifest(tmp_path)


def change_part(**fields: object) -> dict[str, Any]:
    """Change fields of the first part."""
    return {"parts": [vars(PARTS[0]) | fields, vars(PARTS[1])]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 3}, "format 3"),
        *[
            (change_part(name=name), "a part named")
            for name in ("../secret", "/etc/passwd", "part-00000", "part-0-00000000", "part-00000-0000000G", "", "a\0")
        ],
        (change_part(name=PARTS[1].name), "two parts of one name"),
        (change_part(name=5), "expected string"),
        *[(change_part(count=count), "impossible numbers") for count in (-1, 1.5, True, 10**30)],
        (change_part(count="3"), "impossible numbers"),
        *[(change_part(**{name: "none"}), "an impossible checksum") for name in ("records", "details")],
        (change_part(records=5), "expected string"),
        (change_part(more=5), "unexpected keyword argument"),
        ({"parts": [1]}, "must be a mapping"),
        ({"parts": [], "count": 0}, "no parts"),
        *[({name: value}, "impossible texts") for name, value in [("classes", [1]), ("backend", None), ("source", 3)]],
        *[({"classes": wrong}, "a list of distinct names") for wrong in (None, "xy", {"a": 1}, ["a", "b", "a"])],
        ({"classes": ["\ud800"]}, "surrogates not allowed"),
        ({"count": 8}, "impossible numbers"),
        (change_part(count=2**61) | {"count": 2**62}, "impossible numbers"),
        ({"kind": "sounds"}, "images of kind sounds"),
        ({"kind": "encoded"}, "images of kind encoded"),
        ({"shape": None}, "images of kind pixels, shape None"),
        ({"dtype": None}, "images of kind pixels"),
        ({"shape": None, "dtype": None}, "images of kind pixels"),
        ({"dtype": "complex"}, "pixels of dtype complex"),
        ({"dtype": []}, "unhashable"),
        ({"dtype": ">u2"}, "pixels of dtype >u2"),
        *[({"shape": shape}, "images of shape") for shape in ([2], [0, 32, 3], [2, 3, 4, 5], [])],
        *[({"shape": shape}, "impossible numbers") for shape in ([2, -3, 3], [2**62, 1, 3], [1.5, 1, 3])],
        ({"shape": 2}, "not iterable"),
    ],
    ids=str,
)
def test_a_manifest_with_impossible_values_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    put_manifest(tmp_path)
    rewrite_manifest(tmp_path, **changes)
    with pytest.raises(StorageError, match=r"manifest.json is whole, but not understood \(.*" + reason):
        read_manifest(tmp_path)


def describe_structure(ranges: object, checksum: object = "0" * 16) -> dict[str, Any]:
    """Describe the structure of one file."""
    return {"structure": {"images.npy": {"ranges": ranges, "checksum": checksum}}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *[
            ({"sizes": {name: 3}, "structure": {}}, "a file named")
            for name in ("../secret", "/etc/passwd", "a/../../secret", "..", "a/./b", "a//b", "", "a/", "null\0")
        ],
        *[({"sizes": {"a": size}, "structure": {}}, "impossible numbers") for size in (-1, 1.5, True, "3", 2**62)],
        ({"sizes": {"\ud800": 3}, "structure": {}}, "surrogates not allowed"),
        ({"sizes": [1]}, "'list' object has no attribute"),
        ({"structure": {"absent": {"ranges": [], "checksum": "0" * 16}}}, "absent"),
        *[(describe_structure(ranges), "impossible ranges") for ranges in ([[0, 901]], [[-1, 3]], [[5, 3]])],
        *[(describe_structure(ranges), "impossible ranges") for ranges in ([[0, 5], [4, 6]], [[0, 3.5]])],
        (describe_structure([[3]]), "not enough values"),
        (describe_structure([[0, 3]], "none"), "an impossible checksum"),
        ({"structure": [1]}, "'list' object has no attribute"),
        ({"structure": {"images.npy": 1}}, "'int' object is not subscriptable"),
        ({"beside": {}}, "no checksums or labels"),
        ({"beside": {"../secret": {"size": 3, "checksum": "0" * 16}}}, "an impossible file beside it"),
        ({"beside": {"labels": {"size": 3, "checksum": "none"}}}, "an impossible file beside it"),
        ({"beside": {"labels": {"size": -3, "checksum": "0" * 16}}}, "impossible numbers"),
        ({"beside": {"labels": 3}}, "must be a mapping"),
        *[({"summary": {"max_label": label, "columns": {}}}, "impossible label") for label in (2**63, -(2**64), "3")],
        ({"summary": {"max_label": 3, "columns": {"a": 3}}}, "impossible texts"),
        ({"summary": {"max_label": 3, "columns": 3}}, "must be an iterable"),
        ({"summary": {"max_label": 3}}, "columns"),
        ({"summary": [3]}, "must be a mapping"),
    ],
    ids=str,
)
def test_details_with_impossible_values_are_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(4, 5, 7), "npy")
    rewrite_details(tmp_path / "set", **changes)
    for read in (storage.load, read_first):
        with pytest.raises(StorageError, match=r"part-00000-\w+.json is whole, but not understood \(.*" + reason):
            read(tmp_path / "set")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sizes": {"part-00000/../../secret": 3}, "structure": {}}, "a file named"),
        ({"sizes": {"../secret": 3, "part-00000/a": 3}, "structure": {}}, "a file named"),
        ({"sizes": {}, "structure": {}}, "parts without files"),
        ({"parts": [4, 0]}, "parts without files"),
        (
            {"sizes": {"part-00000/a": 3, "part-00000/b": 3}, "structure": {}, "parts": [3, 1]},
            "parts without files, or",
        ),
        ({"checksum": "none"}, "an impossible checksum"),
        ({"checksum": 5}, "expected string"),
        ({"count": 5}, "impossible numbers"),
    ],
    ids=str,
)
def test_a_manifest_of_format_1_with_impossible_values_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    storage.save(tmp_path / "set", *make_set(4, 5, 7), "npy")
    write_format1(tmp_path / "set")
    assert_same(storage.load(tmp_path / "set"), make_set(4, 5, 7))
    rewrite_manifest(tmp_path / "set", **changes)
    with pytest.raises(StorageError, match=r"manifest.json is whole, but not understood \(.*" + reason):
        storage.load(tmp_path / "set")


def test_a_folder_without_a_manifest_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="is empty"):
        read_manifest(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreNotFoundError, match=r"storage.save did not write it"):
        read_manifest(tmp_path)
    (tmp_path / "part-00000-5d1c0a9e").mkdir()
    with pytest.raises(CorruptStoreError, match=r"manifest.json is missing.*the parts are plain stores"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_manifest_that_cannot_be_opened_is_not_damage(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code), str(path))

    put_manifest(tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="the operating system refused") as caught:
        read_manifest(tmp_path)
    assert type(caught.value) is StorageError


def test_a_manifest_that_is_a_link_is_refused(tmp_path: Path) -> None:
    put_manifest(tmp_path, name="other.json")
    (tmp_path / FILE).symlink_to("other.json")
    with pytest.raises(CorruptStoreError, match="it is a link"):
        read_manifest(tmp_path)


def test_a_manifest_that_was_written_with_another_key_is_refused(tmp_path: Path) -> None:
    put_manifest(tmp_path, key=b"mine")
    assert read_manifest(tmp_path, key=b"mine") == MANIFEST
    for key in (b"yours", b""):
        with pytest.raises(CorruptStoreError, match="is damaged"):
            read_manifest(tmp_path, key=key)


def test_a_deeply_nested_manifest_is_refused(tmp_path: Path) -> None:
    rest = b'"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    first = f'{{"manifest_checksum": "{xxh3_64_hexdigest(rest)}",\n'.encode()
    (tmp_path / FILE).write_bytes(first + rest)
    with pytest.raises(StorageError, match="not understood"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("changes", [{"count": 3}, {"count": 0}, {}], ids=str)
def test_parts_that_do_not_fit_the_manifest_are_refused(changes: dict[str, Any], backend: str, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *make_set(4), backend)
    rewrite_part(tmp_path / "set", **changes)
    if not changes:
        rewrite_manifest(tmp_path / "set", shape=[16, 64, 3])
    for verify in (True, False):
        with pytest.raises(CorruptStoreError):
            storage.load(tmp_path / "set", verify=verify)
    assert not storage.check(tmp_path / "set").is_whole


@pytest.mark.parametrize("size", [None, 1 << 29, 1 << 40])
def test_a_manifest_that_is_a_pipe_or_far_too_large_is_refused(size: int | None, tmp_path: Path) -> None:
    path = tmp_path / FILE
    if size is None:
        os.mkfifo(path)
    else:
        put_manifest(tmp_path)
        os.truncate(path, size)
    with pytest.raises(CorruptStoreError, match=r"manifest.json is damaged|it is not a regular file"):
        read_manifest(tmp_path)


def test_losses_are_in_the_manifest_only_if_there_are_some(tmp_path: Path) -> None:
    put_manifest(tmp_path)
    assert "losses" not in json.loads((tmp_path / FILE).read_text())
    with_losses = replace(MANIFEST, losses=("depth", "frames"))
    put_manifest(tmp_path, with_losses)
    assert read_manifest(tmp_path) == with_losses


def test_a_loss_of_a_later_version_is_not_understood(tmp_path: Path) -> None:
    put_manifest(tmp_path)
    rewrite_manifest(tmp_path, losses=["colour"])
    with pytest.raises(StorageError, match=r"not understood \('colour' can't be allowed"):
        read_manifest(tmp_path)
