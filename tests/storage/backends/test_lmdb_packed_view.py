"""Views of packed LMDB: a sequence of images, since the pages of LMDB lie between records."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.backends import take_backend
from tests.support.image_sets import make_set
from tests.support.open_files import count_maps, count_open

lmdb_packed = take_backend("lmdb_packed")
IMAGES, LABELS = make_set(50)


def test_an_array_of_a_view_of_records_is_a_copy(tmp_path: Path) -> None:
    lmdb_packed.store_many(tmp_path, IMAGES, LABELS)
    with lmdb_packed.open_reader(tmp_path) as reader:
        for copy in (None, True):
            array = np.array(reader.view(), copy=copy)
            assert array.flags.writeable
            np.testing.assert_array_equal(array, IMAGES)
        assert np.asarray(reader.view(), np.float32).dtype == np.float32
        np.testing.assert_array_equal(np.asarray(reader.view(), np.float32), IMAGES)
        with pytest.raises(ValueError, match="do not lie side by side"):
            np.asarray(reader.view(), copy=False)


def test_a_view_of_records_has_no_slices(tmp_path: Path) -> None:
    lmdb_packed.store_many(tmp_path, IMAGES, LABELS)
    with lmdb_packed.open_reader(tmp_path) as reader, pytest.raises(TypeError, match="integer"):
        reader.view()[1:3]


def test_two_readers_and_their_views_share_an_environment(tmp_path: Path) -> None:
    lmdb_packed.store_many(tmp_path, IMAGES, LABELS)
    one, two = (lmdb_packed.open_reader(tmp_path) for _ in range(2))
    views = [one.view(), two.view()]
    assert (count_open(tmp_path), count_maps(tmp_path)) == (1, 1)
    one.close()
    two.close()
    assert np.shares_memory(views[0][0], views[1][0])
    views.pop()
    np.testing.assert_array_equal(views[0][49], IMAGES[49])
    views.pop()
    assert (count_open(tmp_path), count_maps(tmp_path)) == (0, 0)
