"""Absurd numbers in the fields of stores cost little, and end with an error of this package or the right images."""

from pathlib import Path

import pytest

from storage import BACKENDS
from tests.support.hostile import COUNT, HEIGHT, SET_NUMBERS, WIDTH, find_excess, make_store
from tests.support.properties import HealthCheck, given, settings, st

ABSURD = st.one_of(
    st.sampled_from([0, 1, 2, 1 << 16, (1 << 31) - 1, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, (1 << 64) - 1]),
    st.integers(0, 1 << 64),
)
OPTIONS = settings(
    max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def try_numbers(backend: str, folder: Path, count: int, height: int, width: int) -> None:
    """Have a store claim to hold other images, and read it."""
    if backend not in SET_NUMBERS:
        pytest.skip(f"nothing here knows where {backend} keeps its numbers")
    module = make_store(backend, folder / "store")
    SET_NUMBERS[backend](folder / "store", count, height, width)
    assert not find_excess(module, folder / "store")


NUMBERS = st.one_of(
    st.tuples(ABSURD, st.just(HEIGHT), st.just(WIDTH)),
    st.tuples(st.just(COUNT), ABSURD, ABSURD),
    st.tuples(ABSURD, ABSURD, ABSURD),
)


@given(numbers=NUMBERS)
@OPTIONS
def test_absurd_numbers_cost_little(
    backend: str, numbers: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    try_numbers(backend, tmp_path_factory.mktemp("numbers"), *numbers)


@pytest.mark.slow
@given(numbers=NUMBERS)
@settings(OPTIONS, max_examples=100)
def test_many_absurd_numbers_cost_little(
    backend: str, numbers: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    try_numbers(backend, tmp_path_factory.mktemp("numbers"), *numbers)


def test_every_backend_has_its_numbers_changed() -> None:
    assert set(SET_NUMBERS) >= set(BACKENDS) - {"raw"}
