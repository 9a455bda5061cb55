"""The official layout is found, named and loaded exactly, as a folder and as an archive."""

import gzip
import hashlib
import io
import os
import tarfile
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fixtures import cifar10
from fixtures.cifar10 import Batches, ImageSetNotFoundError, UnsafeInputError, describe, find
from tests.test_batch_pickle import IMAGE, make_batch, make_payloads, make_pixels

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "cifar-10-batches-py"
FOLDER = "cifar-10-batches-py"
COUNTS = (3, 2, 4, 1, 2)  # images of each batch
LABELS = [[(7 * batch + index) % 10 for index in range(count)] for batch, count in enumerate(COUNTS, 1)]
ALL_LABELS = [label for labels in LABELS for label in labels]
PIXELS = [make_pixels(count, seed) for seed, count in enumerate(COUNTS)]
FILES = {
    f"data_batch_{number}": make_batch(labels, pixels)
    for number, labels, pixels in zip(range(1, 6), LABELS, PIXELS, strict=True)
}
MEMBERS = [f"{FOLDER}/{name}" for name in FILES]
WHOLE = hashlib.sha256(b"".join(FILES.values())).hexdigest()

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with the official layout."""
    made = tmp_path / "in" / FOLDER
    made.mkdir(parents=True)
    for name, raw in FILES.items():
        (made / name).write_bytes(raw)
    return made


def regular(name: str, raw: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Make a member that is a regular file."""
    member = tarfile.TarInfo(name)
    member.size = len(raw)
    return member, raw


def honest(order: Sequence[int] = (1, 2, 3, 4, 5)) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Make the members of an honest archive."""
    return [regular(f"{FOLDER}/data_batch_{number}", FILES[f"data_batch_{number}"]) for number in order]


def join(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Make an archive that is not compressed."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def pack(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Write a ``.tar.gz``."""
    path.write_bytes(gzip.compress(join(*members), 1))
    return path


def load(batches: Batches, count: int) -> tuple[Images, Labels]:
    """Load the first images into fresh arrays."""
    images, labels = np.full((count, 32, 32, 3), 99, np.uint8), np.full(count, -99, np.int64)
    batches.fill(images, labels)
    return images, labels


def arrange(pixels: bytes) -> Images:
    """Arrange pixel bytes as images: one by one, their red, green and blue plane on top of one another."""
    planes = [np.array(list(pixels[start : start + 1024]), np.uint8) for start in range(0, len(pixels), 1024)]
    return np.array([np.dstack([p.reshape(32, 32) for p in planes[at : at + 3]]) for at in range(0, len(planes), 3)])


def check_loads(path: Path) -> None:
    """Assert that all images of the made set come out of a path."""
    batches = describe(path)
    images, labels = load(batches, sum(COUNTS))
    assert batches.count == sum(COUNTS)
    assert np.array_equal(images, arrange(b"".join(PIXELS))), "other pixels"
    assert labels.tolist() == ALL_LABELS, "other labels"


def test_a_folder_loads_in_order_and_is_named_custom_by_its_bytes(folder: Path) -> None:
    check_loads(folder)
    batches = describe(folder)
    assert (batches.name, batches.sha256, batches.path) == ("custom", WHOLE, folder)


@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (4, 3, 2, 5, 1), (5, 4, 3, 2, 1)])
def test_an_archive_in_any_order_is_the_same_set_as_its_folder(tmp_path: Path, order: Sequence[int]) -> None:
    archive = pack(tmp_path / "mine.tar.gz", honest(order))
    check_loads(archive)
    batches = describe(archive)
    assert (batches.name, batches.sha256, batches.path) == ("custom", WHOLE, archive)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the genuine sample is not part of the repository")
