"""Absurd numbers in the fields of stores cost little, and end with an error of this package or the right images."""

from pathlib import Path

import pytest

from storage import BACKENDS
from storage.contract import Kind
from tests.support.backends import PIXELS
from tests.support.hostile import (
    COUNT,
    END,
    HEIGHT,
    SET_FILE_NUMBERS,
    SET_FORMS,
    SET_NUMBERS,
    START,
    WIDTH,
    find_excess,
    make_gray_store,
    make_store,
)
from tests.support.properties import given, settings, st

ABSURD = st.one_of(
    st.sampled_from([0, 1, 2, 1 << 16, (1 << 31) - 1, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, (1 << 64) - 1]),
    st.integers(0, 1 << 64),
)
OPTIONS = settings(max_examples=4)


def try_numbers(backend: str, folder: Path, numbers: tuple[int, int, int], kind: Kind = "pixels") -> None:
    """Have a store claim to hold other images, and read it."""
    known = SET_NUMBERS if kind == "pixels" else SET_FILE_NUMBERS
    if backend not in known:
        pytest.skip(f"nothing here knows where {backend} keeps its numbers of {kind} images")
    module = make_store(backend, folder / "store", kind)
    known[backend](folder / "store", *numbers)
    assert not find_excess(module, folder / "store")


NUMBERS = st.one_of(
    st.tuples(ABSURD, st.just(HEIGHT), st.just(WIDTH)),
    st.tuples(st.just(COUNT), ABSURD, ABSURD),
    st.tuples(ABSURD, ABSURD, ABSURD),
)
FILE_NUMBERS = st.one_of(
    st.tuples(ABSURD, st.just(START), st.just(END)),
    st.tuples(st.just(COUNT), st.just(START), ABSURD),
    st.tuples(st.just(COUNT), ABSURD, st.just(END)),
    st.tuples(ABSURD, ABSURD, ABSURD),
)


@given(numbers=NUMBERS)
@OPTIONS
def test_absurd_numbers_cost_little(
    backend: str, numbers: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    try_numbers(backend, tmp_path_factory.mktemp("numbers"), numbers)


@pytest.mark.kinds("encoded")
@given(numbers=FILE_NUMBERS)
@OPTIONS
def test_absurd_numbers_of_image_files_cost_little(
    backend: str, numbers: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    try_numbers(backend, tmp_path_factory.mktemp("numbers"), numbers, "encoded")


@pytest.mark.parametrize(("channels", "dtype"), [(1 << 62, "float32"), ((1 << 64) - 1, "uint16"), (5, "f8" * 4)])
def test_absurd_channels_and_dtypes_cost_little(backend: str, channels: int, dtype: str, tmp_path: Path) -> None:
    if backend not in SET_FORMS:
        pytest.skip(f"nothing here knows where {backend} keeps the form of its images")
    module = make_gray_store(backend, tmp_path / "store")
    SET_FORMS[backend](tmp_path / "store", channels, dtype)
    assert not find_excess(module, tmp_path / "store")


@pytest.mark.slow
@pytest.mark.kinds("pixels", "encoded")
@given(numbers=NUMBERS, file_numbers=FILE_NUMBERS)
@settings(OPTIONS, max_examples=25)
def test_many_absurd_numbers_cost_little(
    backend: str,
    numbers: tuple[int, int, int],
    file_numbers: tuple[int, int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if backend in SET_FILE_NUMBERS:
        try_numbers(backend, tmp_path_factory.mktemp("numbers"), file_numbers, "encoded")
    if backend in SET_NUMBERS:
        try_numbers(backend, tmp_path_factory.mktemp("numbers"), numbers)


def test_every_backend_has_its_numbers_changed() -> None:
    assert set(SET_NUMBERS) >= set(PIXELS) - {"raw"}
    assert set(SET_FORMS) >= set(PIXELS) - {"raw"}
    assert set(SET_FILE_NUMBERS) >= {name for name in BACKENDS if "encoded" in BACKENDS[name].INFO.kinds} - {"raw"}
