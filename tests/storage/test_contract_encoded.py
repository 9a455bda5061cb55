"""Every backend that accepts image files keeps the contract of `storage.Backend` for them."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import Backend, Encoded
from tests.faults.children import Ending, run_cases, run_child
from tests.support.encoded_sets import (
    assert_same_files,
    check_file_reads,
    encode,
    make_files,
    make_pictures,
    need_files,
)
from tests.support.full_disk import limit_file_size
from tests.support.image_sets import LABELS, make_set
from tests.support.open_files import count_open_files

pytestmark = pytest.mark.kinds("pixels", "encoded")
TIMEOUT = 20.0  # seconds


@pytest.fixture
def files(module: Backend, tmp_path: Path) -> Path:
    """Make a store of nine files, some of them empty."""
    need_files(module)
    module.store_many(tmp_path / "files", *make_files())
    return tmp_path / "files"


@pytest.fixture
def pictures(module: Backend, tmp_path: Path) -> Path:
    """Make a store of five PNG files."""
    need_files(module)
    module.store_many(tmp_path / "pictures", *make_pictures()[:2])
    return tmp_path / "pictures"


@pytest.mark.parametrize("count", [0, 1, 9, 700])
def test_stored_files_come_back(module: Backend, tmp_path: Path, count: int) -> None:
    need_files(module)
    module.store_many(tmp_path / "store", *make_files(count))
    check_file_reads(module, tmp_path / "store", make_files(count))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_store_has_a_file_outside_its_folders(module: Backend, tmp_path: Path, count: int) -> None:
    for kind in module.INFO.kinds:
        store = tmp_path / kind
        store.mkdir()
        module.store_many(store, *(make_files(count) if kind == "encoded" else make_set(count, 5, 7)))
        assert any(path.is_file() for path in store.iterdir()), "convert takes a folder without files for no store"


def test_a_large_file_comes_back(module: Backend, tmp_path: Path) -> None:
    need_files(module)
    files = Encoded.join([b"", np.random.default_rng(0).bytes(9 << 20), b"small"])
    module.store_many(tmp_path / "store", files, np.arange(3))
    check_file_reads(module, tmp_path / "store", (files, np.arange(3)))


def test_a_part_of_a_set_comes_back(module: Backend, tmp_path: Path) -> None:
    need_files(module)
    files, labels = make_files(40)
    module.store_many(tmp_path / "store", files[7:19], labels[7:19])
    check_file_reads(module, tmp_path / "store", (files[7:19], labels[7:19]))


def test_a_single_file_comes_back(module: Backend, tmp_path: Path) -> None:
    need_files(module)
    for label in LABELS:
        module.store_single(tmp_path / str(label), b"any bytes", label)
        assert module.read_single(tmp_path / str(label), 0) == (b"any bytes", label)


def test_files_are_refused_before_anything_is_written_if_the_backend_has_no_room_for_them(
    module: Backend, tmp_path: Path
) -> None:
    if "encoded" in module.INFO.kinds:
        pytest.skip("it stores image files")
    with pytest.raises(storage.InvalidInputError, match="stores pixels, not image files"):
        module.store_many(tmp_path / "store", *make_files())
    with pytest.raises(storage.InvalidInputError, match="stores pixels, not image files"):
        module.store_single(tmp_path / "store", b"file", 1)
    assert not (tmp_path / "store").exists()


def test_files_with_fewer_labels_are_refused_before_anything_is_written(module: Backend, tmp_path: Path) -> None:
    files, labels = make_files()
    with pytest.raises(storage.InvalidInputError):
        module.store_many(tmp_path / "store", files, labels[1:])
    assert not (tmp_path / "store").exists()


def test_names_and_classes_are_accepted(module: Backend, tmp_path: Path) -> None:
    images, labels = make_set(2)
    if "pixels" in module.INFO.kinds:
        module.store_many(tmp_path / "pixels", images, labels, names=["a/0", "b/1"], classes=["a", "b"])
        np.testing.assert_array_equal(module.read_many(tmp_path / "pixels")[0], images)
    if "encoded" in module.INFO.kinds:
        files = Encoded.join([b"one", b"two"])
        module.store_many(tmp_path / "files", files, np.arange(2), names=["a/0", "b/1"], classes=["a", "b"])
        assert_same_files(module.read_many(tmp_path / "files"), (files, np.arange(2)))


def test_pixels_are_not_read_as_files(module: Backend, tmp_path: Path) -> None:
    if "pixels" not in module.INFO.kinds:
        pytest.skip("it stores image files only")
    module.store_many(tmp_path / "store", *make_set(3))
    with module.open_reader(tmp_path / "store") as reader:
        assert reader.kind == "pixels"
        with pytest.raises(storage.InvalidInputError, match="it holds pixels"):
            reader.read_encoded([0])
        with pytest.raises(storage.InvalidInputError, match="stored as pixels"):
            reader.read([0], size=(8, 8))


def test_files_have_no_array_to_fill(module: Backend, files: Path) -> None:
    with pytest.raises(storage.InvalidInputError, match="image files"):
        module.read_many(files, np.empty((9, 1, 1, 3), np.uint8))


def test_an_index_out_of_range_raises_record_not_found(module: Backend, files: Path) -> None:
    for index in (9, -10, 2**40):
        with pytest.raises(storage.RecordNotFoundError, match="9 images"):
            module.read_single(files, index)
        with module.open_reader(files) as reader, pytest.raises(storage.RecordNotFoundError, match="9 images"):
            reader.read_encoded([0, index])


def test_slices_and_lists_select_files_and_decoded_images(module: Backend, pictures: Path) -> None:
    files, labels, expected = make_pictures()
    several: list[Any] = [slice(None, None, -2), [3, -1, 3], range(5), []]
    with module.open_reader(pictures) as reader:
        assert_same_files(reader.read_encoded(slice(1, 4)), (files[1:4], labels[1:4]))
        for indices in several:
            images, found = reader[indices]
            numbers = np.arange(5)[indices if isinstance(indices, slice) else np.array(indices, np.intp)]
            np.testing.assert_array_equal(found, labels[numbers], strict=True)
            assert len(images) == len(numbers)
            for image, number in zip(images, numbers, strict=True):
                np.testing.assert_array_equal(image, expected[number])
        with pytest.raises(storage.RecordNotFoundError, match="5 images"):
            reader[[0, 5]]


def test_a_reader_decodes_its_files(module: Backend, pictures: Path) -> None:
    expected = make_pictures()[2]
    with module.open_reader(pictures) as reader:
        for index, picture in enumerate(expected):
            image, label = reader[index]
            np.testing.assert_array_equal(image, picture)
            assert label == index
        for (image, label), index in zip(reader.__getitems__([2, 0]), (2, 0), strict=True):
            np.testing.assert_array_equal(image, expected[index])
            assert label == index
        out = np.empty((3, 9, 12, 3), np.uint8)
        images, labels = reader.read([4, 1, 4], out, size=(9, 12))
    assert images is out
    assert labels.tolist() == [4, 1, 4]
    np.testing.assert_array_equal(images[0], images[2])
    np.testing.assert_array_equal(images[1], scale_with_pillow(expected[1], 9, 12))


def scale_with_pillow(picture: storage.Image, height: int, width: int) -> object:
    from PIL import Image, ImageOps  # noqa: PLC0415 - to compare with

    fitted = ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted)


def test_a_file_that_cannot_be_decoded_is_named_by_its_record(module: Backend, tmp_path: Path) -> None:
    need_files(module)
    good = encode(np.zeros((8, 8, 3), np.uint8))
    module.store_many(tmp_path / "store", Encoded.join([good, b"no image", good]), np.arange(3))
    with module.open_reader(tmp_path / "store") as reader:
        with pytest.raises(storage.DecodingError, match=r"record 1.*: it is none of") as caught:
            reader[1]
        assert (caught.value.store, caught.value.record) == (tmp_path / "store", 1)
        for threads in (1, 2, None):
            with pytest.raises(storage.DecodingError, match="record 1") as caught:
                reader.read([2, 0, 1], size=(4, 4), threads=threads)
            assert caught.value.record == 1
        assert bytes(reader.read_encoded([1])[0][0]) == b"no image"


def test_files_are_read_as_pixels_of_one_size_only(module: Backend, pictures: Path) -> None:
    sizes: list[Any] = [None, (0, 4), (4,), (4, 4, 3)]
    with module.open_reader(pictures) as reader:
        for size in sizes:
            with pytest.raises(storage.InvalidInputError, match="height and width"):
                reader.read([0], size=size)


def test_reads_of_files_return_fresh_memory(module: Backend, files: Path) -> None:
    with module.open_reader(files) as reader:
        reads: list[Callable[[], tuple[Any, storage.Labels]]] = [
            lambda: module.read_many(files),
            lambda: reader.read_encoded(range(9)),
        ]
        for read in reads:
            found, labels = read()
            labels[...] = 7
            if found.content.flags.writeable:
                found.content[...] = 7
            assert_same_files(read(), make_files())


def test_a_copy_of_a_reader_reads_files(module: Backend, files: Path) -> None:
    def read() -> str:
        assert_same_files(reader.read_encoded([6, 3]), (expected[0].take([6, 3]), expected[1][[6, 3]]))
        return ""

    expected = make_files()
    with module.open_reader(files) as reader:
        with pickle.loads(pickle.dumps(reader)) as copy:  # noqa: S301 - made here
            assert_same_files(copy.read_encoded(range(9)), expected)
        assert run_child(read, TIMEOUT) == Ending(0, "")
        read()


def test_a_store_without_one_of_its_files_is_refused(module: Backend, files: Path) -> None:
    for path in [path for path in files.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(storage.StorageError, match=str(files)):
            module.read_many(files)
        path.write_bytes(content)


def test_a_store_that_was_cut_short_is_refused_or_read_right(module: Backend, files: Path) -> None:
    def cut_and_read(case: tuple[Path, float]) -> str:
        path, part = case
        content = path.read_bytes()
        path.write_bytes(content[: int(part * (len(content) - 1))])
        told = read_or_refuse(module, files)
        path.write_bytes(content)
        return told

    paths = [path for path in files.rglob("*") if path.is_file() and path.stat().st_size]
    assert run_cases([(path, part) for path in paths for part in (0, 0.5, 1)], cut_and_read, TIMEOUT) == ""


def read_or_refuse(module: Backend, store: Path) -> str:
    reads: list[Callable[[], tuple[Any, storage.Labels]]] = [
        lambda: module.read_many(store),
        lambda: read_batch(module, store),
    ]
    for read in reads:
        try:
            found = read()
        except storage.StorageError:
            continue
        assert_same_files(found, make_files())
    return ""


def read_batch(module: Backend, store: Path) -> tuple[Encoded, storage.Labels]:
    with module.open_reader(store) as reader:
        return reader.read_encoded(range(len(reader)))


@pytest.mark.parametrize("limit", [10, 20_000])
def test_a_full_disk_raises_store_full(module: Backend, tmp_path: Path, limit: int) -> None:
    need_files(module)
    with limit_file_size(limit), pytest.raises(storage.StoreFullError, match=f"{tmp_path}.*no room left"):
        module.store_many(tmp_path / "store", *make_files(40))


def test_no_file_stays_open(module: Backend, files: Path) -> None:
    before = count_open_files()
    for _ in range(3):
        module.read_many(files)
        module.read_single(files, 3)
        read_batch(module, files)
        with pytest.raises(storage.RecordNotFoundError):
            module.read_single(files, 9)
    assert count_open_files() == before
