"""Recovery keeps all that is whole of a damaged dataset, and lists what isn't."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import CorruptStoreError, Encoded, StorageError
from storage.__main__ import main
from storage.dataset import files, report
from storage.dataset.annotations import Annotations, Problem
from storage.dataset.recovery import recover
from storage.dataset.writer import Writer
from tests.support.datasets import TABLE, find_beside, find_part, flip_bit, rewrite_beside, write_format1
from tests.support.image_sets import assert_same, make_set

FILES = Encoded.join([b"file %d" % number for number in range(9)])
LABELS = np.arange(9) % 3 - 1
NAMES = [f"cat/{number}.png" for number in range(9)]
SKIPPED = (Problem("b", "no image"),)
CAPTIONS, SCORES = list("abcdefghi"), [number / 2 for number in range(9)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Save nine image files in three parts, with all that can be known about them."""
    known = Annotations.check(LABELS, NAMES, ["cat", "dog"], {"caption": CAPTIONS, "score": SCORES}, ["depth"])
    known = replace(known, skipped=SKIPPED)
    with Writer(tmp_path / "set", known, "npy", durable=False, overwrite=False) as writer:
        for start in (0, 3, 6):
            writer.write_part(FILES[start : start + 3])
        writer.commit()
    return tmp_path / "set"


def read(path: Path) -> dict[str, Any]:
    """Read all of a dataset that is whole."""
    assert storage.check(path).is_whole
    found, labels = storage.load(path)
    with storage.open(path) as reader:
        metadata = {name: list(column) for name, column in reader.metadata.items()}
        known = {"names": list(reader.names), "metadata": metadata, "classes": reader.classes}
        return {"files": list(map(bytes, found)), "labels": labels.tolist(), "losses": reader.losses, **known}


def list_skipped(path: Path) -> list[str]:
    with storage.open(path) as reader:
        assert reader.skipped[: len(SKIPPED)] == SKIPPED
        return [problem.name.rpartition(".")[2] for problem in reader.skipped[len(SKIPPED) :]]


def expect(*kept: int) -> dict[str, Any]:
    """List what should be there of the records that are kept."""
    return {
        "files": [bytes(FILES[index]) for index in kept],
        "labels": LABELS[[*kept]].tolist(),
        "names": [NAMES[index] for index in kept],
        "metadata": {"caption": [CAPTIONS[index] for index in kept], "score": [SCORES[index] for index in kept]},
        "classes": ("cat", "dog"),
        "losses": ("depth",),
    }


@pytest.mark.parametrize("suffix", ["labels", "checksums", "index"])
def test_what_is_there_twice_is_no_loss(suffix: str, saved: Path, tmp_path: Path) -> None:
    before = read(saved)
    flip_bit(find_beside(saved, suffix, 1), 9)
    assert recover(saved, tmp_path / "new") == 9
    assert read(tmp_path / "new") == before == expect(*range(9))
    assert list_skipped(tmp_path / "new") == [suffix]


def test_damaged_names_are_made_up_and_the_others_stay(saved: Path, tmp_path: Path) -> None:
    flip_bit(find_beside(saved, "names", 1), 1)
    recover(saved, tmp_path / "new")
    names = [*NAMES[:3], *(f"lost-names/{number:08}" for number in (3, 4, 5)), *NAMES[6:]]
    assert read(tmp_path / "new") == expect(*range(9)) | {"names": names}
    assert list_skipped(tmp_path / "new") == ["names"]


def test_of_names_that_are_there_twice_one_is_made_up(saved: Path, tmp_path: Path) -> None:
    rewrite_beside(saved, "names", b"x\0cat/0.png\0y\0", 1)
    recover(saved, tmp_path / "new")
    names = [*NAMES[:3], "x", "lost-names/00000004", "y", *NAMES[6:]]
    assert read(tmp_path / "new")["names"] == names


