"""What was read against what was stored."""

import numpy as np
import pytest

from benchmarks.comparison import as_set, compare, compute_digest

IMAGES = np.random.default_rng(0).integers(0, 256, (1500, 2, 2, 3), np.uint8)
LABELS = np.arange(1500)


def test_an_equal_result_passes() -> None:
    compare((IMAGES.copy(), LABELS.copy()), IMAGES, LABELS)
    compare((IMAGES[7], 7), *as_set(IMAGES[7], 7))


@pytest.mark.parametrize("index", [0, 999, 1000, 1499])
def test_one_wrong_pixel_or_label_fails_and_is_named(index: int) -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    images[index, 1, 1, 2] ^= 1
    with pytest.raises(pytest.fail.Exception, match=f"image or label {index} was not read"):
        compare((images, LABELS), IMAGES, LABELS)
    labels[index] += 1
    with pytest.raises(pytest.fail.Exception, match=f"image or label {index} was not read"):
        compare((IMAGES, labels), IMAGES, LABELS)


def test_a_missing_image_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"stored .* with 1500 labels, read"):
        compare((IMAGES[:-1], LABELS[:-1]), IMAGES, LABELS)


def test_equal_batches_have_equal_digests_wherever_they_lie_in_memory() -> None:
    turned = np.asfortranarray(IMAGES)
    assert compute_digest(turned, LABELS[::-1][::-1]) == compute_digest(IMAGES, LABELS)


def test_batches_of_other_pixels_labels_or_shapes_have_other_digests() -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    images[7, 0, 0, 0] ^= 1
    labels[7] += 1
    others = [(images, LABELS), (IMAGES, labels), (IMAGES[:-1], LABELS[:-1]), (IMAGES.reshape(1500, 4, 1, 3), LABELS)]
    assert len({compute_digest(*batch) for batch in [(IMAGES, LABELS), *others]}) == 5
