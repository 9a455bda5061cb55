"""A byte of a packed file of pixels is changed: that is noticed, or changes nothing."""

from pathlib import Path

import numpy as np
import pytest

from storage import StorageError
from storage.sources.opening import open_source
from tests.support.image_sets import assert_same, make_set
from tests.support.properties import given, settings, st
from tests.support.source_files import write_packed_npz

IMAGES, LABELS = make_set(4, 5, 7)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = write_packed_npz(tmp_path_factory.mktemp("packed"), IMAGES, LABELS)
    return path, path.read_bytes()


@given(place=st.integers(0), mask=st.integers(1, 255))
@settings(max_examples=60)
def test_a_damaged_file_is_an_error_or_its_images_are_the_same(
    packed: tuple[Path, bytes], place: int, mask: int
) -> None:
    path, content = packed
    damaged = bytearray(content)
    damaged[place % len(content)] ^= mask
    path.write_bytes(damaged)
    try:
        with open_source(path) as source:
            found = np.concatenate(list(source.read(0))), source.labels
    except StorageError:
        return
    assert_same(found, (IMAGES, LABELS))
