"""Every backend returns any image set that Hypothesis makes."""

import math

import numpy as np
import pytest

import storage
from storage import Backend, Images
from storage.arrays import DTYPES
from tests.support.image_sets import accepts, assert_same
from tests.support.properties import arrays, given, settings, st

SEEDS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4)
OPTIONS = settings(max_examples=6)
SIZES = st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9))


@OPTIONS
@given(images=SIZES.flatmap(lambda size: arrays(np.uint8, (*size, 3))), seed=SEEDS)
def test_any_image_set_comes_back(
    module: Backend, tmp_path_factory: pytest.TempPathFactory, images: Images, seed: list[int]
) -> None:
    check_set(module, tmp_path_factory, images, seed)


@OPTIONS
@given(
    sizes=st.tuples(SIZES, st.lists(st.integers(1, 7), max_size=1)),  # 8 x 8 at most: channels may seem to come first
    dtype=st.sampled_from(list(DTYPES)),
    seed=SEEDS,
)
def test_any_pixels_come_back_or_are_refused(
    module: Backend,
    tmp_path_factory: pytest.TempPathFactory,
    sizes: tuple[tuple[int, int, int], list[int]],
    dtype: str,
    seed: list[int],
) -> None:
    shape = (*sizes[0], *sizes[1])
    content = np.random.default_rng(abs(seed[0])).bytes(math.prod(shape) * DTYPES[dtype].itemsize)
    images = np.frombuffer(content, dtype).reshape(shape)
    if accepts(module, images):
        check_set(module, tmp_path_factory, images, seed)
        return
    with pytest.raises(storage.InvalidInputError, match="can't store images"):
        module.store_many(tmp_path_factory.mktemp("refused"), images, np.zeros(len(images), np.int64))


def check_set(module: Backend, tmp_path_factory: pytest.TempPathFactory, images: Images, seed: list[int]) -> None:
    """Store images, and read them all, and each."""
    labels = np.array(seed[: len(images)], np.int64)
    folder = tmp_path_factory.mktemp("any")
    module.store_many(folder, images, labels)
    assert_same(module.read_many(folder), (images, labels))
    for index in range(len(images)):
        assert_same(module.read_single(folder, index), (images[index], labels[index]))
