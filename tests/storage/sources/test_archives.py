"""Archives of image files, and what lies beside an image in them."""

import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import CorruptStoreError, InvalidInputError, StorageError, limits
from storage.dataset.annotations import Problem
from storage.sources import archives
from storage.sources.archives import ArchiveSource
from storage.sources.opening import open_source
from tests.support.cifar import join, regular
from tests.support.commands import Command
from tests.support.image_files import make_picture, save
from tests.support.source_files import write_tar, write_zip

pytest_plugins = ["tests.support.command_fixtures"]

PNG = save(make_picture(), "png")
TREE = {
    "dog/2.png": PNG + b"2",
    "dog/1.png": PNG + b"1",
    "cat10/a/b.png": PNG + b"b",
    "cat9/c.png": PNG,
}
SAMPLES = {
    "a/000000.jpg": PNG + b"0",
    "a/000000.cls": b"7",
    "a/000000.json": b'{"width": 3}',
    "a/000001.left.png": PNG + b"1",
    "a/000001.CLS": b" -9223372036854775808\n",
    "a/000001.txt": "a café".encode(),
}
WRITERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "tar": write_tar,
    "packed tar": lambda path, files: write_tar(path, files, "w:gz"),
    "zip": write_zip,
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    return lambda files: WRITERS[request.param](tmp_path / "set", files)


def find(path: Path, class_depth: int | None = None) -> ArchiveSource:
    with open_source(path, class_depth) as source:
        assert isinstance(source, ArchiveSource)
        return source


def read(source: ArchiveSource, indices: Iterable[int] | None = None) -> list[bytes]:
    contents = source.read_files(range(len(source.names)) if indices is None else indices)
    return [bytes(content) for content in contents if not isinstance(content, StorageError)]


def list_problems(path: Path) -> dict[str, str]:
    return {problem.name: problem.reason for problem in find(path).problems}


def test_images_are_in_the_order_of_the_archive_with_their_folders_as_classes(
    write: Callable[[dict[str, bytes]], Path],
) -> None:
    source = find(write(TREE))
    assert source.names == list(TREE)
    assert source.classes == ("cat9", "cat10", "dog")
    assert source.labels.tolist() == [2, 2, 1, 0]
    assert (source.kind, source.metadata, source.problems) == ("encoded", None, ())
    assert read(source) == list(TREE.values())
    assert read(source, [1, 3]) == [PNG + b"1", PNG]


@pytest.mark.parametrize(
    ("class_depth", "classes", "names"),
    [(0, ("set",), list(TREE)), (2, ("cat10/a",), ["cat10/a/b.png"])],
)
def test_classes_can_be_at_another_depth(
    class_depth: int, classes: tuple[str, ...], names: list[str], tmp_path: Path
) -> None:
    source = find(write_tar(tmp_path / "set.tar", TREE), class_depth)
    assert (source.classes, source.names) == (classes, names)
    assert {problem.name for problem in source.problems} == set(TREE) - set(names)


def test_files_beside_an_image_are_its_label_and_metadata(write: Callable[[dict[str, bytes]], Path]) -> None:
    source = find(write(SAMPLES))
    assert source.names == ["a/000000.jpg", "a/000001.left.png"]
    assert source.labels.tolist() == [7, -(1 << 63)]
    assert source.classes == ()
    assert source.metadata == {"json": ['{"width": 3}', None], "txt": [None, "a café"]}
    assert read(source) == [PNG + b"0", PNG + b"1"]


