"""Folder trees of images: order, classes, formats, and refusals."""

import errno
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import CorruptStoreError, Images, arrays
from storage.errors import InvalidInputError
from storage.sources.folder import FolderSource, read_folder
from tests.support.image_files import make_bomb, make_exif
from tests.support.image_sets import make_set

LOSSY = ("gif", "jpg", "webp")
FRAMES = {"save_all": True, "append_images": [Pillow.new("RGB", (7, 5), "red"), Pillow.new("RGB", (7, 5), "blue")]}
NAMES = ("cat/1.png", "cat/2.png", "cat/10.bmp", "dog/a.png", "dog/b.png")


def write_images(root: Path, names: Iterable[str] = NAMES) -> Images:
    images, _ = make_set(len(list(names)), 5, 7)
    for name, image in zip(names, images, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(image).save(root / name)
    return images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "tree")
    return tmp_path / "tree"


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    (tmp_path / "cat").mkdir()
    return tmp_path / "cat"


def find(root: Path) -> FolderSource:
    source = read_folder(root)
    assert source is not None
    return source


def refuse(root: Path) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read_folder(root)
    return str(caught.value)


@pytest.mark.parametrize("first", [0, 1, 4])
def test_images_come_in_natural_order_with_their_classes(
    root: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "BATCH_BYTES", 2 * 5 * 7 * 3)
    images = write_images(root)
    source = find(root)
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.labels.dtype == np.int64
    parts = list(source.read(first))
    assert all(len(part) <= 2 for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), images[first:])


def test_classes_are_in_natural_order_and_may_be_empty(tmp_path: Path) -> None:
    write_images(tmp_path, ("10/a.png", "9/a.png"))
    (tmp_path / "09").mkdir()
    source = find(tmp_path)
    assert source.classes == ("09", "9", "10")
    assert source.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("mode", "kind"), [*((mode, "tif") for mode in ("1", "L", "P", "RGB", "CMYK")), *(("RGB", k) for k in LOSSY)]
)
def test_any_mode_and_format_is_read_as_pillow_does(cat: Path, mode: str, kind: str) -> None:
    Pillow.fromarray(make_set(1, 5, 7)[0][0]).convert(mode).save(cat / f"1.{kind}")
    (found,) = find(cat.parent).read(0)
    with Pillow.open(cat / f"1.{kind}") as picture:
        np.testing.assert_array_equal(found[0], np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "kind", "reason", "options"),
    [
        *((mode, "tif", "it has more than 8 bits per channel", {}) for mode in ("I;16", "I", "F")),
        *((mode, "png", "it is transparent in places", {}) for mode in ("LA", "RGBA")),
        ("P", "png", "it is transparent in places", {"transparency": 0}),
        ("RGB", "sgi", "it has more than 8 bits per channel", {"bpc": 2}),
        *(("RGB", kind, "it has more than one frame or page", FRAMES) for kind in ("gif", "png", "tif", "webp")),
    ],
)
def test_a_picture_that_8_bit_rgb_cannot_hold_is_refused(
    cat: Path, mode: str, kind: str, reason: str, options: dict[str, Any]
) -> None:
    Pillow.new(mode, (7, 5)).save(cat / f"1.{kind}", **options)
    assert f"1.{kind}: it can't be read as an image ({reason}" in refuse(cat.parent)


def test_an_image_is_upright(cat: Path) -> None:
    picture = make_set(1, 5, 7)[0][0]
    Pillow.fromarray(picture).save(cat / "1.png", exif=make_exif(6))
    Pillow.fromarray(np.rot90(picture, -1)).save(cat / "2.png")
    source = find(cat.parent)
    assert source.size == (7, 5)
    for image in np.concatenate(list(source.read(0))):
        np.testing.assert_array_equal(image, np.rot90(picture, -1))


def test_alpha_that_is_opaque_everywhere_is_dropped(cat: Path) -> None:
    picture = make_set(1, 5, 7)[0][0]
    Pillow.fromarray(picture).convert("RGBA").save(cat / "1.png")
    np.testing.assert_array_equal(next(find(cat.parent).read(0))[0], picture)


def test_names_that_begin_with_a_dot_are_skipped(root: Path) -> None:
    before = find(root)
    (root / ".hidden").mkdir()
    (root / ".DS_Store").touch()
    (root / "cat" / ".thumbnail").write_text("no image")
    assert find(root).names == before.names == list(NAMES)


def grow(path: Path) -> None:
    status = path.stat()
    os.truncate(path, status.st_size + 1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [lambda path: os.utime(path, ns=(0, 0)), lambda path: path.rename(path.with_name("c.png")), grow],
    ids=["time", "name", "size"],
)
def test_a_tree_has_another_identity_when_a_file_changes(root: Path, change: Callable[[Path], object]) -> None:
    before = find(root).identity
    assert find(root).identity == before
    change(root / "dog" / "b.png")
    assert find(root).identity != before


def test_an_image_of_another_size_is_named_before_any_pixel_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pillow.new("RGB", (7, 6)).save(root / "dog" / "b.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert refuse(root).startswith(
        f"{root}/dog/b.png: it has 6 x 7 pixels (height x width), and {root}/cat/1.png has 5 x 7: scale all images"
    )


