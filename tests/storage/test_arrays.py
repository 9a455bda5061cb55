"""Arrays that reads fill."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import storage
from storage.arrays import check_pixels, make_array, make_result, read_range, take_rows

CONTENT = np.random.default_rng(0).bytes(100_003)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Open a file of 100,003 bytes."""
    (tmp_path / "file").write_bytes(CONTENT)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("most", [700, 200_000])
@pytest.mark.parametrize(("offset", "size"), [(0, 100_003), (3, 100_000), (50_000, 1), (0, 0), (100_003, 0)])
def test_a_range_of_a_file_is_read_even_if_the_system_reads_less_at_once(
    descriptor: int, most: int, offset: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: preadv(file, [buffers[0][:most]], offset))
    array = np.zeros(size, np.uint8) if size % 8 else np.zeros((size // 40, 5), "<i8")
    read_range(Path("store"), descriptor, offset, array)
    assert array.tobytes() == CONTENT[offset : offset + size]


def test_rows_of_a_file_are_taken_wherever_they_lie() -> None:
    rows = np.arange(30, dtype=np.uint16).reshape(5, 2, 3)
    content = b"?" + rows.tobytes()
    for shifted in (rows, np.frombuffer(content, np.uint16, offset=1).reshape(rows.shape)):
        result = np.zeros((3, 2, 3), np.uint16)
        take_rows(shifted, np.array([4, 0, 4]), result)
        np.testing.assert_array_equal(result, rows[[4, 0, 4]])


@pytest.mark.parametrize("offset", [1, 99_000, 200_000])
def test_a_truncated_file_is_corrupt(descriptor: int, offset: int) -> None:
    with pytest.raises(storage.CorruptStoreError, match=r"the store: it was cut short: \d+ bytes are missing"):
        read_range(Path("the store"), descriptor, offset, np.zeros(100_003, np.uint8))


def test_a_result_is_the_array_of_the_caller_or_a_new_one() -> None:
    out = np.full((2, 4, 5, 3), 7, np.uint8)
    assert make_result(Path("store"), (2, 4, 5, 3), out) is out
    assert (out == 7).all()
    fresh = make_result(Path("store"), (2, 4, 5, 3), None)
    assert fresh.shape == (2, 4, 5, 3)
    assert fresh.dtype == np.uint8
    assert fresh.flags.c_contiguous


@pytest.mark.parametrize("shape", [(10**12, 10**12), (10**9, 10**9, 3)], ids=["more than addresses", "than memory"])
def test_an_array_larger_than_memory_raises_our_error(shape: tuple[int, ...]) -> None:
    for make in (make_array, lambda store, shape: make_result(store, shape, None)):
        with pytest.raises(storage.StorageError, match=r"the store: an array.*does not fit in memory"):
            make(Path("the store"), shape)


def test_a_refusal_says_what_a_backend_accepts() -> None:
    accepted = {"uint8": None, "uint16": (0, 3)}
    check_pixels(np.zeros((1, 2, 2, 5), np.uint8), accepted)
    expected = (
        r"uint8 of any shape \(N, H, W\) or \(N, H, W, C\); uint16 of shape \(N, H, W\) or \(N, H, W, 3\); or choose"
    )
    for images in (np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2, 4), np.uint16)):
        with pytest.raises(storage.InvalidInputError, match=expected):
            check_pixels(images, accepted)
