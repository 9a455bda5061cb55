"""The tar backend: tarfile and webdataset read its archives, and the index is compared with them."""

import io
import os
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import storage
from storage import CorruptStoreError, Encoded, StorageError
from storage.backends import _tar
from tests.support.backends import take_backend
from tests.support.datasets import find_part, list_structure
from tests.support.encoded_sets import assert_same_files, check_file_reads, encode, make_files
from tests.support.foreign import Case, Change, append, cut, delete, overwrite, write
from tests.support.image_sets import assert_same, check_reads, make_set

tar = take_backend("tar")
COUNT, HEIGHT, WIDTH = 10, 5, 7
IMAGES, LABELS = make_set(COUNT, HEIGHT, WIDTH)
RECORD = tar.Layout(COUNT, HEIGHT, WIDTH, COUNT).record
INDICES = [9, 0, 3, 9, -1]


def split(count: int, change: Change) -> Change:
    """Store the ten images again in shards of `count`, then change that store."""

    def store_and_change(store: Path) -> None:
        shutil.rmtree(store)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tar, "SHARD", count * RECORD)
            tar.store_many(store, IMAGES, LABELS)
        change(store)

    return store_and_change


def number(place: int, value: int) -> Change:
    """Overwrite a number in the header of the index of a store of three shards."""
    return split(4, overwrite("index.bin", 8 + 8 * place, value.to_bytes(8, "little")))


def exchange(store: Path) -> None:
    """Exchange two shards."""
    (store / "000000.tar").rename(store / "other")
    (store / "000001.tar").rename(store / "000000.tar")
    (store / "other").rename(store / "000001.tar")


def archive(form: int, names: list[str]) -> Change:
    """Replace the archive by one of another program, of the same size."""

    def change(store: Path) -> None:
        path = store / "000000.tar"
        size = path.stat().st_size
        with tarfile.open(path, "w", format=form) as file:
            for name in names:
                for ending in ("cls", "ppm"):
                    member = tarfile.TarInfo(f"{name}.{ending}")
                    member.size = 1 if ending == "cls" else 116
                    file.addfile(member, io.BytesIO(b"7" * member.size))
        os.truncate(path, size)

    return change


RGB_AS_NPY = b"npy+cls1" + struct.pack("<5Q8s", COUNT, HEIGHT, WIDTH, COUNT, 3, b"uint8")
SWAPPED = split(4, overwrite("index.bin", 16, WIDTH.to_bytes(8, "little") + HEIGHT.to_bytes(8, "little")))
FOREIGN = {
    "an empty index": Case(cut("index.bin", 0), "index.bin"),
    "an index of another program": Case(overwrite("index.bin", 0, b"PK\3\4"), "another header"),
    "an index shorter than its header": Case(cut("index.bin", 39), "another header"),
    "an index without a label": Case(cut("index.bin", -8), "bytes"),
    "no index": Case(delete("index.bin"), r"has no index\.bin"),
    "more images": Case(number(0, COUNT + 1), "bytes"),
    "2**64 images": Case(number(0, 2**64 - 1), "bytes"),
    "8-bit RGB as .npy": Case(write("index.bin", RGB_AS_NPY), "another header"),
    "a header cut short": Case(write("index.bin", RGB_AS_NPY[:-1]), "another header"),
    "no height": Case(number(1, 0)),
    "another height": Case(number(1, HEIGHT + 200), r"tar has \d+ bytes"),
    "height and width exchanged": Case(SWAPPED, "headers"),
    "a width of 64 bits": Case(number(2, 2**64 - 1), r"tar has \d+ bytes"),
    "no images in a shard": Case(number(3, 0), "no images"),
    "smaller shards": Case(number(3, 3)),
    "another label": Case(overwrite("index.bin", 40 + 8 * (COUNT - 1), b"\7"), "record 9"),
    "exchanged shards": Case(split(4, exchange), "record 0: .*headers"),
    "PAX headers": Case(archive(tarfile.PAX_FORMAT, [f"é{index:012}" for index in range(COUNT)]), "record [09]"),
    "other names": Case(archive(tarfile.USTAR_FORMAT, [f"sample{index:06}" for index in range(COUNT)]), "record [09]"),
    "another order": Case(archive(tarfile.GNU_FORMAT, [f"{index:012}" for index in (9, 1, 0)]), "record [09]"),
    "fewer members": Case(archive(tarfile.GNU_FORMAT, [f"{index:012}" for index in range(2)]), "record [09]"),
    **{f"shard {name} empty": Case(split(4, cut(f"{name:06}.tar", 0)), "has 0 bytes") for name in range(3)},
    **{f"shard {name} cut": Case(split(4, cut(f"{name:06}.tar", -1)), r"has \d+ bytes") for name in range(3)},
    **{f"shard {name} longer": Case(split(4, append(f"{name:06}.tar", bytes(512)))) for name in range(3)},
    **{f"shard {name} missing": Case(split(4, delete(f"{name:06}.tar")), f"has no {name:06}") for name in range(3)},
}


