"""Sizes and structure of files are checked before a backend opens them."""

from pathlib import Path

import numpy as np
import pytest

import storage
from storage import BACKENDS, CorruptStoreError
from storage.dataset.details import Details, Structure
from storage.dataset.files import check_file, find_structure
from tests.support.datasets import find_beside, list_sizes, list_structure, read_first, require_pixels
from tests.support.image_sets import make_set

COUNT = 200


@pytest.fixture
def saved(backend: str, tmp_path: Path) -> Path:
    """Save two hundred images."""
    storage.save(tmp_path / "set", *make_set(COUNT), backend)
    return tmp_path / "set"


@pytest.fixture
def opened(backend: str, monkeypatch: pytest.MonkeyPatch, saved: Path) -> list[Path]:
    """List the stores that the backend opens after the images were saved."""
    stores: list[Path] = []
    assert saved.exists()
    for function in ("read_many", "open_reader"):
        monkeypatch.setattr(BACKENDS[backend], function, stores.append)
    return stores


def test_every_byte_outside_the_pixels_is_structure(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(100)))
    (tmp_path / "b").write_bytes(b"text")
    (tmp_path / "c").write_bytes(b"pixels")
    (tmp_path / "d").touch()
    overlapping = [range(50, 60), range(45, 70), range(46, 48)]
    pixels = {"a": [*overlapping, range(10, 20), range(20, 30), range(90, 400)], "c": [range(6)]}
    found = find_structure(tmp_path, pixels, {"a": 100, "b": 4, "c": 6, "d": 0})
    assert {name: structure.ranges for name, structure in found.items()} == {
        "a": ((0, 10), (30, 45), (70, 90)),
        "b": ((0, 4),),
        "d": (),
    }, "an empty file says something by being there"


def test_damage_in_the_last_byte_of_a_large_file_is_found(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "a").write_bytes(bytes(3 << 20))
    sizes = {"a": 3 << 20}
    structure = find_structure(part, {}, sizes)
    (part / "a").write_bytes(bytes((3 << 20) - 1) + b"x")
    with pytest.raises(CorruptStoreError, match="part/a is damaged outside its images"):
        check_file(tmp_path, "part", Details(sizes, structure, {}), "a")


def test_most_of_a_store_is_pixels(backend: str, saved: Path) -> None:
    require_pixels(backend, saved)
    images, _ = make_set(COUNT)
    found = list_structure(saved)
    structure = sum(end - start for part in found.values() for start, end in part.ranges)
    assert structure < images.nbytes / 10, f"{backend}: {structure} bytes are read at each opening"
    for name, size in list_sizes(saved).items():
        content = (saved / name).read_bytes()
        covered = np.zeros(size, np.bool_)
        for start, end in found.get(name, Structure((), "")).ranges:
            covered[start:end] = True
        assert images[0].tobytes() not in bytes(np.frombuffer(content, np.uint8)[covered])


def test_damaged_structure_is_refused_before_the_backend_opens_anything_unless_it_survives_that(
    backend: str, saved: Path, opened: list[Path]
) -> None:
    for name, structure in list_structure(saved).items():
        content = (saved / name).read_bytes()
        for start, end in structure.ranges:
            for place in {start, (start + end) // 2, end - 1}:
                changed = bytearray(content)
                changed[place] ^= 0x10
                (saved / name).write_bytes(changed)
                for read in (storage.load, read_first):
                    with pytest.raises(CorruptStoreError, match=f"set: {name} is damaged outside"):
                        read(saved)
                    if read is storage.load and BACKENDS[backend].INFO.survives_damage:
                        opened.clear()
        (saved / name).write_bytes(content)
    assert not opened


def test_a_file_of_another_size_is_refused_before_the_backend_opens_anything(saved: Path, opened: list[Path]) -> None:
    for name in list_structure(saved):
        path = saved / name
        content = path.read_bytes()
        shorter = [(content[:-1], "instead of")] if content else []
        for other, message in [*shorter, (content + b"x", "instead of"), (None, "is missing")]:
            path.unlink()
            if other is not None:
                path.write_bytes(other)
            for verify in (True, False):
                for read in (storage.load, read_first):
                    with pytest.raises(CorruptStoreError, match=rf"set: {name} .*{message}"):
                        read(saved, verify=verify)
            path.write_bytes(content)
        path.unlink()
        path.mkdir()
        with pytest.raises(CorruptStoreError, match=f"set: {name} is not a regular file"):
            storage.load(saved)
        path.rmdir()
        path.write_bytes(content)
    assert not opened


def test_damaged_checksums_are_refused(saved: Path) -> None:
    images, labels = storage.load(saved)
    path = find_beside(saved, "checksums")
    content = bytearray(path.read_bytes())
    content[77] ^= 1
    path.write_bytes(content)
    for read in (storage.load, read_first):
        with pytest.raises(CorruptStoreError, match=r"the file part-00000-\w+.checksums is damaged.*verify=False"):
            read(saved)
    found = storage.load(saved, verify=False)
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], labels)
    path.write_bytes(content[:-8])
    with pytest.raises(CorruptStoreError, match=r"\.checksums has 1,600 bytes instead of 1,608"):
        storage.load(saved)
    path.unlink()
    with pytest.raises(CorruptStoreError, match="checksums is missing"):
        storage.load(saved)
