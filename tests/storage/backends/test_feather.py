"""Feather: a file that Arrow's own tools read, and files of other programs that are read or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.encoded_sets import check_file_reads, make_files
from tests.support.foreign import Case, Change, cut
from tests.support.image_sets import assert_same, check_reads, make_set

feather = take_backend("feather")

import pyarrow as pa  # noqa: E402 - it is here if the backend is
from pyarrow.feather import read_table, write_feather  # noqa: E402

IMAGES, LABELS = make_set(10)
SHAPE = IMAGES.shape[1:]


def make_tensors(images: Any, shape: tuple[int, ...] = SHAPE, **options: object) -> Any:  # noqa: ANN401 - of pyarrow
    tensor = pa.fixed_shape_tensor(pa.from_numpy_dtype(images.dtype), shape, **options)
    values = pa.array(images.reshape(-1))
    return pa.ExtensionArray.from_storage(tensor, pa.FixedSizeListArray.from_arrays(values, images[0].size))


TENSORS = make_tensors(IMAGES)
FILES, FILE_LABELS = make_files(10)


def make_column(kind: Any = None, *, missing: bool = False) -> Any:  # noqa: ANN401 - of pyarrow
    files = [bytes(file) for file in FILES]
    return pa.array([None, *files[1:]] if missing else files, kind or pa.large_binary())


def spoil_offset(place: int, value: int) -> Change:
    """Have an offset of the image files be another one."""

    def change(store: Path) -> None:
        feather.store_many(store / "files", FILES, FILE_LABELS)
        content, offsets = (store / "files" / "images.arrow").read_bytes(), FILES.offsets.copy()
        offsets[place] = value
        assert content.count(FILES.offsets.tobytes()) == 1
        (store / "images.arrow").write_bytes(content.replace(FILES.offsets.tobytes(), offsets.tobytes()))

    return change


def save(columns: dict[str, object], **options: object) -> Change:
    table = pa.table(columns)
    return lambda store: write_feather(table, str(store / "images.arrow"), **{"compression": "uncompressed", **options})


def save_batches(*sizes: int) -> Change:
    table = pa.table({"image": TENSORS, "label": LABELS})

    def change(store: Path) -> None:
        with pa.OSFile(str(store / "images.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            for size in sizes:
                part = table.slice(0, size).combine_chunks().to_batches()
                writer.write_batch(part[0] if part else pa.RecordBatch.from_pylist([], table.schema))

    return change


def lengthen_buffer(store: Path) -> None:
    path = store / "images.arrow"
    content, size = path.read_bytes(), IMAGES.nbytes.to_bytes(8, "little")
    assert content.count(size) > 1  # length of the column's values, and of their buffer
    path.write_bytes(content.replace(size, (1 << 40).to_bytes(8, "little")))


MISSING_IMAGE = pa.array([None, *TENSORS.storage.to_pylist()[1:]], TENSORS.type.storage_type)
MISSING_PIXEL = pa.array([None, *IMAGES.reshape(-1)[1:].tolist()], pa.uint8())
COLUMNS: dict[str, dict[str, object]] = {
    "no images": {"label": LABELS},
    "no labels": {"image": TENSORS},
    "bytes": {"image": pa.array([image.tobytes() for image in IMAGES], pa.binary(3072)), "label": LABELS},
    "lists": {"image": TENSORS.storage, "label": LABELS},
    "doubles": {"image": make_tensors(IMAGES.astype(np.float64)), "label": LABELS},
    "rank 2": {"image": make_tensors(IMAGES, (3072,)), "label": LABELS},
    "rank 5": {"image": make_tensors(IMAGES, (2, 16, 32, 3)), "label": LABELS},
    "planes": {"image": make_tensors(IMAGES, permutation=[1, 2, 0]), "label": LABELS},
    "labels of 32 bits": {"image": TENSORS, "label": np.arange(10, dtype=np.int32)},
    "a label missing": {"image": TENSORS, "label": pa.array([None, *range(9)], pa.int64())},
    "an image missing": {"image": pa.ExtensionArray.from_storage(TENSORS.type, MISSING_IMAGE), "label": LABELS},
    "a pixel missing": {
        "image": pa.ExtensionArray.from_storage(
            TENSORS.type, pa.FixedSizeListArray.from_arrays(MISSING_PIXEL, IMAGES[0].size)
        ),
        "label": LABELS,
    },
}
FILE_COLUMNS: dict[str, dict[str, object]] = {
    "no labels of files": {"image": make_column()},
    "text": {"image": pa.array(["text"] * 10), "label": FILE_LABELS},
    "files of one length": {"image": pa.array([b"file"] * 10, pa.binary(4)), "label": FILE_LABELS},
    "a file missing": {"image": make_column(missing=True), "label": FILE_LABELS},
}
FOREIGN = {
    **{name: Case(save(columns)) for name, columns in FILE_COLUMNS.items()},
    "offsets that go down": Case(spoil_offset(4, 0)),
    "a negative offset": Case(spoil_offset(4, -1)),
    "a first offset that is negative": Case(spoil_offset(0, -1)),
    "an offset of 63 bits": Case(spoil_offset(4, 2**63 - 1)),
    "offsets beyond the end": Case(spoil_offset(10, 1 << 40)),
    **{name: Case(save(columns)) for name, columns in COLUMNS.items()},
    **{f"batches of {sizes}": Case(save_batches(*sizes)) for sizes in ((3, 5, 3), (3, 3, 5), (5, 3, 0), (0, 5))},
    **{f"cut to {size} bytes": Case(cut("images.arrow", size)) for size in (0, 5, 700, 20_000, -300, -1)},
    "a buffer beyond the end": Case(lengthen_buffer),
}


def test_arrow_itself_reads_the_images_without_a_copy(tmp_path: Path) -> None:
    feather.store_many(tmp_path, IMAGES, LABELS)
    table = read_table(tmp_path / "images.arrow", memory_map=True)
    tensors = table["image"].chunk(0)
    assert_same((tensors.to_numpy_ndarray(), table["label"].to_numpy()), (IMAGES, LABELS))
    assert tensors.type.dim_names == ["H", "W", "C"]
    assert table["image"].num_chunks == 1


def test_arrow_itself_reads_image_files_without_a_copy(tmp_path: Path) -> None:
    feather.store_many(tmp_path, FILES, FILE_LABELS)
    table = read_table(tmp_path / "images.arrow", memory_map=True)
    assert table.schema.types == [pa.large_binary(), pa.int64()]
    assert table["image"].to_pylist() == [bytes(file) for file in FILES]
    assert table["label"].to_pylist() == FILE_LABELS.tolist()
    assert table["image"].num_chunks == 1


def test_image_files_lie_in_the_file_one_after_the_other(tmp_path: Path) -> None:
    feather.store_many(tmp_path, FILES, FILE_LABELS)
    content = (tmp_path / "images.arrow").read_bytes()
    found = [content[part.start : part.stop] for part in feather.find_pixels(tmp_path)["images.arrow"]]
    assert found == [FILES.content.tobytes(), FILE_LABELS.astype("<i8").tobytes()]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("options", [{}, {"chunksize": 3}, {"compression": "lz4"}], ids=str)
def test_image_files_of_another_program_are_read(tmp_path: Path, kind: object, options: dict[str, object]) -> None:
    save({"more": ["x"] * 10, "label": FILE_LABELS, "image": make_column(kind)}, **options)(tmp_path)
    check_file_reads(feather, tmp_path, (FILES, FILE_LABELS))


def test_a_column_that_begins_in_the_middle_of_its_buffers_is_read(tmp_path: Path) -> None:
    table = pa.table({"image": make_column(), "label": FILE_LABELS})
    with pa.OSFile(str(tmp_path / "images.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_batch(table.slice(4, 4).to_batches()[0])
    check_file_reads(feather, tmp_path, (FILES[4:8], FILE_LABELS[4:8]))


def test_the_pixels_lie_in_the_file_as_they_lie_in_memory(tmp_path: Path) -> None:
    feather.store_many(tmp_path, IMAGES, LABELS)
    content = (tmp_path / "images.arrow").read_bytes()
    found = [content[part.start : part.stop] for part in feather.find_pixels(tmp_path)["images.arrow"]]
    assert found == [IMAGES.tobytes(), LABELS.astype("<i8").tobytes()]


@pytest.mark.parametrize(
    "options",
    [{}, {"chunksize": 3}, {"chunksize": 5}, {"compression": "lz4"}, {"compression": "zstd", "chunksize": 7}],
    ids=str,
)
def test_a_file_of_another_program_is_read_right(tmp_path: Path, options: dict[str, object]) -> None:
    save({"more": ["x"] * 10, "label": LABELS, "image": TENSORS}, **options)(tmp_path)
    check_reads(feather, tmp_path, (IMAGES, LABELS))


def test_an_empty_file_of_another_program_is_an_empty_set(tmp_path: Path) -> None:
    schema = pa.schema({"image": TENSORS.type, "label": pa.int64()})
    with pa.OSFile(str(tmp_path / "images.arrow"), "wb") as file, pa.ipc.new_file(file, schema):
        pass
    images, labels = feather.read_many(tmp_path)
    assert (images.shape, labels.shape) == ((0, *SHAPE), (0,))


@pytest.mark.parametrize("options", [{"chunksize": 3}, {"compression": "lz4"}], ids=str)
def test_batches_and_compressed_files_cannot_be_viewed(tmp_path: Path, options: dict[str, object]) -> None:
    save({"label": LABELS, "image": TENSORS}, **options)(tmp_path)
    assert feather.find_pixels(tmp_path) == {"images.arrow": []}
    with feather.open_reader(tmp_path) as reader, pytest.raises(storage.StorageError, match="use read"):
        reader.view()


def test_an_image_too_large_for_arrow_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    images = np.broadcast_to(np.zeros(3, np.uint8), (0, 1 << 16, 1 << 15, 3))
    with pytest.raises(storage.InvalidInputError, match=f"an image has {3 << 31:,} bytes, and a list of Arrow takes"):
        feather.store_many(tmp_path / "set", images, np.zeros(0, np.int64))
    assert not (tmp_path / "set").exists()


def test_a_write_that_fails_leaves_no_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_to_write(*arguments: object, **options: object) -> Mock:
        writer = Mock(wraps=new_file(*arguments, **options))
        writer.write_table.side_effect = OSError(28, "No space left on device")
        return writer

    new_file: Callable[..., Any] = pa.ipc.new_file
    monkeypatch.setattr(pa.ipc, "new_file", fail_to_write)
    with pytest.raises(storage.StoreFullError, match=str(tmp_path)):
        feather.store_many(tmp_path, IMAGES, LABELS)
    with pytest.raises(storage.CorruptStoreError):
        feather.read_many(tmp_path)
