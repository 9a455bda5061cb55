"""Every backend returns any image set that Hypothesis makes."""

import numpy as np
import pytest

from storage import Backend, Images
from tests.support.image_sets import assert_same
from tests.support.properties import HealthCheck, arrays, given, settings, st


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    images=st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9), st.just(3)).flatmap(
        lambda shape: arrays(np.uint8, shape)
    ),
    seed=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4),
)
def test_any_image_set_comes_back(
    module: Backend, tmp_path_factory: pytest.TempPathFactory, images: Images, seed: list[int]
) -> None:
    labels = np.array(seed[: len(images)], np.int64)
    folder = tmp_path_factory.mktemp("any")
    module.store_many(folder, images, labels)
    assert_same(module.read_many(folder), (images, labels))
    for index in range(len(images)):
        assert_same(module.read_single(folder, index), (images[index], labels[index]))
