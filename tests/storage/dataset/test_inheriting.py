"""What replaces a dataset keeps what is known about the images, or is refused; nothing of it is lost silently."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import storage
from storage import CorruptStoreError, StorageError, StoreLockedError
from storage.dataset import saving
from tests.support.datasets import TABLE, find_beside, find_part, flip_bit
from tests.support.encoded_sets import make_files
from tests.support.image_sets import assert_same, make_set

COUNT = 5
IMAGES, LABELS = make_set(COUNT, 5, 7)
NAMES = [f"cat/{number}.png" for number in range(COUNT)]
METADATA = {"a": list("abcde")}


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """Save five images in two parts, with all that can be known about them."""
    path = tmp_path / "set"
    storage.save(path, IMAGES[:3], LABELS[:3], "npy", names=NAMES[:3], classes=["cat"], metadata={"a": list("abc")})
    storage.append(path, IMAGES[3:], [0, -1], names=NAMES[3:], metadata={"a": list("de")})
    return path


@pytest.mark.parametrize("kind", ["pixels", "encoded"])
def test_correcting_a_label_keeps_names_classes_and_metadata(kind: str, tmp_path: Path) -> None:
    images: Any = IMAGES if kind == "pixels" else make_files(COUNT)[0]
    described: dict[str, Any] = {"names": NAMES, "classes": ["cat"], "metadata": {"a": list("abcde")}}
    storage.save(tmp_path / "set", images, LABELS, "npy", **described)
    storage.save(tmp_path / "set", images, LABELS + 1, "npy", overwrite=True)
    with storage.open(tmp_path / "set") as reader:
        assert (list(reader.names), reader.classes, reader.metadata) == (NAMES, ("cat",), {"a": list("abcde")})
        assert reader.targets == (LABELS + 1).tolist()
    other: dict[str, Any] = {"names": NAMES[::-1], "classes": (), "metadata": {"b": [1] * COUNT}}
    storage.save(tmp_path / "set", images, LABELS, "npy", overwrite=True, **other)
    with storage.open(tmp_path / "set") as reader:
        assert (list(reader.names), reader.classes, reader.metadata) == (NAMES[::-1], (), {"b": [1] * COUNT})


@pytest.mark.parametrize("change", ["other images", "fewer images", "other shape", "batches"])
def test_other_images_keep_the_classes_alone(change: str, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", names=NAMES, classes=["cat"])
    images: Any = {
        "other images": IMAGES[::-1],
        "fewer images": IMAGES[:4],
        "other shape": IMAGES.reshape(COUNT, 7, 5, 3),
        "batches": [IMAGES],
    }[change]
    storage.save(
        tmp_path / "set", images, LABELS[: len(IMAGES if change == "batches" else images)], "npy", overwrite=True
    )
    with storage.open(tmp_path / "set") as reader:
        assert (list(reader.names), reader.classes) == ([], ("cat",))


def test_classes_are_not_lost_because_the_system_refuses_to_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", classes=["cat"])
    with monkeypatch.context() as patch:
        patch.setattr("storage.dataset.manifest.open_regular", Mock(side_effect=OSError(5, "Input/output error")))
        with pytest.raises(StorageError, match="the operating system refused"):
            storage.save(tmp_path / "set", IMAGES, LABELS + 1, "npy", overwrite=True)
    with storage.open(tmp_path / "set") as reader:
        assert (reader.classes, reader.targets) == (("cat",), LABELS.tolist())


@pytest.mark.parametrize("suffix", ["names", TABLE, "labels", "json"])
def test_what_would_be_kept_and_is_damaged_is_refused_before_anything_is_removed(suffix: str, described: Path) -> None:
    path = find_beside(described, suffix, 1)
    flip_bit(path, 2)
    before = {file: file.read_bytes() for file in described.rglob("*") if file.is_file()}
    with pytest.raises(CorruptStoreError, match=f"{path.name} is damaged.*or delete the dataset first") as caught:
        storage.save(described, IMAGES, LABELS + 1, "npy", overwrite=True)
    assert caught.value.store == described
    assert before == {file: file.read_bytes() for file in described.rglob("*") if file.is_file()}


@pytest.mark.parametrize("suffix", ["names", TABLE])
def test_what_is_given_replaces_what_is_damaged_and_the_rest_is_kept(suffix: str, described: Path) -> None:
    flip_bit(find_beside(described, suffix, 1), 2)
    given: dict[str, Any] = {"names": NAMES[::-1]} if suffix == "names" else {"metadata": {"b": [1] * COUNT}}
    storage.save(described, IMAGES, LABELS + 1, "npy", overwrite=True, **given)
    with storage.open(described) as reader:
        assert {"names": list(reader.names), "metadata": reader.metadata} == {
            "names": NAMES,
            "metadata": METADATA,
        } | given
        assert reader.classes == ("cat",)


def test_damage_to_images_and_checksums_loses_nothing_that_is_known(described: Path) -> None:
    find_beside(described, "checksums").unlink()
    flip_bit(find_part(described, 1) / "images.npy", 140)
    storage.save(described, IMAGES, LABELS, "npy", overwrite=True)
    with storage.open(described) as reader:
        assert (list(reader.names), reader.classes, reader.metadata) == (NAMES, ("cat",), METADATA)


@pytest.mark.parametrize("images", [IMAGES[:4], make_files(COUNT)[0]], ids=["fewer", "files"])
def test_damage_to_what_other_images_had_is_no_reason_to_refuse(images: Any, described: Path) -> None:  # noqa: ANN401
    flip_bit(find_beside(described, "json", 1), 2)
    storage.save(described, images, LABELS[: len(images)], "npy", overwrite=True)
    with storage.open(described) as reader:
        assert (list(reader.names), reader.classes) == ([], ("cat",))


@pytest.mark.parametrize("content", [None, b"x"], ids=["gone", "changed"])
def test_a_dataset_without_a_whole_manifest_is_replaced_only_by_what_would_keep_nothing(
    content: bytes | None, described: Path
) -> None:
    (described / "manifest.json").unlink()
    if content is not None:
        (described / "manifest.json").write_bytes(content)
    given: tuple[tuple[Any, dict[str, Any]], ...] = ((IMAGES, {}), (IMAGES, {"classes": ["dog"]}), ([IMAGES], {}))
    for images, classes in given:
        with pytest.raises(CorruptStoreError, match=r"can't be read \(manifest.json is (missing|damaged)"):
            storage.save(described, images, LABELS, "npy", overwrite=True, **classes)
    storage.save(described, [IMAGES], LABELS, "npy", overwrite=True, classes=["dog"])
    assert_same(storage.load(described), (IMAGES, LABELS))


def test_what_needs_a_missing_library_is_not_lost(described: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow isn't installed")
    with monkeypatch.context() as patch:
        patch.setattr("storage.dataset.metadata._find_pyarrow", lambda: None)
        with pytest.raises(StorageError, match=r"keeps of it can't be read .*needs pyarrow.*: python -m pip install"):
            storage.save(described, IMAGES, LABELS, "npy", overwrite=True)
    with storage.open(described) as reader:
        assert reader.metadata == METADATA


def test_what_is_kept_cannot_change_while_it_is_read(described: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = saving.inherit, []

    def inherit(path: Path, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - as there
        with pytest.raises(StoreLockedError) as caught:
            storage.append(path, IMAGES[:1], [0], names=["new"], classes=["dog"], metadata={"a": ["f"]})
        refused.append(caught.value)
        return real(path, *arguments, **more)

    monkeypatch.setattr(saving, "inherit", inherit)
    storage.save(described, IMAGES, LABELS, "npy", overwrite=True)
    assert len(refused) == 1
