"""Image sets for the tests of storage, and how two of them are compared."""

from typing import Any

import numpy as np

from storage import Images, Labels

LABELS = (-1, 0, 255, 300, 2**40, -(2**63), 2**63 - 1)


def make_set(count: int, height: int = 32, width: int = 32) -> tuple[Images, Labels]:
    """Make `count` random images, and labels that go through the hard ones."""
    images = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)
    return images, np.resize(np.array(LABELS, np.int64), count)


def assert_same(found: tuple[Images, Any], expected: tuple[Images, Any]) -> None:
    assert found[0].dtype == np.uint8
    assert np.asarray(found[1]).dtype == np.int64
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
