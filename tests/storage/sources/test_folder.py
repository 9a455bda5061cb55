"""Folders of image files: names, order, classes, links, and what isn't among the images."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import StorageError
from storage.sources import folder, tree
from storage.sources.folder import FolderSource, read_folder
from tests.support.folders import NAMES, write_images

LOOP = "it is a link to a folder that contains it"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "tree")
    return tmp_path / "tree"


def find(root: Path, class_depth: int = 1) -> FolderSource:
    source = read_folder(root, class_depth)
    assert source is not None
    return source


def read(source: FolderSource, *indices: int) -> list[bytes]:
    return [bytes(content) for content in source.read_files(indices) if not isinstance(content, StorageError)]


def test_files_come_in_natural_order_with_their_classes(root: Path) -> None:
    source = find(root)
    assert source.names == list(NAMES)
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.labels.dtype == np.int64
    assert read(source, 0, 2, 4) == [(root / NAMES[index]).read_bytes() for index in (0, 2, 4)]
    assert source.problems == ()


def test_classes_are_in_natural_order_and_may_be_empty(tmp_path: Path) -> None:
    write_images(tmp_path, ("10/a.png", "9/a.png"))
    (tmp_path / "09").mkdir()
    source = find(tmp_path)
    assert source.classes == ("09", "9", "10")
    assert source.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("class_depth", "classes", "labels"),
    [
        (0, ("tree",), [0, 0, 0, 0]),
        (1, ("cat", "dog"), [0, 0, 0, 1]),
        (2, ("cat/big", "cat/small", "dog/big"), [0, 0, 1, 2]),
    ],
)
def test_the_class_is_the_folder_at_the_chosen_depth(
    tmp_path: Path, class_depth: int, classes: tuple[str, ...], labels: list[int]
) -> None:
    names = ["cat/big/1.png", "cat/big/deeper/still/2.png", "cat/small/1.png", "dog/big/1.png"]
    write_images(tmp_path / "tree", names)
    source = find(tmp_path / "tree", class_depth)
    assert (source.names, source.classes, source.labels.tolist()) == (names, classes, labels)


def test_files_without_folders_are_of_one_class(tmp_path: Path) -> None:
    write_images(tmp_path / "birds", ["2.png", "10.png"])
    source = find(tmp_path / "birds")
    assert (source.names, source.classes, source.labels.tolist()) == (["2.png", "10.png"], ("birds",), [0, 0])


@pytest.mark.parametrize(("class_depth", "names"), [(1, ["x.png"]), (2, ["a/2.png", "x.png"])])
def test_a_file_above_the_folders_of_the_classes_is_a_problem(
    tmp_path: Path, class_depth: int, names: list[str]
) -> None:
    write_images(tmp_path, ["a/2.png", "a/b/1.png", "x.png"])
    source = find(tmp_path, class_depth)
    assert "a/b/1.png" in source.names
    assert source.problems == tuple((name, "it isn't in the folder of a class") for name in names)


def test_what_systems_leave_in_folders_is_ignored(root: Path) -> None:
    before = find(root)
    for name in (".hidden", "__MACOSX", "cat/__MACOSX"):
        (root / name).mkdir()
        (root / name / "1.png").touch()
    for name in (".DS_Store", "cat/.thumbnail", "cat/Thumbs.db", "THUMBS.DB", "dog/desktop.ini"):
        (root / name).write_text("no image")
    after = find(root)
    assert (after.names, after.problems, after.identity) == (before.names, (), before.identity)


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
    source = find(root)
    assert source.identify() == source.identity
    change(root / "dog" / "b.png")
    assert source.identify() != source.identity


def test_links_to_files_and_folders_anywhere_are_followed(root: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", ["1.png"])
    (root / "dog" / "same.png").symlink_to("../cat/1.png")
    (root / "fox").symlink_to(tmp_path / "elsewhere")
    (root / "fox2").symlink_to("fox")
    (root / "cat" / "3.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    source = find(root)
    assert source.classes == ("cat", "dog", "fox", "fox2")
    assert source.names == [
        "cat/1.png",
        "cat/2.png",
        "cat/3.png",
        *NAMES[2:],
        "dog/same.png",
        "fox/1.png",
        "fox2/1.png",
    ]
    assert source.problems == ()
    assert len(set(read(source, 2, 7, 8))) == 1


@pytest.mark.parametrize("target", ["..", ".", "../cat", "../../tree"])
def test_a_link_to_a_folder_around_it_is_a_problem(root: Path, target: str) -> None:
    (root / "cat" / "loop").symlink_to(target)
    source = find(root)
    assert source.names == list(NAMES)
    assert source.problems == (("cat/loop", LOOP),)


def test_links_can_not_make_a_tree_without_end(root: Path) -> None:
    levels = 18  # each doubles the paths; while anything is mounted, Linux counts each link twice and refuses 40
    for number in range(levels):
        folder = root.with_name(f"level{number}")
        folder.mkdir()
        for name in "ab":
            (folder / name).symlink_to(root.with_name(f"level{number + 1}") if number < levels - 1 else root / "cat")
    source = find(root.with_name("level0"))
    assert 0 < len(source.names) <= 3 * tree.MAX_VISITS
    assert {problem.reason for problem in source.problems} == {f"more than {tree.MAX_VISITS} links lead to this folder"}


@pytest.mark.parametrize(
    ("add", "name", "reason"),
    [
        (lambda root: os.mkfifo(root / "dog" / "pipe"), "dog/pipe", "it isn't a regular file"),
        (lambda root: (root / "dog" / "null").symlink_to("/dev/null"), "dog/null", "it isn't a regular file"),
        (lambda root: (root / "dog" / "no").symlink_to("nowhere"), "dog/no", "it is a link to nothing"),
        (lambda root: (root / "dog" / "self").symlink_to("self"), "dog/self", "it is a link that leads back to itself"),
    ],
)
def test_what_is_no_file_is_a_problem(root: Path, add: Callable[[Path], object], name: str, reason: str) -> None:
    add(root)
    source = find(root)
    assert source.names == list(NAMES)
    ((found, why),) = source.problems
    assert found == name
    assert why.startswith(reason)


def test_a_folder_inside_that_cannot_be_listed_is_a_problem(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse_one(path: os.PathLike[str]) -> object:
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse_one)
    source = find(root)
    assert source.names == list(NAMES[3:])
    assert source.problems == (("cat", "the operating system refused (Permission denied)"),)


def test_a_folder_that_cannot_be_listed_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        read_folder(root)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ENOENT, errno.ELOOP])
def test_the_reason_comes_in_place_of_a_file_that_cannot_be_read(
    root: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find(root)

    def refuse(path: Path, _: int) -> int:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", refuse)
    (reason,) = source.read_files([3])
    assert isinstance(reason, StorageError)
    assert "the operating system refused" in reason.problem or "it is a link" in reason.problem


def test_too_many_open_files_is_no_problem_of_a_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find(root)

    def refuse(path: Path, _: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="Too many open files"):
        list(source.read_files([3]))


def test_a_large_file_is_read_to_its_end_only_if_it_begins_as_an_image(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "LARGE", 100)
    (root / "cat" / "1.png").write_bytes(bytes(200))
    (root / "cat" / "2.png").rename(root / "cat" / "2.TGA")
    write_images(root, ["dog/a.png"])
    source = find(root)
    film, tga, picture = source.read_files([0, 1, 3])
    assert isinstance(film, storage.DecodingError)
    assert film.problem.startswith("it is none of AVIF")
    assert tga == (root / "cat" / "2.TGA").read_bytes()
    assert picture == (root / "dog" / "a.png").read_bytes()


def test_a_pipe_that_replaces_an_image_is_not_waited_for(root: Path) -> None:
    source = find(root)
    (root / "cat" / "1.png").unlink()
    os.mkfifo(root / "cat" / "1.png")
    (reason,) = source.read_files([0])
    assert isinstance(reason, StorageError)
    assert reason.problem == "it isn't a regular file"


def test_what_is_no_folder_is_no_source(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "nothing") is None
    (tmp_path / "file").touch()
    assert read_folder(tmp_path / "file") is None


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("1.png", b"\x89PNG\r\n\x1a\n", True),
        ("1", b"\xff\xd8\xff\xe0", True),
        ("1.tga", b"\0\0\2", True),
        ("1.jpg", b"text", False),
        ("1.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n", False),
        ("empty", b"", False),
    ],
)
def test_a_folder_of_pictures_is_told_by_their_first_bytes(
    tmp_path: Path, name: str, content: bytes, *, expected: bool
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / name).write_bytes(content)
    assert find(tmp_path).has_pictures() is expected


def test_a_folder_of_which_nothing_can_be_read_has_no_pictures(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find(root)
    monkeypatch.setattr("storage.sources.folder.open_input", lambda _: os.open("/nowhere", os.O_RDONLY))
    assert not source.has_pictures()


def test_without_pillow_the_error_says_how_to_install_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(storage.BackendUnavailableError, match="needs Pillow: python -m pip install pillow"):
        find(root).has_pictures()
