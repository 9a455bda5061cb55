"""What both PNG backends have: files of other programs, damaged ones too, are read right or refused."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import Backend, Image
from tests.support import pictures
from tests.support.backends import take_family
from tests.support.pictures import END, SIGNATURE, filter_rows, flip_bits, make_chunk, make_header

MEMBERS = take_family("png", "png_stored")

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), np.uint8)
LABELS = np.array([3, -20, 100, 7], np.int64)


@pytest.fixture(params=list(MEMBERS.values()), ids=list(MEMBERS))
def folder(request: pytest.FixtureRequest) -> Backend:
    """Name the modules whose stores are folders of PNG files."""
    module: Backend = request.param
    return module


@pytest.fixture
def store(folder: Backend, tmp_path: Path) -> Path:
    """Make a store of four images."""
    folder.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def read_one(module: Backend, store: Path, index: int) -> Image:
    """Read one image through a reader."""
    with module.open_reader(store) as reader:
        image, _ = reader[index]
        return image


def read_batch(module: Backend, store: Path, index: int) -> Image:
    """Read one image in a batch with the others."""
    with module.open_reader(store) as reader:
        image: Image = reader.read([3, 1, index, 0])[0][2]
        return image


READS: dict[str, Callable[[Backend, Path, int], Any]] = {
    "read_single": lambda module, store, index: module.read_single(store, index)[0],
    "read_many": lambda module, store, index: module.read_many(store)[0][index],
    "one": read_one,
    "batch": read_batch,
}
each_read = pytest.mark.parametrize("read", READS.values(), ids=READS)

PROGRAMS = [
    pictures.compress,
    pictures.filter_stored,
    pictures.filter_above,
    pictures.interlace,
    pictures.add_text,
    pictures.split_pixels,
]


@each_read
@pytest.mark.parametrize("write", PROGRAMS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("index", [0, 2])
def test_an_rgb_file_of_another_program_is_read_right(
    folder: Backend,
    store: Path,
    write: Callable[[Image], bytes],
    index: int,
    read: Callable[[Backend, Path, int], Image],
) -> None:
    (store / f"{index:08}.png").write_bytes(write(255 - IMAGES[index]))
    np.testing.assert_array_equal(read(folder, store, index), 255 - IMAGES[index])
    np.testing.assert_array_equal(read(folder, store, 1), IMAGES[1])


@pytest.mark.parametrize("write", PROGRAMS, ids=lambda write: write.__name__)
def test_what_is_built_by_hand_here_is_a_png_to_others(tmp_path: Path, write: Callable[[Image], bytes]) -> None:
    (tmp_path / "picture.png").write_bytes(write(IMAGES[0]))
    with Pillow.open(tmp_path / "picture.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), IMAGES[0])


def save(mode: str, size: tuple[int, int] = (7, 5)) -> Callable[[Path], None]:
    """Make a function that puts a file of another kind in a PNG file's place."""
    return lambda path: Pillow.new(mode, size).save(path, "PNG")


def put(*chunks: bytes) -> Callable[[Path], None]:
    """Make a function that puts a file of these chunks in a PNG file's place."""

    def write(path: Path) -> None:
        path.write_bytes(b"".join((SIGNATURE, *chunks)))

    return write


def cut(size: int) -> Callable[[Path], None]:
    """Make a function that cuts a file."""
    return lambda path: os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def add(content: bytes) -> Callable[[Path], int]:
    """Make a function that writes more behind the end of a file."""
    return lambda path: path.write_bytes(path.read_bytes() + content)


def make_pipe(path: Path) -> None:
    """Put a pipe that nobody writes to in a file's place."""
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    """Put a directory in a file's place."""
    path.unlink()
    path.mkdir()


def make_endless(path: Path) -> None:
    """Put a device that never ends in a file's place."""
    path.unlink()
    path.symlink_to("/dev/zero")


HEADER = make_header(IMAGES[2])
PIXELS = make_chunk(b"IDAT", zlib.compress(filter_rows(IMAGES[2]), 0))
SHORT = make_chunk(b"IDAT", zlib.compress(filter_rows(IMAGES[2])[:-1], 0))
TEXT = make_chunk(b"tEXt", b"Comment\0text")

