"""Image files become pixels: upright, RGB, 8 bits."""

import itertools
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps, features

import storage
from storage import DecodingError, Encoded, Image
from storage.decoding import decode_batch
from storage.pictures import Size
from tests.support.image_files import (
    DECODERS,
    OTHER_COLOURS,
    choose_decoder,
    make_exif,
    make_picture,
    make_png,
    read_with_pillow,
    save,
    save_colours,
)

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
UPRIGHT: dict[int, Callable[[Image], Image]] = {  # how a picture that was stored so is shown
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.rot90(np.fliplr(image)),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(np.fliplr(image), -1),
    8: np.rot90,
}
KINDS = [name for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") if name != "AVIF" or features.check("avif")]


@pytest.fixture(params=DECODERS, autouse=True)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choose_decoder(request.param, monkeypatch)
    return str(request.param)


@pytest.mark.parametrize("content_type", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_decoded_image_is_fresh_and_writeable(kind: str, content_type: Callable[[bytes], Any]) -> None:
    content = save(make_picture(), kind)
    image = storage.decode(content_type(content))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(image, read_with_pillow(content))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_turned_upright_once(kind: str, orientation: int) -> None:
    plain = save(make_picture(), kind)
    turned = save(make_picture(), kind, exif=make_exif(orientation))
    expected = UPRIGHT[orientation](read_with_pillow(plain))
    np.testing.assert_array_equal(storage.decode(turned), expected)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_batch_is_turned_before_it_is_cropped(kind: str, orientation: int) -> None:
    plain, turned = save(make_picture(), kind), save(make_picture(), kind, exif=make_exif(orientation))
    out = np.empty((1, 10, 7, 3), np.uint8)
    decode_batch(Encoded.join([turned]), Size(10, 7), out)
    upright = Pillow.fromarray(np.ascontiguousarray(UPRIGHT[orientation](read_with_pillow(plain))))
    expected = np.asarray(ImageOps.fit(upright, (7, 10), Pillow.Resampling.BILINEAR)).astype(int)
    assert np.abs(out[0] - expected).max() <= 6  # a JPEG is decoded at half its size


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_orientation_may_be_in_xmp_only(kind: str) -> None:
    options: dict[str, object] = {"xmp": XMP % 6}
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415 - for this format only

        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", (XMP % 6).decode())  # type: ignore[attr-defined]
    content = save(make_picture(), kind, **options)
    np.testing.assert_array_equal(storage.decode(content), np.rot90(read_with_pillow(content), -1))


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    content = save(make_picture(), "JPEG", exif=make_exif(orientation))
    np.testing.assert_array_equal(storage.decode(content), read_with_pillow(content))


def test_broken_exif_is_ignored_unless_warnings_are_errors() -> None:
    exif = make_exif(6)
    content = save(make_picture(), "JPEG", exif=exif[:-12])
    with pytest.warns(UserWarning, match="EXIF"):
        image = storage.decode(content)
    np.testing.assert_array_equal(image, read_with_pillow(save(make_picture(), "JPEG")))
    with warnings.catch_warnings(action="error"), pytest.raises(DecodingError, match="EXIF"):
        storage.decode(content)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *itertools.product(
            ("L", "RGB"), ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM", "TGA", "PCX", "SGI", "JPEG2000")
        ),
        *itertools.product(("1", "P"), ("PNG", "TIFF", "GIF", "BMP")),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "JPEG"),
    ],
)
def test_any_mode_becomes_rgb_as_pillow_converts_it(mode: str, kind: str) -> None:
    content = save(Pillow.fromarray(make_picture()).convert(mode), kind)
    np.testing.assert_array_equal(storage.decode(content), read_with_pillow(content))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (23, 8), (64, 65)])
