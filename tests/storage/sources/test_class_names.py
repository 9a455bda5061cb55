"""Names of classes are read from ``batches.meta`` without running anything in it."""

import os
import pickle
from pathlib import Path

import pytest

from fixtures.cifar10 import UnsafeInputError
from storage.sources.class_names import FILE, read_class_names
from tests.fixtures.test_cifar10 import FOLDER, SAMPLE, honest, pack, regular
from tests.storage.sources.test_batch_pickle import make_payloads

# As Python 2 wrote the official one: fewer classes, the same opcodes.
OFFICIAL = (
    b"\x80\x02}q\x01(U\x13num_cases_per_batchq\x02M\x10'U\x0blabel_namesq\x03]q\x04(U\x08airplaneq\x05U\x03catq\x06e"
    b"U\x07num_visq\x07M\x00\x0cu."
)


def write(folder: Path, raw: bytes) -> Path:
    """Write the file into a folder."""
    (folder / FILE).write_bytes(raw)
    return folder


def test_names_come_in_the_order_of_their_labels(tmp_path: Path) -> None:
    assert read_class_names(write(tmp_path, OFFICIAL)) == ("airplane", "cat")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the genuine sample is not part of the repository")
def test_the_genuine_file_is_read() -> None:
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert read_class_names(SAMPLE) == tuple(names.split())


def test_an_archive_says_the_same(tmp_path: Path) -> None:
    members = honest()
    assert read_class_names(pack(tmp_path / "a.tar.gz", members)) == ()
    members.insert(2, regular(f"{FOLDER}/{FILE}", OFFICIAL))
    assert read_class_names(pack(tmp_path / "b.tar.gz", members)) == ("airplane", "cat")


def test_without_the_file_classes_have_no_names(tmp_path: Path) -> None:
    assert read_class_names(tmp_path) == ()


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("key", [b"label_names", "label_names"], ids=["bytes", "text"])
def test_a_file_of_our_own_may_have_been_written_by_python_3(tmp_path: Path, protocol: int, key: bytes | str) -> None:
    raw = pickle.dumps({"num_vis": 3072, key: ["bird", "Löwe"]}, protocol)
    assert read_class_names(write(tmp_path, raw)) == ("bird", "Löwe")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "pickle exhausted"),
        (b"no pickle", "opcode"),
        (OFFICIAL[:-20], "pickle exhausted|expected"),
        (OFFICIAL.replace(b"label_names", b"label_named"), "'label_names' is not in list"),
        (OFFICIAL.replace(b"]q\x04(", b"}q\x04("), "no list follows label_names"),
        (pickle.dumps({"label_names": ["cat", 7, "dog"]}, 3), "something else than names"),
        (pickle.dumps({"label_names": "cat"}, 3), "'APPENDS' is not in list"),
        (pickle.dumps({b"label_names": [b"\xff", b"cat"]}, 3), "can't decode"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, raw: bytes, reason: str) -> None:
    with pytest.raises(UnsafeInputError, match=f"(?s)does not say the names of the classes.*{reason}"):
        read_class_names(write(tmp_path, raw))


def test_nothing_in_a_hostile_file_runs(tmp_path: Path) -> None:
    sentinel = tmp_path / "it ran"
    for payload in make_payloads(sentinel):
        with pytest.raises(UnsafeInputError):
            read_class_names(write(tmp_path, payload))
        assert not sentinel.exists()


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    os.truncate(write(tmp_path, OFFICIAL[:-1]) / FILE, 10 * 2**30)  # a hole: it takes no space on the disk
    with pytest.raises(UnsafeInputError):
        read_class_names(tmp_path)