FOREIGN: dict[str, Callable[[Path], object]] = {
    "grey": save("L"),
    "palette": save("P"),
    "alpha": save("RGBA"),
    "16 bits": save("I;16"),
    "other size": save("RGB", (5, 7)),
    "JPEG": lambda path: Pillow.new("RGB", (7, 5)).save(path, "JPEG"),
    "empty": cut(0),
    "cut in the signature": cut(5),
    "cut behind the signature": cut(8),
    "cut in a chunk's length": cut(10),
    "cut in the header": cut(20),
    "cut in the pixels": cut(60),
    "cut before the end": cut(-len(END)),
    "cut in the last CRC": cut(-1),
    "a byte behind the end": add(b"\0"),
    "a file behind the end": add(SIGNATURE + HEADER),
    "wrong CRC of the header": put(HEADER[:-1] + b"\0", PIXELS, END),
    "wrong CRC of the pixels": put(HEADER, PIXELS[:-4] + b"\0\0\0\0", END),
    "wrong CRC of a comment": put(HEADER, TEXT[:-4] + b"\0\0\0\0", PIXELS, END),
    "a chunk beyond the end": put(HEADER, struct.pack(">I", 1000) + PIXELS[4:], END),
    "a chunk of 4 GiB": put(HEADER, PIXELS, b"\xff\xff\xff\xff" + END[4:]),
    "no header": put(PIXELS, END),
    "no pixels": put(HEADER, END),
    "a row too few": put(HEADER, SHORT, END),
    "no zlib": put(HEADER, make_chunk(b"IDAT", bytes(80)), END),
    "nothing but the end": put(END),
    "the header behind the pixels": put(PIXELS, HEADER, END),
    "an empty colour profile": put(HEADER, make_chunk(b"iCCP", b""), PIXELS, END),
    "a colour profile of a null character": put(HEADER, make_chunk(b"iCCP", b"\0"), PIXELS, END),
    "2 GB": cut(2 * 10**9),
    "1 TB": cut(10**12),
    "a pipe": make_pipe,
    "an endless device": make_endless,
}


@each_read
@pytest.mark.parametrize("replace", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("index", [0, 2])
def test_a_file_of_another_kind_or_damaged_is_refused(
    folder: Backend,
    store: Path,
    replace: Callable[[Path], object],
    index: int,
    read: Callable[[Backend, Path, int], Image],
) -> None:
    replace(store / f"{index:08}.png")
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        read(folder, store, index)
    np.testing.assert_array_equal(folder.read_single(store, 1)[0], IMAGES[1])


@each_read
@pytest.mark.parametrize("index", [0, 2])
def test_a_directory_in_the_place_of_a_file_is_an_error_of_ours(
    folder: Backend, store: Path, index: int, read: Callable[[Backend, Path, int], Image]
) -> None:
    make_folder(store / f"{index:08}.png")
    with pytest.raises(storage.StorageError, match=str(store)):
        read(folder, store, index)


@each_read
@pytest.mark.parametrize("index", [0, 2])
def test_a_missing_file_is_named(
    folder: Backend, store: Path, index: int, read: Callable[[Backend, Path, int], Image]
) -> None:
    (store / f"{index:08}.png").unlink()
    with pytest.raises(storage.CorruptStoreError, match=rf"{index:08}\.png is missing"):
        read(folder, store, index)


@each_read
@pytest.mark.parametrize("index", [0, 2])
def test_a_flipped_bit_is_refused_or_changes_no_pixel(
    folder: Backend, store: Path, index: int, read: Callable[[Backend, Path, int], Image]
) -> None:
    path = store / f"{index:08}.png"
    refused = 0
    for _ in flip_bits(path):
        try:
            image = read(folder, store, index)
        except storage.CorruptStoreError as error:
            assert str(store) in str(error)  # noqa: PT017 - either is right
            refused += 1
        else:
            np.testing.assert_array_equal(image, IMAGES[index])
    assert refused > 7 * path.stat().st_size, "CRCs find damage, whether or not it is in the pixels"


@pytest.mark.parametrize("width", [7, 999_999_999])
def test_a_shape_that_fits_no_memory_is_an_error_of_ours(folder: Backend, store: Path, width: int) -> None:
    header = f"label,images=4,height=999999999,width={width},characters=3\n"
    (store / "labels.csv").write_text(header + "  3\n-20\n100\n  7\n")
    for read in READS.values():
        with pytest.raises(storage.StorageError, match=str(store)):
            read(folder, store, 2)


def test_a_small_file_of_a_large_image_is_refused(folder: Backend, store: Path) -> None:
    (store / "labels.csv").write_text("label,images=4,height=30000,width=30000,characters=3\n  3\n-20\n100\n  7\n")
    for read in READS.values():
        with pytest.raises(storage.StorageError, match=str(store)):
            read(folder, store, 2)


def refuse_memory(*_: object) -> None:
    """Stand for a function that needs more memory than there is."""
    raise MemoryError


@each_read
def test_too_little_memory_is_an_error_of_ours(
    folder: Backend,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Backend, Path, int], Image],
) -> None:
    (store / "00000002.png").write_bytes(pictures.compress(IMAGES[2]))
    monkeypatch.setattr(zlib, "crc32", refuse_memory)
    with pytest.raises(storage.StorageError, match=f"{store}: its images do not fit in memory"):
        read(folder, store, 2)
