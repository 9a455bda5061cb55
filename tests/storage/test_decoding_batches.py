"""Batches of image files: one size, any number of threads, and which file an error names."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

import storage
from storage import DecodingError, Encoded, InvalidInputError
from storage.decoding import decode_batch
from storage.jpeg import find_simplejpeg
from storage.pictures import Size
from tests.support.image_files import DECODERS, choose_decoder, make_picture, save

SIZES = [(24, 40), (40, 24), (7, 90), (224, 224), (1, 1), (300, 200)]  # height, width


@pytest.fixture(params=DECODERS, autouse=True)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choose_decoder(request.param, monkeypatch)
    return str(request.param)


@pytest.fixture
def reader(tmp_path: Path) -> storage.Reader:
    files = Encoded.join([save(make_picture(), "PNG"), save(make_picture(), "JPEG")])
    storage.BACKENDS["npy"].store_many(tmp_path / "store", files, np.array([7, 9]))
    return storage.BACKENDS["npy"].open_reader(tmp_path / "store")


@pytest.mark.parametrize("size", SIZES)
def test_images_of_any_size_are_scaled_and_cropped_in_their_centre(size: tuple[int, int]) -> None:
    pictures = [make_picture(*each) for each in SIZES]
    out = np.empty((len(SIZES), *size, 3), np.uint8)
    decode_batch(Encoded.join(save(picture, "PNG") for picture in pictures), Size(*size), out)
    for image, picture in zip(out, pictures, strict=True):
        expected = ImageOps.fit(Pillow.fromarray(picture), size[::-1], Pillow.Resampling.BILINEAR)
        np.testing.assert_array_equal(image, np.asarray(expected))


@pytest.mark.parametrize("size", [(10, 10), (24, 40), (3, 40), (100, 90)])
def test_a_jpeg_that_is_decoded_at_a_fraction_of_its_size_looks_the_same(size: tuple[int, int]) -> None:
    picture = make_picture(96, 160)
    out = np.empty((1, *size, 3), np.uint8)
    decode_batch(Encoded.join([save(picture, "JPEG", quality=100, subsampling=0)]), Size(*size), out)
    expected = np.asarray(ImageOps.fit(Pillow.fromarray(picture), size[::-1], Pillow.Resampling.BILINEAR))
    assert np.abs(out[0] - expected.astype(int)).max() <= 6


@pytest.mark.parametrize("count", [0, 1, 9])
def test_any_number_of_threads_gives_the_same_images(count: int) -> None:
    files = Encoded.join(save(make_picture(20 + number, 30), "JPEG") for number in range(count))
    found = [np.empty((count, 8, 8, 3), np.uint8) for _ in range(4)]
    for out, threads in zip(found, (1, 2, 5, None), strict=True):
        decode_batch(files, Size(8, 8), out, threads=threads)
        np.testing.assert_array_equal(out, found[0])


@pytest.mark.parametrize("at_once", [1, 2, 7, None])
def test_an_error_names_the_first_file_that_cannot_be_decoded(at_once: int | None) -> None:
    good = save(make_picture(), "PNG")
    files = Encoded.join([good, good, good[:-30] if at_once else b"", good, b"no image", b""])
    with pytest.raises(DecodingError) as caught:
        decode_batch(files, Size(8, 8), np.empty((6, 8, 8, 3), np.uint8), threads=at_once)
    assert caught.value.record == 2


def test_the_limit_of_pixels_can_be_raised_or_lowered() -> None:
    files, out = Encoded.join([save(make_picture(), "JPEG")]), np.empty((1, 8, 8, 3), np.uint8)
    decode_batch(files, Size(8, 8), out, max_pixels=960)
    with pytest.raises(DecodingError, match="record 0: it has 960 pixels"):
        decode_batch(files, Size(8, 8), out, max_pixels=959)


@pytest.mark.parametrize("size", [(3, 4), [3, 4], np.array([3, 4]), (np.int64(3), np.uint8(4))])
def test_a_size_is_two_integers_of_any_kind(reader: storage.Reader, size: Any) -> None:  # noqa: ANN401 - that is the test
    with reader:
        images, labels = reader.read([1, 0], size=size)
    assert images.shape == (2, 3, 4, 3)
    assert labels.tolist() == [9, 7]


@pytest.mark.parametrize(
    "size", [None, 224, "22", (224,), (3, 4, 3), (0, 4), (4, -1), (3.0, 4.0), (True, 4), ("3", "4"), {3, 4}]
)
def test_any_other_size_is_refused(reader: storage.Reader, size: Any) -> None:  # noqa: ANN401 - likewise
    with reader, pytest.raises(InvalidInputError, match="give height and width: size=") as caught:
        reader.read([0], size=size)
    assert caught.value.store == reader.store


@pytest.mark.parametrize("at_once", [0, -1, 1.0, True, "2"])
def test_a_number_of_threads_below_1_is_refused(reader: storage.Reader, at_once: Any) -> None:  # noqa: ANN401 - likewise
    with reader, pytest.raises(InvalidInputError, match=f"threads is {at_once!r}") as caught:
        reader.read([0], size=(3, 4), threads=at_once)
    assert caught.value.store == reader.store


def test_simplejpeg_decodes_jpeg_where_it_is_installed(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)  # of Pillow
    content = save(make_picture(), "JPEG")
    if decoder != "Pillow":
        assert storage.decode(content).shape == make_picture().shape
    else:
        with pytest.raises(DecodingError):
            storage.decode(content)


def test_simplejpeg_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert find_simplejpeg.__wrapped__() is None
