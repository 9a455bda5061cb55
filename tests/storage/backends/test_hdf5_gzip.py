"""HDF5 with gzip: h5py reads its chunks, space is allocated for them first, and damaged ones are refused."""

import zlib
from pathlib import Path
from threading import local

import h5py
import numpy as np
import pytest

from storage import CorruptStoreError, Encoded
from tests.support.backends import take_backend
from tests.support.datasets import flip_bit
from tests.support.encoded_sets import assert_same_files
from tests.support.image_sets import assert_same, make_set

hdf5 = take_backend("hdf5")
hdf5_gzip = take_backend("hdf5_gzip")
IMAGES = np.random.default_rng(0).integers(0, 16, (130, 32, 32, 3), np.uint8)
LABELS = np.arange(130)


def test_h5py_reads_whole_images_in_compressed_chunks(tmp_path: Path) -> None:
    hdf5_gzip.store_many(tmp_path, IMAGES, LABELS)
    with h5py.File(tmp_path / "images.h5") as file:
        assert file["images"].chunks == (4, 32, 32, 3)
        assert (file["images"].compression, file["images"].compression_opts) == ("gzip", 4)
        assert zlib.decompress(file["images"].id.read_direct_chunk((4, 0, 0, 0))[1]) == IMAGES[4:8].tobytes()
        assert_same((file["images"][...], file["labels"][...]), (IMAGES, LABELS))


@pytest.mark.parametrize("count", [1, 4, 5, 130])
def test_space_that_compressed_chunks_do_not_need_is_given_back(tmp_path: Path, count: int) -> None:
    hdf5_gzip.store_many(tmp_path, np.zeros((count, 64, 64, 3), np.uint8), LABELS[:count])
    status = (tmp_path / "images.h5").stat()
    assert status.st_size < 4096 * 4 + count * 128
    assert status.st_blocks * 512 < status.st_size + 2 * 4096


@pytest.mark.parametrize(("count", "size"), [(1, 1), (130, 32), (3, 1000)])
def test_space_is_allocated_even_for_chunks_that_become_larger(
    tmp_path: Path, count: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocated = list[int]()
    monkeypatch.setattr("os.posix_fallocate", lambda _file, _start, length: allocated.append(length))
    images, labels = make_set(count, size, size)
    hdf5_gzip.store_many(tmp_path, images, labels)
    assert images.nbytes < (tmp_path / "images.h5").stat().st_size <= allocated[0]
    assert_same(hdf5_gzip.read_many(tmp_path), (images, labels))


@pytest.mark.parametrize("name", ["hdf5", "hdf5_gzip"])
def test_what_is_on_the_disk_is_read_however_low_the_limit_of_memory_is(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, images = take_backend(name), np.zeros_like(IMAGES)  # gzip makes a hundredth of them
    module.store_many(tmp_path, images, LABELS)
    monkeypatch.setattr("storage.limits.MAX_MEMORY", 0)
    assert_same(module.read_many(tmp_path), (images, LABELS))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """Collect the ranges of rows that HDF5 reads."""
    read, ranges = hdf5._read_rows, list[range]()  # noqa: SLF001 - counted

    def note(opened: object, start: int, rows: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        ranges.append(range(start, start + len(rows)))
        read(opened, start, rows)

    monkeypatch.setattr(hdf5, "_read_rows", note)
    return ranges


def test_each_chunk_that_a_batch_needs_is_read_once(tmp_path: Path, reads: list[range]) -> None:
    hdf5_gzip.store_many(tmp_path, IMAGES, LABELS)
    indices = [129, 3, 64, 66, 3, 0, 65, 128]
    with hdf5_gzip.open_reader(tmp_path) as reader:
        assert_same(reader.read(indices), (IMAGES[indices], LABELS[indices]))
    assert reads == [range(4), range(64, 67), range(128, 130)]


@pytest.mark.parametrize("kept", [hdf5.KEPT, 10_000])
def test_each_chunk_that_a_batch_of_image_files_needs_is_read_once_with_and_without_memory_that_is_kept(
    kept: int, tmp_path: Path, reads: list[range], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "KEPT", kept)
    monkeypatch.setattr(hdf5, "_here", local())
    files = Encoded.join(part.tobytes() for part in np.random.default_rng(0).integers(0, 16, (10, 5_000), np.uint8))
    hdf5_gzip.store_many(tmp_path, files, LABELS[:10])
    indices = [9, 1, 0, 5, 1, 2]
    with hdf5_gzip.open_reader(tmp_path) as reader:
        assert_same_files(reader.read_encoded(indices), (files.take(indices), LABELS[indices]))
    assert reads == [range(15_000), range(25_000, 30_000), range(45_000, 50_000)]


def test_h5py_reads_image_files_in_compressed_chunks(tmp_path: Path) -> None:
    files = Encoded.join([b"an image file" * 1000, b"", b"another" * 3000])
    hdf5_gzip.store_many(tmp_path, files, LABELS[:3])
    with h5py.File(tmp_path / "images.h5") as file:
        assert (file["content"].chunks, file["content"].compression) == ((12 << 10,), "gzip")
        np.testing.assert_array_equal(file["content"], files.content)
        np.testing.assert_array_equal(file["offsets"], files.offsets)
    assert (tmp_path / "images.h5").stat().st_size < files.nbytes / 3


def test_a_damaged_chunk_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    hdf5_gzip.store_many(tmp_path, IMAGES, LABELS)
    with h5py.File(tmp_path / "images.h5") as file:
        chunk = file["images"].id.get_chunk_info(2)
    for place in (chunk.byte_offset, chunk.byte_offset + chunk.size // 2, chunk.byte_offset + chunk.size - 1):
        flip_bit(tmp_path / "images.h5", place)
        with hdf5_gzip.open_reader(tmp_path) as reader:
            with pytest.raises(CorruptStoreError, match=str(tmp_path)):
                reader.read([1, 9])
            assert_same(reader.read([7, 12]), (IMAGES[[7, 12]], LABELS[[7, 12]]))
        for read in (hdf5_gzip.read_many, lambda path: hdf5_gzip.read_single(path, 8)):
            with pytest.raises(CorruptStoreError, match=str(tmp_path)):
                read(tmp_path)
        flip_bit(tmp_path / "images.h5", place)
