"""What only Feather with LZ4 has: record batches that Arrow's own tools decompress, and a reader that keeps one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same

feather_lz4 = take_backend("feather_lz4")

from pyarrow.feather import read_table, write_feather  # noqa: E402 - it is here if the backend is

IMAGES = np.random.default_rng(0).integers(0, 4, (300, 32, 32, 3), np.uint8)
LABELS = np.arange(300)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store of three record batches."""
    feather_lz4.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_arrows_own_reader_reads_it(store: Path) -> None:
    table = read_table(store / "images.arrow")
    assert [len(chunk) for chunk in table["image"].chunks] == [128, 128, 44]
    assert_same(
        (np.concatenate([chunk.to_numpy_ndarray() for chunk in table["image"].chunks]), LABELS), (IMAGES, LABELS)
    )


def test_it_is_compressed(store: Path) -> None:
    assert (store / "images.arrow").stat().st_size < IMAGES.nbytes / 1.5


def test_a_file_that_holds_fewer_images_than_were_stored_is_refused(store: Path) -> None:
    table = read_table(store / "images.arrow")
    write_feather(table.slice(0, 256), str(store / "images.arrow"), chunksize=128)
    with pytest.raises(storage.CorruptStoreError, match="256 of 300 images"):
        feather_lz4.read_many(store)


def test_images_in_order_decompress_each_record_batch_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[list[int]] = []
    with feather_lz4.open_reader(store) as reader:
        blocks = type(reader._blocks)  # noqa: SLF001 - what it decompresses shows nowhere else
        load = blocks.load

        def note(self: object, numbers: list[int]) -> object:
            loaded.append(numbers)
            return load(self, numbers)

        monkeypatch.setattr(blocks, "load", note)
        for index, (image, label) in enumerate(reader):
            np.testing.assert_array_equal(image, IMAGES[index])
            assert label == index
    assert loaded == [[0], [1], [2]]


def test_an_image_larger_than_a_block_has_a_record_batch_of_its_own(tmp_path: Path) -> None:
    images = np.zeros((3, 300, 300, 3), np.uint8)
    feather_lz4.store_many(tmp_path, images, LABELS[:3])
    assert read_table(tmp_path / "images.arrow")["image"].num_chunks == 3
    assert_same(feather_lz4.read_many(tmp_path), (images, LABELS[:3]))


def test_a_frame_that_does_not_decompress_is_refused(store: Path) -> None:
    path = store / "images.arrow"
    content = path.read_bytes()
    frame = content.index(b"\x04\x22\x4d\x18")  # the magic number of LZ4 frames
    path.write_bytes(content[:frame] + b"\x05" + content[frame + 1 :])
    with feather_lz4.open_reader(store) as reader:
        reads: list[Callable[[], object]] = [
            lambda: feather_lz4.read_many(store),
            lambda: reader[0],
            lambda: reader.read([99, 0]),
        ]
        for read in reads:
            with pytest.raises(storage.CorruptStoreError, match=str(store)):
                read()
        assert reader[149][1] == 149