@pytest.mark.parametrize(
    ("add", "name", "reason"),
    [
        (lambda root: (root / "cat" / "notes.txt").write_text("x"), "cat/notes.txt", "it can't be read as an image"),
        (lambda root: (root / "labels.csv").touch(), "labels.csv", "it is beside the folders of the classes"),
        (lambda root: (root / "dog" / "more").mkdir(), "dog/more", "it is a folder inside the folder of a class"),
        (lambda root: os.mkfifo(root / "dog" / "pipe"), "dog/pipe", "it isn't a regular file"),
        (lambda root: (root / "dog" / "broken").symlink_to("nowhere"), "dog/broken", "it isn't a regular file"),
        (lambda root: (root / "cat" / "3.png").symlink_to("/dev/null"), "cat/3.png", "it is a link that leads out of"),
        (lambda root: (root / "dog2").symlink_to(root.parent), "dog2", "it is a link that leads out of"),
    ],
)
def test_anything_but_images_in_class_folders_is_refused_by_its_name(
    root: Path, add: Callable[[Path], object], name: str, reason: str
) -> None:
    add(root)
    assert f"{root}/{name}: {reason}" in refuse(root)


@pytest.mark.parametrize("side", [13_000, 20_000])  # Pillow warns of the one, and refuses the other
def test_an_image_of_absurdly_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(make_bomb(side))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    reason = refuse(tmp_path)
    assert "1.png: it" in reason
    assert f"{side * side}" in reason.replace(",", "")


def test_the_caller_can_raise_the_limit_of_pixels(tmp_path: Path) -> None:
    write_images(tmp_path, ["cat/1.png"])
    with pytest.raises(InvalidInputError, match=r"it has 35 pixels, more than the limit of 34.*raise max_pixels"):
        read_folder(tmp_path, 34)
    assert read_folder(tmp_path, 35) is not None
    (tmp_path / "cat" / "1.png").write_bytes(make_bomb(7_000))
    with pytest.raises(InvalidInputError, match="it has 49,000,000 pixels"):
        read_folder(tmp_path)
    assert read_folder(tmp_path, 49_000_000) is not None


def test_no_format_that_runs_another_program_is_opened(root: Path) -> None:
    (root / "cat" / "3.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\n%%EndComments\n%%EOF\n")
    assert "cat/3.png: it can't be read as an image (it is none of " in refuse(root)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_an_image_that_the_system_refuses_to_open_is_not_called_bad(
    root: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find(root)

    def refuse_opening(path: Path, _: int) -> int:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", refuse_opening)
    for read in (lambda: read_folder(root), lambda: list(source.read(0))):
        with pytest.raises(storage.StorageError, match=f"the operating system refused .*{os.strerror(code)}") as caught:
            read()
        assert type(caught.value) is storage.StorageError


def test_too_little_memory_is_not_called_a_bad_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(storage.StorageError, match="too little memory"):
        list(find(root).read(0))


def test_a_pipe_that_replaces_an_image_is_not_waited_for(root: Path) -> None:
    source = find(root)
    (root / "cat" / "1.png").unlink()
    os.mkfifo(root / "cat" / "1.png")
    with pytest.raises(CorruptStoreError, match="it isn't a regular file"):
        list(source.read(0))


def test_a_link_within_the_tree_is_followed(root: Path) -> None:
    (root / "dog" / "same.png").symlink_to("../cat/1.png")
    images = np.concatenate(list(find(root).read(0)))
    np.testing.assert_array_equal(images[5], images[0])


def test_a_link_to_itself_is_a_storage_error(root: Path) -> None:
    (root / "dog" / "round.png").symlink_to("round.png")
    with pytest.raises(storage.StorageError):
        read_folder(root)


def test_without_folders_there_is_no_tree(tmp_path: Path) -> None:
    assert read_folder(tmp_path) is None
    (tmp_path / "1.png").touch()
    assert read_folder(tmp_path) is None
    assert read_folder(tmp_path / "1.png") is None


def test_a_tree_without_images_is_refused(cat: Path) -> None:
    assert "it has folders, but no images" in refuse(cat.parent)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: os.truncate(path, 80), "it can't be read as an image"),
        (lambda path: Pillow.new("RGB", (7, 6)).save(path), "its size has changed"),
    ],
)
def test_an_image_that_changed_is_named_when_it_is_read(
    root: Path, change: Callable[[Path], object], reason: str
) -> None:
    source = find(root)
    change(root / "dog" / "a.png")
    with pytest.raises(CorruptStoreError, match=rf"dog/a\.png: {reason}"):
        list(source.read(0))
    assert len(np.concatenate(list(source.read(4)))) == 1


def test_a_folder_that_cannot_be_listed_is_a_storage_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_listing(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse_listing)
    with pytest.raises(storage.StorageError, match="Permission denied"):
        read_folder(root)


def test_without_pillow_the_error_says_how_to_install_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(storage.BackendUnavailableError, match=r"1\.png: .* needs Pillow: python -m pip install pillow"):
        read_folder(root)
