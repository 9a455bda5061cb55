"""Image sets for the tests of storage, and how two of them are compared."""

from pathlib import Path
from typing import Any

import numpy as np

from storage import Backend, Images, Labels

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


def check_reads(module: Backend, store: Path, expected: tuple[Images, Labels]) -> None:
    """Read all images, one, a batch in any order, and the labels alone, and compare each with what was stored."""
    images, labels = expected
    order = [*np.random.default_rng(0).permutation(len(images)).tolist(), 0, -1, 0]
    assert_same(module.read_many(store), expected)
    assert_same(module.read_single(store, -1), (images[-1], labels[-1]))
    with module.open_reader(store) as reader:
        assert_same(reader.read(order), (images[order], labels[order]))
        assert_same(reader[order[0]], (images[order[0]], labels[order[0]]))
        np.testing.assert_array_equal(reader.read_labels(), labels)
