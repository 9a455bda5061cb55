"""The next writer of the same source resumes a stage only if all of it is as it was left."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from storage import StorageError
from storage.dataset import writer
from storage.dataset.files import CHECKSUMS, PartChecksums, read_checksums
from storage.dataset.manifest import Manifest, read_manifest
from storage.dataset.replacement import find_stages
from storage.dataset.secret import read_secret
from storage.dataset.writer import PROGRESS, Writer, resume
from tests.support.backends import need_backend
from tests.support.datasets import flip_bit
from tests.support.image_sets import make_set

pytestmark = need_backend("hdf5")


COUNT = 30


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave a stage with two finished parts of three."""
    images, labels = make_set(COUNT, 5, 7)
    monkeypatch.setattr(writer, "PART", 10 * images[0].nbytes)
    with Writer(
        tmp_path / "set", labels, "hdf5", durable=False, overwrite=False, classes=("cat",), source="mine"
    ) as unfinished:
        unfinished.add(images[:25])
    (stage,) = find_stages(tmp_path / "set")
    return stage


@pytest.fixture
def wanted(stage: Path) -> Manifest:
    """Describe what the writer of the stage would write."""
    return replace(read_manifest(stage, PROGRESS, read_secret()), parts=(), sizes={}, structure={}, checksum="")


def test_finished_parts_are_resumed_with_their_checksums(stage: Path, wanted: Manifest) -> None:
    resumed = resume(stage, wanted, read_secret())
    assert resumed is not None
    manifest, digest = resumed
    assert (manifest.parts, manifest.classes, manifest.backend) == ((10, 10), ("cat",), "hdf5")
    assert digest.hexdigest() == manifest.checksum
    first, second = read_checksums(stage, manifest)
    assert isinstance(first, PartChecksums)
    assert len(np.unique(np.concatenate([*first, *second]))) == 22


def test_an_unfinished_part_is_removed(stage: Path, wanted: Manifest) -> None:
    checksums = (stage / CHECKSUMS).read_bytes()
    with (stage / CHECKSUMS).open("ab") as file:
        file.write(bytes(80))
    (stage / "part-00002").mkdir()
    (stage / "part-00002" / "images.h5").write_text("half")
    resumed = resume(stage, wanted, read_secret())
    assert resumed is not None
    assert (stage / CHECKSUMS).read_bytes() == checksums
    assert sorted(path.name for path in stage.glob("part-*")) == ["part-00000", "part-00001"]
    assert resumed[1].hexdigest() == resumed[0].checksum


def append(path: Path) -> None:
    """Make a file longer by eight bytes."""
    path.write_bytes(path.read_bytes() + bytes(8))


@pytest.mark.parametrize("name", [PROGRESS, CHECKSUMS, "part-00000/images.h5", "part-00001/images.h5"])
@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: os.truncate(path, 100), lambda path: flip_bit(path, 0), append],
    ids=["missing", "truncated", "changed", "longer"],
)
def test_a_stage_with_a_damaged_file_is_refused(
    stage: Path, wanted: Manifest, name: str, damage: Callable[[Path], object]
) -> None:
    damage(stage / name)
    is_restored = damage is append and name == CHECKSUMS  # what follows the last finished part is cut off
    assert (resume(stage, wanted, read_secret()) is None) is not is_restored


@pytest.mark.parametrize("index", [0, 19])
def test_a_stage_with_a_damaged_pixel_is_refused(stage: Path, wanted: Manifest, index: int) -> None:
    file = stage / f"part-{index // 10:05}" / "images.h5"
    content = bytearray(file.read_bytes())
    content[content.index(make_set(COUNT, 5, 7)[0][index].tobytes())] ^= 1
    file.write_bytes(content)
    assert resume(stage, wanted, read_secret()) is None


def test_a_stage_that_the_system_refuses_to_read_is_kept(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "truncate", Mock(side_effect=OSError(30, "Read-only file system")))
    labels = make_set(COUNT, 5, 7)[1]
    again = Writer(tmp_path / "set", labels, "hdf5", durable=False, overwrite=False, classes=("cat",), source="mine")
    with pytest.raises(StorageError, match="Read-only file system"):
        again.__enter__()
    assert stage.exists()


def test_a_stage_that_another_user_wrote_or_could_write_to_is_not_resumed(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = make_set(COUNT, 5, 7)[1]

    def begin() -> tuple[int, bool]:
        again = Writer(
            tmp_path / "set", labels, "hdf5", durable=False, overwrite=False, classes=("cat",), source="mine"
        )
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
    assert resume(tmp_path, Manifest("hdf5", 0, 0, source="mine"), read_secret()) is None
