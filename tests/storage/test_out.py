"""Every backend fills the array that a caller passes as `out`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import Backend
from tests.support.image_sets import assert_same, make_set

SHAPE = (10, 32, 32, 3)


def test_read_many_fills_exactly_its_part_of_an_array(module: Backend, store: Path) -> None:
    whole = np.full((14, *SHAPE[1:]), 7, np.uint8)
    part = whole[2:12]
    assert module.read_many(store, part)[0] is part
    np.testing.assert_array_equal(whole[2:12], make_set(10)[0])
    assert (whole[[0, 1, 12, 13]] == 7).all()


def test_a_reader_fills_the_array_of_the_caller(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    with module.open_reader(store) as reader:
        for indices in ([3, 1, 3, -1], range(10), [0], np.array([7, 2], np.uint8), []):
            whole = np.full(SHAPE, 7, np.uint8)
            part = whole[: len(indices)]
            for _ in range(2):
                found = reader.read(indices, out=part)
                assert found[0] is part
                assert_same(found, (images[list(indices)], labels[list(indices)]))
            assert (whole[len(indices) :] == 7).all()


def test_a_memory_map_can_be_filled(module: Backend, store: Path, tmp_path: Path) -> None:
    out = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=SHAPE)
    assert module.read_many(store, out)[0] is out
    assert (tmp_path / "pixels").read_bytes() == make_set(10)[0].tobytes()


SEVENS = np.full(SHAPE, 7, np.uint8)
BAD_OUTS: dict[str, Callable[[], Any]] = {
    "a list": SEVENS.tolist,
    "bytes": lambda: bytearray(SEVENS.tobytes()),
    "a masked array": lambda: np.ma.array(SEVENS.copy()),
    "signed": lambda: SEVENS.astype(np.int8),
    "floats": lambda: SEVENS.astype(np.float32),
    "one image fewer": SEVENS[:-1].copy,
    "one image more": lambda: np.full((11, *SHAPE[1:]), 7, np.uint8),
    "flat": SEVENS.flatten,
    "channels first": lambda: np.full((10, 3, 32, 32), 7, np.uint8),
    "rank 5": SEVENS[np.newaxis].copy,
    "columns first": lambda: SEVENS.copy(order="F"),
    "every second image": lambda: np.full((20, *SHAPE[1:]), 7, np.uint8)[::2],
    "backwards": lambda: SEVENS.copy()[::-1],
    "read-only": lambda: np.frombuffer(SEVENS.tobytes(), np.uint8).reshape(SHAPE),
}


def test_an_unsuitable_array_is_refused_untouched(module: Backend, store: Path, subtests: pytest.Subtests) -> None:
    with module.open_reader(store) as reader:
        for name, make in BAD_OUTS.items():
            with subtests.test(name):
                out = make()
                with pytest.raises(storage.InvalidInputError, match="out "):
                    module.read_many(store, out)
                with pytest.raises(storage.InvalidInputError, match="out "):
                    reader.read(range(10), out)
                assert (np.asarray(out if not isinstance(out, bytearray) else list(out)) == 7).all()
        assert_same(reader.read(range(10)), make_set(10))


def test_a_failed_read_leaves_the_array_untouched(module: Backend, store: Path) -> None:
    out = np.full((2, *SHAPE[1:]), 7, np.uint8)
    with module.open_reader(store) as reader, pytest.raises(storage.RecordNotFoundError):
        reader.read([0, 10], out)
    with pytest.raises(storage.ReaderClosedError):
        reader.read([0, 1], out)
    assert (out == 7).all()
