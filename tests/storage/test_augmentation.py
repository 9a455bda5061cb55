"""Images are augmented by seed, epoch and image alone, and no more rows of a file are decoded than that needs."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import BACKENDS, Encoded, Image, InvalidInputError
from storage.augmentation import Augmentation, Crop, View
from storage.decoding import decode_scaled
from storage.jpeg import find_simplejpeg
from storage.pictures import Size
from storage.scaling import mirror
from tests.support.image_files import ORIENTATION, PART_DECODERS, choose_decoder, make_picture, save
from tests.support.image_sets import make_set

PARTS = (0.08, 1.0)
COUNT = 12
WHOLE = Size(192, 256)
CHOSEN = [  # by seed, epoch and image: a part of 375 x 500 pixels, and whether it is mirrored
    ((0, 0, 0), Crop(20, 96, 287, 242), False),
    ((0, 0, 7), Crop(25, 111, 346, 357), True),
    ((0, 1, 7), Crop(109, 20, 238, 187), True),
    ((1, 0, 0), Crop(112, 90, 250, 303), False),
    ((2**70, 3, 10**9), Crop(5, 27, 231, 238), False),
]


@pytest.fixture(params=PART_DECODERS)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choose_decoder(request.param, monkeypatch)
    return str(request.param)


def make_noise(height: int = WHOLE.height, width: int = WHOLE.width) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)


def make_view(image: int, area: tuple[float, float] = PARTS, *, is_verified: bool = True) -> View:
    return Augmentation(area, seed=0, epoch=0).view(image, is_verified=is_verified)


def make_orientation(orientation: int) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    return exif


JPEG: dict[str, dict[str, Any]] = {
    "420": {},
    "422": {"subsampling": 1},
    "444": {"subsampling": 0, "quality": 95},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "turned": {"exif": make_orientation(6)},
}


@pytest.mark.parametrize(("numbers", "crop", "is_mirrored"), CHOSEN)
def test_seed_epoch_and_image_choose_the_part(numbers: tuple[int, int, int], crop: Crop, *, is_mirrored: bool) -> None:
    view = Augmentation(PARTS, *numbers[:2]).view(numbers[2], is_verified=True)
    message = "what was trained with a seed can't be trained again"
    assert (view.find_crop(Size(375, 500)), view.is_mirrored) == (crop, is_mirrored), message


@pytest.mark.parametrize("area", [PARTS, (0.25, 0.25), (1.0, 1.0)])
def test_parts_have_the_area_and_the_ratio_that_was_asked_for(area: tuple[float, float]) -> None:
    crops = [make_view(image, area).find_crop(Size(750, 1000)) for image in range(500)]
    assert all(crop.top + crop.height <= 750 and crop.left + crop.width <= 1000 for crop in crops)
    assert all(0.745 <= crop.width / crop.height <= 1.345 for crop in crops)
    fractions = [crop.height * crop.width / 750_000 for crop in crops]
    assert area[0] - 0.01 <= min(fractions) <= max(fractions) <= area[1] + 0.01
    if area == PARTS:
        assert min(crop.top for crop in crops) < 5
        assert max(crop.top for crop in crops) > 450
        assert min(crop.left for crop in crops) < 5
        assert max(crop.left for crop in crops) > 500


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (Size(3, 1000), Crop(0, 498, 3, 4)),
        (Size(1000, 3), Crop(498, 0, 4, 3)),
        (Size(1, 1), Crop(0, 0, 1, 1)),
    ],
)
def test_of_an_image_that_no_part_fits_in_the_centre_is_taken(whole: Size, expected: Crop) -> None:
    assert make_view(0, (1, 1)).find_crop(whole) == expected


def test_half_of_the_images_are_mirrored() -> None:
    assert 450 < sum(make_view(image).is_mirrored for image in range(1000)) < 550


@pytest.mark.parametrize("size", [Size(20, 30), Size(224, 224), Size(300, 400)])
def test_left_and_right_are_exchanged(size: Size) -> None:
    picture = make_picture(*size)
    np.testing.assert_array_equal(mirror(picture), picture[:, ::-1])
    np.testing.assert_array_equal(mirror(picture[::-1, ::-1]), picture[::-1])


def test_a_part_is_scaled_to_the_size() -> None:
    picture = make_noise()
    content = memoryview(save(picture, "PNG"))
    for image in range(9):
        view = make_view(image)
        top, left, height, width = view.find_crop(WHOLE)
        box = (left, top, left + width, top + height)
        expected = np.asarray(Pillow.fromarray(picture).resize((70, 80), Pillow.Resampling.BILINEAR, box=box))
        found = decode_scaled(content, Size(80, 70), view=view)
        np.testing.assert_array_equal(found, expected[:, ::-1] if view.is_mirrored else expected)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("size", [Size(20, 30), Size(80, 70), Size(224, 224)])
def test_a_part_of_a_jpeg_looks_like_that_of_its_pixels(size: Size) -> None:
    picture = make_picture(*WHOLE)
    contents = [memoryview(save(picture, kind, quality=100, subsampling=0)) for kind in ("JPEG", "PNG")]
    for image in range(9):
        jpeg, png = (decode_scaled(content, size, view=make_view(image)) for content in contents)
        assert np.abs(jpeg.astype(int) - png).max() <= 6, make_view(image).find_crop(WHOLE)


@pytest.mark.parametrize("kind", JPEG)
@pytest.mark.parametrize("size", [Size(20, 30), Size(80, 70)])
def test_rows_that_are_not_decoded_change_no_pixel(kind: str, size: Size, decoder: str) -> None:
    content = memoryview(save(make_noise(), "JPEG", **JPEG[kind]))
    for image in range(9):
        whole, cut = (
            decode_scaled(content, size, view=make_view(image, is_verified=is_verified))
            for is_verified in (False, True)
        )
        np.testing.assert_array_equal(whole, cut, err_msg=f"{decoder}, {make_view(image).find_crop(WHOLE)}")


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("size", [Size(16, 16), Size(32, 32)])
def test_rows_that_are_not_decoded_change_no_pixel_of_a_large_photo_that_becomes_tiny(size: Size) -> None:
    content = memoryview(save(Pillow.effect_noise((2_000, 1_500), 90).convert("RGB"), "JPEG", quality=90))
    for image in range(4):
        whole, cut = (
            decode_scaled(content, size, view=make_view(image, is_verified=is_verified))
            for is_verified in (False, True)
        )
        np.testing.assert_array_equal(whole, cut)


@pytest.mark.parametrize("image", [50, 263])
def test_a_part_of_a_narrow_jpeg_that_pillow_decodes_at_an_eighth_is_where_it_was(image: int) -> None:
    picture = Pillow.fromarray(make_picture(8_000, 101)).convert("CMYK")
    view = Augmentation((0.0005, 0.001), 0, 0).view(image, is_verified=False)
    assert decode_scaled(memoryview(save(picture, "JPEG")), Size(5, 5), view=view).shape == (5, 5, 3)


class Decoder(SimpleNamespace):
    """Notes how many rows simplejpeg decodes."""

    def __init__(self) -> None:
        super().__init__(**vars(pytest.importorskip("simplejpeg", reason="simplejpeg isn't installed")))
        self.rows: list[int] = []
        self.decode_jpeg = self._decode

    def _decode(self, *arguments: Any, **options: Any) -> Image:  # noqa: ANN401 - simplejpeg's
        image: Image = find_simplejpeg().decode_jpeg(*arguments, **options)
        self.rows.append(len(image))
        return image


@pytest.fixture
def simplejpeg(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    decoder = Decoder()
    monkeypatch.setattr("storage.jpeg_parts.find_nvimgcodec", lambda: None)
    monkeypatch.setattr("storage.decoding.find_simplejpeg", lambda: decoder)
    return decoder


@pytest.mark.parametrize(("kind", "is_verified"), [("420", True), ("420", False), ("progressive", True)])
def test_rows_below_the_part_are_left_out_if_a_checksum_covers_them(
    kind: str, simplejpeg: Decoder, *, is_verified: bool
) -> None:
    content = memoryview(save(make_noise(), "JPEG", **JPEG[kind]))
    views = [make_view(image, (0.2, 0.2), is_verified=is_verified) for image in range(9)]
    for view in views:
        decode_scaled(content, Size(80, 80), view=view)
    crops = [view.find_crop(WHOLE) for view in views]
    needed = [min(WHOLE.height, crop.top + crop.height + math.ceil(crop.height / 80 / 2) + 16) for crop in crops]
    is_cut = is_verified and kind == "420"
    assert simplejpeg.rows == (needed if is_cut else [WHOLE.height] * 9)


def test_a_file_of_which_another_header_counts_is_decoded_as_it_is(simplejpeg: Decoder) -> None:
    comment = bytearray(65_533)
    comment[65_530:] = b"\xff\xc0\0"  # where a length would lead to if a marker had one that has none
    jpeg = save(make_noise(), "JPEG")
    content = b"\xff\xd8\xff\x01\xff\xfe\xff\xff" + bytes(comment) + jpeg[2:]
    view = make_view(0, (0.08, 0.08))
    found, expected = (decode_scaled(memoryview(each), Size(80, 70), view=view) for each in (content, jpeg))
    np.testing.assert_array_equal(found, expected)
    assert simplejpeg.rows[0] == WHOLE.height > simplejpeg.rows[1]


@pytest.fixture
def files() -> Encoded:
    pictures = [make_picture(90 + 7 * number, 120 - 5 * number) for number in range(COUNT)]
    return Encoded.join(
        save(picture, kind) for picture, kind in zip(pictures, ["JPEG", "PNG", "JPEG"] * 4, strict=True)
    )


def collect(batches: Iterator[tuple[Any, Any]]) -> dict[int, Image]:
    return {label: image for images, labels in batches for image, label in zip(images, labels.tolist(), strict=True)}


def assert_equal(found: dict[int, Image], expected: dict[int, Image]) -> None:
    assert found.keys() == expected.keys()
    for label, image in found.items():
        np.testing.assert_array_equal(image, expected[label], err_msg=f"image {label}")


def test_neither_threads_nor_batches_nor_ranks_nor_checksums_change_an_image(files: Encoded, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seed": 3, "epoch": 2, "image_size": (64, 70), "augment": PARTS}
    storage.save(tmp_path / "photos", files[:5], np.arange(5), "npy")
    storage.append(tmp_path / "photos", files[5:], np.arange(5, COUNT))
    BACKENDS["npy"].store_many(tmp_path / "plain", files, np.arange(COUNT))
    with storage.open(tmp_path / "photos") as reader, BACKENDS["npy"].open_reader(tmp_path / "plain") as plain:
        expected = collect(reader.batches(4, **options))
        assert_equal(collect(reader.batches(5, threads=3, **options)), expected)
        ranks = [collect(reader.batches(2, rank=rank, world_size=3, **options)) for rank in range(3)]
        assert_equal(ranks[0] | ranks[1] | ranks[2], expected)
        assert_equal(collect(plain.batches(4, **options)), expected)
        other = collect(reader.batches(4, **options | {"epoch": 3}))
        assert any((other[label] != expected[label]).any() for label in expected)


def test_what_goes_on_is_augmented_by_its_state(files: Encoded, tmp_path: Path) -> None:
    options: dict[str, Any] = {"image_size": (64, 70), "augment": PARTS}
    storage.save(tmp_path / "photos", files, np.arange(COUNT), "npy")
    with storage.open(tmp_path / "photos") as reader:
        expected = collect(reader.batches(4, seed=3, epoch=2, **options))
        first = reader.batches(4, seed=3, epoch=2, **options)
        next(first)
        rest = reader.batches(3, seed=0, **options)
        rest.load_state_dict(first.state_dict())
        first.close()
        found = collect(rest)
    assert len(found) == COUNT - 4
    assert_equal(found, {label: expected[label] for label in found})


@pytest.mark.parametrize("area", [0.5, (0.5,), (0, 1), (0.5, 0.4), (0.5, 1.1), ("a", "b"), (float("nan"), 1), "ab"])
def test_areas_that_are_no_fractions_are_refused(area: Any, files: Encoded, tmp_path: Path) -> None:  # noqa: ANN401
    BACKENDS["npy"].store_many(tmp_path / "plain", files, np.arange(COUNT))
    with (
        BACKENDS["npy"].open_reader(tmp_path / "plain") as reader,
        pytest.raises(InvalidInputError, match=r"augment is .*such as \(0.08, 1\)"),
    ):
        reader.batches(4, seed=0, image_size=(64, 64), augment=area)


def test_pixels_are_not_augmented(tmp_path: Path) -> None:
    BACKENDS["npy"].store_many(tmp_path / "store", *make_set(3))
    with (
        BACKENDS["npy"].open_reader(tmp_path / "store") as reader,
        pytest.raises(InvalidInputError, match="stored as pixels can't be augmented: leave augment out"),
    ):
        reader.batches(2, seed=0, augment=PARTS)
