"""What isn't decoded: what would be lost silently, what is too large, and what is no image."""

import io
import struct
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import features

import storage
from storage import DecodingError, Encoded, StorageError
from storage.decoding import MAX_PIXELS, decode_batch
from storage.errors import BackendUnavailableError, InvalidInputError
from storage.pictures import Size
from tests.support.image_files import (
    DECODERS,
    OTHER_COLOURS,
    choose_decoder,
    damage,
    make_bomb,
    make_exif,
    make_picture,
    make_png,
    save,
    save_colours,
)

FRAMES = {"save_all": True, "append_images": [Pillow.new("RGB", (7, 5), "red"), Pillow.new("RGB", (7, 5), "blue")]}


@pytest.fixture(params=DECODERS, autouse=True)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choose_decoder(request.param, monkeypatch)
    return str(request.param)


def refuse(content: Any, **options: Any) -> str:  # noqa: ANN401 - also of wrong types
    with pytest.raises(DecodingError) as caught:
        storage.decode(content, **options)
    return str(caught.value)


def make_deep_ppm(header: bytes, values: int) -> bytes:
    return header + bytes(2 * values)


def make_tiff(depth: int, samples: int, extra: tuple[int, ...] = ()) -> bytes:
    """Make an uncompressed TIFF of one black pixel."""
    depths = struct.pack(f"<{samples}H", *[depth] * samples)
    fields = [
        (256, 1, 1),
        (257, 1, 1),
        (258, samples, None),
        (259, 1, 1),
        (262, 1, 2),
        (273, 1, 300),
        (277, 1, samples),
        (278, 1, 1),
        (279, 1, samples * depth // 8),
        *([(338, 1, *extra)] if extra else []),
    ]
    content = b"II*\0" + struct.pack("<IH", 8, len(fields))
    for tag, count, value in fields:
        content += struct.pack("<2H2I", tag, 3, count, 250 if value is None else value)
    return content.ljust(250, b"\0") + depths.ljust(50, b"\0") + bytes(samples * depth // 8)


DEEP = {
    "gray png": save(Pillow.new("I;16", (7, 5)), "PNG"),
    "rgb png": make_png(1, 1, 16, 2, bytes(7)),
    "rgba png": make_png(1, 1, 16, 6, bytes(9)),
    "gray tiff": save(Pillow.new("I;16", (7, 5)), "TIFF"),
    "32-bit tiff": save(Pillow.new("I", (7, 5)), "TIFF"),
    "float tiff": save(Pillow.new("F", (7, 5)), "TIFF"),
    "rgb tiff": make_tiff(16, 3),
    "gray ppm": save(Pillow.new("I;16", (7, 5)), "PPM"),
    "rgb ppm": make_deep_ppm(b"P6 1 1 65535\n", 3),
    "rgb ppm with comments": make_deep_ppm(b"P6\n# a 1 1 255\n1#b\n 1 # c\n 1023\n", 3),
    "plain ppm": b"P3 1 1 4095\n0 1 4095\n",
    "float ppm": save(Pillow.new("F", (7, 5)), "PPM"),
    "rgb sgi": save(make_picture(), "SGI", bpc=2),
    "gray jpeg 2000": save(Pillow.new("I;16", (7, 5)), "JPEG2000"),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_are_refused(name: str) -> None:
    assert "it has more than 8 bits per channel" in refuse(DEEP[name])


@pytest.mark.parametrize("component", [0, 1, 2])
def test_jpeg_2000_with_one_deep_channel_is_refused(component: int) -> None:
    content = bytearray(save(make_picture(), "JPEG2000"))
    content[content.index(b"\xff\x4f\xff\x51") + 42 + 3 * component] = 11  # bits less one
    assert "it has more than 8 bits per channel" in refuse(content)


def test_avif_with_10_bits_is_refused() -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    content = bytearray(save(make_picture(), "AVIF"))
    assert storage.decode(content).shape == make_picture().shape
    content[content.index(b"av1C") + 6] |= 0x40
    depths = content.index(b"pixi") + 9
    content[depths : depths + 3] = bytes([10, 10, 10])
    assert "it has more than 8 bits per channel" in refuse(content)


def test_channels_beside_colour_and_alpha_are_refused() -> None:
    assert storage.decode(make_tiff(8, 3)).tolist() == [[[0, 0, 0]]]
    assert "it has channels beside colour and alpha" in refuse(make_tiff(8, 4, (0,)))


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        *((mode, kind, {}) for mode in ("LA", "RGBA") for kind in ("PNG", "TIFF")),
        ("RGBA", "WEBP", {"lossless": True}),
        *((mode, "PNG", {"transparency": 0}) for mode in ("1", "L", "P")),
        ("RGB", "PNG", {"transparency": (0, 0, 0)}),
        ("P", "GIF", {"transparency": 0}),
    ],
)
def test_transparency_is_refused(mode: str, kind: str, options: dict[str, Any]) -> None:
    assert "it is transparent in places" in refuse(save(Pillow.new(mode, (7, 5)), kind, **options))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_more_than_one_frame_or_page_is_refused(kind: str) -> None:
    assert "it has more than one frame or page" in refuse(save(Pillow.new("RGB", (7, 5)), kind, **FRAMES))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_the_caller_sets_the_limit_of_pixels(kind: str) -> None:
    content = save(make_picture(24, 40), kind)
    assert storage.decode(content, max_pixels=960).shape == (24, 40, 3)
    assert "it has 960 pixels, more than the limit of 959: if that is right, raise max_pixels (--max-pixels)" in refuse(
        content, max_pixels=959
    )


def test_a_bomb_is_refused_before_memory_is_allocated() -> None:
    content = make_bomb(16_385)
    assert len(content) < 100_000
    tracemalloc.start()
    try:
        reason = refuse(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"it has {16_385**2:,} pixels, more than the limit of {MAX_PIXELS:,}" in reason
    assert peak < 10 * len(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_no_pixel_is_loaded_of_an_image_that_is_too_large(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = save(make_picture(), kind)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert "more than the limit" in refuse(content, max_pixels=1)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_claims_more_pixels_than_it_can_hold_is_refused_at_once(*, progressive: bool) -> None:
    content = bytearray(save(make_picture(), "JPEG", progressive=progressive))
    start = content.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">2H", 16_000, 16_000)
    assert f"it claims 256,000,000 pixels, more than a JPEG file of {len(content)} bytes can hold" in refuse(content)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": make_exif(1)}], ids=str)
def test_no_webp_that_is_too_large_is_opened(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    content = save(make_picture(24, 40), "WEBP", **options)
    monkeypatch.setattr("PIL.WebPImagePlugin._webp", None)
    assert "it has 960 pixels, more than the limit of 959" in refuse(content, max_pixels=959)
    assert "it can't be decoded" in refuse(content, max_pixels=960)


@pytest.mark.parametrize("colours", OTHER_COLOURS)
def test_no_jpeg_that_is_too_large_is_verified(colours: str, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = save_colours(make_picture(24, 40), colours)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load" if decoder == "Pillow" else "simplejpeg.decode_jpeg", None)
    assert "it has 960 pixels, more than the limit of 959" in refuse(content, max_pixels=959)
    assert "it can't be decoded" in refuse(content, max_pixels=960)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "SGI", "PPM"])
@pytest.mark.parametrize("fraction", [0, 0.01, 0.1, 0.5, 0.7])
def test_a_file_that_was_cut_short_is_refused(kind: str, fraction: float) -> None:
    content = save(make_picture(), kind)
    refuse(content[: int(len(content) * fraction)])


@pytest.mark.parametrize("end", [10, 100, 400])
def test_a_jpeg_that_ends_in_its_header_is_said_to_be_truncated(end: int) -> None:
    with pytest.raises(DecodingError, match=r"can't be decoded \(.*Truncated File Read\)"):
        storage.decode(save(make_picture(), "JPEG")[:end])


@pytest.mark.parametrize("colours", ["YCbCr", *OTHER_COLOURS])
def test_corruption_that_libjpeg_only_warns_about_is_noticed_by_simplejpeg(colours: str, decoder: str) -> None:
    picture = make_picture(64, 64)
    good = save(picture, "JPEG", quality=95) if colours == "YCbCr" else save_colours(picture, colours)
    assert storage.decode(good).shape == (64, 64, 3)
    if decoder == "Pillow":
        assert storage.decode(damage(good)).shape == (64, 64, 3)
        return
    assert "Corrupt JPEG data" in refuse(damage(good))
    with pytest.raises(DecodingError, match=r"record 1: .*Corrupt JPEG data"):
        decode_batch(Encoded.join([good, damage(good)]), Size(8, 8), np.empty((2, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    "content",
    [b"x", b"no image", bytes(100), b"\xff\xd8", b"\xff\xd8\xff", b"GIF89a", b"GIF89a%b;" % bytes(7), b"P", b"BM"],
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    refuse(content)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\n%%EndComments\n%%EOF\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='7' height='5'/>",
        b"%PDF-1.4\n",
        save(make_picture(), "ICO", sizes=[(16, 16)]),
    ],
    ids=["postscript", "svg", "pdf", "ico"],
)
def test_formats_that_are_not_listed_reach_no_plugin(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)
    assert "it is none of AVIF, BMP" in refuse(content)


@pytest.mark.parametrize("content", [None, "photo.jpg", 7, np.zeros(9, np.uint8), io.BytesIO()])
def test_what_is_not_bytes_is_invalid_input(content: Any) -> None:  # noqa: ANN401 - that is the test
    with pytest.raises(InvalidInputError, match=f"it is a {type(content).__name__}: give the bytes of an image file"):
        storage.decode(content)


def test_without_pillow_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(BackendUnavailableError, match="needs Pillow: python -m pip install pillow"):
        storage.decode(make_bomb(8))


def test_too_little_memory_is_not_called_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(StorageError, match="too little memory to decode it") as caught:
        storage.decode(make_bomb(8))
    assert not isinstance(caught.value, DecodingError)
