"""CIFAR files are found, named and loaded exactly, as a folder and as an archive; dishonest ones are refused."""

import gzip
import hashlib
import os
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage import Images, InvalidInputError, Labels
from storage.sources import cifar10
from storage.sources.cifar10 import (
    CIFAR100,
    Batches,
    ImageSetNotFoundError,
    UnsafeInputError,
    describe,
    read_cifar,
    read_class_names,
)
from tests.support.cifar import (
    ALL_LABELS,
    COUNTS,
    FILES,
    FOLDER,
    IMAGE,
    LABELS,
    MEMBERS,
    META,
    PIXELS,
    Member,
    arrange,
    honest,
    join,
    make_batch,
    make_payloads,
    make_pixels,
    pack,
    regular,
    write_folder,
)

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "cifar-10-batches-py"
WHOLE = hashlib.sha256(b"".join(FILES.values())).hexdigest()
KINDS = pytest.mark.parametrize("kind", ["folder", "archive"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "in" / FOLDER)


@pytest.fixture
def path(kind: str, folder: Path, tmp_path: Path) -> Path:
    """Make a set, as a folder or as an archive in another order."""
    return folder if kind == "folder" else pack(tmp_path / "a.tar.gz", honest((2, 1, 5, 3, 4)))


def write_meta(folder: Path, raw: bytes) -> Path:
    (folder / "batches.meta").write_bytes(raw)
    return folder


def load(batches: Batches, count: int) -> tuple[Images, Labels]:
    images, labels = np.full((count, 32, 32, 3), 99, np.uint8), np.full(count, -99, np.int64)
    batches.fill(images, labels)
    return images, labels


def check_loads(path: Path) -> Batches:
    batches = describe(path)
    images, labels = load(batches, sum(COUNTS))
    assert batches.count == sum(COUNTS)
    np.testing.assert_array_equal(images, arrange(b"".join(PIXELS)))
    assert labels.tolist() == ALL_LABELS
    return batches


def test_a_folder_and_an_archive_in_any_order_are_the_same_set(folder: Path, tmp_path: Path) -> None:
    orders = ((1, 2, 3, 4, 5), (4, 3, 2, 5, 1), (5, 4, 3, 2, 1))
    for path in (folder, *(pack(tmp_path / f"{order}.tar.gz", honest(order)) for order in orders)):
        batches = check_loads(path)
        assert (batches.name, batches.sha256, batches.path) == ("custom", WHOLE, path)
    assert describe(folder.parent) == describe(folder), "the folder above is as good"


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the genuine sample isn't part of the repository")
def test_the_genuine_sample_loads_as_its_bytes_say() -> None:
    files = [(SAMPLE / f"data_batch_{number}").read_bytes() for number in range(1, 6)]
    images, labels = load(describe(SAMPLE), 5000)
    # Each ends with its pixels and 8 more bytes; each label is one byte after a K, all after the opening of one list.
    starts = [raw.index(b"U\x06labelsq\x04]q\x05(") + 14 for raw in files]
    np.testing.assert_array_equal(images, arrange(b"".join(raw[-8 - 1000 * IMAGE : -8] for raw in files)))
    numbers = [raw[start + 1 : start + 2000 : 2] for raw, start in zip(files, starts, strict=True)]
    assert labels.tolist() == list(b"".join(numbers))
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert read_class_names(SAMPLE) == tuple(names.split())


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the set of these tests the official one; return its archive."""
    archive = pack(tmp_path / "official.tar.gz", honest((4, 3, 2, 5, 1)))
    known = zip(FILES.values(), COUNTS, strict=True)
    parts = tuple(cifar10.Part(f"md5:{hashlib.md5(raw).hexdigest()}", count) for raw, count in known)  # noqa: S324
    monkeypatch.setattr(cifar10, "OFFICIAL", parts)
    monkeypatch.setattr(cifar10, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    return archive


def test_official_files_are_recognized_by_their_checksums(folder: Path, official: Path) -> None:
    for path in (folder, official):
        batches = check_loads(path)
        assert (batches.name, batches.sha256) == ("cifar10", cifar10.SHA256)
    last = folder / "data_batch_5"
    last.write_bytes(last.read_bytes().replace(b"training batch 1", b"training batch 2"))
    assert describe(folder).name == "custom"
    official.write_bytes(official.read_bytes() + b"\0")
    assert describe(official).name == "custom"


def test_the_known_checksums_are_the_published_ones() -> None:
    assert [part.checksum[4:8] for part in cifar10.OFFICIAL] == ["c99c", "d4bb", "54eb", "634d", "482c"]
    assert cifar10.SHA256.startswith("6d958be0")
    assert sum(part.images for part in cifar10.OFFICIAL) == 50_000


@KINDS
@pytest.mark.parametrize("count", range(sum(COUNTS) + 1))
def test_any_number_of_first_images_loads(path: Path, count: int) -> None:
    images, labels = load(describe(path), count)
    np.testing.assert_array_equal(images, arrange(b"".join(PIXELS))[:count].reshape(count, 32, 32, 3))
    assert labels.tolist() == ALL_LABELS[:count]


def test_only_the_batches_that_are_needed_are_read(folder: Path) -> None:
    batches = describe(folder)
    for number in (3, 4, 5):
        (folder / f"data_batch_{number}").unlink()
    assert load(batches, 5)[1].tolist() == LABELS[0] + LABELS[1]
    with pytest.raises(ImageSetNotFoundError, match="data_batch_3"):
        load(batches, 6)


def test_an_archive_is_read_no_further_than_needed(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", honest())
    batches = describe(path)
    path.write_bytes(path.read_bytes()[:-2000])
    assert load(batches, 3)[1].tolist() == LABELS[0]
    with pytest.raises(UnsafeInputError, match="ended before"):
        load(batches, 12)


@KINDS
def test_a_batch_that_changed_since_it_was_described_is_refused(path: Path) -> None:
    batches = describe(path)
    other = make_batch(LABELS[1], PIXELS[1][::-1])
    if path.is_dir():
        (path / "data_batch_2").write_bytes(other)
    else:
        pack(path, [*honest((1,)), regular(MEMBERS[1], other), *honest((3, 4, 5))])
    assert load(batches, 3)[1].tolist() == LABELS[0]
    with pytest.raises(UnsafeInputError, match="data_batch_2: it has changed since"):
        load(batches, 4)


@KINDS
def test_cifar_100_loads_with_its_fine_labels(tmp_path: Path, kind: str) -> None:
    raw = make_batch([99, 0, 17], make_pixels(3), key=b"fine_labels")
    names = pickle.dumps({"fine_label_names": ["apple", "fish"], "coarse_label_names": ["food"]}, 3)
    (tmp_path / CIFAR100.folder).mkdir()
    (tmp_path / CIFAR100.folder / "train").write_bytes(raw)
    (tmp_path / CIFAR100.folder / "meta").write_bytes(names)
    members = [regular(f"{CIFAR100.folder}/{name}", content) for name, content in (("meta", names), ("train", raw))]
    archive = pack(tmp_path / "cifar-100-python.tar.gz", members)
    source = read_cifar(tmp_path if kind == "folder" else archive)
    np.testing.assert_array_equal(source.images, arrange(make_pixels(3)))
    assert (source.labels.tolist(), source.classes) == ([99, 0, 17], ("apple", "fish"))


@pytest.mark.parametrize("setting", ["nowhere", "empty", "empty/a/b.tar.gz"])
def test_a_path_without_batches_is_not_found_and_the_error_says_what_to_name(tmp_path: Path, setting: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageSetNotFoundError) as caught:
        describe(tmp_path / setting)
    for part in (str(tmp_path / setting), "data_batch_1 to data_batch_5", FOLDER, ".tar.gz"):
        assert part in str(caught.value)


@pytest.mark.parametrize("replace", [lambda _: None, os.mkfifo], ids=["missing", "pipe"])
def test_a_batch_that_is_missing_or_a_pipe_is_named_and_not_opened(
    folder: Path, replace: Callable[[Path], object]
) -> None:
    (folder / "data_batch_2").unlink()
    replace(folder / "data_batch_2")  # opening a pipe would wait for ever
    with pytest.raises(
        (ImageSetNotFoundError, InvalidInputError), match=r"data_batch_2: it (is missing|isn't a regular)"
    ):
        describe(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_the_names_of_the_classes_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "batches.meta")
    with pytest.raises(InvalidInputError, match=r"batches\.meta: it isn't a regular file"):
        read_cifar(folder)


def test_a_file_too_large_for_a_batch_is_refused_before_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "MAX_BYTES", 99)
    with pytest.raises(UnsafeInputError, match=r"data_batch_1: it has [0-9,]* bytes, more than 99"):
        describe(folder)


def test_files_that_consist_of_holes_are_not_read_to_their_end(folder: Path, tmp_path: Path) -> None:
    os.truncate(folder / "data_batch_1", 10 << 40)
    archive = pack(tmp_path / "a.tar.gz", honest())
    os.truncate(archive, 10 << 40)
    for path in (folder, archive):
        with pytest.raises(InvalidInputError, match=r"it has 10,995,116,277,760 bytes, and only .* are on the"):
            describe(path)


def test_hostile_files_are_refused_in_folder_and_archive_and_nothing_runs(folder: Path, tmp_path: Path) -> None:
    sentinel = tmp_path / "it ran"
    for payload in make_payloads(sentinel):
        (folder / "data_batch_5").write_bytes(payload)
        archive = pack(tmp_path / "a.tar.gz", [*honest((1, 2, 3, 4)), regular(MEMBERS[4], payload)])
        for path in (folder, archive):
            with pytest.raises(UnsafeInputError, match=f"{path}/data_batch_5: it isn't an honest CIFAR batch"):
                describe(path)
        with pytest.raises(UnsafeInputError, match="doesn't hold the names of the classes"):
            read_class_names(write_meta(folder, payload))
    assert not sentinel.exists()


def test_loading_holds_one_batch_at_a_time(tmp_path: Path) -> None:
    count = 400
    raw = make_batch([1] * count, make_pixels(count))
    for name in FILES:
        (tmp_path / name).write_bytes(raw)
    batches = describe(tmp_path)
    images, labels = np.empty((5 * count, 32, 32, 3), np.uint8), np.empty(5 * count, np.int64)
    tracemalloc.start()
    batches.fill(images, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.3 * len(raw), "more than one batch, its bytes and two copies of them while they are checked"


def special(name: str, kind: bytes, target: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


EXTRAS = [
    regular("../outside", b"x"),
    regular(f"{FOLDER}/../{FOLDER}/data_batch_1", b"x"),
    regular(f"./{FOLDER}/data_batch_1", b"x"),
    regular("data_batch_1", b"x"),
    regular(f"{FOLDER}/test_batch", b"no pickle"),
    regular(f"{FOLDER}/{'long' * 60}", b"x"),
    special(FOLDER, tarfile.DIRTYPE),
    special(f"{FOLDER}/link", tarfile.SYMTYPE, "/etc/passwd"),
    special("device", tarfile.CHRTYPE),
    special("pipe", tarfile.FIFOTYPE),
]


def test_extra_members_are_neither_opened_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    extras = [*EXTRAS, regular(str(tmp_path / "absolute"), b"x")]
    archive = pack(here / "a.tar.gz", [*extras, *honest(), *extras])
    before = set(tmp_path.rglob("*"))
    check_loads(archive)
    assert set(tmp_path.rglob("*")) == before, "something was written"


def forge(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


LARGE = 193 * 2**20
SPARSE = tarfile.TarInfo(MEMBERS[0])
SPARSE.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda: join(*honest(), *honest((3,))), "data_batch_3 is there twice", id="duplicate"),
        pytest.param(lambda: join(special(MEMBERS[0], tarfile.SYMTYPE, MEMBERS[1])), "a regular file", id="link"),
        pytest.param(lambda: join(special(MEMBERS[0], tarfile.LNKTYPE, MEMBERS[1])), "a regular file", id="hard-link"),
        pytest.param(lambda: join((SPARSE, b"")), "data_batch_1 isn't a regular file", id="holes"),
        pytest.param(lambda: forge(MEMBERS[0], LARGE), "or 16,7[0-9,]* bytes", id="large-batch"),
        pytest.param(lambda: forge("bomb", 3 * LARGE), "more than 1,000 members or 16,7", id="large-other"),
        pytest.param(lambda: forge("x", 3 * LARGE, tarfile.XHDTYPE) + bytes(LARGE), "no next member", id="long-header"),
        pytest.param(lambda: forge("x", 3 * LARGE, b"L") + bytes(LARGE), "no next member", id="long-name"),
        pytest.param(lambda: forge(MEMBERS[0], -512), "isn't a regular file", id="negative-size"),
        pytest.param(lambda: join(*(regular("many", b"") for _ in range(1001))), "1,000 members", id="many"),
        pytest.param(lambda: b"no tar" * 1000, "", id="no-tar"),
    ],
)
def test_a_dishonest_archive_is_refused_early(tmp_path: Path, make: Callable[[], bytes], reason: str) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(make(), 1))
    tracemalloc.start()
    with pytest.raises(UnsafeInputError, match=rf"{path}: it isn't an honest .tar.gz of CIFAR batches \(.*{reason}"):
        describe(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20, "a few bytes of archive took much memory"


@pytest.mark.parametrize("count", [0, 4])
def test_an_archive_that_lacks_batches_names_the_first_missing_one(tmp_path: Path, count: int) -> None:
    archive = pack(tmp_path / "a.tar.gz", honest(range(1, count + 1)))
    with pytest.raises(ImageSetNotFoundError, match=f"{archive}: it has no {MEMBERS[count]}"):
        describe(archive)


def test_an_archive_cut_off_anywhere_is_refused_or_whole(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", honest())
    whole = path.read_bytes()
    refused = 0
    for end in (*range(0, len(whole), 701), *range(len(whole) - 40, len(whole))):
        path.write_bytes(whole[:end])
        try:
            assert describe(path).sha256 == WHOLE
        except UnsafeInputError:
            refused += 1
    assert refused >= len(whole) // 701, "a cut inside the batches went unnoticed"


def test_an_error_of_the_operating_system_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError(5, "Input/output error")

    archive = pack(tmp_path / "a.tar.gz", honest())
    monkeypatch.setattr(tarfile, "open", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        describe(archive)
    assert not isinstance(caught.value, ValueError), "the archive isn't to blame"


def test_class_names_are_read_in_the_order_of_their_labels(tmp_path: Path) -> None:
    assert read_class_names(tmp_path) == (), "without the file, classes have no names"
    assert read_class_names(write_meta(tmp_path, META)) == ("airplane", "cat")
    members = honest()
    assert read_class_names(pack(tmp_path / "a.tar.gz", members)) == ()
    members.insert(2, regular(f"{FOLDER}/batches.meta", META))
    assert read_class_names(pack(tmp_path / "b.tar.gz", members)) == ("airplane", "cat")


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_class_names_may_have_been_written_by_python_3(tmp_path: Path, protocol: int) -> None:
    for key in (b"label_names", "label_names"):
        raw = pickle.dumps({"num_vis": 3072, key: ["bird", "Löwe"]}, protocol)
        assert read_class_names(write_meta(tmp_path, raw)) == ("bird", "Löwe")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "pickle exhausted"),
        (b"no pickle", "opcode"),
        (META[:-20], "pickle exhausted|expected"),
        (META.replace(b"label_names", b"label_named"), "KeyError: 'label_names'"),
        (META.replace(b"]q\x04(", b"}q\x04("), "needs a list"),
        (pickle.dumps({"label_names": ["cat", 7, "dog"]}, 3), "TypeError"),
        (pickle.dumps({"label_names": 7}, 3), "TypeError"),
        (pickle.dumps({b"label_names": [b"\xff", b"cat"]}, 3), "can't decode"),
    ],
)
def test_a_file_without_class_names_is_refused(tmp_path: Path, raw: bytes, reason: str) -> None:
    with pytest.raises(UnsafeInputError, match=f"(?s)doesn't hold the names of the classes.*{reason}"):
        read_class_names(write_meta(tmp_path, raw))
