"""Datasets of image files: saved, loaded, opened, checked and converted byte for byte."""

import pickle
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import BACKENDS, CorruptStoreError, DecodingError, Encoded, InvalidInputError
from storage.__main__ import main
from storage.dataset import writer
from storage.dataset.conversion import convert
from storage.dataset.gathering import FileBuffer
from storage.dataset.report import describe
from storage.errors import UnfinishedConversionError
from storage.registry import PACKAGE
from storage.sources.memory import ArraySource
from storage.sources.opening import open_source
from tests.faults.children import Ending, run_child
from tests.support.datasets import find_part, list_parts, list_structure
from tests.support.encoded_sets import assert_same_files, make_files, make_pictures, need_files
from tests.support.image_sets import make_set
from tests.support.open_files import list_names

COUNT = 27
FILES, LABELS = make_files(COUNT)
NAMES = [f"dir {index % 3}/{index}.jpg" for index in range(COUNT)]
ORDER = [26, 0, 13, 13, -1, 5, 6]


@pytest.fixture
def saved(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save image files with names and classes in several parts."""
    need_files(BACKENDS[backend])
    monkeypatch.setattr(writer, "PART", 80_000)
    batches = (FILES[start:stop] for start, stop in [(0, 4), (4, 4), (4, 20), (20, COUNT)])
    storage.save(tmp_path / "set", batches, LABELS, backend, names=NAMES, classes=["cat", "dog"])
    return tmp_path / "set"


def change_file(path: Path, index: int, place: int = 0) -> None:
    """Change a byte of a file where it is in a dataset of the backend npy."""
    starts = np.cumsum([0, *(len(storage.BACKENDS["npy"].open_reader(part)) for part in list_parts(path))])
    number = int(np.searchsorted(starts, index, side="right")) - 1
    store = find_part(path, number) / "content.npy"
    content = bytearray(store.read_bytes())
    content[128 + int(FILES.offsets[index] - FILES.offsets[starts[number]]) + place] ^= 1
    store.write_bytes(content)


@pytest.mark.parametrize("count", [0, 1, COUNT])
def test_saved_files_are_loaded_exactly_from_plain_stores(backend: str, count: int, tmp_path: Path) -> None:
    need_files(BACKENDS[backend])
    files, labels = make_files(count)
    storage.save(tmp_path / "set", files, labels, backend)
    for verify in (True, False):
        assert_same_files(storage.load(tmp_path / "set", verify=verify), (files, labels))
    assert_same_files(BACKENDS[backend].read_many(find_part(tmp_path / "set")), (files, labels))
    assert storage.check(tmp_path / "set").is_whole
    with storage.open(tmp_path / "set") as reader:
        assert (len(reader), reader.kind, reader.names) == (count, "encoded", reader.names[:0])


@pytest.mark.parametrize("verify", [True, False])
def test_batches_of_files_become_parts_that_are_read_in_any_order(saved: Path, *, verify: bool) -> None:
    assert len(list_parts(saved)) == 3
    assert_same_files(storage.load(saved, verify=verify), (FILES, LABELS))
    with storage.open(saved, verify=verify) as reader:
        for indices in (ORDER, ORDER, [], range(COUNT)):
            found = reader.read_encoded(indices)
            assert_same_files(found, (FILES.take(indices), LABELS[list(indices)]))
        np.testing.assert_array_equal(reader.read_labels(), LABELS)


def test_a_dataset_of_files_keeps_names_and_classes(saved: Path) -> None:
    with storage.open(saved) as reader:
        assert list(reader.names) == NAMES
        assert [reader.index(name) for name in NAMES] == list(range(COUNT))
        assert reader.classes == ("cat", "dog")
        assert reader.class_to_idx == {"cat": 0, "dog": 1}
        assert reader.targets == LABELS.tolist()
        with pytest.raises(storage.RecordNotFoundError, match=r"no image is named 'dir 1/0\.jpg'"):
            reader.index("dir 1/0.jpg")


def test_files_are_decoded_by_the_reader_of_a_dataset(tmp_path: Path) -> None:
    files, labels, pictures = make_pictures()
    storage.save(tmp_path / "set", files, labels, "npy")
    with storage.open(tmp_path / "set") as reader:
        for index, picture in enumerate(pictures):
            np.testing.assert_array_equal(reader[index][0], picture)
        images, found = reader.read([4, 1], size=(8, 9))
        assert images.shape == (2, 8, 9, 3)
        assert found.tolist() == [4, 1]


def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", FILES, LABELS, "npy", names=NAMES)
    storage.save(tmp_path / "unnamed", FILES, LABELS, "npy")
    with storage.open(tmp_path / "set") as reader:
        with pytest.raises(DecodingError, match=r"set: record 4 \(dir 1/4\.jpg\): it is none of ") as caught:
            reader[4]
        assert (caught.value.record, caught.value.name) == (4, "dir 1/4.jpg")
        with pytest.raises(DecodingError, match=r"set: record 5 \(dir 2/5\.jpg\)"):
            reader.read([5], size=(4, 4))
        with pytest.raises(DecodingError, match=r"set: record 4 \(dir 1/4\.jpg\)"):
            reader.read([4, 4], size=(4, 4), threads=2)
    with storage.open(tmp_path / "unnamed") as reader, pytest.raises(DecodingError, match=r"unnamed: record 4: it is"):
        reader[4]


def test_every_damaged_file_is_named_and_the_others_are_read(saved: Path, backend: str) -> None:
    if backend != "npy":
        pytest.skip("where a file is in the store is known for npy")
    for index in (5, 14, 26 - 3):
        change_file(saved, index)
    with pytest.raises(CorruptStoreError, match=rf"^{saved}: record 5 \(dir 2/5\.jpg\): it is damaged \(its image or"):
        storage.load(saved)
    report = storage.check(saved)
    assert sorted(report.records) == [5, 14, 23]
    assert describe(report)[:3] == [f"record {i} ({NAMES[i]}): {report.records[i]}" for i in (5, 14, 23)]
    with storage.open(saved) as reader:
        for _ in range(2):
            for read in (lambda: reader.read_encoded([3, 14, 6]), lambda: reader[14]):
                with pytest.raises(CorruptStoreError, match=r"record 14 \(dir 2/14\.jpg\): it is damaged"):
                    read()
        good = [index for index in range(COUNT) if index not in report.records]
        assert_same_files(reader.read_encoded(good), (FILES.take(good), LABELS[good]))
    with storage.open(saved, verify=False) as reader:
        assert bytes(reader.read_encoded([14])[0][0]) != bytes(FILES[14])


def test_the_advice_saves_the_other_files_with_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.save("set", FILES, LABELS, "npy", names=NAMES, classes=["cat"])
    change_file(tmp_path / "set", 14)
    command = describe(storage.check("set"))[-1].partition(f"python -m {PACKAGE} ")[2]
    assert main(command.split()) == 0
    whole = [index for index in range(COUNT) if index != 14]
    assert_same_files(storage.load("DESTINATION"), (FILES.take(whole), LABELS[whole]))
    with storage.open("DESTINATION") as reader:
        assert list(reader.names) == [NAMES[index] for index in whole]
        assert reader.classes == ("cat",)


def test_a_run_of_damaged_files_is_one_line_with_the_first_and_the_last_name(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", FILES, LABELS, "npy", names=NAMES)
    for index in (4, 5, 6):
        change_file(tmp_path / "set", index)
    assert describe(storage.check(tmp_path / "set"))[0].startswith(f"records 4 to 6 ({NAMES[4]} to {NAMES[6]}): its im")


@pytest.mark.parametrize("name", ["png", "png_stored"])
def test_a_backend_that_cannot_store_a_kind_refuses_it_before_anything_is_written(name: str, tmp_path: Path) -> None:
    for images in (FILES, iter([FILES])):
        with pytest.raises(InvalidInputError, match=f"{name} can't store image files: choose a backend whose INFO"):
            storage.save(tmp_path / "set", images, LABELS, name)
    with pytest.raises(InvalidInputError, match="can't store image files"):
        run_conversion(make_source(FILES[:0], LABELS[:0]), tmp_path / "set", name)
    assert list_names(tmp_path) == []


def test_image_files_and_pixels_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_set(COUNT)
    for part in (1, writer.PART):
        monkeypatch.setattr(writer, "PART", part)
        batches: list[list[Any]] = [[FILES[:3], images[3:]], [images[:3], FILES[3:]]]
        for each in batches:
            with pytest.raises(InvalidInputError, match="follow images of another size or kind"):
                storage.save(tmp_path / "set", each, labels, "npy")
    with pytest.raises(InvalidInputError, match="27 images and 26 labels"):
        storage.save(tmp_path / "set", FILES, labels[1:], "npy")
    assert list_names(tmp_path) == []


def test_a_file_larger_than_a_part_is_a_part() -> None:
    buffer = FileBuffer(10, remaining=4)
    files = Encoded.join([b"a" * 100, b"b" * 6, b"", b"c" * 9])
    taken = []
    while len(files):
        files = buffer.add(files)
        assert buffer.is_full
        taken.append([bytes(file) for file in buffer.take()])
        buffer = FileBuffer(10, remaining=len(files))
    assert taken == [[b"a" * 100], [b"b" * 6, b""], [b"c" * 9]]


def test_a_buffer_of_files_is_full_with_the_last_one() -> None:
    buffer = FileBuffer(10, remaining=2)
    assert len(buffer.add(Encoded.join([b"abc"]))) == 0
    assert not buffer.is_full
    assert len(buffer.add(Encoded.join([b"de"]))) == 0
    assert buffer.is_full
    assert list(buffer.take()) == [b"abc", b"de"]


def make_source(files: Any = FILES, labels: Any = LABELS, names: Any = None) -> ArraySource:  # noqa: ANN401
    return ArraySource(files, labels, ("cat",), "mine", names)


def run_conversion(source: Any, path: Path, backend: str, *, overwrite: bool = False) -> int:  # noqa: ANN401
    return convert(source, path, backend, overwrite=overwrite, progress=lambda *_: None)


@pytest.mark.parametrize("other", ["npy", "tar", "hdf5"])
def test_a_dataset_of_files_is_converted_with_names_and_classes(saved: Path, other: str) -> None:
    if other not in BACKENDS:
        pytest.skip(f"{other} isn't here")
    for path in (saved.with_name("new"), saved):
        with open_source(saved) as source:
            run_conversion(source, path, other, overwrite=True)
        assert storage.check(path).is_whole
        assert_same_files(storage.load(path), (FILES, LABELS))
        with storage.open(path) as reader:
            assert (list(reader.names), reader.classes) == (NAMES, ("cat", "dog"))


@pytest.mark.parametrize("count", [0, 9])
def test_a_plain_store_of_files_is_converted(backend: str, count: int, tmp_path: Path) -> None:
    need_files(BACKENDS[backend])
    files, labels = make_files(count)
    BACKENDS[backend].store_many(tmp_path / "store", files, labels)
    with open_source(tmp_path / "store") as source:
        assert run_conversion(source, tmp_path / "set", "npy") == 0
    assert_same_files(storage.load(tmp_path / "set"), (files, labels))


def test_files_in_one_set_of_parts_have_the_checksum_of_those_in_another(saved: Path) -> None:
    storage.save(saved.with_name("other"), FILES, LABELS, "npy")
    with storage.open(saved) as one, storage.open(saved.with_name("other")) as other:
        assert one.checksum == other.checksum
    storage.save(saved.with_name("third"), FILES, LABELS[::-1].copy(), "npy")
    with storage.open(saved.with_name("third")) as third:
        assert third.checksum != one.checksum


@pytest.mark.parametrize(
    ("names", "finished"), [(NAMES, 13), (None, 0), (NAMES[::-1], 0)], ids=["same", "none", "other"]
)
def test_a_conversion_of_files_resumes_if_the_names_are_the_same(
    names: list[str] | None, finished: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PART", 80_000)

    class Faulty(ArraySource):
        """Fails after twenty images."""

        def read(self, start: int) -> Generator[Any]:
            yield self.images[start:20]
            raise InvalidInputError("a made-up fault")

    images: Any = FILES
    with pytest.raises(UnfinishedConversionError, match="13 images are kept"):
        run_conversion(Faulty(images, LABELS, ("cat",), "mine", NAMES), tmp_path / "set", "npy")
    assert run_conversion(make_source(names=names), tmp_path / "set", "npy") == finished
    assert_same_files(storage.load(tmp_path / "set"), (FILES, LABELS))


def test_a_pickled_reader_and_a_forked_one_read_files(saved: Path) -> None:
    expected = FILES.take(ORDER), LABELS[ORDER]

    def read() -> str:
        assert_same_files(reader.read_encoded(ORDER), expected)
        return ""

    with storage.open(saved) as reader:
        assert run_child(read) == Ending(0, "")
        with pickle.loads(pickle.dumps(reader)) as copy:  # noqa: S301 - our own
            assert_same_files(copy.read_encoded(ORDER), expected)
            assert list(copy.names) == NAMES


def test_what_a_backend_refuses_to_read_names_the_file(
    saved: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage.open(saved) as reader:
        part = type(reader._pool.take(0).reader)  # noqa: SLF001
        original = part._read_encoded  # noqa: SLF001

        def refuse(self: storage.Reader, indices: Any) -> Any:  # noqa: ANN401
            if 3 in list(indices):
                raise CorruptStoreError("a mood", store=self.store)
            return original(self, indices)

        monkeypatch.setattr(part, "_read_encoded", refuse)
        with pytest.raises(CorruptStoreError, match=r"record 3 \(dir 0/3\.jpg\): it is damaged \(part-\S+: a mood\)"):
            reader.read_encoded([1, 3])
        monkeypatch.setattr(BACKENDS[backend], "read_many", lambda *_: refuse(reader._pool.take(0).reader, [3]))  # noqa: SLF001
        with pytest.raises(CorruptStoreError, match=r"record 3 \(dir 0/3\.jpg\): it is damaged"):
            storage.load(saved)


def test_most_of_a_store_of_files_is_not_read_at_each_opening(backend: str, tmp_path: Path) -> None:
    need_files(BACKENDS[backend])
    files = Encoded.join([np.random.default_rng(0).bytes(3000)] * 200)
    storage.save(tmp_path / "set", files, np.arange(200), backend)
    if not BACKENDS[backend].find_pixels(find_part(tmp_path / "set")):
        pytest.skip(f"{backend} finds no pixels, so whole files are verified")
    structure = sum(end - start for entry in list_structure(tmp_path / "set").values() for start, end in entry.ranges)
    assert structure < files.nbytes / 10
