"""Fixtures of the tests: a backend's module, and a store that it wrote."""

from pathlib import Path

import pytest

from storage import BACKENDS, Backend
from tests.image_sets import make_set


@pytest.fixture
def module(backend: str) -> Backend:
    """Turn the name of a backend into its module."""
    return BACKENDS[backend]


@pytest.fixture
def store(module: Backend, tmp_path: Path) -> Path:
    """Make a store of ten images."""
    module.store_many(tmp_path / "store", *make_set(10))
    return tmp_path / "store"
