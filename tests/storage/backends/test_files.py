"""Files: what people and torchvision see in the folders, names that are refused, and an index that counts."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import storage
from storage import CorruptStoreError, DecodingError, Encoded, InvalidInputError
from tests.support.backends import take_backend
from tests.support.encoded_sets import assert_same_files, check_file_reads, encode, make_files, make_pictures
from tests.support.foreign import Case, Change, append, cut, delete, flip, make_endless, make_folder, write
from tests.support.image_sets import make_set

files = take_backend("files")
COUNT = 3
FILES, LABELS = Encoded.join([b"first", b"", b"the third"]), np.array([10, 2, 10])
NAMES = ["cats/Bücher 書.jpg", "dogs/small/.hidden", "a"]
HEADER = b"images=3 characters=20\nlabel\tbytes\tpath\n"
LINES = (b"10\t5\t10/00000000.bin", b"2\t0\t02/00000001.bin", b"10\t9\t10/00000002.bin")
READS: dict[str, Callable[[Path], object]] = {
    "read_single": lambda store: [files.read_single(store, index) for index in range(COUNT)],
    "read_many": files.read_many,
    "reader": lambda store: files.open_reader(store).read_encoded(range(COUNT)),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    files.store_many(tmp_path / "store", FILES, LABELS)
    return tmp_path / "store"


def read_as_folders(store: Path) -> dict[str, int]:
    """Read labels as torchvision's ImageFolder does: the numbers of the folders in alphabetical order."""
    classes = sorted(entry.name for entry in os.scandir(store) if entry.is_dir())
    numbers = {name: number for number, name in enumerate(classes)}
    return {path.name: numbers[path.parent.name] for path in store.glob("*/*")}


def test_the_index_is_a_table_with_lines_of_one_length(store: Path) -> None:
    assert (store / "index.tsv").read_bytes() == HEADER + b"".join(line.rjust(20) + b"\n" for line in LINES)
    with (store / "index.tsv").open(encoding="utf-8", newline="") as file:
        assert next(file) == "images=3 characters=20\n"
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [int(row["label"]) for row in rows] == LABELS.tolist()
    assert [(store / row["path"]).read_bytes() for row in rows] == [bytes(file) for file in FILES]


def test_errors_about_an_image_have_its_name(store: Path) -> None:
    with files.open_reader(store) as reader:
        reads: tuple[Callable[[], object], ...] = (
            lambda: reader[1],
            lambda: reader.read([0, 1], size=(2, 2)),
            lambda: reader[[1]],
        )
        for read in reads:
            with pytest.raises(DecodingError, match=r"record [01] \(\d\d/0000000[01]\.bin\): it is none of") as caught:
                read()
            assert caught.value.name in {"10/00000000.bin", "02/00000001.bin"}