def test_a_name_that_an_earlier_recovery_made_up_is_not_made_up_again(saved: Path, tmp_path: Path) -> None:
    rewrite_beside(saved, "names", b"lost-names/00000004\0b\0c\0", 0)
    flip_bit(find_beside(saved, "names", 1), 1)
    recover(saved, tmp_path / "new")
    names = ["lost-names/00000004", "b", "c", "lost-names/00000003", "lost-names/00000004+", "lost-names/00000005"]
    assert read(tmp_path / "new")["names"] == [*names, *NAMES[6:]]


def test_damaged_metadata_is_none_and_the_rest_stays(saved: Path, tmp_path: Path) -> None:
    flip_bit(find_beside(saved, TABLE, 1), 2)
    recover(saved, tmp_path / "new")
    columns = {name: [*values[:3], *[None] * 3, *values[6:]] for name, values in expect(*range(9))["metadata"].items()}
    assert read(tmp_path / "new") == expect(*range(9)) | {"metadata": columns}


def test_metadata_of_which_no_file_is_whole_is_lost(saved: Path, tmp_path: Path) -> None:
    for number in range(3):
        find_beside(saved, TABLE, number).unlink()
    recover(saved, tmp_path / "new")
    assert read(tmp_path / "new") == expect(*range(9)) | {"metadata": {}}
    assert list_skipped(tmp_path / "new") == [TABLE] * 3


def test_damaged_records_and_parts_are_left_out_and_listed(saved: Path, tmp_path: Path) -> None:
    content = find_part(saved) / "content.npy"
    flip_bit(content, content.read_bytes().index(b"file 1"))
    os.truncate(find_part(saved, 2) / "offsets.npy", 30)
    assert recover(saved, tmp_path / "new") == 5
    assert read(tmp_path / "new") == expect(0, 2, 3, 4, 5)
    with storage.open(tmp_path / "new") as reader:
        names = [problem.name for problem in reader.skipped]
    assert names[1:3] == ["record 1 (cat/1.png)", "records 6 to 8 (cat/6.png to cat/8.png)"]


def test_a_dataset_of_format_1_is_recovered(tmp_path: Path) -> None:
    images, labels = make_set(6, 5, 7)
    storage.save(tmp_path / "set", images, labels, "npy")
    write_format1(tmp_path / "set")
    flip_bit(tmp_path / "set" / "part-00000" / "images.npy", 128 + 2 * images[0].nbytes)
    assert recover(tmp_path / "set", tmp_path / "new") == 5
    kept = [0, 1, 3, 4, 5]
    assert_same(storage.load(tmp_path / "new"), (images[kept], labels[kept]))


def test_what_cannot_be_read_here_is_no_reason_to_leave_it_out(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.check_file

    def check_file(folder: Path, part: str, *more: Any) -> None:  # noqa: ANN401 - as there
        if part.startswith("part-00001"):
            raise StorageError("permission denied", store=folder)
        real(folder, part, *more)

    monkeypatch.setattr(report, "check_file", check_file)
    with pytest.raises(StorageError, match=r"can be read here \(.*permission denied\): correct that first"):
        recover(saved, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_record_that_changes_meanwhile_is_not_saved(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(held: Any) -> Any:  # noqa: ANN401 - as there
        found = report.inspect(held)
        content = find_part(saved) / "content.npy"
        flip_bit(content, content.read_bytes().index(b"file 1"))
        return found

    monkeypatch.setattr("storage.dataset.recovery.inspect", inspect)
    with pytest.raises(CorruptStoreError, match=r"record 1 \(cat/1.png\): it is damaged"):
        recover(saved, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_dataset_is_never_replaced(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.save(tmp_path / "new", FILES[:1], LABELS[:1], "npy")
    for destination in (tmp_path / "new", saved):
        assert main(["recover", str(saved), str(destination)]) == 2
        assert f"error: {destination}: it holds a dataset: choose another destination" in capsys.readouterr().err
