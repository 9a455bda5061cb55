"""HDF5 in chunks: h5py reads them, their pixels are found in the file, and chunks outside of it are refused."""

from pathlib import Path

import h5py
import numpy as np

from storage import Encoded
from tests.support.backends import take_backend
from tests.support.datasets import flip_bit
from tests.support.encoded_sets import make_files
from tests.support.foreign import Case, Change
from tests.support.image_sets import assert_same, check_reads, make_set

hdf5_chunked = take_backend("hdf5_chunked")
FILE = "images.h5"
IMAGES, LABELS = make_set(130)


def move_chunk(place: int) -> Change:
    """Make the index say that a chunk begins at this place, counted from the end of the file if negative."""

    def change(store: Path) -> None:
        content = (store / FILE).read_bytes()
        start = max(hdf5_chunked.find_pixels(store)[FILE], key=len).start.to_bytes(8, "little")
        wrong = place if place > 0 else len(content) + place
        assert content.count(start) == 1
        (store / FILE).write_bytes(content.replace(start, wrong.to_bytes(8, "little")))

    return change


FOREIGN = {
    "a chunk before the file": Case(move_chunk(2**64 - 4096)),
    "a chunk that begins at the end of the file": Case(move_chunk(-4096)),
}


def test_h5py_reads_whole_images_in_chunks_without_filters_and_times(tmp_path: Path) -> None:
    hdf5_chunked.store_many(tmp_path, IMAGES, LABELS)
    check_reads(hdf5_chunked, tmp_path, (IMAGES, LABELS))
    with h5py.File(tmp_path / FILE) as file:
        assert file["images"].chunks == (64, 32, 32, 3)
        assert (file["images"].compression, file["images"].fletcher32) == (None, False)
        assert_same((file["images"][...], file["labels"][...]), (IMAGES, LABELS))
        assert [h5py.h5o.get_info(file[name].id).mtime for name in ("/", "images", "labels")] == [0] * 3


def test_image_files_are_in_chunks_of_which_some_hold_many_and_others_a_part_of_one(tmp_path: Path) -> None:
    files = Encoded.join([*make_files(9)[0], bytes(range(256)) * 2_000])
    hdf5_chunked.store_many(tmp_path, files, LABELS[:10])
    with h5py.File(tmp_path / FILE) as file:
        assert (file["content"].chunks, file["content"].compression) == ((192 << 10,), None)
        assert (file["offsets"].chunks, file["labels"].chunks) == (None, None)
        np.testing.assert_array_equal(file["content"], files.content)
    chunks = [found for found in hdf5_chunked.find_pixels(tmp_path)[FILE] if len(found) == 192 << 10]
    assert len(chunks) == -(-len(files.content) // (192 << 10))
    flip_bit(tmp_path / FILE, chunks[1].start + 7)
    with hdf5_chunked.open_reader(tmp_path) as reader:
        changed = reader.read_encoded(range(10))[0].content != files.content
    assert np.flatnonzero(changed).tolist() == [(192 << 10) + 7]


def test_images_larger_than_a_chunk_have_one_each(tmp_path: Path) -> None:
    hdf5_chunked.store_many(tmp_path, *make_set(3, 300, 300))
    with h5py.File(tmp_path / FILE) as file:
        assert file["images"].chunks == (1, 300, 300, 3)


def test_the_pixels_are_found_in_the_chunks(tmp_path: Path) -> None:
    hdf5_chunked.store_many(tmp_path, IMAGES, LABELS)
    *chunks, labels = sorted(hdf5_chunked.find_pixels(tmp_path)[FILE], key=len, reverse=True)
    assert [len(found) for found in (*chunks, labels)] == [64 * IMAGES[0].nbytes] * 3 + [LABELS.nbytes]
    flip_bit(tmp_path / FILE, sorted(chunks, key=lambda chunk: chunk.start)[1].start + 7)
    changed = hdf5_chunked.read_many(tmp_path)[0] != IMAGES
    assert np.argwhere(changed).tolist() == [[64, 0, 2, 1]]
