"""Checksums of records and of blocks of them."""

from itertools import pairwise

import numpy as np
import pytest

from storage.dataset import checksums
from storage.dataset.checksums import PixelHashing, count_per_block, hash_blocks, hash_record, hash_records
from tests.support.image_sets import make_set
from tests.support.properties import given, st

LABELS = st.integers(-(2**63), 2**63 - 1)


@given(st.integers(0, 2**40), LABELS)
def test_a_record_has_the_same_checksum_alone_and_in_a_batch(index: int, label: int) -> None:
    images, _ = make_set(2, 3, 5)
    found = hash_records(images, np.array([label, label]), np.array([index, index + 1]))
    assert found.tolist() == [hash_record(images[0], label, index), hash_record(images[1], label, index + 1)]


def test_pixels_label_index_and_size_each_change_a_checksum() -> None:
    image = make_set(1, 4, 6)[0][0]
    other = image.copy()
    other[3, 5, 2] ^= 1
    found = {
        hash_record(image, 7, 3),
        hash_record(other, 7, 3),
        hash_record(image, 8, 3),
        hash_record(image, 7, 4),
        hash_record(image, 3, 7),
        hash_record(image.reshape(6, 4, 3), 7, 3),
    }
    assert len(found) == 6


def test_checksums_of_existing_datasets_stay_valid() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert hash_record(image, -5, 11) == 0x21D968E331326D47


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 95])
def test_each_block_has_a_checksum_and_the_last_one_may_be_smaller(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 10 * 2 * 2 * 3)
    images, labels = make_set(count, 2, 2)
    found = hash_blocks(images, labels, 3)
    starts = range(0, count, 10)
    alone = [hash_blocks(images[start : start + 10], labels[start : start + 10], 3 + start) for start in starts]
    assert found.tolist() == [checksum for each in alone for checksum in each.tolist()]
    assert len(found) == len(starts)


def test_a_pixel_a_label_and_the_index_each_change_the_checksum_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 10 * 2 * 2 * 3)
    images, labels = make_set(30, 2, 2)
    before = hash_blocks(images, labels, 0)
    assert (hash_blocks(images, labels, 1) != before).all()
    images[12, 1, 1, 1] ^= 1
    labels[29] ^= 1
    assert (hash_blocks(images, labels, 0) != before).tolist() == [False, True, True]


def test_a_block_is_one_record_if_records_are_large() -> None:
    assert count_per_block(2_000 * 1_000 * 3) == 1
    assert count_per_block(32 * 32 * 3) == 341


@pytest.mark.parametrize("pieces", [[0, 7, 12, 40], [0, 40], [4, 40], [0, 9, 20, 30], [0]])
def test_blocks_that_are_hashed_as_they_are_filled_have_the_same_checksums(
    pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 3 * 8 * 8 * 3)
    images, labels = make_set(40, 8, 8)
    filled = np.zeros_like(images)
    hashing = PixelHashing(filled)
    for start, end in pairwise(pieces):
        filled[start:end] = images[start:end]
        hashing.notice(filled[start:end])
    filled[:] = images
    np.testing.assert_array_equal(hash_blocks(images, labels, 5, hashing.finish()), hash_blocks(images, labels, 5))


def test_a_piece_that_comes_too_early_is_hashed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 3 * 8 * 8 * 3)
    images, labels = make_set(40, 8, 8)
    filled = np.zeros_like(images)
    hashing = PixelHashing(filled)
    hashing.notice(filled[9:])
    filled[:] = images
    np.testing.assert_array_equal(hash_blocks(images, labels, 0, hashing.finish()), hash_blocks(images, labels, 0))