def test_the_genuine_sample_loads_as_its_bytes_say() -> None:
    files = [(SAMPLE / f"data_batch_{number}").read_bytes() for number in range(1, 6)]
    batches = describe(SAMPLE)
    images, labels = load(batches, 5000)
    # Each ends with its pixels and 8 bytes more; each label is one byte after a K, all after the opening of one list.
    starts = [raw.index(b"U\x06labelsq\x04]q\x05(") + 14 for raw in files]
    assert np.array_equal(images, arrange(b"".join(raw[-8 - 1000 * IMAGE : -8] for raw in files)))
    numbers = [raw[start + 1 : start + 2000 : 2] for raw, start in zip(files, starts, strict=True)]
    assert labels.tolist() == list(b"".join(numbers))
    assert (batches.name, batches.count) == ("custom", 5000)
    assert batches.sha256 == hashlib.sha256(b"".join(files)).hexdigest()


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the set of these tests the official one; give its archive."""
    archive = pack(tmp_path / "official.tar.gz", honest((4, 3, 2, 5, 1)))
    known = zip(FILES.values(), COUNTS, strict=True)
    parts = tuple(cifar10.Part(f"md5:{hashlib.md5(raw).hexdigest()}", count) for raw, count in known)  # noqa: S324
    monkeypatch.setattr(cifar10, "OFFICIAL", parts)
    monkeypatch.setattr(cifar10, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    return archive


def test_official_checksums_name_folder_and_archive_alike(folder: Path, official: Path) -> None:
    for path in (folder, official):
        batches = describe(path)
        assert (batches.name, batches.sha256, batches.count) == ("cifar10", cifar10.SHA256, sum(COUNTS))
        check_loads(path)


def test_one_other_byte_makes_the_set_custom(folder: Path, official: Path) -> None:
    last = folder / "data_batch_5"
    last.write_bytes(last.read_bytes().replace(b"training batch 1", b"training batch 2"))
    assert describe(folder).name == "custom"
    official.write_bytes(official.read_bytes() + b"\0")
    assert describe(official).name == "custom"


def test_the_known_checksums_are_the_published_ones() -> None:
    assert [part.checksum[4:8] for part in cifar10.OFFICIAL] == ["c99c", "d4bb", "54eb", "634d", "482c"]
    assert cifar10.SHA256.startswith("6d958be0")
    assert sum(part.images for part in cifar10.OFFICIAL) == 50_000


@pytest.mark.parametrize("count", range(sum(COUNTS) + 1))
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
def test_any_first_images_load(folder: Path, tmp_path: Path, count: int, packed: bool) -> None:  # noqa: FBT001 - a parameter
    batches = describe(pack(tmp_path / "a.tar.gz", honest((2, 1, 5, 3, 4))) if packed else folder)
    images, labels = load(batches, count)
    assert np.array_equal(images, arrange(b"".join(PIXELS))[:count])
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


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
def test_a_batch_that_changed_since_it_was_described_is_refused(folder: Path, tmp_path: Path, packed: bool) -> None:  # noqa: FBT001 - a parameter
    other = make_batch(LABELS[1], PIXELS[1][::-1])
    path = pack(tmp_path / "a.tar.gz", honest()) if packed else folder
    batches = describe(path)
    if packed:
        pack(path, [*honest((1,)), regular(MEMBERS[1], other), *honest((3, 4, 5))])
    else:
        (folder / "data_batch_2").write_bytes(other)
    assert load(batches, 3)[1].tolist() == LABELS[0]
    with pytest.raises(UnsafeInputError, match=r"data_batch_2 of .* has changed since"):
        load(batches, 4)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((13, 32, 32, 3), np.uint8), np.zeros(13, np.int64)),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 32, 32, 3), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 1), np.int64)),
    ],
    ids=["too-many", "lengths", "planes", "float-images", "small-labels", "column"],
)
def test_arrays_that_do_not_fit_are_refused_untouched(folder: Path, images: Images, labels: Labels) -> None:
    with pytest.raises(ValueError, match=r"pass uint8 .* with N up to 12"):
        describe(folder).fill(images, labels)
    assert not images.any()
    assert not labels.any()


def test_settings_find_what_they_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "mine.tar.gz", honest())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find("standin") is None
    assert find(str(folder)) == folder
    assert find(str(folder.parent)) == folder, "a folder that contains the batches' folder"
    assert find(str(archive)) == archive
    assert find("~/mine.tar.gz") == archive
    assert describe(folder.parent).path == folder


def test_auto_finds_the_downloaded_archive_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    assert find("auto") is None
    archive = tmp_path / "image-storage-benchmarks" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    archive.touch()
    assert find("auto") == archive


@pytest.mark.parametrize("setting", ["nowhere", "empty", "~nobody-of-this-name/x", "empty/a/b.tar.gz"])
def test_a_path_without_batches_is_not_found_and_says_where_and_what_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageSetNotFoundError) as caught:
        find(setting)
    accepted = "data_batch_1 to data_batch_5", FOLDER, ".tar.gz"
    for part in (str(tmp_path / setting), *accepted, "python -m fixtures.cifar10"):
        assert part in str(caught.value)


def test_a_folder_that_lacks_a_batch_names_the_missing_file(folder: Path) -> None:
    (folder / "data_batch_4").unlink()
    with pytest.raises(ImageSetNotFoundError, match="data_batch_4 is missing"):
        describe(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_batch_is_not_opened(folder: Path) -> None:
    (folder / "data_batch_2").unlink()
    os.mkfifo(folder / "data_batch_2")  # opening it would wait for ever
    with pytest.raises(ImageSetNotFoundError, match="data_batch_2 is missing or no regular file"):
        describe(folder)


def test_a_file_too_large_for_a_batch_is_refused_before_it_is_read(folder: Path) -> None:
    os.truncate(folder / "data_batch_1", 10 * 2**30)  # a hole: it takes no space on the disk
    with pytest.raises(UnsafeInputError, match="data_batch_1 is no batch: it has 10,737,418,240 bytes, more than"):
        describe(folder)


def test_a_hostile_batch_is_refused_in_folder_and_archive_and_nothing_runs(folder: Path, tmp_path: Path) -> None:
    sentinel = tmp_path / "it ran"
    for payload in make_payloads(sentinel):
        (folder / "data_batch_5").write_bytes(payload)
        archive = pack(tmp_path / "a.tar.gz", [*honest((1, 2, 3, 4)), regular(MEMBERS[4], payload)])
        for path in (folder, archive):
            with pytest.raises(UnsafeInputError, match=f"data_batch_5 of {path} is not an honest CIFAR-10 batch"):
                describe(path)
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
