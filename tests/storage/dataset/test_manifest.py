"""The manifest of a dataset: damage is always found, and it never names a file outside the dataset."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_hexdigest

import storage
from storage import CorruptStoreError, StorageError, StoreNotFoundError
from storage.dataset.manifest import FILE, Manifest, Structure, read_manifest, write_manifest
from tests.support.datasets import rewrite_manifest
from tests.support.image_sets import make_set
from tests.support.properties import given, st

MANIFEST = Manifest(
    "hdf5",
    2,
    3,
    parts=(4, 5),
    sizes={"part-00000/images.h5": 900, "part-00001/deep/er.h5": 0},
    structure={"part-00000/images.h5": Structure(((0, 10), (20, 900)), "0" * 16)},
    checksum="f" * 16,
    classes=("cat", 'a "quoted" naïve dog'),
    source="somewhere",
)


def test_a_manifest_is_json_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    content = json.loads((tmp_path / FILE).read_text())
    assert (content["format"], content["backend"], content["count"]) == (1, "hdf5", 9)
    assert (content["shape"], content["dtype"]) == ([2, 3, 3], "uint8")
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    rewrite_manifest(tmp_path)
    assert read_manifest(tmp_path) == MANIFEST


@given(data=st.data())
def test_every_changed_byte_of_a_manifest_is_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    write_manifest(folder, MANIFEST)
    content = bytearray((folder / FILE).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / FILE).write_bytes(content)
    with pytest.raises(CorruptStoreError, match=r"manifest.json is damaged.*restore it from a copy"):
        read_manifest(folder)


def test_a_truncated_manifest_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    for size in reversed(range((tmp_path / FILE).stat().st_size)):
        os.truncate(tmp_path / FILE, size)
        with pytest.raises(CorruptStoreError):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format 2"),
        *[
            ({"sizes": {name: 3}, "structure": {}}, "a file named")
            for name in (
                "../secret",
                "/etc/passwd",
                "part-00000/../../secret",
                "part-00000/..",
                "part-00000/./a",
                "part-00000//a",
                "part-00000",
                "part-0/a",
                "part-00000/null\0",
            )
        ],
        *[({"sizes": {"part-00000/images.h5": size}, "structure": {}}, "numbers") for size in (-1, 1.5, True, "3")],
        ({"structure": {"part-00007/absent": {"ranges": [], "checksum": "0" * 16}}}, "part-00007/absent"),
        *[
            ({"structure": {"part-00000/images.h5": {"ranges": ranges, "checksum": "0" * 16}}}, reason)
            for ranges, reason in [
                ([[0, 901]], "impossible ranges"),
                ([[-1, 3]], "impossible ranges"),
                ([[5, 3]], "impossible ranges"),
                ([[0, 5], [4, 6]], "impossible ranges"),
                ([[0, 3.5]], "impossible ranges"),
                ([[3]], "not enough values"),
            ]
        ],
        ({"structure": {"part-00000/images.h5": {"ranges": [[0, 3]], "checksum": "none"}}}, "an impossible checksum"),
        *[
            ({name: value}, "impossible texts")
            for name, value in [("checksum", "none"), ("classes", [1]), ("backend", None), ("source", 3)]
        ],
        ({"checksum": 5}, "expected string"),
        ({"classes": None}, "not iterable"),
        ({"count": 8}, "impossible numbers"),
        ({"parts": [True, 8]}, "impossible numbers"),
        ({"parts": [2**61, 2**61], "count": 2**62}, "impossible numbers"),
        ({"parts": [9, 0], "count": 9}, "parts without images"),
        ({"parts": [0] * 10**6, "count": 0}, "parts without files"),
        ({"parts": [1] * 9}, "parts without files"),
        ({"parts": [9]}, "parts without files, or files without a part"),
        ({"classes": ["\ud800"]}, "surrogates not allowed"),
        ({"sizes": {"part-00000/\ud800": 3, "part-00001/a": 3}, "structure": {}}, "surrogates not allowed"),
        ({"shape": [2, 3]}, "not enough values"),
        ({"shape": 2}, "non-iterable"),
        ({"shape": [0, 32, 3]}, "no pixels"),
        ({"parts": [], "count": 0}, "no pixels"),
        ({"parts": [10**30], "count": 10**30}, "impossible numbers"),
        ({"sizes": [1]}, "'list' object has no attribute"),
        ({"structure": [1]}, "'list' object has no attribute"),
        ({"structure": {"part-00000/images.h5": 1}}, "'int' object is not subscriptable"),
    ],
    ids=str,
)
def test_a_manifest_with_impossible_values_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    rewrite_manifest(tmp_path, **changes)
    with pytest.raises(StorageError, match=r"manifest.json is whole, but not understood \(.*" + reason):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="is empty"):
        read_manifest(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreNotFoundError, match=r"storage.save did not write it"):
        read_manifest(tmp_path)
    (tmp_path / "part-00000").mkdir()
    with pytest.raises(CorruptStoreError, match=r"manifest.json is missing.*the parts are plain stores"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_manifest_that_cannot_be_opened_is_not_damage(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code), str(path))

    write_manifest(tmp_path, MANIFEST)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="the operating system refused") as caught:
        read_manifest(tmp_path)
    assert type(caught.value) is StorageError


def test_a_manifest_that_is_a_link_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST, "other.json")
    (tmp_path / FILE).symlink_to("other.json")
    with pytest.raises(CorruptStoreError, match="it is a link"):
        read_manifest(tmp_path)


def test_a_manifest_that_was_written_with_another_key_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST, key=b"mine")
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


@pytest.mark.parametrize(
    "changes", [{"parts": [3], "count": 3}, {"parts": [0], "count": 0}, {"shape": [16, 64, 3]}], ids=str
)
def test_parts_that_do_not_fit_the_manifest_are_refused(
    changes: dict[str, object], backend: str, tmp_path: Path
) -> None:
    storage.save(tmp_path / "set", *make_set(4), backend)
    rewrite_manifest(tmp_path / "set", **changes)
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
        write_manifest(tmp_path, MANIFEST)
        os.truncate(path, size)
    with pytest.raises(CorruptStoreError, match=r"manifest.json is damaged|it is not a regular file"):
        read_manifest(tmp_path)
