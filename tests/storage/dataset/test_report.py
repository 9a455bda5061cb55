"""Reports: everything that is wrong, and what can be saved."""

from pathlib import Path

import pytest

import storage
from storage import BACKENDS, CorruptStoreError, StorageError
from storage.dataset import writer
from storage.dataset.manifest import read_manifest
from tests.support.datasets import flip_bit, require_pixels
from tests.support.image_sets import assert_same, make_set

COUNT = 30


@pytest.fixture
def saved(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save thirty images in three parts."""
    images, labels = make_set(COUNT)
    monkeypatch.setattr(writer, "PART", 10 * images[0].nbytes)
    storage.save(tmp_path / "set", [images], labels, backend)
    return tmp_path / "set"


@pytest.fixture
def changed(backend: str, saved: Path) -> Path:
    """Change a pixel of the images 3, 4 and 17."""
    images, _ = make_set(COUNT)
    for index in (3, 4, 17):
        pixels = images[index].tobytes()
        paths = [path for path in saved.rglob("part-*/**/*") if path.is_file() and pixels in path.read_bytes()]
        if not paths:
            pytest.skip(f"{backend} keeps no image as it is in memory")
        flip_bit(paths[0], paths[0].read_bytes().index(pixels) + 700)
    return saved


def test_a_whole_dataset_has_an_empty_report(backend: str, saved: Path) -> None:
    report = storage.check(saved)
    assert report.is_whole
    assert (report.path, report.backend, report.count, report.files, report.records) == (saved, backend, COUNT, {}, {})


def test_every_changed_record_is_listed(changed: Path) -> None:
    report = storage.check(changed)
    assert report.records.keys() >= {3, 4, 17}, "more where the backend refuses them together, by a checksum of its own"
    assert not report.is_whole


def test_changed_records_cost_no_others(backend: str, changed: Path) -> None:
    require_pixels(backend, changed)
    report = storage.check(changed)
    others = {reason for index, reason in report.records.items() if index not in {3, 4, 17}}
    assert all("one at least" in reason for reason in others), "only those that share a checksum of the backend's own"
    assert not report.files
    images, labels = make_set(COUNT)
    with storage.open(changed) as reader:
        good = [index for index in range(COUNT) if index not in report.records]
        assert_same(reader.read(good), (images[good], labels[good]))


def test_a_part_whose_structure_is_damaged_costs_no_other_part(backend: str, saved: Path) -> None:
    structure = read_manifest(saved).structure
    name = next(name for name in structure if name.startswith("part-00001/"))
    flip_bit(saved / name, structure[name].ranges[0][0])
    report = storage.check(saved)
    assert list(report.files) == [name]
    assert report.records.keys() <= set(range(10, 20)), backend


def test_a_part_that_its_backend_refuses_is_listed(backend: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_reader = BACKENDS[backend].open_reader

    def refuse(store: Path) -> object:
        if store.name == "part-00002":
            raise CorruptStoreError("a mood", store=store)
        return open_reader(store)

    monkeypatch.setattr(BACKENDS[backend], "open_reader", refuse)
    report = storage.check(saved)
    assert sorted(report.records) == list(range(20, 30))
    assert set(report.records.values()) == {"part-00002: a mood"}


def test_files_of_images_are_named_beside_their_records(saved: Path, backend: str) -> None:
    manifest = read_manifest(saved)
    names = sorted(set(manifest.sizes) - set(manifest.structure))
    if len(names) != COUNT:
        pytest.skip(f"{backend} keeps no file an image")
    (saved / names[4]).unlink()
    (saved / names[24]).write_bytes(b"short")
    report = storage.check(saved)
    assert sorted(report.files) == [names[4], names[24]]
    assert sorted(report.records) == [4, 24]


def test_without_checksums_nothing_is_proved_but_all_can_be_read(saved: Path) -> None:
    (saved / "checksums").unlink()
    report = storage.check(saved)
    assert list(report.files) == ["checksums"]
    assert len(report.records) == COUNT
    assert set(report.records.values()) == {"it can be read, but not verified: the checksums are damaged"}


def test_a_damaged_manifest_is_an_error(saved: Path) -> None:
    (saved / "manifest.json").write_text("{}")
    with pytest.raises(StorageError, match=r"manifest.json is damaged"):
        storage.check(saved)
