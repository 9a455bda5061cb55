"""Encoded image sets for the tests of storage: files of any bytes, and files that are images."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from storage import Backend, Encoded, Image, Labels
from tests.support.image_sets import LABELS, make_set

SIZES = (0, 1, 7, 0, 3_000, 4_096, 70_000, 2, 0)  # bytes: around pages, and of one that LMDB gives pages of its own


def make_files(count: int = len(SIZES)) -> tuple[Encoded, Labels]:
    """Make `count` files of random bytes, some of them empty, and labels that go through the hard ones."""
    random = np.random.default_rng(count)
    files = Encoded.join(random.bytes(SIZES[number % len(SIZES)]) for number in range(count))
    return files, np.resize(np.array(LABELS, np.int64), count)


def store_any(module: Backend, store: Path) -> None:
    """Store three images of a kind that the backend accepts, pixels if it can."""
    module.store_many(store, *(make_set(3) if "pixels" in module.INFO.kinds else make_files(3)))


def make_pictures(count: int = 5) -> tuple[Encoded, Labels, list[Image]]:
    """Make PNG files of different sizes, their labels, and their pixels."""
    random = np.random.default_rng(count)
    pictures = [random.integers(0, 256, (20 + number, 30 - number, 3), np.uint8) for number in range(count)]
    return Encoded.join(map(encode, pictures)), np.arange(count), pictures


def encode(picture: Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def assert_same_files(found: tuple[Any, Labels], expected: tuple[Encoded, Labels]) -> None:
    assert isinstance(found[0], Encoded)
    assert found[1].dtype == np.int64
    np.testing.assert_array_equal(found[0].offsets, expected[0].offsets)
    np.testing.assert_array_equal(found[0].content, expected[0].content)
    np.testing.assert_array_equal(found[1], expected[1])


def check_file_reads(module: Backend, store: Path, expected: tuple[Encoded, Labels]) -> None:
    """Read all files, one, a batch in any order, and the labels alone, and compare each with what was stored."""
    files, labels = expected
    order: Sequence[int] = [*np.random.default_rng(0).permutation(len(files)).tolist(), *([0, -1, 0] if files else [])]
    assert_same_files(module.read_many(store), expected)
    with module.open_reader(store) as reader:
        assert (len(reader), reader.kind) == (len(files), "encoded")
        assert_same_files(reader.read_encoded(order), (files.take(order), labels[order]))
        np.testing.assert_array_equal(reader.read_labels(), labels)
    for index in {0, len(files) // 2, -1} if files else ():
        assert module.read_single(store, index) == (bytes(files[index]), labels[index])


def need_files(module: Backend) -> None:
    """Skip a test of a backend that stores pixels only."""
    if "encoded" not in module.INFO.kinds:
        pytest.skip(f"{module.__name__.rpartition('.')[2]} stores pixels only")
