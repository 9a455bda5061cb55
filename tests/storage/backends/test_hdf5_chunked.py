"""What only HDF5 in chunks has: chunks that others can read, and that are found in the file."""

import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.datasets import flip_bit
from tests.support.image_sets import assert_same, make_set

hdf5_chunked = take_backend("hdf5_chunked")
IMAGES, LABELS = make_set(130)


def test_h5py_reads_whole_images_in_chunks_without_filters(tmp_path: Path) -> None:
    hdf5_chunked.store_many(tmp_path, IMAGES, LABELS)
    with h5py.File(tmp_path / "images.h5") as file:
        assert file["images"].chunks == (64, 32, 32, 3)
        assert (file["images"].compression, file["images"].fletcher32) == (None, False)
        assert_same((file["images"][...], file["labels"][...]), (IMAGES, LABELS))


def test_images_larger_than_a_chunk_have_one_each(tmp_path: Path) -> None:
    images, labels = make_set(3, 300, 300)
    hdf5_chunked.store_many(tmp_path, images, labels)
    with h5py.File(tmp_path / "images.h5") as file:
        assert file["images"].chunks == (1, 300, 300, 3)


def test_a_batch_has_more_images_than_a_chunk(tmp_path: Path) -> None:
    hdf5_chunked.store_many(tmp_path, IMAGES, LABELS)
    indices = np.random.default_rng(0).permutation(130)
    with hdf5_chunked.open_reader(tmp_path) as reader:
        assert_same(reader.read(indices), (IMAGES[indices], LABELS[indices]))


def test_the_pixels_are_in_the_chunks(tmp_path: Path) -> None:
    hdf5_chunked.store_many(tmp_path, IMAGES, LABELS)
    *chunks, labels = sorted(hdf5_chunked.find_pixels(tmp_path)["images.h5"], key=len, reverse=True)
    assert [len(found) for found in (*chunks, labels)] == [64 * IMAGES[0].nbytes] * 3 + [LABELS.nbytes]
    flip_bit(tmp_path / "images.h5", sorted(chunks, key=lambda chunk: chunk.start)[1].start + 7)
    changed = hdf5_chunked.read_many(tmp_path)[0] != IMAGES
    assert np.argwhere(changed).tolist() == [[64, 0, 2, 1]]


def test_the_same_images_make_the_same_file_at_any_time(tmp_path: Path) -> None:
    hdf5_chunked.store_many(tmp_path / "one", IMAGES, LABELS)
    time.sleep(1.0)  # HDF5 would write down whole seconds
    hdf5_chunked.store_many(tmp_path / "two", IMAGES, LABELS)
    one, two = ((tmp_path / name / "images.h5").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_chunk_that_is_said_to_lie_outside_the_file_is_refused(tmp_path: Path, place: str) -> None:
    hdf5_chunked.store_many(tmp_path, IMAGES, LABELS)
    path = tmp_path / "images.h5"
    content = path.read_bytes()
    start = hdf5_chunked.find_pixels(tmp_path)["images.h5"][1].start.to_bytes(8, "little")
    wrong = {"before": 2**64 - 4096, "behind": len(content) - 4096}[place]
    assert content.count(start) == 1
    path.write_bytes(content.replace(start, wrong.to_bytes(8, "little")))
    with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)), hdf5_chunked.open_reader(tmp_path) as reader:
        reader.read(range(130))
    with pytest.raises(storage.CorruptStoreError, match=str(tmp_path)):
        hdf5_chunked.read_many(tmp_path)
