"""What 8-bit RGB can't hold is decoded if the caller allows the loss."""

import struct
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import DecodingError, InvalidInputError
from tests.support.image_files import make_exif, make_picture, make_png, save

RED, BLUE = Pillow.new("RGB", (7, 5), "red"), Pillow.new("RGB", (7, 5), "blue")
GRADIENT = (np.arange(35) * 1_872).astype(np.uint16).reshape(5, 7)  # from 0 to nearly 2**16


def refuse(content: bytes, losses: Collection[str] = ()) -> str:
    with pytest.raises(DecodingError) as caught:
        storage.decode(content, losses=losses)
    return str(caught.value)


def make_transparent(mode: str) -> Pillow.Image:
    picture = Pillow.fromarray(make_picture()).convert("RGBA")
    picture.putalpha(Pillow.linear_gradient("L").resize(picture.size))
    return picture.convert(mode)


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF")])
def test_a_transparent_image_loses_its_alpha_channel(mode: str, kind: str) -> None:
    picture = make_transparent(mode)
    content = save(picture, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert "it is transparent in places" in refuse(content, ["frames", "depth"])
    expected = np.asarray(picture.convert("RGBA"))[..., :3]
    np.testing.assert_array_equal(storage.decode(content, losses=["transparency"]), expected)


def test_transparent_colours_of_a_palette_are_kept() -> None:
    picture = Pillow.fromarray(make_picture()).quantize(8)
    content = save(picture, "PNG", transparency=0)
    np.testing.assert_array_equal(storage.decode(content, losses=["transparency"]), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_the_first_of_several_frames_is_read(kind: str) -> None:
    content = save(RED, kind, save_all=True, append_images=[BLUE], **({"lossless": True} if kind == "WEBP" else {}))
    assert "it has more than one frame or page" in refuse(content, ["transparency", "depth"])
    np.testing.assert_array_equal(storage.decode(content, losses=["frames"]), np.asarray(RED))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_the_upper_8_of_16_gray_bits_are_kept(kind: str) -> None:
    content = save(Pillow.fromarray(GRADIENT), kind)
    assert "it has more than 8 bits per channel" in refuse(content, ["transparency", "frames"])
    expected = np.repeat((GRADIENT >> 8).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(storage.decode(content, losses=["depth"]), expected)


def test_the_upper_8_of_16_colour_bits_are_kept() -> None:
    content = make_png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x12FF, 0x3400, 0xFFFF))
    assert storage.decode(content, losses=["depth"]).tolist() == [[[0x12, 0x34, 0xFF]]]


def test_a_deep_image_is_upright_and_scaled() -> None:
    content = save(Pillow.fromarray(GRADIENT), "PNG", exif=make_exif(6))
    image = storage.decode(content, losses=["depth"])
    np.testing.assert_array_equal(image[..., 0], np.rot90(GRADIENT >> 8, -1))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_of_32_bits_are_always_refused(mode: str) -> None:
    content = save(Pillow.new(mode, (7, 5)), "TIFF")
    assert "it has numbers of 32 bits, whose range isn't known" in refuse(content, ["depth"])


@pytest.mark.parametrize("losses", [["depth"], ["depth", "frames"]])
def test_a_deep_image_with_a_transparent_colour_loses_both_only_if_both_are_allowed(losses: list[str]) -> None:
    content = save(Pillow.fromarray(GRADIENT), "PNG", transparency=0)
    assert "it is transparent in places" in refuse(content, losses)
    np.testing.assert_array_equal(storage.decode(content, losses=[*losses, "transparency"])[..., 0], GRADIENT >> 8)


@pytest.mark.parametrize("losses", ["depth", ["depth"], {"depth"}, ("depth", "depth")])
def test_losses_are_any_collection_or_one_name(losses: Any) -> None:  # noqa: ANN401 - that is the test
    assert storage.decode(save(Pillow.fromarray(GRADIENT), "PNG"), losses=losses).shape == (5, 7, 3)


@pytest.mark.parametrize("losses", ["alpha", ["depth", "alpha"], [None], [7]])
def test_an_unknown_loss_is_refused(losses: Any) -> None:  # noqa: ANN401 - that is the test
    with pytest.raises(InvalidInputError, match="can't be allowed: choose among transparency, frames, depth"):
        storage.decode(save(RED, "PNG"), losses=losses)
