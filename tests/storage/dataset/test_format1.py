"""Datasets of format 1, which earlier versions wrote, are read, checked and converted."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import CorruptStoreError, StoreExistsError
from storage.__main__ import main
from storage.dataset import writer
from tests.support.datasets import flip_bit, write_format1
from tests.support.image_sets import assert_same, make_set

COUNT = 30
IMAGES, LABELS = make_set(COUNT, 5, 7)


@pytest.fixture
def former(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a dataset of format 1, in three parts."""
    monkeypatch.setattr(writer, "PART", 10 * IMAGES[0].nbytes)
    storage.save(tmp_path / "set", [IMAGES], LABELS, "npy", classes=["cat", "dog"])
    write_format1(tmp_path / "set")
    names = ["checksums", "manifest.json", "part-00000", "part-00001", "part-00002"]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == names
    return tmp_path / "set"


@pytest.mark.parametrize("verify", [True, False])
def test_a_dataset_of_format_1_is_read(former: Path, *, verify: bool) -> None:
    assert_same(storage.load(former, verify=verify), (IMAGES, LABELS))
    with storage.open(former, verify=verify) as reader:
        assert_same(reader.read([29, 0, 11]), (IMAGES[[29, 0, 11]], LABELS[[29, 0, 11]]))
        np.testing.assert_array_equal(reader.read_labels(), LABELS)
        assert (reader.classes, list(reader.names)) == (("cat", "dog"), [])
        with pickle.loads(pickle.dumps(reader)) as copy:  # noqa: S301 - our own
            assert copy.checksum == reader.checksum
    assert storage.check(former).is_whole


def test_damage_in_a_dataset_of_format_1_is_found(former: Path) -> None:
    flip_bit(former / "part-00001" / "images.npy", 128 + 3 * IMAGES[0].nbytes)
    assert list(storage.check(former).records) == [13]
    with pytest.raises(CorruptStoreError, match="record 13: it is damaged"):
        storage.load(former)
    flip_bit(former / "part-00002" / "images.npy", 9)
    assert list(storage.check(former).files) == ["part-00002/images.npy"]
    with pytest.raises(CorruptStoreError, match=r"set: part-00002/images\.npy is damaged outside its images"):
        storage.open(former).read([COUNT - 1])


def test_damaged_checksums_of_format_1_are_refused_and_listed(former: Path) -> None:
    flip_bit(former / "checksums", 77)
    with pytest.raises(CorruptStoreError, match=r"the file checksums is damaged.*verify=False"):
        storage.load(former)
    report = storage.check(former)
    assert list(report.files) == ["checksums"]
    assert len(report.records) == COUNT
    assert_same(storage.load(former, verify=False), (IMAGES, LABELS))


def test_a_dataset_of_format_1_is_converted_in_place_to_the_current_one(
    former: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with storage.open(former) as reader:
        assert main(["convert", str(former), str(former), "--backend", "npy", "--overwrite"]) == 0
        assert_same(reader.read(range(COUNT)), (IMAGES, LABELS))
    assert "30 images of 2 classes saved" in capsys.readouterr().out
    assert_same(storage.load(former), (IMAGES, LABELS))
    with storage.open(former) as reader:
        assert reader.classes == ("cat", "dog")
        assert len(list(former.glob("part-*.json"))) == 3


def test_a_dataset_of_format_1_without_a_manifest_is_damaged(former: Path) -> None:
    (former / "manifest.json").unlink()
    with pytest.raises(CorruptStoreError, match=r"manifest\.json is missing"):
        storage.open(former)


def test_without_a_manifest_what_may_be_another_programs_is_not_replaced(former: Path) -> None:
    (former / "manifest.json").unlink()
    with pytest.raises(StoreExistsError, match=r"it holds checksums, which storage\.save did not write"):
        storage.save(former, [IMAGES], LABELS, "npy", overwrite=True)
    assert (former / "part-00000").is_dir()
