"""The image set of a session: loaded once, doubled, read-only."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.image_set import COUNT, SOURCE, find_source, load_image_set
from fixtures.standin import StandIn


class Seven:
    """A source of seven images, each of one value."""

    name = "seven"
    sha256 = "7" * 64
    count = 7

    def fill(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        """Write the first images and labels."""
        labels[:] = np.arange(len(labels))
        images[:] = labels[:, np.newaxis, np.newaxis, np.newaxis]


@pytest.mark.parametrize("count", [1, 6, 7, 8, 13, 14])
def test_a_set_larger_than_its_source_starts_again_from_the_front(count: int) -> None:
    loaded = load_image_set(Seven(), count)
    np.testing.assert_array_equal(loaded.labels, np.arange(count) % 7)
    np.testing.assert_array_equal(loaded.images[:, 31, 31, 2], np.arange(count) % 7)
    assert loaded.images.shape == (count, 32, 32, 3)


def test_more_than_twice_the_source_is_refused() -> None:
    with pytest.raises(ValueError, match="15 images asked for, but seven doubled has 14"):
        load_image_set(Seven(), 15)


def test_the_set_cannot_be_changed() -> None:
    loaded = load_image_set(Seven(), 14)
    for array in (loaded.images, loaded.labels, *loaded.take(3)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_part_of_the_set_is_a_view() -> None:
    loaded = load_image_set(Seven(), 14)
    images, labels = loaded.take(3)
    assert len(images) == len(labels) == 3
    assert np.shares_memory(images, loaded.images)


def test_the_standin_is_a_source() -> None:
    assert isinstance(find_source("standin"), StandIn)


def test_a_session_loads_as_many_images_as_its_largest_cell_needs(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pytestconfig.stash, SOURCE, Seven())  # type: ignore[arg-type] # a stash is a mapping
    monkeypatch.setitem(pytestconfig.stash, COUNT, 9)  # type: ignore[arg-type]
    assert len(request.getfixturevalue("image_set").images) == 9
