"""What only the Feather backend has: a file that Arrow's own tools read, and other files that it reads or refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same

feather = take_backend("feather")

import pyarrow as pa  # noqa: E402 - it is here if the backend is
from pyarrow.feather import read_table, write_feather  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 5, 7, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 20)
INDICES = [3, 19, 3, 0, 4, 11, -1]
READS: dict[str, Callable[[Path], object]] = {
    "read_single": lambda path: feather.read_single(path, 0),
    "read_many": feather.read_many,
    "open_reader": feather.open_reader,
    "find_pixels": feather.find_pixels,
}


def make_tensors(images: Any, shape: tuple[int, ...], **options: object) -> Any:  # noqa: ANN401 - of pyarrow
    """Make a column of tensors as a stranger would, value by value."""
    tensor = pa.fixed_shape_tensor(pa.from_numpy_dtype(images.dtype), shape, **options)
    values = pa.array(images.reshape(-1))
    return pa.ExtensionArray.from_storage(tensor, pa.FixedSizeListArray.from_arrays(values, images[0].size))


TENSORS = make_tensors(IMAGES, (5, 7, 3))


def write(store: Path, columns: dict[str, object], **options: object) -> None:
    """Write a table as a stranger would, uncompressed and in one record batch if `options` say nothing else."""
    write_feather(pa.table(columns), str(store / "images.arrow"), **{"compression": "uncompressed", **options})


def check_reads(store: Path) -> None:
    """Read the twenty images in each way."""
    assert_same(feather.read_many(store), (IMAGES, LABELS))
    np.testing.assert_array_equal(feather.read_single(store, 17)[0], IMAGES[17])
    with feather.open_reader(store) as reader:
        assert_same(reader.read(INDICES), (IMAGES[INDICES], LABELS[INDICES]))
        np.testing.assert_array_equal(reader.read_labels(), LABELS)
        for index, (image, label) in enumerate(reader):
            np.testing.assert_array_equal(image, IMAGES[index])
            assert label == LABELS[index]


def test_arrows_own_reader_gives_the_images_without_a_copy(tmp_path: Path) -> None:
    feather.store_many(tmp_path, IMAGES, LABELS)
    table = read_table(tmp_path / "images.arrow", memory_map=True)
    tensors = table["image"].chunk(0)
    assert_same((tensors.to_numpy_ndarray(), table["label"].to_numpy()), (IMAGES, LABELS))
    assert tensors.type.dim_names == ["H", "W", "C"]
    assert table["image"].num_chunks == 1


def test_the_pixels_lie_in_the_file_as_they_lie_in_memory(tmp_path: Path) -> None:
    feather.store_many(tmp_path, IMAGES, LABELS)
    content = (tmp_path / "images.arrow").read_bytes()
    found = [content[part.start : part.stop] for part in feather.find_pixels(tmp_path)["images.arrow"]]
    assert found == [IMAGES.tobytes(), LABELS.astype("<i8").tobytes()]


FOREIGN_READ: dict[str, dict[str, object]] = {
    "one batch": {},
    "batches": {"chunksize": 3},
    "batches of equal size": {"chunksize": 10},
    "compressed": {"compression": "lz4"},
    "compressed batches": {"compression": "zstd", "chunksize": 7},
}


@pytest.mark.parametrize("options", FOREIGN_READ.values(), ids=FOREIGN_READ)
def test_a_file_of_another_program_is_read_right(tmp_path: Path, options: dict[str, object]) -> None:
    write(tmp_path, {"more": ["x"] * 20, "label": LABELS, "image": TENSORS}, **options)
    check_reads(tmp_path)


def test_an_empty_file_of_another_program_is_an_empty_set(tmp_path: Path) -> None:
    schema = pa.schema({"image": TENSORS.type, "label": pa.int64()})
    with pa.OSFile(str(tmp_path / "images.arrow"), "wb") as file, pa.ipc.new_file(file, schema):
        pass
    images, labels = feather.read_many(tmp_path)
    assert images.shape == (0, 5, 7, 3)
    assert labels.shape == (0,)


@pytest.mark.parametrize("options", [{"chunksize": 3}, {"compression": "lz4"}], ids=["batches", "compressed"])
def test_what_lies_nowhere_as_in_memory_cannot_be_viewed(tmp_path: Path, options: dict[str, object]) -> None:
    write(tmp_path, {"label": LABELS, "image": TENSORS}, **options)
    with (
        feather.open_reader(tmp_path) as reader,
        pytest.raises(storage.StorageError, match=f"{tmp_path}: .* use read"),
    ):
        reader.view()


@pytest.mark.parametrize("count", [0, 1, 20])
def test_a_view_is_the_file_itself(tmp_path: Path, count: int) -> None:
    feather.store_many(tmp_path, IMAGES[:count], LABELS[:count])
    with feather.open_reader(tmp_path) as reader:
        view = reader.view()
        assert np.shares_memory(view, reader.view()) == bool(count)
    np.testing.assert_array_equal(view, IMAGES[:count])
    assert not view.flags.writeable


def test_a_compressed_file_has_no_place_of_pixels(tmp_path: Path) -> None:
    write(tmp_path, {"label": LABELS, "image": TENSORS}, compression="lz4")
    assert feather.find_pixels(tmp_path) == {"images.arrow": []}


MISSING = pa.array([None, *LABELS.tolist()[1:]], pa.int64())
MISSING_IMAGES = pa.ExtensionArray.from_storage(
    TENSORS.type, pa.array([None, *TENSORS.storage.to_pylist()[1:]], TENSORS.type.storage_type)
)
MISSING_PIXEL = pa.ExtensionArray.from_storage(
    TENSORS.type,
    pa.FixedSizeListArray.from_arrays(pa.array([None, *IMAGES.reshape(-1)[1:].tolist()], pa.uint8()), IMAGES[0].size),
)
FOREIGN: dict[str, dict[str, object]] = {
    "no images": {"label": LABELS},
    "no labels": {"image": TENSORS},
    "bytes": {"image": pa.array([image.tobytes() for image in IMAGES], pa.binary(105)), "label": LABELS},
    "lists": {"image": TENSORS.storage, "label": LABELS},
    "floats": {"image": make_tensors(IMAGES.astype(np.float32), (5, 7, 3)), "label": LABELS},
    "grey": {"image": make_tensors(IMAGES, (15, 7)), "label": LABELS},
    "alpha": {"image": make_tensors(IMAGES[:, :4].copy(), (3, 7, 4)), "label": LABELS},
    "planes": {"image": make_tensors(IMAGES, (5, 7, 3), permutation=[1, 2, 0]), "label": LABELS},
    "labels of 32 bits": {"image": TENSORS, "label": LABELS.astype(np.int32)},
    "labels missing": {"image": TENSORS, "label": MISSING},
    "images missing": {"image": MISSING_IMAGES, "label": LABELS},
    "a pixel missing": {"image": MISSING_PIXEL, "label": LABELS},
}


@pytest.mark.parametrize("columns", FOREIGN.values(), ids=FOREIGN)
def test_columns_of_another_kind_are_refused(tmp_path: Path, columns: dict[str, object]) -> None:
    write(tmp_path, columns)
    for read in READS.values():
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
            read(tmp_path)


@pytest.mark.parametrize("sizes", [(3, 5, 3), (3, 3, 5), (5, 3, 0), (0, 5)], ids=str)
def test_record_batches_of_several_sizes_are_refused(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    table = pa.table({"image": TENSORS, "label": LABELS})
    with (
        pa.OSFile(str(tmp_path / "images.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        for size in sizes:
            writer.write_batch(table.slice(0, size).combine_chunks().to_batches()[0] if size else empty(table.schema))
    with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
        feather.read_many(tmp_path)


def empty(schema: Any) -> Any:  # noqa: ANN401 - of pyarrow
    """Make a record batch of no rows."""
    return pa.RecordBatch.from_pylist([], schema)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_file_cut_short_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    feather.store_many(tmp_path, IMAGES, LABELS)
    path = tmp_path / "images.arrow"
    content = path.read_bytes()
    for size in [*range(0, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
            read(tmp_path)


def test_a_buffer_that_should_lie_behind_the_end_of_the_file_is_refused(tmp_path: Path) -> None:
    feather.store_many(tmp_path, IMAGES, LABELS)
    path = tmp_path / "images.arrow"
    content = path.read_bytes()
    size = IMAGES.nbytes.to_bytes(8, "little")
    assert content.count(size) > 1  # length of the column's values, and of their buffer
    path.write_bytes(content.replace(size, (1 << 40).to_bytes(8, "little")))
    for read in READS.values():
        with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
            read(tmp_path)


def test_an_image_too_large_for_arrow_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    images = np.broadcast_to(np.zeros(3, np.uint8), (0, 1 << 16, 1 << 15, 3))
    with pytest.raises(storage.InvalidInputError, match=f"an image has {3 << 31} bytes"):
        feather.store_many(tmp_path / "set", images, np.zeros(0, np.int64))
    assert not (tmp_path / "set").exists()


def test_a_write_that_fails_leaves_no_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        """A writer whose disk is full, until it is closed."""

        def __init__(self, *arguments: object, **options: object) -> None:
            self.write_table = self._fail
            self.close = new_file(*arguments, **options).close

        def _fail(self, *_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

    new_file = pa.ipc.new_file
    monkeypatch.setattr(pa.ipc, "new_file", Failing)
    with pytest.raises(storage.StoreFullError, match=str(tmp_path)):
        feather.store_many(tmp_path, IMAGES, LABELS)
    with pytest.raises(storage.CorruptStoreError):
        feather.read_many(tmp_path)


def test_no_images_have_no_labels(tmp_path: Path) -> None:
    feather.store_many(tmp_path, IMAGES[:0], LABELS[:0])
    with feather.open_reader(tmp_path) as reader:
        assert reader.read_labels().shape == (0,)
