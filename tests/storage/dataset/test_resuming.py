"""The next writer of the same source resumes a stage only if all of it is as it was left."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from storage import Labels, StorageError
from storage.dataset import writer
from storage.dataset.annotations import Annotations
from storage.dataset.checksums import add_up, hash_records
from storage.dataset.manifest import Manifest, read_manifest
from storage.dataset.replacement import find_stages
from storage.dataset.secret import read_secret
from storage.dataset.writer import PROGRESS, Writer, resume
from tests.support.backends import need_backend
from tests.support.datasets import find_part, find_path, flip_bit
from tests.support.image_sets import make_set
from tests.support.open_files import list_names

pytestmark = need_backend("hdf5")


COUNT = 30


def make_writer(path: Path, labels: Labels) -> Writer:
    annotations = Annotations.check(labels, None, ("cat",))
    return Writer(path, annotations, "hdf5", durable=False, overwrite=False, source="mine")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave a stage with two finished parts of three."""
    images, labels = make_set(COUNT, 5, 7)
    monkeypatch.setattr(writer, "PART", 10 * images[0].nbytes)
    with make_writer(tmp_path / "set", labels) as unfinished:
        unfinished.add(images[:25])
    (stage,) = find_stages(tmp_path / "set")
    return stage


@pytest.fixture
def wanted(stage: Path) -> Manifest:
    """Describe what the writer of the stage would write."""
    return replace(read_manifest(stage, PROGRESS, read_secret()), parts=())


def test_finished_parts_are_resumed_with_their_checksums(stage: Path, wanted: Manifest) -> None:
    resumed = resume(stage, wanted, read_secret())
    assert resumed is not None
    assert ([part.count for part in resumed.parts], resumed.classes, resumed.backend) == ([10, 10], ("cat",), "hdf5")
    images, labels = make_set(COUNT, 5, 7)
    assert resumed.checksum == add_up(hash_records(images[:20], labels[:20], np.arange(20)))


def test_an_unfinished_part_is_removed(stage: Path, wanted: Manifest) -> None:
    before = list_names(stage)
    unfinished = stage / "part-00002-01234567"
    unfinished.mkdir()
    (unfinished / "images.h5").write_text("half")
    unfinished.with_suffix(".checksums").write_bytes(bytes(80))
    assert resume(stage, wanted, read_secret()) is not None
    assert list_names(stage) == before


def append(path: Path) -> None:
    """Make a file longer by eight bytes."""
    path.write_bytes(path.read_bytes() + bytes(8))


@pytest.mark.parametrize(
    "name",
    [
        PROGRESS,
        "part-00000.checksums",
        "part-00001.labels",
        "part-00001.json",
        "part-00000/images.h5",
        "part-00001/images.h5",
    ],
)
@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: os.truncate(path, 70), lambda path: flip_bit(path, 0), append],
    ids=["missing", "truncated", "changed", "longer"],
)
def test_a_stage_with_a_damaged_file_is_refused(
    stage: Path, wanted: Manifest, name: str, damage: Callable[[Path], object]
) -> None:
    damage(find_path(stage, name))
    assert resume(stage, wanted, read_secret()) is None


@pytest.mark.parametrize("index", [0, 19])
def test_a_stage_with_a_damaged_pixel_is_refused(stage: Path, wanted: Manifest, index: int) -> None:
    file = find_part(stage, index // 10) / "images.h5"
    content = bytearray(file.read_bytes())
    content[content.index(make_set(COUNT, 5, 7)[0][index].tobytes())] ^= 1
    file.write_bytes(content)
    assert resume(stage, wanted, read_secret()) is None


def test_a_stage_that_the_system_refuses_to_read_is_kept(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "remove_unreferenced", Mock(side_effect=OSError(30, "Read-only file system")))
    labels = make_set(COUNT, 5, 7)[1]
    again = make_writer(tmp_path / "set", labels)
    with pytest.raises(StorageError, match="Read-only file system"):
        again.__enter__()
    assert stage.exists()


def test_a_stage_that_another_user_wrote_or_could_write_to_is_not_resumed(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = make_set(COUNT, 5, 7)[1]

    def begin() -> tuple[int, bool]:
        again = make_writer(tmp_path / "set", labels)
        with again:
            return again.done, stage.exists()

    user = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: user + 1)
        assert begin() == (0, True), "and it is left to its owner"
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "of another user"))
        assert begin() == (0, False), "its progress isn't signed with this user's secret"


def test_a_stage_without_progress_is_refused(tmp_path: Path) -> None:
    assert resume(tmp_path, Manifest("hdf5", source="mine"), read_secret()) is None