@pytest.mark.parametrize("label", [b"", b"cat", b"1.5", b"9223372036854775808", b"\xd9\xa3", b"1" * 30, b"--1"])
def test_an_image_without_a_label_among_labelled_ones_is_a_problem(label: bytes, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", SAMPLES | {"b.jpg": PNG, "b.cls": label, "c.jpg": PNG})
    reason = "it has no label: a file .cls with a number of 64 bits"
    assert list_problems(path) == {"b.jpg": reason, "c.jpg": reason}
    assert len(find(path).labels) == 2


@pytest.mark.parametrize("name", WRITERS)
def test_of_a_sample_with_something_beside_its_image_the_rest_is_left_out(
    name: str, run: Command, tmp_path: Path
) -> None:
    samples = {
        "0.jpg": PNG + b"0",
        "0.seg.png": PNG,
        "0.depth.npy": b"array",
        "0.cls": b"7",
        "1.left.png": PNG + b"1",
        "1.seg.npy": b"array",
        "1.cls": b"8",
        "2.SEG.PNG": PNG,
        "2.JPG": PNG + b"2",
        "2.cls": b"9",
    }
    path = WRITERS[name](tmp_path / "set", samples)
    code, printed, _ = run("convert", path, tmp_path / "new", "--backend", "npy")
    assert code == 0
    rest = "of a sample, one image is read, and .cls, .json and .txt"
    assert printed.splitlines()[:-1] == [
        f".seg.png is left out (2 files): {rest}",
        f".depth.npy is left out (1 file): {rest}",
        f".seg.npy is left out (1 file): {rest}",
    ]
    with storage.open(tmp_path / "new") as reader:
        assert (list(reader.names), reader.read_labels().tolist()) == (["0.jpg", "1.left.png", "2.JPG"], [7, 8, 9])
        assert [bytes(file)[-1:] for file in reader.read_encoded(range(3))[0]] == [b"0", b"1", b"2"]


def test_a_sample_of_several_images_is_a_problem(tmp_path: Path) -> None:
    samples = {"0.jpg": PNG, "0.png": PNG, "1.a.png": PNG, "1.b.png": PNG, "2.npy": b"", "2.bin": b"", "3.png": PNG}
    path = write_tar(tmp_path / "a.tar", samples | {f"{number}.cls": b"1" for number in range(4)})
    assert list_problems(path) == dict.fromkeys(list(samples)[:-1], archives.NO_IMAGE)
    assert find(path).names == ["3.png"]


def test_a_second_image_of_a_sample_is_a_problem_where_nothing_is_beside_images(run: Command, tmp_path: Path) -> None:
    files = {"a/0.jpg": PNG, "a/0.seg.png": PNG, "a/1.jpg": PNG, "a/1.png": PNG, "a/2.old.jpg": PNG}
    path = write_tar(tmp_path / "a.tar", files)
    assert list_problems(path) == {"a/0.seg.png": archives.SECOND}
    assert find(path).names == [name for name in files if name != "a/0.seg.png"]
    printed = run("convert", path, tmp_path / "new", "--backend", "npy")[1]
    assert f"1 file: {archives.SECOND}: if it is an image of its own, unpack the archive and name the folder" in printed
    assert find(write_zip(tmp_path / "a.zip", files)).names == list(files)


def test_a_text_that_belongs_to_no_image_is_a_file_among_the_others(tmp_path: Path) -> None:
    assert find(write_tar(tmp_path / "a.tar", {"a.png": PNG, "b.txt": b"text"})).names == ["a.png", "b.txt"]


def test_a_text_that_is_too_long_or_not_unicode_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_TEXT", 5)
    path = write_tar(tmp_path / "a.tar", {"a.png": PNG, "a.txt": b"123456", "b.png": PNG, "b.txt": b"\xff"})
    assert list_problems(path) == {"a.txt": archives.TOO_LONG, "b.txt": "it isn't text in UTF-8"}


def test_the_names_are_listed_once(tmp_path: Path) -> None:
    source = find(write_tar(tmp_path / "a.tar", TREE))
    assert source.names is source.names


def test_files_beside_images_are_not_compared_with_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(
        tmp_path / "a.tar", {f"{number}.{ending}": PNG for number in range(9) for ending in ("png", "txt")}
    )
    monkeypatch.setattr(archives.Found, "__eq__", lambda *_: pytest.fail("files are compared"))
    assert len(find(path).names) == 9


def test_names_of_many_digits_are_ordered(write: Callable[[dict[str, bytes]], Path]) -> None:
    large = "1" * 5_000
    assert find(write({f"{large}/a.png": PNG, "2/a.png": PNG})).classes == ("2", large)


def test_lists_and_texts_may_not_take_far_more_memory_than_the_archive_has_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.png": b"", "a.txt": b"a" * 10_000}, "w:gz")
    monkeypatch.setattr(limits, "MAX_MEMORY", 5_000)
    with pytest.raises(StorageError, match="what lies beside its images takes 10,000 bytes of memory"):
        find(path)
    write_tar(path, {str(number): b"" for number in range(20)}, "w:gz")
    with pytest.raises(StorageError, match=r"the list of its files takes \d+,000 bytes of memory"):
        find(path)


def test_files_of_systems_and_folders_are_ignored(write: Callable[[dict[str, bytes]], Path]) -> None:
    files = {"__MACOSX/._a.png": b"", "cat/.DS_Store": b"", "Thumbs.db": b"", "./cat/a.png": PNG}
    assert find(write(files)).names == ["cat/a.png"]


@pytest.mark.parametrize("name", ["/etc/passwd.png", "../a.png", "a/../../b.png", "a//b.png"])
def test_a_name_that_leads_out_of_the_archive_is_a_problem(name: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {name: PNG, "b.png": PNG})
    assert list_problems(path) == {name: "its name leads out of the archive"}


def test_a_name_that_is_there_twice_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(join(regular("a.png", PNG), regular("./a.png", PNG + b"2")))
    assert list_problems(tmp_path / "a.tar") == {"a.png": "it is there twice"}
    assert read(find(tmp_path / "a.tar")) == [PNG]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "it is a link in the archive"),
        (tarfile.LNKTYPE, "it is a link in the archive"),
        (tarfile.FIFOTYPE, "it is no regular file in the archive"),
        (tarfile.CHRTYPE, "it is no regular file in the archive"),
        (tarfile.GNUTYPE_SPARSE, "it is no regular file in the archive"),
    ],
)
def test_a_member_of_a_tar_archive_that_is_no_plain_file_is_a_problem(kind: bytes, reason: str, tmp_path: Path) -> None:
    member = tarfile.TarInfo("odd.png")
    member.type, member.linkname = kind, "/etc/passwd"
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    (tmp_path / "a.tar").write_bytes(join((folder, b""), (member, b""), regular("a.png", PNG)))
    assert list_problems(tmp_path / "a.tar") == {"odd.png": reason}