@pytest.fixture(params=[COUNT, 4, 1], ids=["one shard", "three shards", "ten shards"])
def shards(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tar, "SHARD", request.param * RECORD)
    tar.store_many(tmp_path / "store", IMAGES, LABELS)
    return tmp_path / "store"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tar, "SHARD", 4 * RECORD)
    tar.store_many(tmp_path / "store", IMAGES, LABELS)
    return tmp_path / "store"


def read_samples(store: Path) -> list[dict[str, bytes]]:
    """Read members as webdataset does: consecutive ones with the same name up to the first dot are a sample."""
    samples: list[dict[str, bytes]] = []
    for path in sorted(store.glob("*.tar")):
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as stream:
            for member in stream:
                key, _, ending = member.name.partition(".")
                if not samples or samples[-1]["key"] != key.encode():
                    samples.append({"key": key.encode()})
                content = stream.extractfile(member)
                assert content is not None
                samples[-1][ending] = content.read()
    return samples


def test_each_image_is_a_picture_and_a_label_in_the_archives(shards: Path) -> None:
    samples = read_samples(shards)
    assert [sample["key"] for sample in samples] == [b"%012d" % index for index in range(COUNT)]
    assert [int(sample["cls"]) for sample in samples] == LABELS.tolist()
    for sample, image in zip(samples, IMAGES, strict=True):
        assert sorted(sample) == ["cls", "key", "ppm"]
        with Image.open(io.BytesIO(sample["ppm"])) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)


