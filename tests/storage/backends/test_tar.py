"""What only the tar backend has: archives that others can read, and an index that is held against them."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import storage
from storage import CorruptStoreError, StorageError
from storage.dataset.manifest import read_manifest
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same, make_set

NAME = "tar"
tar = take_backend(NAME)

from storage.backends._tar_records import Layout  # noqa: E402 - not before it is known to be here

COUNT, HEIGHT, WIDTH = 10, 5, 7
IMAGES, LABELS = make_set(COUNT, HEIGHT, WIDTH)
RECORD = Layout(COUNT, HEIGHT, WIDTH, COUNT).record
INDICES = [9, 0, 3, 9, -1]
READS: dict[str, Callable[[Path], object]] = {
    "read_single": lambda path: tar.read_single(path, -1),
    "read_many": tar.read_many,
    "open_reader": tar.open_reader,
}


@pytest.fixture(params=[COUNT, 4, 1], ids=["one shard", "three shards", "ten shards"])
def shards(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a store of one shard or more."""
    monkeypatch.setattr(tar, "SHARD", request.param * RECORD)
    tar.store_many(tmp_path / "store", IMAGES, LABELS)
    return tmp_path / "store"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a store of three shards, of four, four and two images."""
    monkeypatch.setattr(tar, "SHARD", 4 * RECORD)
    tar.store_many(tmp_path / "store", IMAGES, LABELS)
    return tmp_path / "store"


def read_samples(store: Path) -> list[dict[str, bytes]]:
    """Read members as webdataset does: in a stream, those with the same name up to its first dot are one sample."""
    samples: list[dict[str, bytes]] = []
    for path in sorted(store.glob("*.tar")):
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                key, _, ending = member.name.partition(".")
                if not samples or samples[-1]["key"] != key.encode():
                    samples.append({"key": key.encode()})
                content = archive.extractfile(member)
                assert content is not None
                samples[-1][ending] = content.read()
    return samples


def test_the_archives_hold_a_picture_and_a_label_an_image(shards: Path) -> None:
    samples = read_samples(shards)
    assert [sample["key"] for sample in samples] == [b"%012d" % index for index in range(COUNT)]
    assert [int(sample["cls"]) for sample in samples] == LABELS.tolist()
    for sample, image in zip(samples, IMAGES, strict=True):
        assert sorted(sample) == ["cls", "key", "ppm"]
        with Image.open(io.BytesIO(sample["ppm"])) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)


def test_the_headers_are_those_that_tarfile_writes(store: Path) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for index in range(4):
            picture = b"P6\n%d %d\n255\n%b" % (WIDTH, HEIGHT, IMAGES[index].tobytes())
            for ending, content in (("cls", b"%d" % LABELS[index]), ("ppm", picture)):
                member = tarfile.TarInfo(f"{index:012}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    assert (store / "000000.tar").read_bytes() == written.getvalue()


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no command tar here")
def test_the_command_tar_extracts_what_was_stored(shards: Path, tmp_path: Path) -> None:
    for path in sorted(shards.glob("*.tar")):
        ended = subprocess.run(["tar", "-xf", path], cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S607 - whichever there is
        assert (ended.returncode, ended.stderr) == (0, "")
    for index in range(COUNT):
        with Image.open(tmp_path / f"{index:012}.ppm") as picture:
            np.testing.assert_array_equal(np.asarray(picture), IMAGES[index])
        assert int((tmp_path / f"{index:012}.cls").read_text()) == LABELS[index]


def test_any_number_of_shards_is_read_alike(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "BATCH", 3 * IMAGES[0].nbytes)
    out = np.zeros_like(IMAGES)
    assert tar.read_many(shards, out)[0] is out
    assert_same((out, LABELS), tar.read_many(shards))
    with tar.open_reader(shards) as reader:
        for filled in (None, out[: len(INDICES)]):
            assert_same(reader.read(INDICES, filled), (IMAGES[INDICES], LABELS[INDICES]))
        for index in range(COUNT):
            assert_same(reader[index], (IMAGES[index], LABELS[index]))
            assert_same(tar.read_single(shards, index), (IMAGES[index], LABELS[index]))


def test_a_shard_of_several_windows_and_batches_is_read_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_set(100, HEIGHT, WIDTH)
    monkeypatch.setattr(tar, "BATCH", 7 * RECORD)
    monkeypatch.setattr(tar, "WINDOW", 16 * RECORD)
    monkeypatch.setattr(tar, "SHARD", 60 * RECORD)
    tar.store_many(tmp_path, images, labels)
    assert_same(tar.read_many(tmp_path), (images, labels))
    assert [int(sample["cls"]) for sample in read_samples(tmp_path)] == labels.tolist()


def test_names_of_more_than_four_digits_are_right(tmp_path: Path) -> None:
    images, labels = make_set(10_003, 1, 1)
    tar.store_many(tmp_path, images, labels)
    assert [sample["key"] for sample in read_samples(tmp_path)] == [b"%012d" % index for index in range(len(images))]


def test_several_shards_cannot_be_viewed_as_one(store: Path) -> None:
    with tar.open_reader(store) as reader, pytest.raises(StorageError, match="has 3 shards, which are no one array"):
        reader.view()


def test_a_batch_that_fits_no_memory_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    class Full:
        __getitem__ = fail

    tar.store_many(tmp_path, IMAGES, LABELS)
    with tar.open_reader(tmp_path) as reader:
        monkeypatch.setattr(reader, "_shards", [Full()])
        monkeypatch.setattr("storage.arrays.np.empty", fail)
        with pytest.raises(StorageError, match="does not fit in memory"):
            reader.read(INDICES)


def put(place: int, content: bytes) -> Callable[[Path], None]:
    """Make a function that overwrites bytes of a file."""

    def change(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(place)
            file.write(content)

    return change


def number(place: int, value: int) -> Callable[[Path], None]:
    """Make a function that overwrites a number in the header of the index."""
    return put(8 + 8 * place, value.to_bytes(8, "little"))


INDEXES: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: os.truncate(path, 0),
    "of another program": put(0, b"PK\3\4"),
    "shorter than its header": lambda path: os.truncate(path, 39),
    "without a label": lambda path: os.truncate(path, 40 + 8 * (COUNT - 1)),
    "with more images": number(0, COUNT + 1),
    "with images without end": number(0, 2**64 - 1),
    "without height": number(1, 0),
    "with another height": number(1, HEIGHT + 200),
    "with height and width exchanged": put(16, WIDTH.to_bytes(8, "little") + HEIGHT.to_bytes(8, "little")),
    "with a width without end": number(2, 2**64 - 1),
    "without shards": number(3, 0),
    "with larger shards": number(3, COUNT),
    "with smaller shards": number(3, 3),
    "with another label": put(40 + 8 * (COUNT - 1), b"\7"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("change", INDEXES.values(), ids=INDEXES)
def test_an_index_that_does_not_fit_the_archives_is_refused(
    store: Path, change: Callable[[Path], None], read: Callable[[Path], object]
) -> None:
    change(store / "index.bin")
    with pytest.raises(CorruptStoreError, match=f"{store}.*index.bin|{store}.*tar has|{store} has no|{store} says"):
        read(store)


def write_foreign(path: Path, form: int, names: list[str]) -> None:
    """Write an archive as another program might, and make it as long as it was."""
    size = path.stat().st_size
    with tarfile.open(path, "w", format=form) as archive:
        for name in names:
            for ending in ("cls", "ppm"):
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = 1 if ending == "cls" else 116
                archive.addfile(member, io.BytesIO(b"7" * member.size))
    os.truncate(path, size)


FOREIGN = {
    "with PAX headers": (tarfile.PAX_FORMAT, [f"é{index:012}" for index in range(COUNT)]),
    "with other names": (tarfile.USTAR_FORMAT, [f"sample{index:06}" for index in range(COUNT)]),
    "in another order": (tarfile.GNU_FORMAT, [f"{index:012}" for index in reversed(range(COUNT))]),
    "of fewer images": (tarfile.GNU_FORMAT, [f"{index:012}" for index in range(2)]),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize(("form", "names"), FOREIGN.values(), ids=FOREIGN)
def test_an_archive_of_another_program_is_refused_with_the_index_and_without(
    tmp_path: Path, form: int, names: list[str], read: Callable[[Path], object]
) -> None:
    tar.store_many(tmp_path, IMAGES, LABELS)
    write_foreign(tmp_path / "000000.tar", form, names)
    with pytest.raises(CorruptStoreError, match=f"{tmp_path}: the headers of image [09] are not ours"):
        read(tmp_path)
    (tmp_path / "index.bin").unlink()
    with pytest.raises(CorruptStoreError, match=r"has no index.bin \(but 000000.tar, for one\)"):
        read(tmp_path)


@pytest.mark.parametrize("read", [tar.read_many, tar.open_reader], ids=["read_many", "open_reader"])
@pytest.mark.parametrize("name", ["000000.tar", "000001.tar", "000002.tar"])
def test_shards_are_whole_or_refused_before_they_are_mapped(
    store: Path, name: str, read: Callable[[Path], object]
) -> None:
    path = store / name
    content = path.read_bytes()
    for other in (b"", content[:-1], content[:RECORD], content + bytes(512)):
        path.write_bytes(other)
        with pytest.raises(CorruptStoreError, match=f"{store}: {name} has {len(other)} bytes, not {len(content)}"):
            read(store)
    path.unlink()
    with pytest.raises(CorruptStoreError, match=f"{store} has no {name}"):
        read(store)


def test_shards_that_were_exchanged_are_refused(store: Path) -> None:
    (store / "000000.tar").rename(store / "other")
    (store / "000001.tar").rename(store / "000000.tar")
    (store / "other").rename(store / "000001.tar")
    for index in (0, 7):
        with pytest.raises(CorruptStoreError, match=f"the headers of image {index} are not ours"):
            tar.read_single(store, index)
    for read in (tar.read_many, tar.open_reader):
        with pytest.raises(CorruptStoreError, match="the headers of image 0 are not ours"):
            read(store)


@pytest.mark.parametrize("place", [0, 133, 148, 512, 1024, 1024 + 148, 1536, 1536 + 3])
def test_a_byte_of_its_headers_refuses_a_single_image_and_harms_no_batch(store: Path, place: int) -> None:
    put(RECORD + place, b"\xff")(store / "000001.tar")
    with pytest.raises(CorruptStoreError, match=r"image 5 .*000001.tar"):
        tar.read_single(store, 5)
    assert_same(tar.read_many(store), (IMAGES, LABELS))
    with tar.open_reader(store) as reader:
        assert_same(reader.read(INDICES), (IMAGES[INDICES], LABELS[INDICES]))


def test_the_same_images_make_the_same_files(store: Path, tmp_path: Path) -> None:
    tar.store_many(tmp_path / "again", IMAGES, LABELS)
    for path in store.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_only_the_ends_of_the_archives_and_the_header_of_the_index_are_structure(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, NAME)
    structure = read_manifest(tmp_path / "set").structure
    size = (tmp_path / "set" / "part-00000" / "000000.tar").stat().st_size
    assert {name: found.ranges for name, found in structure.items()} == {
        "part-00000/000000.tar": ((COUNT * RECORD, size),),
        "part-00000/index.bin": ((0, 40),),
    }
