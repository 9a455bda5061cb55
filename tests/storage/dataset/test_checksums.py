"""Checksums of records and of blocks of them."""

import threading
import time

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from storage.dataset import checksums
from storage.dataset.checksums import count_per_block, hash_blocks, hash_record, hash_records
from tests.support.image_sets import make_set
from tests.support.properties import given, st

LABELS = st.integers(-(2**63), 2**63 - 1)


@given(st.integers(0, 2**40), LABELS)
def test_a_record_has_one_checksum_alone_and_among_others(index: int, label: int) -> None:
    images, _ = make_set(2, 3, 5)
    found = hash_records(images, np.array([label, label]), np.array([index, index + 1]))
    assert found.tolist() == [hash_record(images[0], label, index), hash_record(images[1], label, index + 1)]


def test_each_thing_that_a_record_is_made_of_changes_its_checksum() -> None:
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


def test_the_checksum_of_a_record_is_what_it_was_when_stores_were_written() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert hash_record(image, -5, 11) == 0x21D968E331326D47


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 95])
@pytest.mark.parametrize("processors", [1, 2, 64])
def test_blocks_are_hashed_alike_by_any_number_of_threads(
    count: int, processors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 10 * 2 * 2 * 3)
    images, labels = make_set(count, 2, 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(1))
    expected = hash_blocks(images, labels, 3)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(processors))
    np.testing.assert_array_equal(hash_blocks(images, labels, 3), expected)
    assert len(expected) == -(-count // 10)


def test_threads_share_the_blocks_and_have_ended_when_the_checksums_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 10 * 2 * 2 * 3)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64))
    images, labels = make_set(160, 2, 2)
    expected = hash_blocks(images, labels, 0)
    before, threads, all_are_here = threading.active_count(), set(), threading.Barrier(4, timeout=30)

    def hash_slowly(content: memoryview, *seed: int) -> int:
        thread = threading.current_thread()
        if content.format == "B" and thread not in threads:  # its first pixels
            threads.add(thread)
            all_are_here.wait()
        if thread is not threading.main_thread():
            time.sleep(0.01)  # whoever does not wait for this thread returns long before it
        return xxh3_64_intdigest(content, *seed)

    monkeypatch.setattr(checksums, "xxh3_64_intdigest", hash_slowly)
    np.testing.assert_array_equal(hash_blocks(images, labels, 0), expected)
    assert threading.active_count() == before


def test_a_block_changes_with_a_pixel_a_label_and_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 10 * 2 * 2 * 3)
    images, labels = make_set(30, 2, 2)
    before = hash_blocks(images, labels, 0)
    assert (hash_blocks(images, labels, 1) != before).all()
    images[12, 1, 1, 1] ^= 1
    labels[29] ^= 1
    assert (hash_blocks(images, labels, 0) != before).tolist() == [False, True, True]


def test_a_block_is_one_record_where_records_are_large() -> None:
    assert count_per_block(2_000, 1_000) == 1
    assert count_per_block(32, 32) == 341