def test_the_headers_are_those_that_tarfile_writes(store: Path) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as file:
        for index in range(4):
            picture = b"P6\n%d %d\n255\n%b" % (WIDTH, HEIGHT, IMAGES[index].tobytes())
            for ending, content in (("cls", b"%d" % LABELS[index]), ("ppm", picture)):
                member = tarfile.TarInfo(f"{index:012}.{ending}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    assert (store / "000000.tar").read_bytes() == written.getvalue()


def test_any_number_of_shards_is_read_alike(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "BATCH", 3 * IMAGES[0].nbytes)
    out = np.zeros_like(IMAGES)
    assert tar.read_many(shards, out)[0] is out
    assert_same((out, LABELS), tar.read_many(shards))
    check_reads(tar, shards, (IMAGES, LABELS))
    with tar.open_reader(shards) as reader:
        assert_same(reader.read(INDICES, out[: len(INDICES)]), (IMAGES[INDICES], LABELS[INDICES]))


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
    with tar.open_reader(store) as reader, pytest.raises(StorageError, match="3 shards"):
        reader.view()


def test_too_little_memory_for_a_batch_of_one_shard_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.parametrize("place", [0, 133, 148, 512, 1024, 1024 + 148, 1536, 1536 + 3])
def test_a_damaged_header_matters_only_where_its_image_is_read_alone(store: Path, place: int) -> None:
    overwrite("000001.tar", RECORD + place, b"\xff")(store)
    with pytest.raises(CorruptStoreError, match=r"record 5: .*000001.tar"):
        tar.read_single(store, 5)
    assert_same(tar.read_many(store), (IMAGES, LABELS))
    with tar.open_reader(store) as reader:
        assert_same(reader.read(INDICES), (IMAGES[INDICES], LABELS[INDICES]))


def test_only_the_ends_of_archives_and_the_header_of_the_index_are_verified_first(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "tar")
    structure = list_structure(tmp_path / "set")
    part = find_part(tmp_path / "set").name
    size = (find_part(tmp_path / "set") / "000000.tar").stat().st_size
    assert {name: found.ranges for name, found in structure.items()} == {
        f"{part}/000000.tar": ((COUNT * RECORD, size),),
        f"{part}/index.bin": ((0, 40),),
    }


FILES, FILE_LABELS = make_files(COUNT)
FIRSTS, LENGTHS, STARTS = 24, 24 + 8 * 4 + 8 * COUNT, 24 + 8 * 4 + 16 * COUNT  # in the index of three shards


@pytest.fixture
def file_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store ten files, of which one needs more than a shard, in three shards."""
    monkeypatch.setattr(tar, "SHARD", 20_000)
    monkeypatch.setattr(_tar, "CALL", 2)
    tar.store_many(tmp_path / "store", FILES, FILE_LABELS)
    return tmp_path / "store"


def test_each_file_is_a_member_and_a_label_in_the_archives(file_shards: Path) -> None:
    samples = read_samples(file_shards)
    assert len(list(file_shards.glob("*.tar"))) == 3
    assert [sample["key"] for sample in samples] == [b"%012d" % index for index in range(COUNT)]
    assert [int(sample["cls"]) for sample in samples] == FILE_LABELS.tolist()
    assert [sample["bin"] for sample in samples] == [bytes(file) for file in FILES]
    check_file_reads(tar, file_shards, (FILES, FILE_LABELS))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"])
def test_a_file_has_the_extension_of_its_content(tmp_path: Path, kind: str) -> None:
    content = encode(np.zeros((16, 16, 3), np.uint8), kind)
    tar.store_many(tmp_path, Encoded.join([content]), np.zeros(1, np.int64))
    (sample,) = read_samples(tmp_path)
    (ending,) = set(sample) - {"key", "cls"}
    assert Image.registered_extensions()[f".{ending}"] == kind
    assert sample[ending] == content
    assert tar.read_single(tmp_path, 0) == (content, 0)


def test_the_headers_of_files_are_those_that_tarfile_writes(tmp_path: Path) -> None:
    tar.store_many(tmp_path, FILES, FILE_LABELS)
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as file:
        for index, content in enumerate(FILES):
            for ending, part in (("cls", b"%d" % FILE_LABELS[index]), ("bin", bytes(content))):
                member = tarfile.TarInfo(f"{index:012}.{ending}")
                member.size = len(part)
                file.addfile(member, io.BytesIO(part))
    assert (tmp_path / "000000.tar").read_bytes() == written.getvalue()


def test_headers_of_the_largest_files_are_right() -> None:
    heads = _tar.make_file_heads(
        999_999_999_999, np.array([-(2**63)]), np.array([_tar.MAX_FILE]), np.array([b"webp"], _tar.ENDING)
    )
    member = tarfile.TarInfo.frombuf(heads[0, _tar.PICTURE :].tobytes(), "ascii", "strict")
    assert (member.name, member.size) == ("999999999999.webp", 8**11 - 1)


def test_a_file_that_a_tar_header_cannot_describe_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tar, "MAX_FILE", 69_999)
    with pytest.raises(storage.InvalidInputError, match="image 6 has 70,000 bytes, more than the limit"):
        tar.store_many(tmp_path / "store", FILES, FILE_LABELS)
    assert not (tmp_path / "store").exists()
    monkeypatch.setattr(_tar, "MAX_FILE", 70_000)
    tar.store_many(tmp_path / "store", FILES, FILE_LABELS)
    assert_same_files(tar.read_many(tmp_path / "store"), (FILES, FILE_LABELS))


def test_a_write_that_stops_halfway_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_some(descriptor: int, pieces: list[memoryview], offset: int) -> int:
        return os.pwrite(descriptor, b"".join(pieces)[: _tar.START + 5_000], offset)

    monkeypatch.setattr(os, "pwritev", write_some)
    tar.store_many(tmp_path, FILES, FILE_LABELS)
    assert_same_files(tar.read_many(tmp_path), (FILES, FILE_LABELS))


def put(place: int, value: int) -> Change:
    return overwrite("index.bin", place, value.to_bytes(8, "little", signed=value < 0))


FILE_CASES = {
    "more images": Case(put(8, COUNT + 1), "bytes, not"),
    "2**64 - 1 images": Case(put(8, 2**64 - 1), "bytes, not"),
    "more shards": Case(put(16, 4), "bytes, not"),
    "an index without its end": Case(cut("index.bin", -8), "bytes, not"),
    "no more than the letters": Case(cut("index.bin", 16), "another header"),
    "another first image": Case(put(FIRSTS + 8, COUNT), "the first images of its shards"),
    "another last image": Case(put(FIRSTS + 24, COUNT + 1), "the first images of its shards"),
    "a negative first image": Case(put(FIRSTS, -1), "the first images of its shards"),
    "shards in another order": Case(put(FIRSTS + 8, 0), "the first images of its shards"),
    "another length": Case(put(LENGTHS + 8, 513)),
    "a negative length": Case(put(LENGTHS + 8, -1)),
    "a length of 63 bits": Case(put(LENGTHS + 8, 2**63 - 1)),
    "a first place": Case(put(STARTS, 512)),
    "another place": Case(put(STARTS + 8, 2048)),
    "a place of 63 bits": Case(put(STARTS + 8, 2**63 - 1)),
    "a negative place": Case(put(STARTS + 8, -512)),
    "another label": Case(put(24 + 8 * 4, 7), "record 0: .*headers"),
    "another name": Case(overwrite("000000.tar", _tar.PICTURE, b"1"), "record 0: .*headers"),
    "an unknown extension": Case(overwrite("000000.tar", _tar.PICTURE + 13, b"sh\0"), "record 0: .*headers"),
    "a shard that was cut short": Case(cut("000001.tar", -1), "has .* bytes"),
    "no shard": Case(delete("000002.tar"), "has no 000002"),
    "exchanged shards": Case(exchange),
}


@pytest.mark.parametrize("case", FILE_CASES.values(), ids=FILE_CASES)
def test_damaged_shards_of_files_are_refused(case: Case, file_shards: Path) -> None:
    case.change(file_shards)
    for read in (tar.read_many, tar.open_reader, lambda path: [tar.read_single(path, index) for index in range(COUNT)]):
        with pytest.raises(CorruptStoreError, match=case.message) as caught:
            read(file_shards)
        assert str(file_shards) in str(caught.value)


def test_a_file_in_a_hole_costs_no_memory(tmp_path: Path) -> None:
    length, label = 4 << 30, np.array([7])
    tar.store_many(tmp_path, Encoded.join([b""]), label)
    numbers = np.array([0, 1, 7, length, 0, _tar.START + length], "<i8")
    (tmp_path / "index.bin").write_bytes(b"any+cls1" + np.array([1, 1], "<i8").tobytes() + numbers.tobytes())
    head = _tar.make_file_heads(0, label, np.array([length]), np.array([b"bin"], _tar.ENDING))
    (tmp_path / "000000.tar").write_bytes(head.tobytes())
    os.truncate(tmp_path / "000000.tar", _tar.round_up(_tar.START + length + 1024, tarfile.RECORDSIZE))
    for read in (tar.read_many, lambda path: tar.read_single(path, 0)):
        with pytest.raises(StorageError, match="is damaged, or has holes"):
            read(tmp_path)
    with tar.open_reader(tmp_path) as reader, pytest.raises(StorageError, match="is damaged, or has holes"):
        reader.read_encoded([0])


def test_contents_headers_and_labels_of_files_are_no_structure(file_shards: Path) -> None:
    found = tar.find_pixels(file_shards)
    assert found["index.bin"] == [range(24 + 8 * 4, LENGTHS)]
    assert all(found[f"{number:06}.tar"][0].start == 0 for number in range(3))
    records = sum(len(ranges[0]) for name, ranges in found.items() if name != "index.bin")
    assert records == sum(1536 + -(-len(file) // 512) * 512 for file in FILES)
