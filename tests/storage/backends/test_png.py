"""The PNG backends: any viewer opens their files, PNG files of other programs are read, others are refused."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from storage import Backend, CorruptStoreError, Image, StorageError
from tests.support.backends import take_backend, take_family
from tests.support.foreign import Case, Change, append, both, cut, delete, make_endless, make_folder, write
from tests.support.image_sets import assert_same, make_set
from tests.support.pictures import END, PROGRAMS, SIGNATURE, compress, filter_rows, flip_bits, make_chunk, make_header

png = take_backend("png")
MEMBERS = take_family("png", "png_stored")
IMAGES = make_set(4, 5, 7)[0]
LABELS = np.array([3, -20, 100, 7], np.int64)

PICTURE = make_set(10)[0][2]
HEADER = make_header(PICTURE)
ROWS = filter_rows(PICTURE)
PIXELS = make_chunk(b"IDAT", zlib.compress(ROWS, 0))
TEXT = make_chunk(b"tEXt", b"Comment\0text")


def save(mode: str, size: tuple[int, int] = (32, 32), form: str = "PNG") -> Callable[[str], Change]:
    return lambda name: lambda store: Pillow.new(mode, size).save(store / name, form)


def put(*chunks: bytes) -> Callable[[str], Change]:
    return lambda name: write(name, b"".join((SIGNATURE, *chunks)))


FILES: dict[str, Callable[[str], Change]] = {
    "grey": save("L"),
    "palette": save("P"),
    "alpha": save("RGBA"),
    "16 bits": save("I;16"),
    "other size": save("RGB", (7, 5)),
    "JPEG": save("RGB", form="JPEG"),
    "missing": delete,
    "empty": lambda name: cut(name, 0),
    "cut in the signature": lambda name: cut(name, 5),
    "cut after the signature": lambda name: cut(name, 8),
    "cut in the header": lambda name: cut(name, 20),
    "cut in the pixels": lambda name: cut(name, 60),
    "cut before the end": lambda name: cut(name, -len(END)),
    "cut in the last CRC": lambda name: cut(name, -1),
    "a byte after the end": lambda name: append(name, b"\0"),
    "wrong CRC of the header": put(HEADER[:-1] + b"\0", PIXELS, END),
    "wrong CRC of the pixels": put(HEADER, PIXELS[:-4] + b"\0\0\0\0", END),
    "wrong CRC of a comment": put(HEADER, TEXT[:-4] + b"\0\0\0\0", PIXELS, END),
    "a chunk beyond the end": put(HEADER, struct.pack(">I", 10_000) + PIXELS[4:], END),
    "a chunk of 4 GiB": put(HEADER, PIXELS, b"\xff\xff\xff\xff" + END[4:]),
    "no header": put(PIXELS, END),
    "no pixels": put(HEADER, END),
    "a row too few": put(HEADER, make_chunk(b"IDAT", zlib.compress(ROWS[:-1], 0)), END),
    "no zlib": put(HEADER, make_chunk(b"IDAT", bytes(80)), END),
    "the header after the pixels": put(PIXELS, HEADER, END),
    "an empty colour profile": put(HEADER, make_chunk(b"iCCP", b""), PIXELS, END),
    "a colour profile of a null character": put(HEADER, make_chunk(b"iCCP", b"\0"), PIXELS, END),
    "1 TB": lambda name: cut(name, 10**12),
    "an endless device": make_endless,
}


def table(*lines: bytes, shape: str = "images=10,height=32,width=32,characters=3") -> Change:
    content = b"".join(b"%b\n" % line for line in (*lines, *[b"  7"] * (10 - len(lines))))
    return write("labels.csv", f"label,{shape}\n".encode() + content)


ONE = "label,images=1,height=32,width=32,characters="
MANY = "images=99999999999,height=32,width=32,characters=99"
LINES = (b"1_0", b" +1", b"- 1", b"--1", b"1\r2", b" 1\r", b"1  ", b"1 2", b"   ", b"1\n2", b"1\x00 ", b"\xd9\xa1 ")
FOREIGN = {
    **{f"image {index}: {name}": Case(make(f"{index:08}.png")) for index in (0, 2) for name, make in FILES.items()},
    **{f"image {index}: a directory": Case(make_folder(f"{index:08}.png"), error=StorageError) for index in (0, 2)},
    "labels: empty": Case(cut("labels.csv", 0), "header"),
    "labels: another header": Case(write("labels.csv", b"label\n3\n-20\n"), "header"),
    "labels: cut": Case(cut("labels.csv", -1), "bytes"),
    "labels: too many images": Case(table(shape="images=11,height=32,width=32,characters=3"), "bytes"),
    "labels: 65 bits": Case(write("labels.csv", f"{ONE}20\n99999999999999999999\n".encode()), "label"),
    "labels: -65 bits": Case(write("labels.csv", f"{ONE}20\n-9223372036854775809\n".encode()), "label"),
    **{
        f"labels: {form}": Case(table(shape=f"images=10,height=32,width=32,{form},characters=3"), found)
        for form, found in (
            ("channels=0,dtype=uint8", "not L"),
            ("channels=0,dtype=uint16", "not I;16"),
            ("channels=4,dtype=uint8", "not RGBA"),
            ("channels=4,dtype=uint16", "header"),
            ("channels=3,dtype=uint8", "header"),
        )
    },
    "labels: no characters": Case(write("labels.csv", f"{ONE}0\n\n".encode()), "header"),
    "labels: a directory": Case(make_folder("labels.csv")),
    "labels: an endless device": Case(make_endless("labels.csv")),
    "labels: 1 TB": Case(cut("labels.csv", 10**12), "bytes"),
    **{f"labels: {line!r}": Case(table(line)) for line in LINES},
    **{f"labels: second is {line!r}": Case(table(b"  3", line)) for line in LINES},
    **{
        f"images of {height} x {width}": Case(
            table(shape=f"images=10,height={height},width={width},characters=3"), error=StorageError
        )
        for height, width in ((999_999_999, 7), (7, 999_999_999), (999_999_999, 999_999_999), (30_000, 30_000))
    },
    "labels larger than memory": Case(
        both(table(shape=MANY), cut("labels.csv", len(f"label,{MANY}\n") + 99_999_999_999 * 100)), error=StorageError
    ),
}


@pytest.fixture(params=list(MEMBERS.values()), ids=list(MEMBERS))
def folder(request: pytest.FixtureRequest) -> Backend:
    """Name the backends whose stores are folders of PNG files."""
    module: Backend = request.param
    return module


@pytest.fixture
def store(folder: Backend, tmp_path: Path) -> Path:
    folder.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def read_one(module: Backend, store: Path, index: int) -> Image:
    with module.open_reader(store) as reader:
        return reader[index][0]


def read_batch(module: Backend, store: Path, index: int) -> Image:
    with module.open_reader(store) as reader:
        image: Image = reader.read([3, 1, index, 0])[0][2]
        return image


READS: tuple[Callable[[Backend, Path, int], Image], ...] = (
    lambda module, store, index: module.read_single(store, index)[0],
    lambda module, store, index: module.read_many(store)[0][index],
    read_one,
    read_batch,
)
each_read = pytest.mark.parametrize("read", READS, ids=["alone", "all", "one", "batch"])
each_index = pytest.mark.parametrize("index", [0, 2])


def test_any_viewer_can_open_the_files(store: Path) -> None:
    for index, image in enumerate(IMAGES):
        with Pillow.open(store / f"{index:08}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)


def test_the_labels_are_a_table_with_lines_of_one_length(store: Path) -> None:
    assert (store / "labels.csv").read_text() == "label,images=4,height=5,width=7,characters=3\n  3\n-20\n100\n  7\n"


def test_whole_files_of_images_and_the_lines_of_labels_are_pixels(store: Path) -> None:
    found = png.find_pixels(store)
    assert found.pop("labels.csv") == [range(45, 61)]
    assert found == {f"{index:08}.png": [range((store / f"{index:08}.png").stat().st_size)] for index in range(4)}


def test_pixels_in_many_chunks_come_back(tmp_path: Path) -> None:
    images, labels = make_set(1, 300, 400)
    png.store_many(tmp_path, images, labels)
    assert (tmp_path / "00000000.png").read_bytes().count(b"IDAT") > 3
    assert_same(png.read_single(tmp_path, 0), (images[0], labels[0]))


@each_read
@pytest.mark.parametrize("write", PROGRAMS.values(), ids=PROGRAMS)
@each_index
def test_an_rgb_file_of_another_program_is_read_right(
    folder: Backend,
    store: Path,
    write: Callable[[Image], bytes],
    index: int,
    read: Callable[[Backend, Path, int], Image],
) -> None:
    path = store / f"{index:08}.png"
    path.write_bytes(write(255 - IMAGES[index]))
    with Pillow.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), 255 - IMAGES[index])
    np.testing.assert_array_equal(read(folder, store, index), 255 - IMAGES[index])
    np.testing.assert_array_equal(read(folder, store, 1), IMAGES[1])


@each_index
def test_a_missing_file_is_named_and_the_others_are_read(folder: Backend, store: Path, index: int) -> None:
    (store / f"{index:08}.png").unlink()
    for read in READS:
        with pytest.raises(CorruptStoreError, match=rf"record {index}: {index:08}\.png is missing"):
            read(folder, store, index)
    np.testing.assert_array_equal(read_one(folder, store, 1), IMAGES[1])


@each_read
@each_index
def test_a_flipped_bit_is_refused_or_changes_no_pixel(
    folder: Backend, store: Path, index: int, read: Callable[[Backend, Path, int], Image]
) -> None:
    path = store / f"{index:08}.png"
    refused = 0
    for _ in flip_bits(path):
        try:
            image = read(folder, store, index)
        except CorruptStoreError:
            refused += 1
        else:
            np.testing.assert_array_equal(image, IMAGES[index])
    assert refused > 7 * path.stat().st_size, "CRCs find damage, whether or not it is in the pixels"


@each_read
def test_too_little_memory_is_not_corruption(
    folder: Backend, store: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Backend, Path, int], Image]
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    (store / "00000002.png").write_bytes(compress(IMAGES[2]))
    monkeypatch.setattr(zlib, "crc32", refuse)
    with pytest.raises(StorageError, match="too little memory") as caught:
        read(folder, store, 2)
    assert type(caught.value) is StorageError
    assert caught.value.store == store


@pytest.mark.parametrize("name", ["", "labels.csv"])
def test_too_many_open_files_are_not_corruption(
    folder: Backend, store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    open_file = os.open

    def refuse(path: bytes | str, *arguments: Any, **options: Any) -> int:  # noqa: ANN401 - as os.open's
        if os.fsencode(path).endswith(os.fsencode(name)):
            raise OSError(24, "Too many open files")
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="Too many open files") as caught:
        folder.read_many(store)
    assert type(caught.value) is StorageError