def test_members_of_a_zip_file_that_are_links_or_bombs_are_problems(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.png", bytes(20 << 20))
        archive.writestr("a.png", PNG)
    assert list_problems(tmp_path / "a.zip") == {
        "link.png": "it is a link or no regular file in the archive",
        "bomb.png": "it would unpack to 20,971,520 bytes",
    }
    assert read(find(tmp_path / "a.zip")) == [PNG]


def test_members_of_a_zip_file_that_cannot_be_unpacked_are_problems_of_which_the_others_are_saved(
    run: Command, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", PNG)
        archive.writestr("b.png", PNG, zipfile.ZIP_BZIP2)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", PNG + b"2")
        archive.writestr("locked.png", PNG)
        archive.getinfo("locked.png").flag_bits |= 1
        archive.writestr("z.png", PNG)
    problems = [
        ("a.png", "it is there twice"),
        ("b.png", "it is compressed in the archive by another method than deflate"),
        ("locked.png", "it is encrypted in the archive"),
    ]
    command = ("convert", tmp_path / "a.zip", tmp_path / "set", "--backend", "npy")
    code, printed, _ = run(*command)
    assert (code, printed.splitlines()[:3]) == (1, [f"{name}: {reason}" for name, reason in problems])
    assert run(*command, "--on-error=skip")[0] == 0
    with storage.open(tmp_path / "set") as reader:
        assert list(reader.names) == ["a.png", "z.png"]
        assert [bytes(file) for file in reader.read_encoded([0, 1])[0]] == [PNG, PNG]
        assert list(reader.skipped) == problems


def test_a_member_of_a_packed_tar_archive_that_is_a_bomb_is_a_problem(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar.gz", {"bomb.png": bytes(20 << 20), "a.png": PNG}, "w:gz")
    assert list_problems(path) == {"bomb.png": "it would unpack to 20,971,520 bytes"}
    assert read(find(path)) == [PNG]


def test_an_archive_of_which_no_file_can_be_read_says_why(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar.gz", {"bomb.png": bytes(20 << 20)}, "w:gz")
    with pytest.raises(InvalidInputError, match=r"1 files can be read: bomb\.png: it would unpack to 20,971,520 bytes"):
        find(path)


def test_a_zip_file_whose_members_unpack_to_far_more_together_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(9):
            archive.writestr(f"{number}.png", PNG)
        for member in archive.infolist():
            member.file_size = 15 << 20  # each has as much as one may unpack to
    with pytest.raises(InvalidInputError, match=r"have 141,557,760 bytes, and a file of .* may unpack to 134,"):
        find(tmp_path / "a.zip")


def test_a_damaged_member_of_a_zip_file_is_the_only_one_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{n}.png": PNG for n in range(3)})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("1.png").header_offset + 30 + len("1.png")
    path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    _, damaged, _ = find(path).read_files(range(3))
    assert isinstance(damaged, CorruptStoreError)
    assert damaged.problem.startswith("it is damaged in the archive")


def test_a_damaged_name_of_a_member_of_a_zip_file_concerns_no_other(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"é.png": PNG, "b.png": PNG})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xc3\xff", 1))
    damaged, other = find(path).read_files(range(2))
    assert isinstance(damaged, CorruptStoreError)
    assert other == PNG


def test_a_damaged_text_is_a_problem(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": PNG, "a.txt": b"text" * 9})
    path.write_bytes(path.read_bytes().replace(zlib.compress(b"text" * 9, 1)[2:-4], bytes(8)))
    assert list(list_problems(path)) == ["a.txt"]
    assert find(path).metadata == {"txt": [None]}


@pytest.mark.parametrize("name", ["1.tar", "2.tar"])
def test_the_shards_of_a_folder_are_one_set(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "10.tar", {"dog/a.png": PNG + b"1"})
    write_tar(tmp_path / name, {"dog/a.png": PNG, "cat/b.png": PNG + b"2"})
    (tmp_path / ".cache").mkdir()
    source = find(tmp_path)
    assert source.names == [f"{name}/dog/a.png", f"{name}/cat/b.png", "10.tar/dog/a.png"]
    assert (source.classes, source.labels.tolist()) == (("cat", "dog"), [1, 0, 1])
    assert read(source) == [PNG, PNG + b"2", PNG + b"1"]
    assert read(source, [0, 2]) == [PNG, PNG + b"1"]


@pytest.mark.parametrize("name", ["info.json", "README"])
def test_a_folder_of_shards_and_something_else_says_what_is_none(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "1.tar", {"dog/a.png": PNG})
    (tmp_path / name).write_text("{}")
    with pytest.raises(InvalidInputError, match=f"not all of its files are shards: {name} isn't") as caught:
        find(tmp_path)
    assert not hasattr(caught.value, "__notes__")


def test_the_identity_changes_with_each_shard(tmp_path: Path) -> None:
    for name in ("1.tar", "2.tar"):
        write_tar(tmp_path / name, {"a.png": PNG})
    for name in ("1.tar", "2.tar"):
        source = find(tmp_path)
        assert source.identify() == source.identity
        os.utime(tmp_path / name, ns=(0, 0))
        assert source.identify() != source.identity


def test_a_tar_archive_without_its_end_is_damaged(tmp_path: Path) -> None:
    content = join(regular("a.png", PNG), regular("b.png", PNG))
    second = content.index(b"b.png")
    for wrong in (
        content[:second],
        content[: second + 700],
        content[:second] + b"x" + content[second + 1 :],
        content + b"more",
        content + bytes((1 << 20) + 1),
    ):
        (tmp_path / "a.tar").write_bytes(wrong)
        with pytest.raises(CorruptStoreError, match="it is a tar archive, and"):
            find(tmp_path / "a.tar")


def test_a_member_that_is_cut_short_meanwhile_is_damaged(tmp_path: Path) -> None:
    source = find(write_tar(tmp_path / "a.tar", {"a.png": PNG}))
    os.truncate(tmp_path / "a.tar", 600)
    (found,) = source.read_files([0])
    assert isinstance(found, CorruptStoreError)


def test_an_archive_without_images_says_how_many_files_it_has(write: Callable[[dict[str, bytes]], Path]) -> None:
    path = write({"a.txt": b"a", "b.TXT": b"b"})
    with pytest.raises(InvalidInputError, match="none of its 2 files is an image"):
        find(path)


def test_an_empty_zip_file_has_no_images(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="none of its 0 files is an image"):
        find(write_zip(tmp_path / "a.zip", {}))


def test_long_names_are_read(tmp_path: Path) -> None:
    name = f"{'long/' * 60}é.png"
    for mode in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=mode) as archive:
            archive.addfile(regular(name, PNG)[0], io.BytesIO(PNG))
        (tmp_path / "a.tar").write_bytes(raw.getvalue())
        assert find(tmp_path / "a.tar").names == [name]


@pytest.mark.parametrize(
    ("files", "class_depth", "classes", "labels"),
    [
        (["photos/dog/1.png", "photos/cat/2.png"], 1, ("cat", "dog"), [1, 0]),
        (["photos/dog/1.png", "photos/cat/2.png"], 0, ("photos",), [0, 0]),
        (["photos/dog/big/1.png", "photos/cat/2.png"], 2, ("dog/big",), [0]),
        (["photos/1.png", "photos/2.png"], 1, ("photos",), [0, 0]),
        (["photos/dog/1.png", "2.png"], 1, ("photos",), [0]),
        (["photos/dog/1.png", "more/dog/1.png"], 1, ("more", "photos"), [1, 0]),
    ],
)
def test_a_folder_that_was_packed_with_its_name_is_read_as_if_it_was_named(
    write: Callable[[dict[str, bytes]], Path],
    files: list[str],
    class_depth: int,
    classes: tuple[str, ...],
    labels: list[int],
) -> None:
    source = find(write(dict.fromkeys(files, PNG)), class_depth)
    assert (source.classes, source.labels.tolist()) == (classes, labels)
    assert [*source.names, *(problem.name for problem in source.problems)] == files


@pytest.mark.parametrize("name", [*WRITERS, "folder"])
def test_classes_deeper_than_all_images_are_problems(name: str, run: Command, tmp_path: Path) -> None:
    if name == "folder":
        (tmp_path / "set" / "cat").mkdir(parents=True)
        (tmp_path / "set" / "cat" / "1.png").write_bytes(PNG)
    else:
        WRITERS[name](tmp_path / "set", {"cat/1.png": PNG})
    code, printed, complaints = run("convert", tmp_path / "set", tmp_path / "new", "--backend=npy", "--class-depth=2")
    assert (code, printed.splitlines()[0]) == (1, "cat/1.png: it isn't in the folder of a class")
    assert complaints.endswith("0 of 1 files can be used, so nothing was written: correct them\n")
    assert "move it into one, or choose --class-depth" in printed


def test_an_archive_becomes_a_dataset(run: Command, tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", TREE | {"cat9/note.md": b"text"})
    code, printed, _ = run("convert", tmp_path / "a.zip", tmp_path / "set", "--backend", "npy")
    assert code == 1
    assert "cat9/note.md: it is none of" in printed
    assert run("convert", tmp_path / "a.zip", tmp_path / "set", "--backend", "npy", "--on-error=skip")[0] == 0
    with storage.open(tmp_path / "set") as reader:
        assert list(reader.names) == list(TREE)
        assert reader.classes == ("cat9", "cat10", "dog")
        assert [bytes(file) for file in reader.read_encoded(range(4))[0]] == list(TREE.values())
        assert list(reader.skipped) == [Problem("cat9/note.md", reader.skipped[0].reason)]


@pytest.mark.parametrize("name", WRITERS)
def test_an_archive_of_a_folder_has_the_same_images_and_problems(name: str, run: Command, tmp_path: Path) -> None:
    files = {"a/1.png": PNG, "a/2.png": PNG[:-40], "a/3.txt": b"text", "a/4.png": b"", "b/5.png": PNG, "6.png": PNG}
    files["b/7.png"] = save(make_picture().astype(np.uint16)[..., 0], "png")
    for path, content in files.items():
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_bytes(content)
    WRITERS[name](tmp_path / "packed", files)
    printed = {}
    for source in ("tree", "packed"):
        options = ["--backend", "npy", "--on-error=skip"]
        code, printed[source], complaints = run("convert", tmp_path / source, tmp_path / f"{source}.set", *options)
        assert (code, complaints) == (0, "")
    assert printed["packed"].replace("packed", "tree") == printed["tree"]
    assert "5 of 7 files can't be used" in printed["tree"]
    with storage.open(tmp_path / "tree.set") as one, storage.open(tmp_path / "packed.set") as other:
        assert one.checksum == other.checksum
        assert (list(one.names), one.classes, one.skipped) == (list(other.names), other.classes, other.skipped)


def test_a_depth_of_classes_is_refused_where_labels_are_given(run: Command, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "set.tar", {"1.png": PNG, "1.cls": b"3"})
    code, _, complaints = run("convert", path, tmp_path / "new", "--backend=npy", "--class-depth=1")
    assert code == 2
    assert "set.tar: --class-depth is for a folder or an archive whose folders are classes: leave it out" in complaints
