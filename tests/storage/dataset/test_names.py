"""Names of images and classes: relative paths and distinct strings, kept exactly."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

import storage
from storage import CorruptStoreError, InvalidInputError
from storage.dataset.annotations import Annotations
from storage.dataset.names import Names, find_refused
from tests.support.datasets import find_beside, flip_bit, rewrite_beside, rewrite_details
from tests.support.image_sets import make_set
from tests.support.open_files import list_names
from tests.support.properties import given, st

COUNT = 5
IMAGES, LABELS = make_set(COUNT, 5, 7)
NAMES = ["a.png", "b/a.png", "ä\n.png", "\udcff", "b/a"]
PARTS = st.text(min_size=1).filter(lambda part: part not in {".", ".."} and not {"/", "\0"} & set(part))
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join).filter(lambda name: not has_surrogates(name))


def has_surrogates(name: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in name)


@given(st.lists(PATHS, unique=True), st.data())
def test_names_are_a_sequence_that_finds_each(given_names: list[str], data: st.DataObject) -> None:
    names = Names("".join(f"{name}\0" for name in given_names).encode())
    assert len(names) == len(given_names)
    assert list(names) == given_names
    assert Names(names.content) == names
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(names))] * 2)))
    assert list(names[start:stop]) == given_names[start:stop]
    assert [names.find(name) for name in given_names] == list(range(len(names)))
    other = data.draw(PATHS)
    assert (names.find(other) is None) is (other not in given_names)


def test_names_compare_and_show_how_many_there_are() -> None:
    names = Names.join(NAMES)
    assert names == Names.join(NAMES)
    assert names != Names.join(NAMES[1:])
    assert names != NAMES
    assert len({names, Names.join(iter(NAMES)), Names.join(names)}) == 1
    assert repr(names) == "<Names: 5>"
    assert names[-1] == "b/a"
    with pytest.raises(IndexError):
        names[5]
    assert [names.find(name) for name in ("", "a", "..", "a\0", "\ud800")] == [None] * 5


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../a", "a/../b", "a/", "a//b", ".", "./a", "a\0b", "\ud800", 5, b"bytes", None],
    ids=repr,
)
def test_a_name_that_is_no_relative_path_is_refused(name: object, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"relative path|can't be the name of a file|a name is a "):
        storage.save(tmp_path / "set", IMAGES, LABELS, "npy", names=[*NAMES[1:], cast("str", name)])
    assert list_names(tmp_path) == []


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"names": NAMES[:4]}, "4 names and 5 labels"),
        ({"names": [*NAMES[:4], "a.png"]}, r"two images have the name 'a\.png'"),
        ({"names": "abcde"}, "names is a str"),
        ({"names": 5}, "names is a int"),
        ({"classes": "ab"}, "classes is a str"),
        ({"classes": 5}, "classes is a int"),
        ({"classes": ["a", 5]}, "classes have impossible texts"),
        ({"classes": ["\ud800"]}, "classes have .*surrogates not allowed"),
        ({"classes": ["a", "a"]}, "two classes have one name"),
    ],
    ids=str,
)
def test_annotations_that_do_not_fit_are_refused(annotations: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        storage.save(tmp_path / "set", IMAGES, LABELS, "npy", **annotations)
    assert list_names(tmp_path) == []


def test_names_of_pixels_are_kept_exactly_and_named_in_errors(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "png", names=NAMES)
    with storage.open(tmp_path / "set") as reader:
        assert list(reader.names) == NAMES
        assert reader.index("\udcff") == 3
    next((tmp_path / "set").glob("part-*/00000001.png")).unlink()
    with storage.open(tmp_path / "set") as reader, pytest.raises(CorruptStoreError) as caught:
        reader[1]
    assert (caught.value.record, caught.value.name) == (1, "b/a.png")
    with pytest.raises(CorruptStoreError, match=r"record 1 \(b/a\.png\): it is damaged"):
        storage.load(tmp_path / "set")


@pytest.mark.parametrize(
    "damage",
    [lambda path: flip_bit(path, 0), Path.unlink, lambda path: path.write_bytes(path.read_bytes() + b"x\0")],
    ids=["changed", "missing", "longer"],
)
def test_damaged_names_are_refused_and_listed_and_hide_no_other_error(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "png", names=NAMES)
    path = find_beside(tmp_path / "set", "names")
    damage(path)
    with storage.open(tmp_path / "set") as reader:
        with pytest.raises(CorruptStoreError, match=rf"{tmp_path}/set: .*{path.name}"):
            list(reader.names)
        next((tmp_path / "set").glob("part-*/00000001.png")).unlink()
        with pytest.raises(CorruptStoreError, match="record 1: it is damaged"):
            reader[1]
    report = storage.check(tmp_path / "set")
    assert path.name in report.files
    assert (sorted(report.records), report.names) == ([1], ())


def test_names_that_are_not_as_many_as_the_images_are_refused(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "png", names=NAMES)
    rewrite_beside(tmp_path / "set", "names", b"a\0b\0")
    with storage.open(tmp_path / "set") as reader:
        with pytest.raises(CorruptStoreError, match=f"{tmp_path}/set: it has 2 names and 5 images"):
            list(reader.names)
        next((tmp_path / "set").glob("part-*/00000004.png")).unlink()
        with pytest.raises(CorruptStoreError, match="record 4: it is damaged"):
            reader[4]


HOSTILE = {
    "absolute": (b"/etc/passwd\0b\0c\0d\0e\0", r"'/etc/passwd'"),
    "above": (b"a\0b\0c/../d\0d\0e\0", r"'c/\.\./d'"),
    "ends above": (b"a\0b\0c\0d\0e/..\0", r"'e/\.\.'"),
    "dot": (b"a\0.\0c\0d\0e\0", r"'\.'"),
    "empty": (b"a\0\0c\0d\0e\0", "''"),
    "empty part": (b"a\0b//b\0c\0d\0e\0", "'b//b'"),
    "folder": (b"a\0b/\0c\0d\0e\0", "'b/'"),
    "twice": (b"a\0b\0c\0b\0e\0", "two images of the name 'b'"),
    "cut": (b"a\0b\0c\0d\0e", "names that were cut short"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_names_that_are_never_saved_are_refused_and_listed(case: str, tmp_path: Path) -> None:
    content, message = HOSTILE[case]
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", names=NAMES)
    rewrite_beside(tmp_path / "set", "names", content)
    with storage.open(tmp_path / "set") as reader:
        assert reader[1][1] == LABELS[1]
        with pytest.raises(CorruptStoreError, match=f"{tmp_path}/set: .*{message}"):
            list(reader.names)
    with pytest.raises(CorruptStoreError, match=message):
        storage.compact(tmp_path / "set")
    report = storage.check(tmp_path / "set")
    assert list(report.files) == [find_beside(tmp_path / "set", "names").name]
    assert not report.is_whole


@given(st.lists(PATHS, unique=True))
def test_what_is_saved_is_parsed(given_names: list[str]) -> None:
    content = "".join(f"{name}\0" for name in given_names).encode()
    assert list(Names.parse(content)) == given_names


@pytest.mark.parametrize("names", [["b/a.png/c", *NAMES[:4]], ["b", *NAMES[:4]], [*NAMES[:4], "x/y/z/1", "x"][2:]])
def test_a_name_that_is_also_that_of_a_folder_is_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="which is that of a folder with others: choose another name"):
        storage.save(tmp_path / "set", IMAGES, LABELS, "npy", names=names)
    with pytest.raises(InvalidInputError, match="which is that of a folder with others"):
        Names.join(Names("".join(f"{name}\0" for name in names).encode("utf-8", "surrogateescape")))
    assert list_names(tmp_path) == []


@pytest.mark.parametrize("name", ["b", "a.png/1"])
def test_appending_a_name_that_makes_a_file_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", names=NAMES)
    before = list_names(tmp_path)
    with pytest.raises(InvalidInputError, match="which is that of a folder with others"):
        storage.append(tmp_path / "set", IMAGES[:1], LABELS[:1], names=[name])
    assert list_names(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"a.png\0"], ids=["fewer", "twice"])
def test_names_of_parts_that_do_not_fit_together_are_listed(content: bytes, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", names=NAMES)
    storage.append(tmp_path / "set", IMAGES[:1], LABELS[:1], names=["new"])
    rewrite_beside(tmp_path / "set", "names", content, 1)
    report = storage.check(tmp_path / "set")
    assert list(report.files) == [find_beside(tmp_path / "set", "names", 1).name]
    assert (report.names, report.outcome) == ((), "damaged")


def test_a_part_without_names_among_others_is_found(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", names=NAMES)
    storage.append(tmp_path / "set", IMAGES[:1], LABELS[:1], names=["new"])
    beside = json.loads(find_beside(tmp_path / "set", "json", 1).read_text())["beside"]
    del beside["names"]
    rewrite_details(tmp_path / "set", 1, beside=beside)
    with (
        storage.open(tmp_path / "set") as reader,
        pytest.raises(CorruptStoreError, match="have names, and some don't"),
    ):
        list(reader.names)
    assert [name.rpartition(".")[2] for name in storage.check(tmp_path / "set").files] == ["names"]


def test_annotations_are_identified_by_labels_and_names() -> None:
    all_annotations = [
        Annotations.check(LABELS),
        Annotations.check(LABELS[::-1]),
        Annotations.check(LABELS, NAMES),
        Annotations.check(LABELS, NAMES[::-1]),
    ]
    assert len({annotations.identify() for annotations in all_annotations}) == 4
    assert len(all_annotations[2].take(1, 3)) == 2


def refuse_long(names: Sequence[str]) -> None:
    if max(map(len, names)) > 3:
        raise InvalidInputError("it is too long")


@pytest.mark.parametrize(
    ("names", "problems"),
    [
        (["a", "b/c"], {}),
        (["a", "long", "b/c/d"], {1: "it is too long", 2: "it is too long"}),
        (["a", "a/b", "b"], {0: "its name is that of a folder with others"}),
    ],
)
def test_names_that_cannot_be_kept_are_found(names: list[str], problems: dict[int, str]) -> None:
    assert {index: error.problem for index, error in find_refused(names, refuse_long).items()} == problems