def test_folders_are_labels_and_names_are_indices_with_the_extension_of_the_content(tmp_path: Path) -> None:
    pictures, labels, pixels = make_pictures()
    jpeg = encode(pixels[0], "JPEG")
    files.store_many(tmp_path / "store", Encoded.join([*pictures, jpeg]), np.array([*labels, -7]))
    names = sorted(str(path.relative_to(tmp_path / "store")) for path in (tmp_path / "store").glob("*/*"))
    assert names == ["-7/00000005.jpg", *(f"0{index}/{index:08}.png" for index in range(5))]
    with Image.open(tmp_path / "store" / "03" / "00000003.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels[3])


@pytest.mark.parametrize("classes", [1, 2, 10, 11, 101])
def test_folders_in_alphabetical_order_are_the_labels(tmp_path: Path, classes: int) -> None:
    labels = np.random.default_rng(0).permutation(np.arange(2 * classes) % classes)
    files.store_many(tmp_path / "store", Encoded.join([b"x"] * len(labels)), labels)
    assert read_as_folders(tmp_path / "store") == {f"{i:08}.bin": label for i, label in enumerate(labels.tolist())}


def test_names_are_the_paths(tmp_path: Path) -> None:
    files.store_many(tmp_path / "store", FILES, LABELS, names=NAMES, classes=["ignored"])
    for name, file in zip(NAMES, FILES, strict=True):
        assert (tmp_path / "store" / name).read_bytes() == file
    check_file_reads(files, tmp_path / "store", (FILES, LABELS))


def test_names_that_are_not_unicode_are_kept(tmp_path: Path) -> None:
    files.store_many(tmp_path / "store", FILES[:1], LABELS[:1], names=["\udcff.jpg"])
    assert (tmp_path / "store" / "\udcff.jpg").read_bytes() == b"first"
    assert files.find_pixels(tmp_path / "store") == {"\udcff.jpg": [range(5)]}
    check_file_reads(files, tmp_path / "store", (FILES[:1], LABELS[:1]))


@pytest.mark.parametrize(
    ("classes", "labels", "folders"),
    [
        (["bird", "cat", "dog"], [2, 0, 1], ["dog", "bird", "cat"]),
        (["0", "1", "2"], [2, 0, 1], ["2", "0", "1"]),
        (["1", "2", "3"], [2, 0, 1], ["3", "1", "2"]),
        (["a", "b", "no image has it"], [1, 0, 1], ["b", "a", "b"]),
        (["1", "0"], [0, 1, 0], ["0", "1", "0"]),
        (["class 2", "class 10"], [0, 1, 0], ["0", "1", "0"]),
        (["cat", "Dog"], [0, 1, 0], ["0", "1", "0"]),
        (["2"], [0, 2, 0], ["0", "2", "0"]),
        (["cat"], [0, -1, 10], ["00", "-1", "10"]),
        (["cat/tabby", "dog"], [0, 1, 0], ["0", "1", "0"]),
        (["", "x"], [0, 1, 0], ["0", "1", "0"]),
        (["a", "b\t"], [0, 1, 0], ["0", "1", "0"]),
        (["..", "x"], [0, 1, 0], ["0", "1", "0"]),
        (["index.tsv", "x"], [0, 1, 0], ["0", "1", "0"]),
        (["a", "é" * 128], [0, 1, 0], ["0", "1", "0"]),
    ],
    ids=str,
)
def test_folders_are_called_by_classes_if_their_alphabetical_order_is_that_of_the_labels(
    classes: list[str], labels: list[int], folders: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    files.store_many(store, FILES, np.array(labels), classes=classes)
    with files.open_reader(store) as reader:
        assert [path.partition("/")[0] for path in reader.names] == folders
        assert reader.classes == tuple(classes)
    check_file_reads(files, store, (FILES, np.array(labels)))
    if set(labels) == set(range(len(set(labels)))):
        assert read_as_folders(store) == {f"{index:08}.bin": label for index, label in enumerate(labels)}


def test_a_reader_has_the_names_and_the_classes_that_were_stored(tmp_path: Path) -> None:
    classes = ["Bücher 書", "no image has it", "\udcff"]
    files.store_many(tmp_path / "store", FILES, LABELS, names=NAMES, classes=classes)
    with files.open_reader(tmp_path / "store") as reader:
        assert (list(reader.names), reader.classes) == (NAMES, tuple(classes))
    check_file_reads(files, tmp_path / "store", (FILES, LABELS))
    with (tmp_path / "store" / "index.tsv").open(encoding="utf-8", newline="") as file:
        assert next(file).endswith(f" classes={len(json.dumps(classes)) + 1}\n")
        assert json.loads(next(file)) == classes
        assert [row["path"] for row in csv.DictReader(file, delimiter="\t")] == NAMES


def test_names_that_were_not_given_are_the_paths_and_classes_have_none(store: Path) -> None:
    with files.open_reader(store) as reader:
        assert (list(reader.names), reader.classes) == (["10/00000000.bin", "02/00000001.bin", "10/00000002.bin"], ())


BAD_NAMES: dict[str, tuple[str, Any]] = {
    "an absolute path": (r"record 1 \(/etc/passwd\): its name can't be", "/etc/passwd"),
    "a path outside": (r"record 1 \(\.\./x\): its name can't be", "../x"),
    "a path outside further down": ("its name can't be", "a/../../x"),
    "a path that ends outside": ("its name can't be", "a/.."),
    "a folder that is this one": ("its name can't be", "./x"),
    "an empty part": ("its name can't be", "a//x"),
    "a folder": ("its name can't be", "a/"),
    "no name": (r"record 1 \(\): its name can't be", ""),
    "a null character": ("its name can't be", "a\0"),
    "a line feed": ("its name can't be", "a\nb"),
    "a tab": ("its name can't be", "a\tb"),
    "a control character": ("its name can't be", "a\x85b"),
    "a character that can't be encoded": ("its name can't be", "a\ud800"),
    "a number": (r"record 1 \(7\): its name can't be", 7),
    "bytes": (r"record 1 \(b'x'\): its name can't be", b"x"),
    "a long part": ("its name is too long", "é" * 128),
    "a long path": ("its name is too long", "x" * 254 + ("/" + "x" * 255) * 7 + "/x"),
    "the index": (r"record 1 \(index.tsv\): its name is that of another", "index.tsv"),
    "the index as a folder": (r"record 1 \(index.tsv/x\): its name is that of another", "index.tsv/x"),
    "another name": (r"record 1 \(a/x\): its name is that of another", "a/x"),
    "a folder of others": (r"record 1 \(a\): its name is that of another", "a"),
    "a file as a folder": (r"record 0 \(a/x\): its name is that of another", "a/x/y"),
}


@pytest.mark.parametrize(("message", "name"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_bad_name_is_refused_before_anything_is_written(tmp_path: Path, message: str, name: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        files.store_many(tmp_path / "store", FILES, LABELS, names=["a/x", name, "b"])
    assert not (tmp_path / "store").exists()


def test_the_longest_names_are_accepted(tmp_path: Path) -> None:
    names = ["é" * 127 + "x", "x" * 253 + ("/" + "x" * 255) * 7 + "/x", "b"]
    files.store_many(tmp_path / "store", FILES, LABELS, names=names)
    check_file_reads(files, tmp_path / "store", (FILES, LABELS))


@pytest.mark.parametrize(
    "options",
    [
        {"names": ["a"]},
        {"classes": "names"},
        {"classes": ["a name"] * 2},
        {"classes": [1]},
    ],
    ids=str,
)
def test_too_few_names_and_bad_classes_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, list[str]]
) -> None:
    with pytest.raises(InvalidInputError, match=r"name|classes aren't distinct"):
        files.store_many(tmp_path / "store", FILES, LABELS, **options)
    assert not (tmp_path / "store").exists()


def test_pixels_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    images, labels = make_set(2)
    with pytest.raises(InvalidInputError, match="stores image files, not pixels"):
        files.store_many(tmp_path / "store", images, labels)
    with pytest.raises(InvalidInputError, match="stores image files, not pixels"):
        files.store_single(tmp_path / "store", images[0], 1)
    assert not (tmp_path / "store").exists()


def replace_index(old: bytes, new: bytes) -> Change:
    """Replace bytes of the index."""

    def change(store: Path) -> None:
        content = (store / "index.tsv").read_bytes()
        assert old in content
        (store / "index.tsv").write_bytes(content.replace(old, new, 1))

    return change


def name_classes(line: bytes) -> Change:
    """Add a line of classes to the index."""
    return replace_index(b"characters=20\n", b"characters=20 classes=%d\n%b" % (len(line), line))


def link(name: str, target: str) -> Change:
    """Move a file or folder out of the store, and put a link there."""

    def change(store: Path) -> None:
        (store / name).rename(store.parent / "moved")
        (store / name).symlink_to(target)

    return change


FIRST = "10/00000000.bin"
CASES = {
    "no index": Case(delete("index.tsv"), "index.tsv"),
    "an index of another program": Case(write("index.tsv", b"label,path\n"), "another header"),
    "other columns": Case(replace_index(b"\nlabel", b"\nLabel"), "another header"),
    "classes that are none": Case(name_classes(b'{"cat": 1}\n'), "its classes are"),
    "classes that are numbers": Case(name_classes(b"[1]\n"), "its classes are"),
    "classes without an end": Case(name_classes(b'["cat"] '), "its classes are"),
    "a class that is there twice": Case(name_classes(b'["cat", "cat"]\n'), "its classes are"),
    "classes that aren't there": Case(
        replace_index(b"characters=20\n", b"characters=20 classes=9\n"), "another header"
    ),
    "an index that was cut short": Case(cut("index.tsv", -1), "bytes, not"),
    "a longer index": Case(append("index.tsv", b"\n"), "bytes, not"),
    "more images": Case(replace_index(b"images=3", b"images=4"), "bytes, not"),
    "a path outside": Case(replace_index(b"02/00000001.bin", b"../00000001.bin"), "line"),
    "an absolute path": Case(replace_index(b"02/00000001.bin", b"/20/0000001.bin"), "line"),
    "an empty part of a path": Case(replace_index(b"02/00000001.bin", b"02//0000001.bin"), "line"),
    "a null character in a path": Case(replace_index(b"02/00000001.bin", b"02/0000000\0.bin"), "line"),
    "no path": Case(replace_index(b"2\t0\t02/00000001.bin", b"             222\t0\t"), "line"),
    "another column": Case(replace_index(b"02/00000001.bin", b"02\t00000001.bin"), "line"),
    "a line in two": Case(replace_index(b"10\t5\t10/00000000.bin", b"1\t5\t0\n1\t5\t000000.bin"), "line"),
    "a label that is no number": Case(replace_index(b" 2\t0", b" x\t0"), "line"),
    "a negative number of bytes": Case(replace_index(b"2\t0\t02", b"2\t-1\t0"), "line"),
    "another number of bytes": Case(replace_index(b"10\t5", b"10\t6"), "record 0 .*5 bytes, not 6"),
    "a missing file": Case(delete(FIRST), f"record 0 \\({FIRST}\\): its file is missing"),
    "a missing folder": Case(lambda store: (store / "10").rename(store.parent / "10"), "record 0 .*missing"),
    "a longer file": Case(append(FIRST, b"x"), "record 0 .*6 bytes, not 5"),
    "an empty file": Case(cut(FIRST, 0), "record 0 .*0 bytes, not 5"),
    "a folder as a file": Case(make_folder(FIRST), "not a regular file"),
    "a link to a device": Case(make_endless(FIRST), "link"),
    "a link to a file": Case(link(FIRST, "../../moved"), "link"),
    "a link to a folder": Case(link("10", "../moved"), "10: it is a link"),
    "a file as a folder": Case(replace_index(b"02/00000001.bin", b"10/00000000.bi/"), "line"),
    "a file in a file": Case(replace_index(b"10\t9\t10/00000002.bin", b"9\t9\t10/00000000.bin/"), "line"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_damaged_store_is_refused(case: Case, store: Path) -> None:
    case.change(store)
    for read in READS.values():
        with pytest.raises(CorruptStoreError, match=case.message) as caught:
            read(store)
        assert str(store) in str(caught.value)


def rewrite(store: Path, *lines: bytes) -> None:
    """Write another index, whose lines have one length."""
    header = b"images=%d characters=%d\nlabel\tbytes\tpath\n" % (len(lines), max(map(len, lines)))
    (store / "index.tsv").write_bytes(header + b"".join(line.rjust(max(map(len, lines))) + b"\n" for line in lines))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"9223372036854775808\t5\t10/00000000.bin", ""),
        (b"-9223372036854775809\t5\t10/00000000.bin", ""),
        (b"1\t9999999999999999999\t10/00000000.bin", ""),
        (b"1\t9223372036854775807\t10/00000000.bin", ""),
        (b"1\t99999999999\t10/00000000.bin", "damaged, or has holes"),
        (b"9223372036854775808\t0\t02/00000001.bin", ""),
        (b"1\t5\t10/00000000.bin/x", "missing"),
        (b"1\t5\t" + b"x/" * 3000 + b"x", ""),
    ],
    ids=lambda value: value.decode()[:40] if isinstance(value, bytes) else None,
)
def test_absurd_lines_are_refused(store: Path, line: bytes, message: str) -> None:
    rewrite(store, line, *LINES[1:])
    for read in READS.values():
        with pytest.raises(storage.StorageError, match=message or None) as caught:
            read(store)
        assert str(store) in str(caught.value)


def test_images_may_share_a_file_in_an_index_of_another_program(store: Path) -> None:
    rewrite(store, LINES[0], LINES[0].replace(b"10\t", b"-9223372036854775808\t", 1), LINES[2])
    with files.open_reader(store) as reader:
        found, labels = reader.read_encoded([0, 1, 0])
    assert ([bytes(file) for file in found], labels.tolist()) == ([b"first"] * 3, [10, -(2**63), 10])
    assert files.read_single(store, 1) == (b"first", -(2**63))


def test_a_file_that_is_read_in_pieces_is_read_whole(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, views, offset: real(file, [views[0][:2]], offset))
    assert_same_files(files.read_many(store), (FILES, LABELS))


def test_an_error_of_the_system_is_not_called_damage(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with files.open_reader(store) as reader:
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(storage.StorageError, match="Input/output") as caught:
            reader.read_encoded([0])
    assert not isinstance(caught.value, CorruptStoreError)


def test_changed_bytes_of_a_file_are_its_own(store: Path) -> None:
    flip(FIRST, 0)(store)
    found, labels = files.read_many(store)
    assert [bytes(file) for file in found] == [b"girst", b"", b"the third"]
    assert labels.tolist() == LABELS.tolist()
    assert files.find_pixels(store) == {
        "10/00000000.bin": [range(5)],
        "02/00000001.bin": [range(0)],
        "10/00000002.bin": [range(9)],
    }


def test_the_index_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(folder: int, name: bytes | str, content: bytes) -> None:
        written.append(os.fsdecode(name))
        write_file(folder, name, content)

    written: list[str] = []
    write_file = files.write_file
    monkeypatch.setattr(files, "write_file", note)
    files.store_many(tmp_path / "store", *make_files(4))
    assert written.index("index.tsv") == len(written) - 1 == 4


@pytest.mark.parametrize("name", ["b\n.jpg", "x" * 256])
def test_names_that_files_cannot_have_are_refused_before_a_dataset_is_begun(name: str, tmp_path: Path) -> None:
    files, labels = make_files(2)
    batches = iter([files])
    with pytest.raises(InvalidInputError, match="record 1"):
        storage.save(tmp_path / "set", batches, labels, "files", names=["a", name])
    assert next(batches) is files, "images were taken"
    storage.save(tmp_path / "set", files[:1], labels[:1], "files", names=["a"])
    with pytest.raises(InvalidInputError, match="record 1"):
        storage.append(tmp_path / "set", batches, labels[:1], names=[name])
