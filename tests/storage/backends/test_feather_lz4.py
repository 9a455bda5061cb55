"""Feather with LZ4: record batches that Arrow's own tools decompress, and a reader that keeps one of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import CorruptStoreError, Encoded
from tests.support.backends import take_backend
from tests.support.encoded_sets import check_file_reads
from tests.support.foreign import Case
from tests.support.image_sets import assert_same

feather_lz4 = take_backend("feather_lz4")

import pyarrow as pa  # noqa: E402 - it is here if the backend is
from pyarrow.feather import read_table, write_feather  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 4, (300, 32, 32, 3), np.uint8)
LABELS = np.arange(300)


def drop_images(store: Path) -> None:
    table = read_table(store / "images.arrow")
    write_feather(table.slice(0, 9), str(store / "images.arrow"))


def spoil_frame(store: Path) -> None:
    path = store / "images.arrow"
    content = path.read_bytes()
    frame = content.index(b"\x04\x22\x4d\x18")  # the magic number of LZ4 frames
    path.write_bytes(content[:frame] + b"\x05" + content[frame + 1 :])


FOREIGN = {
    "fewer images than were stored": Case(drop_images, "9 of 10 images"),
    "a frame that doesn't decompress": Case(spoil_frame),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    feather_lz4.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_arrow_itself_decompresses_the_batches(store: Path) -> None:
    table = read_table(store / "images.arrow")
    assert [len(chunk) for chunk in table["image"].chunks] == [128, 128, 44]
    images = np.concatenate([chunk.to_numpy_ndarray() for chunk in table["image"].chunks])
    assert_same((images, table["label"].to_numpy()), (IMAGES, LABELS))
    assert (store / "images.arrow").stat().st_size < IMAGES.nbytes / 1.5


def test_arrow_itself_decompresses_batches_of_image_files(tmp_path: Path) -> None:
    files = Encoded.join([b"", b"an image file" * 10_000, b"another" * 20_000, *[b"small" * 30_000] * 5])
    feather_lz4.store_many(tmp_path, files, LABELS[:8])
    table = read_table(tmp_path / "images.arrow")
    assert [len(chunk) for chunk in table["image"].chunks] == [3, 3, 2]
    assert table["image"].to_pylist() == [bytes(file) for file in files]
    assert (tmp_path / "images.arrow").stat().st_size < files.nbytes / 10
    check_file_reads(feather_lz4, tmp_path, (files, LABELS[:8]))


def test_images_in_order_decompress_each_batch_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    reader_of = pa.ipc.open_file

    class Noting:
        """A file that notes which record batches are decompressed."""

        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as pyarrow's
            self._file = reader_of(*arguments, **options)

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - likewise
            return getattr(self._file, name)

        def get_batch(self, number: int) -> Any:  # noqa: ANN401 - likewise
            decoded.append(number)
            return self._file.get_batch(number)

    monkeypatch.setattr(pa.ipc, "open_file", Noting)
    with feather_lz4.open_reader(store) as reader:
        decoded.clear()
        for index, record in enumerate(reader):
            assert_same(record, (IMAGES[index], LABELS[index]))
    assert decoded == [0, 1, 2]


def test_an_image_larger_than_a_batch_has_a_batch_to_itself(tmp_path: Path) -> None:
    images = np.zeros((3, 300, 300, 3), np.uint8)
    feather_lz4.store_many(tmp_path, images, LABELS[:3])
    assert read_table(tmp_path / "images.arrow")["image"].num_chunks == 3
    assert_same(feather_lz4.read_many(tmp_path), (images, LABELS[:3]))


def test_a_damaged_frame_costs_no_image_of_another_batch(store: Path) -> None:
    spoil_frame(store)
    with feather_lz4.open_reader(store) as reader:
        with pytest.raises(CorruptStoreError, match=str(store)):
            reader.read([99, 0])
        assert reader[149][1] == 149
