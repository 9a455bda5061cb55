"""The PNG backend without compression: blocks of limited length, many files at a time."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from storage import CorruptStoreError
from tests.storage.backends.test_png import FOREIGN
from tests.support.backends import take_backend
from tests.support.image_sets import assert_same, check_reads, make_set
from tests.support.pictures import compress, filter_rows, flip_bits
from tests.support.properties import given, settings, st

png = take_backend("png")
png_stored = take_backend("png_stored")
__all__ = ["FOREIGN"]

LIMIT = 65_535  # bytes of rows that one block holds


def split_chunks(content: bytes) -> dict[bytes, bytes]:
    """Split a PNG file into chunks, each kind once; check every length and CRC."""
    chunks, start = {}, 8
    while start < len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4], "big")
        assert zlib.crc32(content[start + 4 : end]) == int.from_bytes(content[end : end + 4], "big")
        chunks[content[start + 4 : start + 8]] = content[start + 8 : end]
        start = end + 4
    return chunks


def check_form(folder: Path, height: int, width: int) -> None:
    """Store three images; check their files with zlib and Pillow, and read them with the backend."""
    images, labels = make_set(3, height, width)
    png_stored.store_many(folder, images, labels)
    check_reads(png_stored, folder, (images, labels))
    for index, image in enumerate(images):
        path = folder / f"{index:08}.png"
        chunks = split_chunks(path.read_bytes())
        assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
        assert zlib.decompress(chunks[b"IDAT"]) == filter_rows(image)
        assert path.stat().st_size == png_stored.count_bytes((height, width, 3), 1)
        with Pillow.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (width, height))
            np.testing.assert_array_equal(np.asarray(picture), image)


SHAPES = [(1, 1), (17, 31), (32, 32), (51, 428), (771, 28), (772, 28), (52, 428), (200, 200), (2, 21_846), (700, 700)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_files_of_any_number_of_blocks_are_png(tmp_path: Path, height: int, width: int) -> None:
    check_form(tmp_path, height, width)


@pytest.mark.parametrize(("height", "width", "blocks"), [(51, 428, 1), (771, 28, 1), (772, 28, 2), (52, 428, 2)])
def test_rows_up_to_the_limit_take_one_block(tmp_path: Path, height: int, width: int, blocks: int) -> None:
    rows = height * (1 + 3 * width)
    assert (rows <= LIMIT) == (blocks == 1)
    png_stored.store_many(tmp_path, *make_set(1, height, width))
    stream = split_chunks((tmp_path / "00000000.png").read_bytes())[b"IDAT"]
    assert len(stream) == 2 + 5 * blocks + rows + 4


def test_more_files_than_are_read_at_once_are_read_right_with_others_among_them(tmp_path: Path) -> None:
    images, labels = make_set(700)
    assert 2 * png_stored.make_form((32, 32, 3), 1).batch < 700
    png_stored.store_many(tmp_path, images, labels)
    check_reads(png_stored, tmp_path, (images, labels))
    for index in (1, 299, 500, 699):
        images[index] = 255 - images[index]
        (tmp_path / f"{index:08}.png").write_bytes(compress(images[index]))
    assert_same(png_stored.read_many(tmp_path), (images, labels))


@pytest.mark.parametrize("level", [0, 1, 9])
def test_either_backend_reads_the_store_of_the_other(tmp_path: Path, level: int) -> None:
    images, labels = make_set(5, 200, 150)
    png.store_many(tmp_path / "png", images, labels, compress_level=level)
    assert_same(png_stored.read_many(tmp_path / "png"), (images, labels))
    png_stored.store_many(tmp_path / "stored", images, labels)
    assert_same(png.read_many(tmp_path / "stored"), (images, labels))


def test_a_store_without_images_needs_no_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_stored, "find_form", None)
    png_stored.store_many(tmp_path, *make_set(0, 20_000, 20_000))
    assert_same(png_stored.read_many(tmp_path), make_set(0, 20_000, 20_000))
    (tmp_path / "labels.csv").write_text("label,images=0,height=999999999,width=999999999,characters=1\n")
    with png_stored.open_reader(tmp_path) as reader:
        assert len(reader) == 0


def test_the_layout_of_large_files_is_not_kept() -> None:
    png_stored.make_form.cache_clear()
    assert png_stored.find_form((700, 700, 3), 1).content.size > png_stored.BATCH
    assert png_stored.make_form.cache_info().currsize == 0
    assert png_stored.find_form((32, 32, 3), 1) is png_stored.find_form((32, 32, 3), 1)


def clear_forms() -> None:
    png_stored.make_form.cache_clear()
    png_stored.find_small_form.cache_clear()


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a block hold 50 bytes, so that small images take many."""
    monkeypatch.setattr(png_stored, "BLOCK", 50)
    clear_forms()
    yield
    clear_forms()


small = st.integers(1, 20)
quiet = settings(max_examples=40)


@quiet
@given(height=small, width=small)
def test_files_of_any_shape_are_png(tmp_path_factory: pytest.TempPathFactory, height: int, width: int) -> None:
    check_form(tmp_path_factory.mktemp("any"), height, width)


@pytest.mark.usefixtures("short_blocks")
@quiet
@given(height=small, width=small)
def test_files_of_many_blocks_are_png(tmp_path_factory: pytest.TempPathFactory, height: int, width: int) -> None:
    check_form(tmp_path_factory.mktemp("any"), height, width)


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("index", [0, 1])
def test_a_flipped_bit_in_any_block_is_refused(tmp_path: Path, index: int) -> None:
    images, labels = make_set(2, 5, 7)
    png_stored.store_many(tmp_path, images, labels)
    for _ in flip_bits(tmp_path / f"{index:08}.png"):
        for read in (png_stored.read_many, lambda store: png_stored.read_single(store, index)):
            with pytest.raises(CorruptStoreError, match=str(tmp_path)):
                read(tmp_path)