def test_a_jpeg_has_the_same_pixels_whatever_decodes_it(
    subsampling: str, size: tuple[int, int], *, progressive: bool
) -> None:
    content = save(make_picture(*size), "JPEG", subsampling=subsampling, progressive=progressive)
    np.testing.assert_array_equal(storage.decode(content), read_with_pillow(content))


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (23, 8), (64, 65)])
@pytest.mark.parametrize("colours", OTHER_COLOURS)
def test_a_jpeg_in_other_colours_has_the_pixels_of_pillow(colours: str, size: tuple[int, int]) -> None:
    content = save_colours(make_picture(*size), colours)
    np.testing.assert_array_equal(storage.decode(content), read_with_pillow(content))


def test_a_jpeg_of_rgb_is_not_taken_for_ycbcr() -> None:
    content = save(make_picture(), "JPEG", keep_rgb=True, quality=100, subsampling=0)
    assert np.abs(storage.decode(content) - make_picture().astype(int)).max() < 5


def test_a_jpeg_that_simplejpeg_does_not_know_how_to_sample_is_left_to_pillow() -> None:
    gray = np.full((16, 16, 3), 128, np.uint8)
    content = bytearray(save(gray, "JPEG", keep_rgb=True, subsampling=0))  # all its blocks are the same bits
    adobe = content.index(b"\xff\xee")
    del content[adobe : adobe + 16]
    frame, scan = content.index(b"\xff\xc0") + 10, content.index(b"\xff\xda") + 5
    for number, sampling in enumerate((0x31, 0x11, 0x11)):  # three blocks of luminance side by side
        content[frame + 3 * number], content[frame + 3 * number + 1] = number + 1, sampling
        content[scan + 2 * number] = number + 1
    np.testing.assert_array_equal(storage.decode(content), gray)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_that_is_opaque_everywhere_is_dropped(mode: str, kind: str) -> None:
    opaque = Pillow.fromarray(make_picture()).convert(mode)
    content = save(opaque, kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(storage.decode(content), np.asarray(opaque.convert("RGB")))


def test_a_transparent_colour_of_a_palette_that_no_pixel_has_is_dropped() -> None:
    picture = Pillow.fromarray(make_picture()).quantize(16)
    content = save(picture, "PNG", transparency=200)
    np.testing.assert_array_equal(storage.decode(content), np.asarray(picture.convert("RGB")))


def test_mpo_is_read_as_its_first_picture() -> None:
    first, second = (Pillow.fromarray(image) for image in (make_picture(), 255 - make_picture()))
    content = save(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(storage.decode(content), read_with_pillow(save(first, "JPEG")))


def test_a_colour_profile_is_ignored() -> None:
    content = save(make_picture(), "JPEG", icc_profile=b"any profile")
    np.testing.assert_array_equal(storage.decode(content), read_with_pillow(save(make_picture(), "JPEG")))


LARGE = {
    **{kind: save(make_picture(), kind) for kind in ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", *KINDS[4:])},
    "lossless WebP": save(make_picture(), "WEBP", lossless=True),
    "WebP with metadata": save(make_picture(), "WEBP", exif=make_exif(1)),
    "packed TIFF": save(make_picture(), "TIFF", compression="tiff_lzw"),
    "turned TIFF": save(np.rot90(make_picture()), "TIFF", exif=make_exif(6)),
    "GIF that gives way": save(make_picture(), "GIF", disposal=2, comment="a comment"),
    "gray GIF that gives way": save(make_picture()[..., 0], "GIF", disposal=2),
}
LARGE["GIF that is larger than its screen"] = LARGE["GIF"][:6] + struct.pack("<2H", 7, 5) + LARGE["GIF"][10:]


@pytest.mark.parametrize("name", LARGE)
def test_the_limit_of_pillow_neither_applies_nor_changes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = storage.decode(LARGE[name])
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(storage.decode(LARGE[name]), expected)
    assert expected.shape == make_picture().shape
    with pytest.raises(Pillow.DecompressionBombError):
        read_with_pillow(LARGE[name])


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_png_of_any_depth_up_to_8_bits_is_decoded(depth: int) -> None:
    content = make_png(8, 1, depth, 0, b"\0" + bytes(range(depth)))
    np.testing.assert_array_equal(storage.decode(content), read_with_pillow(content))
